//! What an update cannot do without: each of some clients puts once under guard, until all watches have seen all puts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use neco_schema::{Compare, CompareTarget, Op, Range, Revision, Txn};
use neco_store::{Committed, EtcdStore, Options, Store, Watch, WatchEvent};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::workbench::LONG;

/// Beside the keys of Neco, so that nobody else sees them.
const PREFIX: &str = "/neco-bench/";

/// As large as a status.
const VALUE: usize = 200;

/// Clients, each with a connection and a watch of its own.
pub(crate) struct Rounds {
    clients: Vec<Client>,
    /// Rounds so far, in all runs.
    round: u64,
}

struct Client {
    number: usize,
    store: EtcdStore,
    watch: Box<dyn Watch>,
    /// The last change of its key; 0 before the first.
    revision: Revision,
    /// In which round it has last seen each key.
    seen: BTreeMap<String, u64>,
}

impl Rounds {
    pub(crate) async fn begin(endpoints: &[String], clients: usize) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for number in 0..clients {
            let options = Options { prefix: PREFIX.to_owned(), ..Options::new(endpoints) };
            let store = EtcdStore::connect(options).await?;
            let now = store.read(&[Range::Key(key(number))], None).await?;
            let revision = now.kvs.get(&key(number)).map_or(Revision(0), |kv| kv.mod_revision);
            let range = Range::Prefix(String::new());
            let watch = store.watch(&[range], Revision(now.revision.0 + 1)).await?;
            let seen = BTreeMap::new();
            all.push(Client { number, store, watch, revision, seen });
        }
        Ok(Self { clients: all, round: 0 })
    }

    /// Runs so many rounds with the first `of` clients, one after another; says how long they took together. A round ends
    /// when every one of these clients has seen the puts of all of them.
    pub(crate) async fn run(&mut self, rounds: u32, of: usize) -> anyhow::Result<Duration> {
        let resting = self.clients.split_off(of);
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            self.round += 1;
            let mut tasks = JoinSet::new();
            let began = Instant::now();
            for client in self.clients.drain(..) {
                tasks.spawn(client.round(self.round, of));
            }
            while let Some(client) =
                timeout(LONG, tasks.join_next()).await.context("a put hangs")?
            {
                self.clients.push(client??);
            }
            took += began.elapsed();
            self.clients.sort_by_key(|client| client.number);
        }
        self.clients.extend(resting);
        Ok(took)
    }
}

impl Client {
    async fn round(mut self, round: u64, of: usize) -> anyhow::Result<Self> {
        let key = key(self.number);
        let guard = match self.revision {
            Revision(0) => CompareTarget::Absent,
            revision => CompareTarget::ModRevision(revision),
        };
        let value = format!("{round:0VALUE$}").into_bytes();
        let txn = Txn::default().when(Compare { key: key.clone(), target: guard }).then(Op::Put {
            key,
            value,
            lease: None,
        });
        match self.store.commit(&txn).await? {
            Committed::Done(revision) => self.revision = revision,
            Committed::Refused => anyhow::bail!("somebody else writes below {PREFIX}"),
        }
        while self.seen.values().filter(|&&seen| seen == round).count() < of {
            let event = self.watch.next().await?;
            let WatchEvent::Changed(changes) = event else {
                anyhow::ensure!(matches!(event, WatchEvent::Progress(_)), "the watch was lost");
                continue;
            };
            for kv in changes.into_iter().filter_map(|change| change.kv) {
                self.seen.insert(kv.key, std::str::from_utf8(&kv.value)?.parse()?);
            }
        }
        Ok(self)
    }
}

fn key(number: usize) -> String {
    format!("client-{number}")
}
