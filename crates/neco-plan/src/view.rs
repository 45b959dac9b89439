//! One consistent snapshot of etcd, parsed.

use std::collections::{BTreeMap, BTreeSet};

use neco_schema::{
    Alive, ClockRecord, Condition, ConfigKey, ContentsStatus, Control, Group, HistoryRecord, Key,
    KeyValue, Lrn, MemberPlan, NecoVersion, Progress, Range, Record, RequestId, Revision, Seen,
    Snapshot, Target, Timestamp, Turn, UpdateRequest, UpdateStatus, abridged, check_stored_value,
    prefixes,
};

/// A value with the revisions that guard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The revision of its last change.
    pub mod_revision: Revision,
    /// The revision at which its key came into being.
    pub create_revision: Revision,
}

/// A key that may be absent or hold something unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Slot<T> {
    /// No such key.
    #[default]
    Absent,
    /// There, but not to be understood.
    Unreadable {
        /// The revision of its last change.
        mod_revision: Revision,
        /// Why not.
        error: String,
    },
    /// There.
    Present(Versioned<T>),
}

impl<T> Slot<T> {
    /// The value, where there is one to be understood.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Present(versioned) => Some(&versioned.value),
            Self::Absent | Self::Unreadable { .. } => None,
        }
    }

    /// The revision of the last change; 0 when absent.
    pub fn mod_revision(&self) -> Revision {
        match self {
            Self::Absent => Revision(0),
            Self::Unreadable { mod_revision, .. } => *mod_revision,
            Self::Present(versioned) => versioned.mod_revision,
        }
    }
}

/// A record that is there and cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The revision of its last change.
    pub mod_revision: Revision,
    /// The revision at which its key came into being.
    pub create_revision: Revision,
    /// Why not.
    pub error: String,
}

/// What helps against the unreadable record at `key`, relative to the prefix.
pub(crate) fn remedy(key: &str) -> String {
    match key.parse::<Key>() {
        Ok(Key::Turn(name)) => format!(
            "put a right value there, or 'necoctl turn release {name} --force --reason TEXT' deletes it once no server holds it"
        ),
        Ok(Key::Group(_)) => "put back which way the group went, as a member that has acted on it logged; delete the key only if none has".to_owned(),
        Ok(Key::Config(key)) => format!("'necoctl config set {key}' takes {}", key.form()),
        Ok(Key::Epoch) => {
            "put a right value there, or 'necoctl recover --force' begins a new epoch".to_owned()
        }
        _ => "put a right value there or delete the key".to_owned(),
    }
}

/// How much of a key stands in a message: a stray one may be of any length and form.
const LONGEST_KEY: usize = 200;

/// Something under the prefix that Neco cannot read: a stray key or a malformed value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The key, relative to the prefix.
    pub key: String,
    /// What is wrong with it.
    pub error: String,
}

impl Problem {
    /// What helps.
    pub fn remedy(&self) -> String {
        remedy(&self.key)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}: {}; {}", abridged(&self.key, LONGEST_KEY), self.error, self.remedy())
    }
}

/// Everything that decisions are made from, as it stood at one revision.
///
/// Built from whatever part of the key space was read: a folder that was not read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The revision.
    pub revision: Revision,
    /// The cluster that answered.
    pub cluster_id: u64,
    /// `status/current`.
    pub request: Slot<UpdateRequest>,
    /// `status/bootservers/`, the readable ones.
    pub statuses: BTreeMap<Lrn, Versioned<UpdateStatus>>,
    /// `info/bootservers/`.
    pub registered: BTreeSet<Lrn>,
    /// `info/neco-release`.
    pub release: Option<NecoVersion>,
    /// The revision of `info/neco-release`; 0 when absent.
    pub release_revision: Revision,
    /// `alive/`.
    pub alive: BTreeMap<Lrn, Versioned<Alive>>,
    /// `plan/`.
    pub plans: BTreeMap<Lrn, Versioned<MemberPlan>>,
    /// `progress/`.
    pub progress: BTreeMap<Lrn, Versioned<Progress>>,
    /// `turn/`.
    pub turns: BTreeMap<String, Versioned<Turn>>,
    /// `group/`.
    pub groups: BTreeMap<String, Versioned<Group>>,
    /// `clock/`.
    pub clocks: BTreeMap<RequestId, Versioned<ClockRecord>>,
    /// `contents/`.
    pub contents: BTreeMap<String, Versioned<ContentsStatus>>,
    /// `control/target`.
    pub target: Slot<Target>,
    /// `control/pause`; an unreadable one pauses as well.
    pub pause: Slot<Control>,
    /// `control/withdrawn/`; the key alone withdraws.
    pub withdrawn: BTreeMap<NecoVersion, Control>,
    /// `control/epoch`; 0 when absent.
    pub epoch: u64,
    /// The revision of `control/epoch`; 0 when absent.
    pub epoch_revision: Revision,
    /// `seen/`.
    pub seen: BTreeMap<NecoVersion, Versioned<Seen>>,
    /// `history/<time>-<id>`; the record is absent when only keys were read.
    pub history: BTreeMap<(Timestamp, RequestId), Option<HistoryRecord>>,
    /// Requests that have a `history/<time>-<id>/<LRN>`, with the servers.
    pub history_servers: BTreeMap<(Timestamp, RequestId), BTreeSet<Lrn>>,
    /// The times of `order/`.
    pub orders: BTreeSet<Timestamp>,
    /// `config/`, as stored; secret values are left out.
    pub config: BTreeMap<ConfigKey, Vec<u8>>,
    /// Records that are there and cannot be understood: not absent, so nothing is done as if they were.
    pub unreadable: BTreeMap<Key, Unreadable>,
    /// What could not be read: those records, and keys that mean nothing.
    pub problems: Vec<Problem>,
}

fn folder(prefix: &str) -> Range {
    Range::Prefix(prefix.to_owned())
}

/// What a worker reads to decide.
pub fn worker_ranges() -> Vec<Range> {
    [
        prefixes::STATUS,
        prefixes::INFO,
        prefixes::ALIVE,
        prefixes::PLAN,
        prefixes::TURN,
        prefixes::GROUP,
        prefixes::CONTROL,
        prefixes::CONTENTS,
    ]
    .map(folder)
    .to_vec()
}

/// What the leader reads to decide: of the history only the keys.
pub fn leader_ranges() -> Vec<Range> {
    let mut ranges = worker_ranges();
    ranges.extend(
        [prefixes::PROGRESS, prefixes::CLOCK, prefixes::SEEN, prefixes::CONFIG].map(folder),
    );
    ranges.push(Range::KeysOnly(prefixes::HISTORY.to_owned()));
    ranges
}

/// What an operator's tool reads to explain: everything, so that stray keys are found too.
pub fn operator_ranges() -> Vec<Range> {
    vec![folder("")]
}

impl View {
    /// Parses a snapshot. Never fails: what cannot be read is kept as a [`Problem`].
    pub fn assemble(snapshot: &Snapshot) -> Self {
        let mut view = Self {
            revision: snapshot.revision,
            cluster_id: snapshot.cluster_id,
            ..Self::default()
        };
        for kv in snapshot.kvs.values() {
            match kv.key.parse::<Key>() {
                Ok(key) => view.take(key, kv),
                Err(error) => view.problem(&kv.key, error.to_string()),
            }
        }
        view
    }

    fn problem(&mut self, key: &str, error: String) {
        self.problems.push(Problem { key: key.to_owned(), error });
    }

    fn unreadable(&mut self, key: Key, kv: &KeyValue, error: String) {
        let (mod_revision, create_revision) = (kv.mod_revision, kv.create_revision);
        self.problem(&kv.key, error.clone());
        self.unreadable.insert(key, Unreadable { mod_revision, create_revision, error });
    }

    fn take(&mut self, key: Key, kv: &KeyValue) {
        match key {
            Key::Request => self.request = self.slot(Key::Request, kv),
            Key::Status(lrn) => match UpdateStatus::decode(&kv.value) {
                Ok(status) => {
                    if let Condition::Other(code) = status.cond {
                        self.problem(&kv.key, format!("field cond: expected 0 to 3, found {code}"));
                    }
                    self.statuses.insert(lrn, versioned(kv, status));
                }
                Err(error) => self.unreadable(Key::Status(lrn), kv, error.to_string()),
            },
            Key::BootServer(lrn) => {
                self.registered.insert(lrn);
            }
            Key::Release => {
                self.release_revision = kv.mod_revision;
                let text = String::from_utf8_lossy(&kv.value);
                match text.trim().parse() {
                    Ok(version) => self.release = Some(version),
                    // Setup may leave it empty.
                    Err(_) if text.trim().is_empty() => {}
                    Err(error) => self.unreadable(Key::Release, kv, error.to_string()),
                }
            }
            Key::Alive(lrn) => self.collect(|view| &mut view.alive, lrn, Key::Alive, kv),
            Key::Plan(lrn) => self.collect(|view| &mut view.plans, lrn, Key::Plan, kv),
            Key::Progress(lrn) => self.collect(|view| &mut view.progress, lrn, Key::Progress, kv),
            Key::Turn(name) => self.collect(|view| &mut view.turns, name, Key::Turn, kv),
            Key::Group(name) => self.collect(|view| &mut view.groups, name, Key::Group, kv),
            Key::Clock(id) => self.collect(|view| &mut view.clocks, id, Key::Clock, kv),
            Key::Contents(name) => self.collect(|view| &mut view.contents, name, Key::Contents, kv),
            Key::Seen(version) => self.collect(|view| &mut view.seen, version, Key::Seen, kv),
            Key::Target => self.target = self.slot(Key::Target, kv),
            Key::Pause => self.pause = self.slot(Key::Pause, kv),
            Key::Withdrawn(version) => {
                let control = Control::decode(&kv.value).unwrap_or_else(|error| {
                    self.problem(&kv.key, error.to_string());
                    Control::default()
                });
                self.withdrawn.insert(version, control);
            }
            Key::Epoch => {
                self.epoch_revision = kv.mod_revision;
                match Control::decode(&kv.value).map(|control| control.epoch) {
                    Ok(Some(epoch)) => self.epoch = epoch,
                    Ok(None) => {
                        self.unreadable(Key::Epoch, kv, "field epoch is missing".to_owned());
                    }
                    Err(error) => self.unreadable(Key::Epoch, kv, error.to_string()),
                }
            }
            Key::History(at, id) => {
                let record =
                    (!kv.value.is_empty()).then(|| HistoryRecord::decode(&kv.value)).transpose();
                let record = record.unwrap_or_else(|error| {
                    self.unreadable(Key::History(at, id.clone()), kv, error.to_string());
                    None
                });
                self.history.insert((at, id), record);
            }
            Key::HistoryServer(at, id, lrn) => {
                self.history_servers.entry((at, id)).or_default().insert(lrn);
            }
            Key::Order(at) => {
                self.orders.insert(at);
            }
            Key::Config(key) => {
                if key.is_secret() {
                    // Here alone it is seen; the other settings are judged by who reads them.
                    if let Err(error) = check_stored_value(key, &kv.value) {
                        self.problem(&kv.key, error.to_string());
                    }
                    self.config.insert(key, Vec::new());
                } else {
                    self.config.insert(key, kv.value.clone());
                }
            }
            Key::SshPublicKey
            | Key::InstalledContainer(..)
            | Key::InstalledDeb(..)
            | Key::Preview(_)
            | Key::PreviewAnswer(..)
            | Key::Finish(_)
            | Key::Candidate { .. }
            | Key::Bmc(_)
            | Key::TeleportAuthToken
            | Key::CkeWeight
            | Key::VaultUnsealKey
            | Key::VaultRootToken
            | Key::GracePeriods
            | Key::RebootListEntry(_)
            | Key::RebooterWriteIndex
            | Key::RebooterProcessingGroup
            | Key::RebooterIsEnabled => {}
        }
    }

    fn slot<T: Record>(&mut self, key: Key, kv: &KeyValue) -> Slot<T> {
        match T::decode(&kv.value) {
            Ok(value) => Slot::Present(versioned(kv, value)),
            Err(error) => {
                self.unreadable(key, kv, error.to_string());
                Slot::Unreadable { mod_revision: kv.mod_revision, error: error.to_string() }
            }
        }
    }

    fn collect<K: Ord, T: Record>(
        &mut self,
        into: impl FnOnce(&mut Self) -> &mut BTreeMap<K, Versioned<T>>,
        name: K,
        key: impl FnOnce(K) -> Key,
        kv: &KeyValue,
    ) {
        match T::decode(&kv.value) {
            Ok(value) => {
                into(self).insert(name, versioned(kv, value));
            }
            Err(error) => self.unreadable(key(name), kv, error.to_string()),
        }
    }

    /// What is wrong with the record at `key` and what helps, in words; nothing if it can be read or is absent.
    pub fn why_unreadable(&self, key: &Key) -> Option<String> {
        let Unreadable { error, .. } = self.unreadable.get(key)?;
        let name = key.to_string();
        Some(format!("key {name} cannot be read: {error}; {}", remedy(&name)))
    }

    /// The revision of the last change of a server's status, whether or not it can be read; 0 without one.
    pub(crate) fn status_revision(&self, lrn: Lrn) -> Revision {
        let readable = self.statuses.get(&lrn).map(|status| status.mod_revision);
        let unreadable = || Some(self.unreadable.get(&Key::Status(lrn))?.mod_revision);
        readable.or_else(unreadable).unwrap_or_default()
    }

    /// The request, where there is one to be understood.
    pub fn current(&self) -> Option<&UpdateRequest> {
        self.request.value()
    }

    /// The status of `lrn` that belongs to `request`.
    pub fn status_of(&self, request: &UpdateRequest, lrn: Lrn) -> Option<&Versioned<UpdateStatus>> {
        self.statuses
            .get(&lrn)
            .filter(|status| status.value.belongs_to(&request.id(), &request.version))
    }

    /// The statuses of the members that belong to `request`, ascending.
    pub fn member_statuses<'a>(
        &'a self,
        request: &'a UpdateRequest,
    ) -> impl Iterator<Item = (Lrn, &'a Versioned<UpdateStatus>)> {
        let id = request.id();
        request.members().into_iter().filter_map(move |lrn| {
            let status = self.statuses.get(&lrn)?;
            status.value.belongs_to(&id, &request.version).then_some((lrn, status))
        })
    }

    /// Whether an operator has paused everything.
    pub fn is_paused(&self) -> bool {
        !matches!(self.pause, Slot::Absent)
    }

    /// Whether `lrn` has a living worker of ours.
    pub fn is_alive(&self, lrn: Lrn) -> bool {
        self.alive.contains_key(&lrn)
    }

    /// Whether `lrn` is known to run a worker of ours, living or not: such a server is asked to be alive.
    pub fn speaks_our_protocol(&self, lrn: Lrn) -> bool {
        self.is_alive(lrn)
            || self.statuses.get(&lrn).is_some_and(|status| status.value.request.is_some())
            || self.plans.contains_key(&lrn)
            || self.history_servers.values().any(|servers| servers.contains(&lrn))
    }

    /// The turns that `lrn` holds, with the revision each came into being.
    pub fn turns_of(&self, lrn: Lrn) -> impl Iterator<Item = (&str, &Versioned<Turn>)> {
        self.turns
            .iter()
            .filter(move |(_, turn)| turn.value.lrn == lrn)
            .map(|(name, turn)| (name.as_str(), turn))
    }
}

fn versioned<T>(kv: &KeyValue, value: T) -> Versioned<T> {
    Versioned { value, mod_revision: kv.mod_revision, create_revision: kv.create_revision }
}
