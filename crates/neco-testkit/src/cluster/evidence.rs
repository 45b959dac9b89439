//! What the auditor is told about a run.

use std::time::Duration;

use neco_plan::invariants::Daemon;
use neco_schema::journal::Entry;
use neco_schema::{Compare, Lrn, NecoVersion, Revision, Snapshot};
use neco_store::Change;

/// Who changed etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An updater of ours.
    Leader,
    /// The worker of this server.
    Worker(Lrn),
    /// An operator.
    Operator {
        /// Whether with `--force`.
        forced: bool,
    },
    /// A program that behaves like the original.
    Go,
    /// The setup of the run.
    Setup,
    /// etcd itself: a lease ran out.
    Nobody,
}

/// One piece of evidence.
#[derive(Clone, Debug)]
pub enum Item {
    /// Who made a revision, comparing what.
    Transaction(Revision, Source, Vec<Compare>),
    /// What a revision changed.
    Changed(Change),
    /// A journal entry: whose, the how many-th, at which revision.
    Journal(Lrn, u64, Revision, Entry),
    /// A service came up or went down.
    Service {
        /// Where.
        lrn: Lrn,
        /// Its unit.
        unit: String,
        /// Which.
        up: bool,
        /// Whether Neco did it.
        planned: bool,
    },
    /// A package was installed.
    Installed {
        /// Where.
        lrn: Lrn,
        /// Its version.
        version: NecoVersion,
        /// Whether this was the way back.
        way_back: bool,
    },
    /// A server lost its disk.
    JournalLost(Lrn),
    /// etcd went back to a backup; what comes after does not follow from what came before.
    Rewound(Snapshot),
    /// The time.
    Time(Duration),
    /// A worker began to run.
    Started {
        /// Where.
        lrn: Lrn,
        /// Which process.
        instance: u64,
        /// As which version.
        version: NecoVersion,
    },
    /// A worker ended.
    Ended {
        /// Where.
        lrn: Lrn,
        /// Which process.
        instance: u64,
        /// Whether by itself, on purpose.
        planned: bool,
    },
    /// The release window opened or closed.
    Window(bool),
    /// etcd lost or regained its quorum.
    Quorum(bool),
    /// How often a process asked etcd in a minute in which it waited.
    Requests {
        /// Where.
        lrn: Lrn,
        /// Which program.
        daemon: Daemon,
        /// How often.
        per_minute: u64,
    },
    /// No more faults come.
    FaultsEnded,
}

/// Collects the evidence, if anybody wants it.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Whether it is collected.
    pub wanted: bool,
    /// In the order in which it happened.
    pub items: Vec<Item>,
    /// The time, told before what happens next.
    pub(super) now: Duration,
    told: Duration,
    window: Option<bool>,
    quorum: Option<bool>,
    instances: u64,
    running: std::collections::BTreeMap<Lrn, u64>,
}

impl Evidence {
    fn add(&mut self, item: impl FnOnce() -> Item) {
        if self.wanted {
            if self.told < self.now {
                self.told = self.now;
                self.items.push(Item::Time(self.now));
            }
            self.items.push(item());
        }
    }

    pub(super) fn started(&mut self, lrn: Lrn, version: &NecoVersion) {
        self.ended(lrn, false);
        self.instances += 1;
        let instance = self.instances;
        self.running.insert(lrn, instance);
        self.add(|| Item::Started { lrn, instance, version: version.clone() });
    }

    pub(super) fn ended(&mut self, lrn: Lrn, planned: bool) {
        if let Some(instance) = self.running.remove(&lrn) {
            self.add(|| Item::Ended { lrn, instance, planned });
        }
    }

    pub(super) fn faults_ended(&mut self) {
        self.add(|| Item::FaultsEnded);
    }

    pub(super) fn window(&mut self, open: bool) {
        if self.window.replace(open) != Some(open) {
            self.add(|| Item::Window(open));
        }
    }

    pub(super) fn quorum(&mut self, stands: bool) {
        if self.quorum.replace(stands) != Some(stands) {
            self.add(|| Item::Quorum(stands));
        }
    }

    pub(super) fn requests(&mut self, lrn: Lrn, daemon: Daemon, per_minute: u64) {
        self.add(|| Item::Requests { lrn, daemon, per_minute });
    }

    /// The run is over: what time it is then is the last word.
    pub(super) fn over(&mut self) {
        if self.wanted && self.told < self.now {
            self.told = self.now;
            self.items.push(Item::Time(self.now));
        }
    }

    pub(super) fn transaction(&mut self, at: Revision, source: &Source, compares: &[Compare]) {
        self.add(|| Item::Transaction(at, *source, compares.to_vec()));
    }

    pub(super) fn changes(&mut self, changes: &[Change]) {
        for change in changes {
            self.add(|| Item::Changed(change.clone()));
        }
    }

    pub(super) fn journal(&mut self, lrn: Lrn, seq: u64, at: Revision, entry: &Entry) {
        self.add(|| Item::Journal(lrn, seq, at, entry.clone()));
    }

    pub(super) fn service(&mut self, lrn: Lrn, unit: &str, up: bool, planned: bool) {
        self.add(|| Item::Service { lrn, unit: unit.to_owned(), up, planned });
    }

    pub(super) fn installed(&mut self, lrn: Lrn, version: &NecoVersion, way_back: bool) {
        self.add(|| Item::Installed { lrn, version: version.clone(), way_back });
    }

    pub(super) fn journal_lost(&mut self, lrn: Lrn) {
        self.add(|| Item::JournalLost(lrn));
    }

    pub(super) fn rewound(&mut self, snapshot: Snapshot) {
        self.add(|| Item::Rewound(snapshot));
    }
}
