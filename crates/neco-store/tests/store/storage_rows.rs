//! The acceptance rows of the original's storage, in the vocabulary of keys, records and guarded
//! transactions, on real etcd and on the in-memory store alike.
//!
//! What the original calls `ErrNotFound` is `None` here, `ErrNoLeader` is `Refused`.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Etcd, memory_rig};
use neco_schema::{
    Compare, Condition, ConfigKey, ContentsStatus, Environment, Key, LeaseId, Lrn, NecoVersion, Op,
    Range, Record, Revision, Timestamp, Txn, UpdateRequest, UpdateStatus, parse_config_value,
    prefixes, stored_duration,
};
use neco_store::{Committed, Election, Leadership, Session, Store};
use neco_testkit::store::Rig;

/// A store on which one row is played.
struct Storage {
    store: Arc<dyn Store>,
}

/// Why `recover` does nothing.
#[derive(Debug, PartialEq, Eq)]
enum NotCleared {
    NotFound,
    NotStopped,
}

impl Storage {
    async fn text(&self, key: &Key) -> Option<String> {
        let now = self.store.read(&[Range::from(key)], None).await.expect("an answer");
        let kv = now.kvs.into_values().next()?;
        Some(String::from_utf8(kv.value).expect("text"))
    }

    async fn record<R: Record>(&self, key: &Key) -> Option<R> {
        let text = self.text(key).await?;
        Some(R::decode(text.as_bytes()).expect("a record"))
    }

    async fn put(&self, key: &Key, value: &str) {
        let done = self.store.commit(&Txn::default().then(Op::put_bytes(key, value))).await;
        assert!(matches!(done, Ok(Committed::Done(_))), "{done:?}");
    }

    async fn put_record(&self, key: &Key, record: &impl Record) {
        self.put(key, &String::from_utf8(record.encode()).expect("text")).await;
    }

    async fn delete(&self, key: &Key) {
        self.store.commit(&Txn::default().then(Op::delete(key))).await.expect("an answer");
    }

    /// A write of the leader alone.
    async fn lead(&self, leader: &Leadership, key: &Key, record: &impl Record) -> bool {
        let txn = Txn::default().when(leader.compare()).then(Op::put(key, record));
        matches!(self.store.commit(&txn).await.expect("an answer"), Committed::Done(_))
    }

    async fn campaign(&self) -> (Session, Election, Leadership) {
        let session = Session::open(self.store.clone(), Duration::from_secs(60)).await;
        let session = session.expect("a lease");
        let election = Election::new(self.store.clone(), "worker");
        let leadership = election.campaign(&session, "0").await.expect("nobody else stands");
        (session, election, leadership)
    }

    /// What `recover` does: wipes a stopped request.
    async fn clear(&self) -> Result<(), NotCleared> {
        loop {
            let range = Range::from(&Key::Request);
            let now = self.store.read(&[range], None).await.expect("an answer");
            let kv = now.kvs.into_values().next().ok_or(NotCleared::NotFound)?;
            if !UpdateRequest::decode(&kv.value).expect("a request").stop {
                return Err(NotCleared::NotStopped);
            }
            let txn = Txn::default()
                .when(Compare::unchanged(&Key::Request, kv.mod_revision))
                .then(Op::delete_prefix(prefixes::STATUS))
                .then(Op::delete_prefix(prefixes::CONTENTS));
            if self.store.commit(&txn).await.expect("an answer") != Committed::Refused {
                return Ok(());
            }
        }
    }

    async fn finished(&self, stage: u32) -> Vec<Lrn> {
        let range = Range::Prefix("finish/".to_owned());
        let now = self.store.read(&[range], None).await.expect("an answer");
        let at_stage = now.kvs.into_values().filter(|kv| kv.value == stage.to_string().as_bytes());
        at_stage
            .map(|kv| match kv.key.parse() {
                Ok(Key::Finish(lrn)) => lrn,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    async fn snapshot(&self) -> View {
        let ranges = [
            Range::from(&Key::Request),
            Range::Prefix(prefixes::STATUSES.to_owned()),
            Range::KeysOnly(prefixes::BOOT_SERVERS.to_owned()),
            Range::from(&Key::Release),
        ];
        let now = self.store.read(&ranges, None).await.expect("an answer");
        let mut view = View { revision: now.revision, ..View::default() };
        for kv in now.kvs.into_values() {
            match kv.key.parse().expect("a key of Neco") {
                Key::Request => view.request = Some(UpdateRequest::decode(&kv.value).expect("one")),
                Key::Status(lrn) => {
                    view.statuses.push((lrn, UpdateStatus::decode(&kv.value).expect("one")));
                }
                Key::BootServer(lrn) => view.servers.push(lrn),
                Key::Release => view.latest = String::from_utf8(kv.value).expect("text"),
                other => panic!("{other}"),
            }
        }
        view
    }
}

#[derive(Debug, Default)]
struct View {
    revision: Revision,
    request: Option<UpdateRequest>,
    statuses: Vec<(Lrn, UpdateStatus)>,
    latest: String,
    servers: Vec<Lrn>,
}

fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

fn lrns(numbers: &[u32]) -> Vec<Lrn> {
    numbers.iter().copied().map(Lrn::new).collect()
}

fn request(text: &str) -> UpdateRequest {
    let started: Timestamp = "2026-11-21T08:00:00Z".parse().expect("a time");
    UpdateRequest::new(version(text), lrns(&[0, 1]), started)
}

fn status(text: &str, step: u32, cond: Condition, message: &str) -> UpdateStatus {
    UpdateStatus {
        version: version(text),
        step,
        cond,
        message: message.to_owned(),
        request: None,
        origin: None,
        unknown: Default::default(),
    }
}

fn contents(text: &str, success: bool) -> ContentsStatus {
    ContentsStatus {
        version: version(text),
        success,
        request: None,
        inputs: None,
        unknown: Default::default(),
    }
}

/// Each row on both kinds of store.
macro_rules! rows {
    ($($row:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn rows_hold_on_real_etcd() {
            let etcd = Etcd::start().await;
            $($row(storage(etcd.rig(concat!("/", stringify!($row), "/")).await)).await;)*
        }

        mod on_the_in_memory_store {
            $(#[tokio::test]
            async fn $row() {
                super::$row(super::storage(super::memory_rig())).await;
            })*
        }
    };
}

fn storage(rig: Rig) -> Storage {
    Storage { store: rig.store }
}

rows! {
    container_tag
    deb_version
    the_request_is_the_leaders
    a_status
    clear_wipes_what_is_stopped
    finished_stages
    sabakan_contents_are_the_leaders
    an_empty_snapshot
    a_filled_snapshot
    environment
    slack_and_proxy
    intervals
    vault_secrets
}

async fn container_tag(storage: Storage) {
    let key = Key::InstalledContainer(Lrn::new(0), "etcd".to_owned());
    assert_eq!(storage.text(&key).await, None);
    storage.put(&key, "3.5.15.1").await;
    assert_eq!(storage.text(&key).await.as_deref(), Some("3.5.15.1"));
}

async fn deb_version(storage: Storage) {
    let key = Key::InstalledDeb(Lrn::new(1), "etcdpasswd".to_owned());
    assert_eq!(storage.text(&key).await, None);
    storage.put(&key, "v1.4.9").await;
    assert_eq!(storage.text(&key).await.as_deref(), Some("v1.4.9"));
}

async fn the_request_is_the_leaders(storage: Storage) {
    assert_eq!(storage.record::<UpdateRequest>(&Key::Request).await, None);
    let (_session, election, leader) = storage.campaign().await;
    assert!(storage.lead(&leader, &Key::Request, &request("1.0.0")).await);
    assert_eq!(storage.record(&Key::Request).await, Some(request("1.0.0")));
    election.resign(&leader).await.expect("resigned");
    assert!(!storage.lead(&leader, &Key::Request, &request("1.1.0")).await);
    assert_eq!(storage.record(&Key::Request).await, Some(request("1.0.0")));
}

async fn a_status(storage: Storage) {
    let key = Key::Status(Lrn::new(1));
    assert_eq!(storage.record::<UpdateStatus>(&key).await, None);
    let written = status("1.0.0", 0, Condition::Complete, "aaa");
    storage.put_record(&key, &written).await;
    assert_eq!(storage.record(&key).await, Some(written));
}

async fn clear_wipes_what_is_stopped(storage: Storage) {
    assert_eq!(storage.clear().await, Err(NotCleared::NotFound));
    let mut stored = request("1.0.0");
    storage.put_record(&Key::Request, &stored).await;
    assert_eq!(storage.clear().await, Err(NotCleared::NotStopped));
    stored.stop = true;
    storage.put_record(&Key::Request, &stored).await;
    let (own, sabakan) = (Key::Status(Lrn::new(1)), Key::Contents("sabakan".to_owned()));
    storage.put_record(&own, &status("1.0.0", 1, Condition::Running, "")).await;
    storage.put_record(&sabakan, &contents("1.0.0", false)).await;
    storage.put(&Key::Release, "1.0.0").await;
    assert_eq!(storage.clear().await, Ok(()));
    for key in [Key::Request, own, sabakan] {
        assert_eq!(storage.text(&key).await, None, "{key}");
    }
    assert!(storage.text(&Key::Release).await.is_some());
}

async fn finished_stages(storage: Storage) {
    let finish = async |lrn, stage: &str| storage.put(&Key::Finish(Lrn::new(lrn)), stage).await;
    assert_eq!(storage.finished(0).await, []);
    finish(0, "0").await;
    finish(1, "1").await;
    assert_eq!(storage.finished(1).await, lrns(&[1]));
    finish(0, "1").await;
    assert_eq!(storage.finished(1).await, lrns(&[0, 1]));
}

async fn sabakan_contents_are_the_leaders(storage: Storage) {
    let key = Key::Contents("sabakan".to_owned());
    assert_eq!(storage.record::<ContentsStatus>(&key).await, None);
    let (_session, election, leader) = storage.campaign().await;
    assert!(storage.lead(&leader, &key, &contents("1.0.0", true)).await);
    assert_eq!(storage.record(&key).await, Some(contents("1.0.0", true)));
    election.resign(&leader).await.expect("resigned");
    assert!(!storage.lead(&leader, &key, &contents("1.1.0", true)).await);
}

async fn an_empty_snapshot(storage: Storage) {
    let view = storage.snapshot().await;
    assert_ne!(view.revision, Revision(0));
    assert_eq!((view.request, view.statuses.len()), (None, 0));
    assert_eq!((view.latest.as_str(), view.servers.len()), ("", 0));
}

async fn a_filled_snapshot(storage: Storage) {
    let before = storage.snapshot().await.revision;
    // As in the original, any key that exists may play the leader's. Ours also asks that it is the
    // same as ever.
    storage.put(&Key::VaultUnsealKey, "any").await;
    let now = storage.store.read(&[Range::from(&Key::VaultUnsealKey)], None).await;
    let created = now.expect("an answer").kvs["vault-unseal-key"].create_revision;
    let leader = Leadership::assumed(Key::VaultUnsealKey, created, LeaseId(1));
    assert!(storage.lead(&leader, &Key::Request, &request("1.1.0")).await);
    let statuses = [
        (Lrn::new(0), status("1.1.0", 1, Condition::Running, "")),
        (Lrn::new(1), status("1.0.0", 3, Condition::Complete, "")),
    ];
    for (lrn, status) in &statuses {
        storage.put_record(&Key::Status(*lrn), status).await;
    }
    for lrn in lrns(&[0, 1, 2]) {
        storage.put(&Key::BootServer(lrn), "").await;
    }
    storage.put(&Key::Release, "1.1.1").await;
    let view = storage.snapshot().await;
    assert_ne!(view.revision, before);
    assert_eq!(view.request, Some(request("1.1.0")));
    assert_eq!(view.statuses, statuses);
    assert_eq!(view.latest, "1.1.1");
    assert_eq!(view.servers, lrns(&[0, 1, 2]));
}

async fn environment(storage: Storage) {
    let key = Key::Config(ConfigKey::Env);
    let read = async || match storage.text(&key).await {
        Some(text) => text.parse::<Environment>().expect("an environment"),
        None => Environment::default(),
    };
    assert_eq!(read().await, Environment::None);
    storage.put(&key, &parse_config_value(ConfigKey::Env, "staging").expect("a value")).await;
    assert_eq!(read().await, Environment::Staging);
}

async fn slack_and_proxy(storage: Storage) {
    for key in [ConfigKey::Slack, ConfigKey::Proxy] {
        let stored = Key::Config(key);
        assert_eq!(storage.text(&stored).await, None);
        let url = "http://example.com:3128/x";
        storage.put(&stored, &parse_config_value(key, url).expect("a URL")).await;
        assert_eq!(storage.text(&stored).await.as_deref(), Some(url));
    }
}

async fn intervals(storage: Storage) {
    for (key, default) in [(ConfigKey::CheckUpdateInterval, 1), (ConfigKey::WorkerTimeout, 60)] {
        let minute = Duration::from_secs(60);
        let stored = Key::Config(key);
        let read = async || match storage.text(&stored).await {
            Some(text) => stored_duration(key, text.as_bytes()).expect("a duration"),
            None => minute * default,
        };
        assert_eq!(read().await, minute * default);
        storage.put(&stored, &parse_config_value(key, "10m").expect("a duration")).await;
        assert_eq!(storage.text(&stored).await.as_deref(), Some("600000000000"));
        assert_eq!(read().await, minute * 10);
    }
}

async fn vault_secrets(storage: Storage) {
    for key in [Key::VaultUnsealKey, Key::VaultRootToken] {
        assert_eq!(storage.text(&key).await, None);
        storage.put(&key, "value").await;
        assert_eq!(storage.text(&key).await.as_deref(), Some("value"));
        storage.delete(&key).await;
        assert_eq!(storage.text(&key).await, None);
    }
}
