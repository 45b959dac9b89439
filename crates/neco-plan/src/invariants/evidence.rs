//! What the auditor is told: changes of etcd, journal lines, facts that only a harness knows, and the rules that hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::{Compare, KeyValue, Lrn, NecoVersion, RequestId, Revision};

use crate::RecipeShape;

/// One key as a revision changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvChange {
    /// The key, relative to the prefix.
    pub key: String,
    /// What stood there before.
    pub before: Option<KeyValue>,
    /// What stands there now; absent when it was deleted.
    pub after: Option<KeyValue>,
}

impl KvChange {
    /// The change of `key` to `after`, where `standing` is everything as it stood until then; it is
    /// brought up to date.
    pub fn of(
        standing: &mut BTreeMap<String, KeyValue>,
        key: String,
        after: Option<KeyValue>,
    ) -> Self {
        let before = match &after {
            Some(kv) => standing.insert(key.clone(), kv.clone()),
            None => standing.remove(&key),
        };
        Self { key, before, after }
    }
}

/// When a journal line was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its place in that server's journal.
    pub seq: u64,
    /// The revision of etcd at that moment, where the harness knows it.
    pub revision: Option<Revision>,
}

/// Who wrote something to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// An updater of ours that believed to lead.
    Leader,
    /// The worker of ours on this server.
    Worker(Lrn),
    /// An operator through `necoctl`.
    Operator {
        /// Whether `--force` was given.
        forced: bool,
    },
    /// A program of the original: it has no identity, no compare-and-swap and a deadline by the wall clock.
    Go,
    /// Anybody else: setup, a person with `etcdctl`, a test. Not judged.
    Stranger,
}

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// `neco-updater`.
    Updater,
    /// `neco-worker`.
    Worker,
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// Somebody killed it, or took its power away.
    Killed,
    /// It ended for a new binary, or because it was told to.
    Planned,
    /// It gave up by itself.
    ByItself,
}

/// Something that neither etcd nor a journal tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Who made a revision, and under which conditions. Told before the change itself.
    Transaction {
        /// The revision.
        revision: Revision,
        /// Who.
        writer: Writer,
        /// What the transaction compared.
        compares: Vec<Compare>,
    },
    /// How much time has passed since the log began, by a clock that nobody sets.
    Time(Duration),
    /// A process began to run.
    Started {
        /// Where.
        lrn: Lrn,
        /// Which program.
        daemon: Daemon,
        /// A number that no other process of the log has.
        instance: u64,
        /// Its version.
        version: NecoVersion,
    },
    /// A process ended.
    Ended {
        /// Where.
        lrn: Lrn,
        /// Which program.
        daemon: Daemon,
        /// Its number.
        instance: u64,
        /// How.
        how: HowEnded,
    },
    /// A package was installed.
    Installed {
        /// Where.
        lrn: Lrn,
        /// Its version.
        version: NecoVersion,
        /// The digest of what was installed.
        sha256: Option<String>,
        /// Whether this was the way back from a bad package.
        way_back: bool,
    },
    /// What is installed, whoever has installed it: a person may have. It is known from then on, and not judged.
    Found {
        /// Where.
        lrn: Lrn,
        /// Its version; absent where that is not known any more.
        version: Option<NecoVersion>,
    },
    /// A server lost its disk, and its journal with it.
    JournalLost {
        /// Where.
        lrn: Lrn,
    },
    /// The worker on this server is the original's.
    GoPeer {
        /// Where.
        lrn: Lrn,
    },
    /// A release window opened or closed.
    Window {
        /// Which.
        open: bool,
    },
    /// A service came up or went down.
    Service {
        /// Where.
        lrn: Lrn,
        /// Its unit.
        unit: String,
        /// Which.
        up: bool,
        /// Whether Neco did it; otherwise it is a fault.
        planned: bool,
    },
    /// etcd lost or regained its quorum.
    Quorum {
        /// Which.
        stands: bool,
    },
    /// How many requests a waiting process made to etcd in one minute.
    Requests {
        /// Where.
        lrn: Lrn,
        /// Which program.
        daemon: Daemon,
        /// How many.
        per_minute: u64,
    },
    /// A notice about a request was delivered.
    NoticeSent {
        /// About which.
        request: RequestId,
    },
    /// Text that people get to see: a log line, a notice, a page of a bundle.
    Text {
        /// Where it stands.
        place: String,
        /// The text.
        text: String,
    },
    /// No more faults will come; what must happen can be waited for now.
    FaultsEnded,
}

/// A text that must not appear anywhere but under its own key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret `text`; an empty one matches nothing.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `text` holds the secret, plainly or as it stands inside JSON.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        let holds = |needle: &[u8]| {
            !needle.is_empty() && text.windows(needle.len()).any(|window| window == needle)
        };
        let quoted = serde_json::to_string(&self.0).unwrap_or_default();
        holds(self.0.as_bytes()) || holds(quoted.trim_matches('"').as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What is known about the cluster beside its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The recipe of versions that are not listed in `recipes`.
    pub recipe: Option<RecipeShape>,
    /// The recipes of some versions.
    pub recipes: BTreeMap<NecoVersion, RecipeShape>,
    /// The names under `contents/` that are written once per cluster and request; others are not judged.
    pub once: BTreeSet<String>,
    /// The units that only one server at a time may restart, each with the name of its turn.
    pub turns: BTreeMap<String, String>,
    /// The SHA-256 of the one right package of a version.
    pub packages: BTreeMap<NecoVersion, String>,
    /// What must not be shown.
    pub secrets: Vec<Secret>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a step may go without progress.
    pub step_timeout: Duration,
    /// Within what time after the last fault everything must have come to an end.
    pub bound: Duration,
    /// Within what time a known release is looked at.
    pub poll: Duration,
    /// How far apart a decision and its write may lie.
    pub grace: Duration,
    /// How many requests to etcd a waiting process may make in a minute.
    pub requests_per_minute: u64,
    /// Whether notices are sent and told as facts.
    pub notices: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            recipe: None,
            recipes: BTreeMap::new(),
            once: ["sabakan", "cke", "dhcp.json", "cke-template", "user-resources"]
                .map(str::to_owned)
                .into(),
            turns: BTreeMap::from([("etcd-container.service".to_owned(), "etcd".to_owned())]),
            packages: BTreeMap::new(),
            secrets: Vec::new(),
            request_timeout: minutes(60),
            step_timeout: minutes(20),
            bound: minutes(90),
            poll: minutes(2),
            grace: Duration::from_secs(30),
            requests_per_minute: 120,
            notices: false,
        }
    }
}

impl Rules {
    /// The recipe that a request for `version` follows, where it is known.
    pub(crate) fn recipe_of(&self, version: &NecoVersion) -> Option<&RecipeShape> {
        self.recipes.get(version).or(self.recipe.as_ref())
    }
}
