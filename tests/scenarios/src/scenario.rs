//! A site under test, and the verdict on what became of it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use neco_components::Recipe;
use neco_plan::invariants::{Auditor, KvChange, Report, Rules, Stamp};
use neco_plan::operator::{Order, Recovery, Refusal, recover};
use neco_plan::{JournalState, RecipeShape, View};
use neco_playground::{BootServer, Packages, Site, SiteOptions, prove};
use neco_schema::journal::Entry;
use neco_schema::{
    Key, Lrn, NecoVersion, Op, Revision, Timestamp, Txn, UpdateRequest, UpdateStatus,
};
use neco_store::{Committed, Store};
use neco_systemd::UnitEffect;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::trail::{Trail, values_of};

/// How long anything may take: the machine may be busy with other things.
pub const LONG: Duration = Duration::from_secs(180);

/// Where `cargo xtask test` has put the packages.
const PACKAGES: &str = "NECO_PACKAGES";

/// How many boot servers a site has.
const SERVERS: u32 = 3;

/// Each site is a dozen processes: only so many at a time.
static PLACES: Semaphore = Semaphore::const_new(2);

/// A site that runs the first version, with a record of everything that happens in it.
pub struct Scenario {
    site: Site,
    trail: Trail,
    /// The recipes that the requests follow, by version.
    recipes: BTreeMap<NecoVersion, RecipeShape>,
    /// Where the logs of units stood when the scenario began.
    begun: BTreeMap<Lrn, u64>,
    _place: SemaphorePermit<'static>,
}

impl Deref for Scenario {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Scenario {
    /// Builds a site and waits until its first update is complete.
    ///
    /// # Panics
    /// The packages are missing, or the site does not get that far.
    pub async fn begin() -> Self {
        let packages = std::env::var_os(PACKAGES).map(PathBuf::from).unwrap_or_else(|| {
            panic!("{PACKAGES} is not set: run the scenarios with `cargo xtask test -- -p neco-scenarios`")
        });
        let packages = Packages::read(packages).unwrap_or_else(|error| panic!("{error}"));
        let place = PLACES.acquire().await.expect("never closed");
        let options = SiteOptions { packages, servers: SERVERS, parent: None };
        let site = Site::start(options).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let trail = Trail::follow(site.store().clone());
        let mut scenario =
            Self { site, trail, recipes: BTreeMap::new(), begun: BTreeMap::new(), _place: place };
        let first = scenario.packages().first().clone();
        scenario.learn_recipe(&first);
        scenario.completed(&first).await;
        for server in scenario.site.servers() {
            let effects = server.units().effects().expect("a log of units");
            let last = effects.last().map_or(0, |effect| effect.seq);
            scenario.begun.insert(server.lrn(), last);
        }
        scenario
    }

    /// Publishes the sound package of the update, and gives its version.
    ///
    /// # Panics
    /// It cannot be published.
    pub async fn publish_update(&self) -> NecoVersion {
        let version = self.packages().update().clone();
        self.publish_sound(&version).await;
        version
    }

    /// Publishes the sound package of a version.
    ///
    /// # Panics
    /// It cannot be published.
    pub async fn publish_sound(&self, version: &NecoVersion) {
        let package = self.packages().of(version).unwrap_or_else(|error| panic!("{error}"));
        self.publish(package).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// Waits for something in etcd.
    ///
    /// # Panics
    /// It does not come.
    pub async fn until(&self, what: &str, holds: impl FnMut(&View) -> bool) -> View {
        let waited = self.wait_for(what, LONG, holds).await;
        waited.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Waits for something that is not in etcd.
    ///
    /// # Panics
    /// It does not come.
    pub async fn until_true(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LONG;
        while !holds().await {
            if Instant::now() >= deadline {
                let logs: String =
                    self.servers().iter().map(|server| server.log_tail(12)).collect();
                panic!("waited in vain for {what}\n{logs}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all servers have completed `version`.
    ///
    /// # Panics
    /// They do not.
    pub async fn completed(&self, version: &NecoVersion) -> View {
        let waited = self.wait_completed(version, LONG, |_| {}).await;
        waited.unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// The server whose updater leads.
    ///
    /// # Panics
    /// None does.
    pub async fn leading(&self) -> &BootServer {
        self.leader().await.expect("an answer").expect("a leader")
    }

    /// Waits until the updater of another server than `lrn` leads.
    ///
    /// # Panics
    /// None does.
    pub async fn other_leader(&self, lrn: Lrn) -> Lrn {
        let mut found = None;
        self.until_true("another leader", async || {
            let leader = self.leader().await.ok().flatten().map(BootServer::lrn);
            found = leader.filter(|leader| *leader != lrn);
            found.is_some()
        })
        .await;
        found.expect("just found")
    }

    /// Removes the stopped request as `necoctl recover` does, once every member has settled.
    ///
    /// # Panics
    /// It is refused for another reason.
    pub async fn recover(&self) {
        let order = Order { by: "scenario".to_owned(), reason: "test".to_owned(), now: now() };
        self.until_true("a recovery", async || {
            let view = self.view().await.expect("an answer");
            match recover(&view, Recovery::default(), &order) {
                Ok(txn) => matches!(self.store().commit(&txn).await, Ok(Committed::Done(_))),
                Err(Refusal::NotYet { .. }) => false,
                Err(refusal) => panic!("recover: {refusal}"),
            }
        })
        .await;
    }

    /// Everything that changed in etcd so far.
    ///
    /// # Panics
    /// The trail has a hole.
    pub async fn history(&self) -> BTreeMap<Revision, Vec<KvChange>> {
        // A change to wait for, under a key that means nothing after setup.
        let marker = Txn::default().then(Op::put_bytes(&Key::Finish(Lrn::new(0)), "1"));
        match self.store().commit(&marker).await.expect("an answer") {
            Committed::Done(revision) => self.trail.up_to(revision).await,
            Committed::Refused => unreachable!("nothing was compared"),
        }
    }

    /// Compacts the history of etcd up to now.
    ///
    /// # Panics
    /// etcd refuses.
    pub async fn compact(&self) {
        self.history().await;
        self.store().compact(self.recorded()).await.expect("compacted");
    }

    /// How far the record of changes has come; what is older may be compacted.
    pub fn recorded(&self) -> Revision {
        self.trail.end()
    }

    /// The values that the request had since `from`, each with its revision.
    ///
    /// # Panics
    /// One cannot be read.
    pub async fn requests(&self, from: Revision) -> Vec<(Revision, Option<UpdateRequest>)> {
        let mut values = values_of(&self.history().await, &Key::Request);
        values.retain(|(at, _)| *at > from);
        values
    }

    /// The statuses that a server posted since `from`.
    ///
    /// # Panics
    /// One cannot be read.
    pub async fn posted(&self, server: &BootServer, from: Revision) -> Vec<UpdateStatus> {
        let values = values_of(&self.history().await, &Key::Status(server.lrn()));
        values.into_iter().filter(|(at, _)| *at > from).filter_map(|(_, status)| status).collect()
    }

    /// What was done to a unit of a server since the first update, in words.
    ///
    /// # Panics
    /// The log of units cannot be read.
    pub fn done_to(&self, server: &BootServer, unit: &str) -> Vec<String> {
        let from = self.begun.get(&server.lrn()).copied().unwrap_or_default();
        let effects = server.units().effects().expect("a log of units");
        let about = |effect: &UnitEffect| match effect {
            UnitEffect::Start { unit: about, .. }
            | UnitEffect::Stop { unit: about }
            | UnitEffect::Restart { unit: about, .. } => about.as_str() == unit,
            _ => false,
        };
        let since = effects.into_iter().filter(|entry| entry.seq > from && about(&entry.effect));
        since.map(|entry| entry.effect.words()).collect()
    }

    /// Takes note of the recipe that requests for `version` follow, as it is installed on the first server now.
    pub fn learn_recipe(&mut self, version: &NecoVersion) {
        let folder = self.site.server(0).root().join("usr/share/neco");
        let recipe = Recipe::load(folder).unwrap_or_else(|error| panic!("{error}"));
        self.recipes.insert(version.clone(), neco_worker::shape(&recipe));
    }

    /// The last word: every server runs `version`; nothing is open in any journal; every service was restarted once, or
    /// not at all; and no invariant of the protocol was violated, from the first revision on.
    ///
    /// # Panics
    /// Something of that is not so.
    pub async fn verdict(mut self, version: &NecoVersion) -> Report {
        let first = self.packages().first().clone();
        let proven = prove(&self.site, &first, version, Duration::ZERO).await;
        let summary = proven.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(summary.servers.iter().all(|server| server.cond == 3), "{summary:?}");
        self.learn_recipe(version);
        for server in self.site.servers() {
            let journal = server.journal().unwrap_or_else(|error| panic!("{}", chain(&error)));
            let state = JournalState::fold(journal.iter().map(|record| &record.entry));
            let lrn = server.lrn();
            assert!(state.intents.is_empty(), "boot-{lrn} has open intents: {:?}", state.intents);
            assert!(state.groups.is_empty(), "boot-{lrn} has open groups: {:?}", state.groups);
        }
        let report = self.audit().await;
        assert!(report.log_faults.is_empty() && report.violations.is_empty(), "{report}");
        self.site.stop().await;
        report
    }

    /// What the auditor makes of everything that happened.
    async fn audit(&self) -> Report {
        let rules = Rules { recipes: self.recipes.clone(), ..Rules::default() };
        let mut auditor = Auditor::new(rules);
        for (revision, changes) in self.history().await {
            auditor.change(revision, &changes);
        }
        for server in self.site.servers() {
            for record in server.journal().unwrap_or_else(|error| panic!("{}", chain(&error))) {
                let at = Stamp { seq: record.seq, revision: None };
                auditor.journal(server.lrn(), &record.entry, at);
            }
        }
        auditor.finish()
    }
}

/// The attempts of a step for `version` that the journal of a server speaks of.
#[must_use]
pub fn attempts(server: &BootServer, request: &UpdateRequest, of_step: u32) -> Vec<u32> {
    let journal = server.journal().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let attempt = |entry: &Entry| match entry {
        Entry::StepBegun { request: id, step, attempt, .. }
            if *id == request.id() && *step == of_step =>
        {
            Some(*attempt)
        }
        _ => None,
    };
    journal.iter().filter_map(|record| attempt(&record.entry)).collect()
}

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
