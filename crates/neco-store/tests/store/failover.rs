//! Members die, hang and come back; calls and watches go on.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Members, connect};
use neco_etcd::{MemberConfig, Server};
use neco_schema::{Compare, CompareTarget, Revision, Txn};
use neco_store::{
    Committed, EtcdStore, KeepAlive, Options, Severity, Store, StoreError, WatchEvent,
};
use neco_testkit::store::{all, eventually, next_event, one, op_put, put};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(60);

/// Counts up under guard for as long as it lives, and reads what it wrote.
struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Tally>,
    progress: watch::Receiver<u64>,
}

/// What a writer was told.
#[derive(Debug, Default)]
struct Tally {
    done: Vec<Revision>,
    unknown: usize,
    other: Vec<String>,
}

impl Writer {
    fn start(store: EtcdStore) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, progress) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut tally = Tally::default();
            while !*stopped.borrow() {
                let at = match store.read(&[one("count")], None).await {
                    Ok(now) => now.kvs.get("count").map_or(Revision(0), |kv| kv.mod_revision),
                    Err(error) => {
                        tally.other.push(error.to_string());
                        continue;
                    }
                };
                let guard =
                    Compare { key: "count".to_owned(), target: CompareTarget::ModRevision(at) };
                let txn = put("count", format!("after {at}")).when(guard);
                match store.commit(&txn).await {
                    Ok(Committed::Done(revision)) => {
                        tally.done.push(revision);
                        tell.send_modify(|count| *count += 1);
                    }
                    Ok(Committed::Refused) => tally.other.push("refused, with one writer".into()),
                    Err(StoreError::Unknown { .. }) => tally.unknown += 1,
                    Err(error) => tally.other.push(error.to_string()),
                }
            }
            tally
        });
        Self { stop, task, progress }
    }

    /// Waits for some more writes that were answered.
    async fn goes_on(&mut self) {
        let target = *self.progress.borrow() + 20;
        let reached = self.progress.wait_for(|count| *count >= target);
        timeout(WITHIN, reached).await.expect("writes go on").expect("the writer lives");
    }

    async fn stop(self) -> Tally {
        self.stop.send_replace(true);
        self.task.await.expect("the writer does not panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_watches_go_on_while_members_die_and_hang() {
    let mut members = Members::start(3).await;
    let store = members.store().await;
    let start = store.read(&[], None).await.expect("an answer").revision;
    let lease = store.grant(Duration::from_secs(600)).await.expect("granted");
    let mut watch = store.watch(&[one("count")], Revision(start.0 + 1)).await.expect("a watch");
    let mut writer = Writer::start(store.clone());
    writer.goes_on().await;

    // Each in turn, so that whoever serves the calls and the watch is among them.
    for index in 0..3 {
        members.cluster.member_mut(index).kill().await.expect("killed");
        writer.goes_on().await;
        members.cluster.member_mut(index).restart().await.expect("restarted");
        writer.goes_on().await;
    }
    for index in 0..3 {
        members.cluster.member(index).pause().await.expect("frozen");
        writer.goes_on().await;
        members.cluster.member(index).resume().await.expect("thawed");
        writer.goes_on().await;
    }
    let alive = store.keep_alive(lease).await.expect("an answer");
    assert!(matches!(alive, KeepAlive::Alive(_)), "{alive:?}");

    let tally = writer.stop().await;
    assert_eq!(tally.other, Vec::<String>::new(), "{} done", tally.done.len());
    let last = store.read(&[one("count")], None).await.expect("an answer").kvs.remove("count");
    let last = last.expect("it was written");
    let written = usize::try_from(last.version).expect("a count");
    assert!(
        tally.done.len() <= written && written <= tally.done.len() + tally.unknown,
        "{written} writes happened, {} were acknowledged, {} unknown",
        tally.done.len(),
        tally.unknown
    );

    // Nothing else wrote, so the versions tell gaps and duplicates apart.
    let mut versions = Vec::new();
    while versions.last() != Some(&last.version) {
        let event = timeout(WITHIN, watch.next()).await.expect("the watch goes on");
        match event.expect("the watch goes on") {
            WatchEvent::Changed(changes) => {
                versions
                    .extend(changes.iter().filter_map(|change| Some(change.kv.as_ref()?.version)));
            }
            WatchEvent::Progress(_) => {}
            lost @ WatchEvent::Lost { .. } => panic!("{lost:?}"),
        }
    }
    assert_eq!(versions, (1..=last.version).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_the_living_from_the_dead() {
    let mut members = Members::start(3).await;
    let store = members.store().await;
    let health = store.health().await.expect("an answer");
    assert!(health.quorum && health.all_healthy(), "{health:?}");
    let names: Vec<_> = health.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["etcd-0", "etcd-1", "etcd-2"]);
    assert_eq!(health.members.iter().filter(|member| member.is_leader).count(), 1);
    assert_eq!(health.members[1].client_urls, [members.cluster.member(1).client_url()]);

    let store = Arc::new(store);
    let healthy = |expected: [bool; 3], quorum: bool| {
        let store = store.clone();
        eventually("health", move || {
            let store = store.clone();
            async move {
                let health = store.health().await.ok()?;
                let now: Vec<_> = health.members.iter().map(|member| member.healthy).collect();
                (now == expected && health.quorum == quorum).then_some(health)
            }
        })
    };
    members.cluster.member_mut(0).kill().await.expect("killed");
    let health = healthy([false, true, true], true).await;
    assert!(health.members[0].trouble.contains("tcp connect error"), "{health:?}");
    members.cluster.member(1).pause().await.expect("frozen");
    // The last one notices that it has no leader.
    healthy([false, false, false], false).await;
    members.cluster.member(1).resume().await.expect("thawed");
    healthy([false, true, true], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_quorum_a_write_is_unknown_and_happens_at_most_once() {
    let mut members = Members::start(3).await;
    let endpoint = members.cluster.member(0).client_url();
    let options = Options {
        timeout: Duration::from_millis(500),
        deadline: Duration::from_secs(2),
        ..Options::new([endpoint.clone()])
    };
    let store = EtcdStore::connect(options).await.expect("usable");
    store.ping().await.expect("an answer");
    members.cluster.member_mut(1).kill().await.expect("killed");
    members.cluster.member_mut(2).kill().await.expect("killed");
    let error = store.commit(&put("a", "1")).await.expect_err("no quorum");
    assert_eq!(error.severity(), Severity::TryAgain);
    assert!(error.to_string().contains(&endpoint), "{error}");
    let error = store.read(&[one("a")], None).await.expect_err("no quorum");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    members.cluster.restart().await.expect("restarted");
    let now = eventually("an answer", async || store.read(&[one("a")], None).await.ok()).await;
    assert!(now.kvs.get("a").is_none_or(|kv| kv.version == 1), "{now:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_before_there_is_a_server() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let url = format!("http://{}", port.expect("a free port"));
    let options = Options { deadline: Duration::from_millis(300), ..Options::new([url.clone()]) };
    let store = EtcdStore::connect(options).await.expect("nothing needs to listen");
    let error = store.ping().await.expect_err("nothing listens");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&url), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    // It is known that nothing was sent.
    let error = store.commit(&put("a", "")).await.expect_err("nothing listens");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(matches!(store.health().await, Err(StoreError::Unreachable { .. })));

    let _server = Server::start(MemberConfig::default().client_url(&url)).await.expect("starts");
    eventually("an answer", async || store.ping().await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_endpoints_cost_no_call() {
    let mut members = Members::start(3).await;
    let store = members.store().await;
    members.cluster.member_mut(0).kill().await.expect("killed");
    for n in 0..100 {
        store.commit(&put(&format!("a/{n}"), "")).await.unwrap_or_else(|error| match error {
            // The one that died with the leader may be in doubt.
            StoreError::Unknown { .. } if n == 0 => Committed::Refused,
            error => panic!("write {n}: {error}"),
        });
    }
    for n in 0..100 {
        let now = store.read(&[one(&format!("a/{n}"))], None).await.expect("an answer");
        assert!(now.kvs.len() == 1 || n == 0);
    }
    // The same for a client that never saw it alive.
    let late = members.store().await;
    for n in 1..100 {
        let txn = Txn::default().then(op_put(&format!("b/{n}"), ""));
        assert!(matches!(late.commit(&txn).await, Ok(Committed::Done(_))), "write {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_past_the_cursor_is_lost_and_not_skipped() {
    let mut etcd = crate::common::Etcd::start().await;
    let store = etcd.store("/neco/").await;
    let Ok(Committed::Done(first)) = store.commit(&put("a", "1")).await else { panic!("done") };
    let mut watch = store.watch(&[all("")], first).await.expect("a watch");
    assert!(matches!(next_event(&mut *watch).await, WatchEvent::Changed(_)));
    // Somebody else writes and compacts while our connection is broken.
    etcd.server.kill().await.expect("killed");
    etcd.server.restart().await.expect("restarted");
    let other = connect([etcd.server.client_url()], "/neco/").await;
    let mut newest = first;
    for n in 0..5 {
        if let Ok(Committed::Done(revision)) = other.commit(&put("a", format!("{n}"))).await {
            newest = revision;
        }
    }
    other.compact(newest).await.expect("compacted");
    // Either the watch was back before the compaction and tells all, or it is lost; nothing else.
    let mut seen = first;
    while seen < newest {
        match next_event(&mut *watch).await {
            WatchEvent::Changed(changes) => {
                for change in changes {
                    assert_eq!(change.revision.0, seen.0 + 1, "a gap");
                    seen = change.revision;
                }
            }
            WatchEvent::Lost { revision } => {
                assert_eq!(revision, newest);
                return;
            }
            WatchEvent::Progress(_) => {}
        }
    }
}
