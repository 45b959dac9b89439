//! How long servers wait for one another.
//!
//! An update of 18 empty steps over a version that is installed already: an operator's `recover` removes the request, and
//! the leader makes another. Measured is from the moment at which one watch sees the first status of step 1 until it sees
//! the last one that says complete: 18 times everybody posts and everybody has to see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use neco_plan::operator::{Order, Recovery, recover};
use neco_playground::{Site, is_completed};
use neco_schema::{
    Condition, Key, Lrn, Range, Record, Revision, Timestamp, UpdateStatus, prefixes,
};
use neco_store::{Committed, EtcdStore, Options, Store, WatchEvent};
use tokio::time::timeout;

use crate::figure::{Budget, Figure, Unit};
use crate::rounds::Rounds;
use crate::workbench::{Bench, LONG, failure};

/// How many steps the recipe has.
const STEPS: u32 = 18;

/// How often it is measured, after once that does not count.
const RUNS: usize = 9;

/// The design's budget.
const RATIO: f64 = 2.0;

/// Measures a site of `servers`.
pub(crate) async fn measure(
    bench: &Bench,
    servers: u32,
) -> Result<Vec<Figure>, neco_process::exit::Failure> {
    let endpoints = bench.site.etcd().await.endpoints();
    let mut watcher = Watcher::begin(&endpoints).await?;
    let mut rounds = Rounds::begin(&endpoints, servers as usize).await?;
    let (mut updates, mut bare, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=RUNS {
        let update = watcher.update(&bench.site, servers);
        let update = timeout(LONG, update).await.context("an update of empty steps hangs")??;
        let recorded = |view: &_| is_completed(view, &bench.version);
        let recorded = bench.site.wait_for("the record of the update", LONG, recorded);
        recorded.await.map_err(failure)?;
        let everybody = rounds.run(STEPS, servers as usize).await?;
        let one = rounds.run(STEPS, 1).await?;
        if run > 0 {
            let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            updates.push(ms(update));
            bare.push(ms(everybody));
            single.push(ms(one));
        }
    }
    let what = format!("{STEPS} empty steps, {servers} servers");
    let all = format!("{STEPS} × ({servers} guarded puts, seen by {servers} watches)");
    let one = format!("{STEPS} × (1 guarded put, seen by 1 watch)");
    let ms = Unit::Milliseconds;
    Ok(vec![
        Figure::beside(what.clone(), ms, &updates, all, &bare)?.judged(Budget::RatioAtMost(RATIO)),
        Figure::beside(what, ms, &updates, one, &single)?,
    ])
}

/// Sees the statuses of servers, through a connection of its own.
struct Watcher {
    store: Arc<EtcdStore>,
}

impl Watcher {
    async fn begin(endpoints: &[String]) -> anyhow::Result<Self> {
        let store = EtcdStore::connect(Options::new(endpoints)).await?;
        Ok(Self { store: Arc::new(store) })
    }

    /// Lets the update be made once more, and says how long it took.
    async fn update(&mut self, site: &Site, servers: u32) -> anyhow::Result<std::time::Duration> {
        let revision = self.store.read(&[], None).await?.revision;
        let range = Range::Prefix(prefixes::STATUS.to_owned());
        let mut watch = self.store.watch(&[range], Revision(revision.0 + 1)).await?;
        self.again(site).await?;
        let mut course = Course::default();
        loop {
            let event = watch.next().await?;
            let at = Instant::now();
            let WatchEvent::Changed(changes) = event else {
                anyhow::ensure!(matches!(event, WatchEvent::Progress(_)), "the watch was lost");
                continue;
            };
            for change in changes {
                let (Ok(Key::Status(lrn)), Some(kv)) = (change.key.parse(), change.kv) else {
                    continue;
                };
                course.note(lrn, &UpdateStatus::decode(&kv.value)?, at)?;
            }
            if let Some(took) = course.took(servers) {
                return Ok(took);
            }
        }
    }

    /// Removes the request, so that the leader makes it again.
    async fn again(&self, site: &Site) -> anyhow::Result<()> {
        let now = Timestamp::new(std::time::SystemTime::now().try_into()?)?;
        let order = Order { by: "bench".to_owned(), reason: "once more".to_owned(), now };
        let how = Recovery { force: true, retry: false };
        // The leader may write at the same time; then the view is another one.
        for _ in 0..10 {
            let txn = recover(&site.view().await?, how, &order).map_err(anyhow::Error::msg)?;
            if let Committed::Done(_) = self.store.commit(&txn).await? {
                return Ok(());
            }
        }
        anyhow::bail!("the request could not be removed")
    }
}

/// What was seen of one update.
#[derive(Debug, Default)]
struct Course {
    first: Option<Instant>,
    complete: BTreeSet<Lrn>,
    last: Option<Instant>,
}

impl Course {
    fn note(&mut self, lrn: Lrn, status: &UpdateStatus, at: Instant) -> anyhow::Result<()> {
        match status.cond {
            Condition::Running => {
                self.first.get_or_insert(at);
            }
            Condition::Complete => {
                anyhow::ensure!(
                    status.step == STEPS,
                    "boot-{lrn} completed {} steps instead of {STEPS}",
                    status.step
                );
                self.complete.insert(lrn);
                self.last = Some(at);
            }
            _ => anyhow::bail!("boot-{lrn} posted {}: {}", status.cond, status.message),
        }
        Ok(())
    }

    fn took(&self, servers: u32) -> Option<std::time::Duration> {
        let all = self.complete.len() == servers as usize;
        all.then_some(self.last?.duration_since(self.first?))
    }
}
