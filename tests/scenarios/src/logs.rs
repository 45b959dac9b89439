//! What daemons have logged, and what they log from some moment on.

use neco_playground::BootServer;
use neco_schema::Lrn;

use crate::{Scenario, daemons};

/// The lines of a daemon's log that have all of `words`.
#[must_use]
pub fn lines(server: &BootServer, daemon: &str, words: &[&str]) -> Vec<String> {
    let log = server.log(daemon);
    let fits = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(fits).map(str::to_owned).collect()
}

/// The lines with some words that a daemon had logged at one moment, so that later ones can be told from them.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whose daemon it is.
    pub lrn: Lrn,
    daemon: &'static str,
    words: Vec<String>,
    before: Vec<String>,
}

impl Said {
    /// What `neco-worker` or `neco-updater` has logged with all of `words` until now.
    #[must_use]
    pub fn until_now(server: &BootServer, daemon: &'static str, words: &[&str]) -> Self {
        let before = lines(server, daemon, words);
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Self { lrn: server.lrn(), daemon, words, before }
    }

    /// The same of each worker.
    #[must_use]
    pub fn by_workers(scenario: &Scenario, words: &[&str]) -> Vec<Self> {
        let said = |server| Self::until_now(server, "neco-worker", words);
        scenario.servers().iter().map(said).collect()
    }

    /// The same of each updater: whichever leads, it is among them.
    #[must_use]
    pub fn by_updaters(scenario: &Scenario, words: &[&str]) -> Vec<Self> {
        let said = |server| Self::until_now(server, "neco-updater", words);
        scenario.updaters().map(said).collect()
    }

    /// The same of each daemon of a server.
    #[must_use]
    pub fn by_daemons(server: &BootServer, words: &[&str]) -> Vec<Self> {
        let names = ["neco-worker", "neco-updater"].into_iter().take(daemons(server).count());
        names.map(|daemon| Self::until_now(server, daemon, words)).collect()
    }

    /// The lines that have come since.
    #[must_use]
    pub fn since(&self, scenario: &Scenario) -> Vec<String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut lines = lines(scenario.server(self.lrn.get()), self.daemon, &words);
        let mut before = self.before.clone();
        lines.retain(|line| match before.iter().position(|old| old == line) {
            Some(at) => {
                before.swap_remove(at);
                false
            }
            None => true,
        });
        lines
    }

    /// Whether one has come since.
    #[must_use]
    pub fn is_more(&self, scenario: &Scenario) -> bool {
        !self.since(scenario).is_empty()
    }

    /// Waits for one more line.
    ///
    /// # Panics
    /// None comes.
    pub async fn more(&self, scenario: &Scenario) {
        let Self { lrn, daemon, words, .. } = self;
        let what = format!("one more line of {daemon} on boot-{lrn} with {words:?}");
        scenario.until_true(&what, async || self.is_more(scenario)).await;
    }
}

/// Waits until each of them has said more.
///
/// # Panics
/// One has not.
pub async fn all_say_more(scenario: &Scenario, said: &[Said]) {
    for one in said {
        one.more(scenario).await;
    }
}

/// Waits until one of them has said more.
///
/// # Panics
/// None has.
pub async fn one_says_more(scenario: &Scenario, said: &[Said]) {
    let words: Vec<_> = said.iter().map(|said| (said.lrn, &said.words)).collect();
    let what = format!("one more line of one of {words:?}");
    scenario.until_true(&what, async || said.iter().any(|said| said.is_more(scenario))).await;
}
