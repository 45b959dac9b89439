//! Gathers what is known of a site from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use neco_base::hex;
use neco_plan::invariants::{Daemon as Program, Fact, HowEnded, Rules, Secret, Writer};
use neco_playground::{BootServer, Daemon, Site};
use neco_schema::journal::Entry;
use neco_schema::{Compare, Lrn, NecoVersion, Revision};
use neco_systemd::UnitEffect;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::logs::lines;
use crate::operator::daemons;
use crate::recording::{Event, Recording};

/// What the test itself has done and knows, as it happened.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    facts: Mutex<Vec<(Timestamp, Fact)>>,
    writers: Mutex<BTreeMap<Revision, (Writer, Vec<Compare>)>>,
    /// What journals said before they were damaged.
    kept: Mutex<BTreeMap<Lrn, Vec<Line>>>,
}

/// A line of a journal: when it was written, its number, what it says.
type Line = (Timestamp, u64, Entry);

impl Observer {
    /// Takes note of something that is so from now on.
    pub(crate) fn fact(&self, fact: Fact) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.push((Timestamp::now(), fact));
    }

    /// Takes note of who made a revision.
    pub(crate) fn wrote(&self, revision: Revision, writer: Writer, compares: Vec<Compare>) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.insert(revision, (writer, compares));
    }

    /// Forgets who made which revision, as etcd does; gives what was noted.
    pub(crate) fn forget_writers(&self) -> BTreeMap<Revision, (Writer, Vec<Compare>)> {
        std::mem::take(&mut self.writers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what the journal of a server says that is about to be damaged.
    ///
    /// # Panics
    /// It cannot be read.
    pub(crate) fn keep_journal(&self, server: &BootServer) {
        let lines = journal_of(server);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.entry(server.lrn()).or_default();
        kept.extend(lines.into_iter().filter(|line| !kept.contains(line)).collect::<Vec<_>>());
    }

    /// The servers whose journals were kept because they were to be damaged.
    pub(crate) fn damaged(&self) -> BTreeSet<Lrn> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// What the journal of a server says and, where it was damaged, has said.
    ///
    /// # Panics
    /// It cannot be read.
    pub(crate) fn lines_of(&self, server: &BootServer) -> Vec<Line> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = kept.get(&server.lrn()).cloned().unwrap_or_default();
        let now = journal_of(server).into_iter().filter(|line| !lines.contains(line));
        let now: Vec<Line> = now.collect();
        lines.extend(now);
        lines
    }

    /// Adds what was noted to a recording.
    pub(crate) fn add_to(&self, recording: &mut Recording) {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (at, fact) in facts {
            recording.add(at, Event::Fact(fact));
        }
        recording.writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    }
}

/// Adds what a server has left behind: its journal, the effects on units that take turns, and its processes.
///
/// # Panics
/// Something cannot be read.
pub(crate) fn add_server(recording: &mut Recording, server: &BootServer, journal: Vec<Line>) {
    let lrn = server.lrn();
    // A bad binary does not come to saying that it runs, so it is not known as a worker.
    let mut workers = BTreeMap::new();
    for (_, _, entry) in &journal {
        if let Entry::ProcessStarted { version, pid, .. } = entry {
            workers.insert(*pid, version.clone());
        }
    }
    recording.add_journal(lrn, journal);
    add_turns(recording, server);
    add_runs(recording, lrn, Program::Worker, server.worker(), &workers);
    if let Some(updater) = server.updater() {
        add_runs(recording, lrn, Program::Updater, updater, &BTreeMap::new());
    }
}

fn journal_of(server: &BootServer) -> Vec<Line> {
    let journal = server.journal().unwrap_or_else(|error| panic!("{error}"));
    journal.into_iter().map(|record| (record.at.get(), record.seq, record.entry)).collect()
}

/// The starts of processes whose versions are known, and the ends of all.
fn add_runs(
    recording: &mut Recording,
    lrn: Lrn,
    daemon: Program,
    process: &Daemon,
    versions: &BTreeMap<u32, NecoVersion>,
) {
    let state = process.state();
    let at = |at| Timestamp::try_from(at).unwrap_or_default();
    for run in &state.runs {
        if let Some(version) = versions.get(&run.pid) {
            let (instance, version) = (u64::from(run.pid), version.clone());
            recording
                .add(at(run.at), Event::Fact(Fact::Started { lrn, daemon, instance, version }));
        }
    }
    for exited in &state.exits {
        let how = how_ended(exited.status, daemon);
        let instance = u64::from(exited.pid);
        recording.add(at(exited.at), Event::Fact(Fact::Ended { lrn, daemon, instance, how }));
    }
}

/// What a process that ends so has come to.
fn how_ended(status: ExitStatus, daemon: Program) -> HowEnded {
    match (status.code(), daemon) {
        _ if status.signal() == Some(Signal::SIGKILL as i32) => HowEnded::Killed,
        // Told to end, or ending for a new binary.
        (Some(0), _) | (Some(3), Program::Worker) => HowEnded::Planned,
        _ => HowEnded::ByItself,
    }
}

/// Checks that no daemon of a server has panicked, also where it went on, or died of a signal that no test sends.
///
/// # Panics
/// One has.
pub(crate) fn no_process_failed(server: &BootServer) {
    for daemon in ["neco-worker", "neco-updater"] {
        let panicked = lines(server, daemon, &["panicked"]);
        assert!(panicked.is_empty(), "{daemon} on boot-{}: {panicked:#?}", server.lrn());
    }
    let sent = [Signal::SIGKILL, Signal::SIGTERM].map(|signal| Some(signal as i32));
    for daemon in daemons(server) {
        for exited in daemon.state().exits {
            let signal = exited.status.signal();
            let (name, pid) = (daemon.name(), exited.pid);
            assert!(signal.is_none() || sent.contains(&signal), "{name}, {pid}: {}", exited.status);
        }
    }
}

/// What the log of units says about those that one server at a time may restart.
fn add_turns(recording: &mut Recording, server: &BootServer) {
    let effects = server.units().effects().unwrap_or_else(|error| panic!("{error}"));
    for entry in effects {
        let (unit, states): (_, &[bool]) = match &entry.effect {
            UnitEffect::Stop { unit } => (unit, &[false]),
            UnitEffect::Start { unit, .. } => (unit, &[true]),
            UnitEffect::Restart { unit, .. } => (unit, &[false, true]),
            _ => continue,
        };
        if !recording.rules.turns.contains_key(unit.as_str()) {
            continue;
        }
        let at = i64::try_from(entry.at).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
        for &up in states {
            let (lrn, unit) = (server.lrn(), unit.to_string());
            let fact = Fact::Service { lrn, unit, up, planned: true };
            recording.add(at.unwrap_or_default(), Event::Fact(fact));
        }
    }
}

/// What a server has in the end: the package on its disk, and the texts that people see.
///
/// # Panics
/// Something cannot be read.
pub(crate) fn add_end(recording: &mut Recording, server: &BootServer, version: &NecoVersion) {
    let now = Timestamp::now();
    let lrn = server.lrn();
    let cached = server.root().join(format!("var/cache/neco/packages/neco_{version}_amd64.deb"));
    if cached.is_file() {
        let (version, sha256) = (version.clone(), Some(sha256_of(&cached)));
        let fact = Fact::Installed { lrn, version, sha256, way_back: false };
        recording.add(now, Event::Fact(fact));
    }
    for name in ["neco-worker", "neco-updater"] {
        let (place, text) = (format!("the log of {name} on boot-{lrn}"), server.log(name));
        recording.add(now, Event::Fact(Fact::Text { place, text }));
    }
}

/// The rules of a site: what the mirror serves is what may be installed.
///
/// # Panics
/// The mirror's folder cannot be read.
pub(crate) fn rules_of(site: &Site, secrets: &[&str]) -> Rules {
    let secrets = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    let mut rules = Rules { secrets, notices: true, ..Rules::default() };
    // Whoever gives the verdict has waited for everything.
    rules.bound = std::time::Duration::ZERO;
    let releases = std::fs::read_dir(site.mirror_dir()).expect("the mirror's folder");
    for release in releases.flatten() {
        for file in std::fs::read_dir(release.path()).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix("neco_").and_then(|n| n.strip_suffix("_amd64.deb"));
            if let Some(version) = version.and_then(|version| version.parse().ok()) {
                rules.packages.insert(version, sha256_of(&file.path()));
            }
        }
    }
    rules
}

fn sha256_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex(&Sha256::digest(bytes))
}
