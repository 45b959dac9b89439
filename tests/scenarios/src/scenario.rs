//! A site under test, and the verdict on what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use neco_components::Recipe;
use neco_plan::invariants::{Fact, InvariantId, KvChange, Report, Writer};
use neco_plan::{JournalState, RecipeShape, View};
use neco_playground::{Access, BootServer, Packages, Site, SiteOptions, prove};
use neco_schema::{
    Compare, ConfigKey, Key, Lrn, NecoVersion, Op, Range, Revision, Timestamp, Txn, UpdateRequest,
    UpdateStatus,
};
use neco_store::{Committed, Store};
use neco_systemd::UnitEffect;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backup::Backup;
use crate::live_audit::{self, Meddling};
use crate::logs::lines;
use crate::observer::{self, Observer};
use crate::operator::daemons;
use crate::recording::{Event, Recording};
use crate::trail::{Trail, values_of};
use crate::webhook::{self, Webhook};

/// How long anything may take: the machine may be busy with other things.
pub const LONG: Duration = Duration::from_secs(180);

/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where `cargo xtask test` has put the packages.
const PACKAGES: &str = "NECO_PACKAGES";

/// A token that every site is given and that nobody may ever see again.
const SECRET: &str = "ghp_whatNobodyMaySee0123456789";

/// The safety invariants that every scenario puts to the test, whatever it is about.
const ALWAYS: [u8; 22] =
    [1, 3, 5, 7, 8, 9, 10, 13, 14, 18, 20, 22, 27, 28, 29, 30, 32, 33, 39, 41, 42, 43];

/// How many boot servers a site has.
const SERVERS: u32 = 3;

/// Each site is a dozen processes: only so many at a time.
static PLACES: Semaphore = Semaphore::const_new(3);

/// A site that runs the first version, with a record of everything that happens in it.
pub struct Scenario {
    site: Site,
    trail: Trail,
    /// What became of etcd before it was put back to an earlier time.
    former: Recording,
    observer: Observer,
    webhook: Webhook,
    /// The recipes that the requests follow, by version.
    recipes: BTreeMap<NecoVersion, RecipeShape>,
    /// Where the logs of units stood when the scenario began.
    begun: BTreeMap<Lrn, u64>,
    /// The servers that were taken out.
    left: BTreeSet<Lrn>,
    /// What this scenario knows and nobody may see.
    secrets: Vec<String>,
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
        Self::begin_with(None, Vec::new()).await
    }

    /// The same with an etcd that does not let everybody in, with secrets that nobody may see, and with daemons that log
    /// everything.
    ///
    /// # Panics
    /// As [`begin`](Self::begin).
    pub async fn begin_guarded(access: Access, secrets: Vec<String>) -> Self {
        Self::begin_with(Some(access), secrets).await
    }

    async fn begin_with(access: Option<Access>, secrets: Vec<String>) -> Self {
        let packages = std::env::var_os(PACKAGES).map(PathBuf::from).unwrap_or_else(|| {
            panic!("{PACKAGES} is not set: run the scenarios with `cargo xtask test -- -p neco-scenarios`")
        });
        let packages = Packages::read(packages).unwrap_or_else(|error| panic!("{error}"));
        let place = PLACES.acquire().await.expect("never closed");
        let options = SiteOptions {
            loglevel: access.as_ref().map(|_| "debug"),
            access,
            ..SiteOptions::new(packages, SERVERS)
        };
        let site = Site::start(options).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let trail = Trail::follow(site.store().clone());
        let mut scenario = Self {
            site,
            trail,
            former: Recording::default(),
            observer: Observer::default(),
            webhook: Webhook::listen().await,
            recipes: BTreeMap::new(),
            begun: BTreeMap::new(),
            left: BTreeSet::new(),
            secrets,
            _place: place,
        };
        let first = scenario.packages().first().clone();
        for lrn in scenario.servers().iter().map(BootServer::lrn) {
            let version = first.clone();
            scenario.fact(Fact::Installed { lrn, version, sha256: None, way_back: false });
        }
        scenario.write(&Key::Config(ConfigKey::GithubToken).to_string(), SECRET).await;
        scenario.write(&Key::Config(ConfigKey::Slack).to_string(), scenario.webhook.url()).await;
        scenario.learn_recipe(&first);
        scenario.completed(&first).await;
        for server in scenario.site.servers() {
            let effects = server.units().effects().expect("a log of units");
            let last = effects.last().map_or(0, |effect| effect.seq);
            scenario.begun.insert(server.lrn(), last);
        }
        scenario
    }

    /// Counts a spare of [`Site::install_spare`] among the servers that the verdict is about.
    pub fn add(&mut self, spare: BootServer) {
        let (lrn, version) = (spare.lrn(), self.packages().first().clone());
        self.fact(Fact::Installed { lrn, version, sha256: None, way_back: false });
        self.site.add(spare);
    }

    /// Says that a server was taken out: the verdict is about the others, and about what it did until then.
    pub fn has_left(&mut self, server: u32) {
        self.left.insert(Lrn::new(server));
    }

    /// The servers that the verdict is about.
    fn members(&self) -> impl Iterator<Item = &BootServer> {
        self.servers().iter().filter(|server| !self.left.contains(&server.lrn()))
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
        // Whoever asks and gets no answer waits in vain, too.
        while !timeout_at(deadline, holds()).await.unwrap_or(false) {
            if Instant::now() >= deadline {
                let logs: String =
                    self.servers().iter().map(|server| server.log_tail(12)).collect();
                panic!("waited in vain for {what}\n{logs}");
            }
            sleep(LOOK_EVERY).await;
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

    /// The server whose updater leads, as soon as one does.
    ///
    /// # Panics
    /// None does.
    pub async fn leading(&self) -> &BootServer {
        let mut found = None;
        self.until_true("a leader", async || {
            found = self.leader().await.ok().flatten();
            found.is_some()
        })
        .await;
        found.expect("just found")
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

    /// Keeps what the journal of a server says for the verdict, because it is about to be damaged.
    ///
    /// # Panics
    /// It cannot be read.
    pub fn keep_journal(&self, server: &BootServer) {
        self.observer.keep_journal(server);
    }

    /// Takes note of something that is so from now on and that nobody else can tell.
    pub fn fact(&self, fact: Fact) {
        self.observer.fact(fact);
    }

    /// What stands under a key.
    ///
    /// # Panics
    /// etcd does not answer.
    pub async fn value(&self, key: &str) -> Option<String> {
        let range = Range::Key(key.to_owned());
        let read = self.store().read(&[range], None).await.expect("an answer");
        read.kvs.get(key).map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
    }

    /// Writes a key by hand, as somebody with `etcdctl` would.
    ///
    /// # Panics
    /// etcd does not answer.
    pub async fn write(&self, key: &str, value: &str) {
        self.write_bytes(key, value.as_bytes()).await;
    }

    /// The same with bytes that need not be text.
    ///
    /// # Panics
    /// etcd does not answer.
    pub async fn write_bytes(&self, key: &str, value: &[u8]) {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.by_hand(Op::Put { key, value, lease: None }).await;
    }

    /// Deletes a key by hand.
    ///
    /// # Panics
    /// etcd does not answer.
    pub async fn erase(&self, key: &str) {
        self.by_hand(Op::Delete(Range::Key(key.to_owned()))).await;
    }

    /// Does it twice rather than not at all: a busy etcd may not answer in time.
    async fn by_hand(&self, op: Op) -> Revision {
        let txn = Txn::default().then(op);
        let deadline = Instant::now() + LONG;
        loop {
            match self.store().commit(&txn).await {
                Ok(Committed::Done(revision)) => {
                    self.wrote(revision, Writer::Stranger, Vec::new());
                    return revision;
                }
                Ok(Committed::Refused) => unreachable!("nothing was compared"),
                Err(error) => assert!(Instant::now() < deadline, "{}", chain(&error)),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Takes note of who made a revision, and under which conditions.
    pub(crate) fn wrote(&self, revision: Revision, writer: Writer, compares: Vec<Compare>) {
        self.observer.wrote(revision, writer, compares);
    }

    /// Waits until a daemon has logged a line with all of `words`, and gives it.
    ///
    /// # Panics
    /// It does not.
    pub async fn logged(&self, server: &BootServer, daemon: &str, words: &[&str]) -> String {
        let mut found = Vec::new();
        let what = format!("a line of {daemon} on boot-{} with {words:?}", server.lrn());
        self.until_true(&what, async || {
            found = lines(server, daemon, words);
            !found.is_empty()
        })
        .await;
        found.swap_remove(0)
    }

    /// The processes of all daemons.
    pub fn processes(&self) -> Vec<(String, Option<u32>)> {
        let daemons = self.servers().iter().flat_map(daemons);
        daemons.map(|daemon| (daemon.name().to_owned(), daemon.pid())).collect()
    }

    /// Everything that changed in etcd so far.
    ///
    /// # Panics
    /// The trail has a hole.
    pub async fn history(&self) -> BTreeMap<Revision, Vec<KvChange>> {
        // A change to wait for, under a key that means nothing after setup.
        let marked = self.by_hand(Op::put_bytes(&Key::Finish(Lrn::new(0)), "1")).await;
        self.trail.up_to(marked).await
    }

    /// Compacts the history of etcd up to now.
    ///
    /// # Panics
    /// etcd refuses.
    pub async fn compact(&self) {
        self.store().compact(self.recorded().await).await.expect("compacted");
    }

    /// Puts etcd back to a backup. What changed since is gone, and the audit begins anew from what stands there now.
    ///
    /// # Panics
    /// The backup cannot be put back.
    pub async fn restore(&mut self, backup: &Backup) {
        let changes = self.history().await;
        let (seen_at, mut writers) = (self.trail.seen_at(), self.observer.forget_writers());
        for (revision, changes) in changes {
            let at = seen_at.get(&revision).copied().unwrap_or_default();
            if let Some((writer, compares)) = writers.remove(&revision) {
                let told = Fact::Transaction { revision, writer, compares };
                self.former.add(at, Event::Fact(told));
            }
            self.former.add(at, Event::Change { revision, changes });
        }
        let at = backup.put_back(&self.site).await;
        let everything = [Range::Prefix(String::new())];
        let now = self.store().read(&everything, None).await.expect("an answer");
        self.trail = Trail::follow_from(self.store().clone(), &now);
        self.former.add(at, Event::Restored(now));
    }

    /// How far the record of changes has come, and that is everything until now: what is older may be compacted.
    ///
    /// # Panics
    /// The trail has a hole.
    pub async fn recorded(&self) -> Revision {
        self.history().await;
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

    /// Takes note of the recipe that requests for `version` follow, as it is installed on the first member now.
    pub fn learn_recipe(&mut self, version: &NecoVersion) {
        let first = self.members().next().expect("a server");
        let folder = first.root().join("usr/share/neco");
        let recipe = Recipe::load(folder).unwrap_or_else(|error| panic!("{error}"));
        self.recipes.insert(version.clone(), recipe.shape());
    }

    /// The last word: every server that has not left runs `version`; nothing is open in any journal; every service was restarted once, or
    /// not at all; and no invariant of the protocol was violated, from the first revision on.
    ///
    /// # Panics
    /// Something of that is not so.
    pub async fn verdict(mut self, version: &NecoVersion) -> Report {
        let first = self.packages().first().clone();
        let proven = prove(&self.site, self.members(), &first, version, Duration::ZERO).await;
        let summary = proven.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(summary.servers.iter().all(|server| server.cond == 3), "{summary:?}");
        self.learn_recipe(version);
        for server in self.members() {
            let journal = server.journal().unwrap_or_else(|error| panic!("{}", chain(&error)));
            let state = JournalState::fold(journal.iter().map(|record| &record.entry));
            let lrn = server.lrn();
            assert!(state.intents.is_empty(), "boot-{lrn} has open intents: {:?}", state.intents);
            assert!(state.groups.is_empty(), "boot-{lrn} has open groups: {:?}", state.groups);
        }
        self.until("a notice about every request that ended", |view| {
            let ended = view.current().map(UpdateRequest::id);
            let recorded = view.history.keys().any(|(_, id)| Some(id) == ended.as_ref());
            let mut records = view.history.values().flatten();
            recorded && records.all(|record| !record.notices.is_empty())
        })
        .await;
        self.servers().iter().for_each(observer::no_process_failed);
        self.fact(Fact::FaultsEnded);
        let recording = self.recording(Some(version)).await;
        let report = recording.audit();
        tell(&recording, &report);
        assert!(report.log_faults.is_empty() && report.violations.is_empty(), "{report}");
        let always = ALWAYS.into_iter().map(InvariantId::Safety);
        let untested: Vec<_> =
            always.filter(|invariant| !report.holding.contains(invariant)).collect();
        assert!(untested.is_empty(), "the audit looked at too little: {untested:?}");
        let gone = self.servers().iter().filter(|server| self.left.contains(&server.lrn()));
        let servers: Vec<_> = self.members().chain(gone).collect();
        let (by_hand, damaged) = (recording.by_hand(), self.observer.damaged());
        live_audit::passes(&servers, &Meddling { by_hand, damaged }).await;
        self.site.stop().await;
        report
    }

    /// Everything that is known of the run so far; with the version that all servers have in the end, if this is the end.
    ///
    /// # Panics
    /// Something cannot be read.
    pub async fn recording(&self, end: Option<&NecoVersion>) -> Recording {
        let mut secrets = vec![SECRET, webhook::SECRET];
        secrets.extend(self.secrets.iter().map(String::as_str));
        let mut rules = observer::rules_of(&self.site, &secrets);
        rules.recipes.clone_from(&self.recipes);
        let mut recording = Recording { rules, ..self.former.clone() };
        let history = self.history().await;
        let seen_at = self.trail.seen_at();
        for (revision, changes) in history {
            let at = seen_at.get(&revision).copied().unwrap_or_default();
            recording.add(at, Event::Change { revision, changes });
        }
        self.observer.add_to(&mut recording);
        self.webhook.add_to(&mut recording);
        for server in self.servers() {
            observer::add_server(&mut recording, server, self.observer.lines_of(server));
            if let Some(version) = end.filter(|_| !self.left.contains(&server.lrn())) {
                observer::add_end(&mut recording, server, version);
            }
        }
        recording
    }
}

/// Says what was put to the test, past the capture of the test's output: a count that falls should be seen.
fn tell(recording: &Recording, report: &Report) {
    let thread = std::thread::current();
    let (lines, facts) = recording.lines_and_facts();
    let held: Vec<_> = report.holding.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        std::io::stderr(),
        "{}: {report}, from {lines} journal lines and {facts} facts; held: {}",
        thread.name().unwrap_or("a scenario"),
        held.join(" ")
    );
}

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
