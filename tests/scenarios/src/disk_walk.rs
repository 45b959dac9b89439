//! A server whose disks go wrong one after another, and what people get to know of it.

use std::collections::BTreeSet;
use std::time::Duration;

use neco_plan::View;
use neco_playground::{BootServer, Disks};
use tokio::time::{Instant, sleep};

use crate::{LONG, Scenario, necoctl};

/// Where a journal lies.
pub const JOURNAL: &str = "var/lib/neco/journal";

/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is the matter with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// There is no room.
    Full,
    /// It cannot be written.
    ReadOnly,
}

impl Weather {
    /// What the system says, and what is to be done about it.
    #[must_use]
    pub fn words(self) -> [&'static str; 2] {
        match self {
            Self::Full => ["No space left on device", "free space on its file system"],
            Self::ReadOnly => ["Read-only file system", "remount it read-write"],
        }
    }
}

/// A server whose disks go wrong one after another.
pub struct DiskWalk<'a> {
    scenario: &'a Scenario,
    victim: &'a BootServer,
    /// Its disks.
    pub disks: &'a Disks,
    /// What befalls them.
    pub weather: Weather,
    /// Those that are wrong now.
    pub wrong: BTreeSet<&'static str>,
    /// Those that were complained of.
    pub told: BTreeSet<&'static str>,
}

impl<'a> DiskWalk<'a> {
    /// All is well as yet.
    pub fn new(
        scenario: &'a Scenario,
        victim: &'a BootServer,
        disks: &'a Disks,
        weather: Weather,
    ) -> Self {
        let (wrong, told) = (BTreeSet::new(), BTreeSet::new());
        Self { scenario, victim, disks, weather, wrong, told }
    }

    /// Lets it befall the disk at `place`.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn spoil(&mut self, place: &'static str) {
        let done = match self.weather {
            Weather::Full => self.disks.fill(place),
            Weather::ReadOnly => self.disks.forbid_writing(place),
        };
        done.unwrap_or_else(|error| panic!("{place}: {error:?}"));
        self.wrong.insert(place);
    }

    /// Takes that back.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn mend(&mut self, place: &'static str) {
        let done = match self.weather {
            Weather::Full => self.disks.make_room(place),
            Weather::ReadOnly => self.disks.allow_writing(place),
        };
        done.unwrap_or_else(|error| panic!("{place}: {error:?}"));
        self.wrong.remove(place);
    }

    /// Every line that people see of it now: its sign of life, its progress, its log.
    async fn lines(&self) -> Vec<String> {
        let lrn = self.victim.lrn();
        let mut lines: Vec<String> =
            self.victim.log("neco-worker").lines().map(str::to_owned).collect();
        if let Ok(view) = self.scenario.view().await {
            lines.extend(
                view.alive.get(&lrn).into_iter().flat_map(|alive| alive.value.unfit.clone()),
            );
            lines.extend(view.progress.get(&lrn).map(|progress| progress.value.doing.clone()));
        }
        lines
    }

    /// Waits until one line says what the system said, with all of `words`. A journal has a page that is not full yet, so
    /// nobody can tell when it is refused: its own line may come first, and then it is mended.
    ///
    /// # Panics
    /// It does not.
    pub async fn complains(&mut self, place: &'static str, words: &[&str]) {
        let what = format!("a complaint about {place:?} with {words:?}, {:?}", self.weather);
        let said = self.weather.words()[0];
        let deadline = Instant::now() + LONG;
        loop {
            let lines = self.lines().await;
            let found = |words: &[&str]| {
                let all = |line: &&String| words.iter().all(|word| line.contains(word));
                lines.iter().filter(|line| line.contains(said)).find(all)
            };
            if found(words).is_some() {
                break;
            }
            if place != JOURNAL && self.wrong.contains(JOURNAL) && self.journal_is_refused().await {
                self.mend(JOURNAL);
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}\n{}",
                self.victim.log_tail(40)
            );
            sleep(LOOK_EVERY).await;
        }
        self.told.insert(place);
    }

    /// Whether the server says so, with what is to be done: of itself, or where the unit that installs logs.
    async fn journal_is_refused(&mut self) -> bool {
        let mut words = self.weather.words().to_vec();
        words.push("the journal cannot be written");
        let told = |line: &String| words.iter().all(|word| line.contains(word));
        let refused = self.lines().await.iter().any(told);
        if refused {
            self.told.insert(JOURNAL);
        }
        refused
    }

    /// Waits until `why`, on another server, names this one with these words.
    ///
    /// # Panics
    /// It does not.
    pub async fn why_names(&self, words: &[&str]) {
        let server = format!("boot server {}", self.victim.lrn());
        let mut others = self.scenario.servers().iter();
        let other = others.find(|other| other.lrn() != self.victim.lrn()).expect("another");
        self.scenario
            .until_true(&format!("why with {words:?}"), async || {
                let why = necoctl(other, &["why"]).await.ended(0).out;
                let fits = |line: &str| {
                    line.contains(&server) && words.iter().all(|word| line.contains(word))
                };
                why.lines().any(fits)
            })
            .await;
    }

    /// Waits for something while the journal is mended as soon as it is refused.
    ///
    /// # Panics
    /// It does not come.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&View) -> bool) {
        let deadline = Instant::now() + LONG;
        loop {
            if self.scenario.view().await.is_ok_and(|view| holds(&view)) {
                return;
            }
            if self.wrong.contains(JOURNAL) && self.journal_is_refused().await {
                self.mend(JOURNAL);
            }
            let tail = self.victim.log_tail(40);
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{tail}");
            sleep(LOOK_EVERY).await;
        }
    }
}
