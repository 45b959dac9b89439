//! What is wrong with whom is asked, told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Tells when something begins to fail and when it works again, each once, however often it is tried in between.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<BTreeMap<String, Failing>>);

#[derive(Debug, Default)]
struct Failing {
    /// The last words.
    why: String,
    said: BTreeSet<String>,
}

impl Said {
    /// Takes down how a try at `what` has ended.
    pub(crate) fn note(&self, what: &str, outcome: &Result<(), String>) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                if failing.remove(what).is_some() {
                    tracing::info!("{what} works again");
                }
            }
            Err(why) => {
                let entry = failing.entry(what.to_owned()).or_default();
                if entry.said.insert(why.clone()) {
                    tracing::warn!("{what} does not work: {why}");
                }
                entry.why.clone_from(why);
            }
        }
    }

    /// Forgets what is no concern any more.
    pub(crate) fn forget(&self, concerns: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|what, _| concerns(what));
    }

    /// What fails now, one line each.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.iter().map(|(what, failing)| format!("{what}: {}", failing.why)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_listed_until_it_works_or_is_forgotten() {
        let said = Said::default();
        let no = |why: &str| Err(why.to_owned());
        said.note("asking serf", &no("refused"));
        said.note("asking serf", &no("silent"));
        said.note("retiring a", &no("a key"));
        said.note("asking sabakan", &Ok(()));
        assert_eq!(said.troubles(), ["asking serf: silent", "retiring a: a key"]);
        said.note("asking serf", &Ok(()));
        said.forget(|what| what != "retiring a");
        assert_eq!(said.troubles(), Vec::<String>::new());
    }
}
