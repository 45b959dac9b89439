//! Every key under the prefix, typed.

use crate::wire::abridged;
use crate::{ConfigKey, Lrn, NecoVersion, RequestId, Timestamp};

/// How much of a key that means nothing stands in a message.
const LONGEST_SHOWN: usize = 200;

/// The prefix of every key, unless the configuration file says otherwise.
pub const PREFIX: &str = "/neco/";

/// The folders that are read and watched as a whole; relative to the prefix.
pub mod prefixes {
    /// Requests and statuses; wiped by `recover`.
    pub const STATUS: &str = "status/";
    /// Statuses of the boot servers.
    pub const STATUSES: &str = "status/bootservers/";
    /// Results of once-per-cluster steps; wiped by `recover`.
    pub const CONTENTS: &str = "contents/";
    /// Registered servers and the known release.
    pub const INFO: &str = "info/";
    /// Registered servers.
    pub const BOOT_SERVERS: &str = "info/bootservers/";
    /// Settings.
    pub const CONFIG: &str = "config/";
    /// Living servers.
    pub const ALIVE: &str = "alive/";
    /// What members are doing inside a step.
    pub const PROGRESS: &str = "progress/";
    /// What members would change.
    pub const PLAN: &str = "plan/";
    /// Turns taken.
    pub const TURN: &str = "turn/";
    /// Ways decided.
    pub const GROUP: &str = "group/";
    /// Time counted per request.
    pub const CLOCK: &str = "clock/";
    /// Operators' orders.
    pub const CONTROL: &str = "control/";
    /// Withdrawn versions.
    pub const WITHDRAWN: &str = "control/withdrawn/";
    /// Releases seen.
    pub const SEEN: &str = "seen/";
    /// What happened.
    pub const HISTORY: &str = "history/";
    /// What operators ask before an update.
    pub const PREVIEW: &str = "preview/";
    /// What operators ordered.
    pub const ORDER: &str = "order/";
    /// Election of the updaters.
    pub const LEADER_UPDATER: &str = "leader/updater/";
    /// Election of workers in once-per-cluster steps.
    pub const LEADER_WORKER: &str = "leader/worker/";
}

/// A key under the prefix. `Display` gives the text relative to the prefix, `FromStr` reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `status/current`: the request.
    Request,
    /// `status/bootservers/<LRN>`: the status of a server.
    Status(Lrn),
    /// `progress/<LRN>`.
    Progress(Lrn),
    /// `plan/<LRN>`.
    Plan(Lrn),
    /// `alive/<LRN>`.
    Alive(Lrn),
    /// `turn/<name>`.
    Turn(String),
    /// `group/<name>`.
    Group(String),
    /// `clock/<id>`.
    Clock(RequestId),
    /// `control/target`.
    Target,
    /// `control/pause`.
    Pause,
    /// `control/withdrawn/<version>`.
    Withdrawn(NecoVersion),
    /// `control/epoch`.
    Epoch,
    /// `seen/<version>`.
    Seen(NecoVersion),
    /// `history/<time>-<id>`.
    History(Timestamp, RequestId),
    /// `history/<time>-<id>/<LRN>`.
    HistoryServer(Timestamp, RequestId, Lrn),
    /// `order/<time>`.
    Order(Timestamp),
    /// `preview/<lease>`: a question, with the lease of whoever asks.
    Preview(u64),
    /// `preview/<lease>/<LRN>`: an answer to it.
    PreviewAnswer(u64, Lrn),
    /// `info/bootservers/<LRN>`: empty value, the server is registered.
    BootServer(Lrn),
    /// `info/neco-release`: the known release.
    Release,
    /// `info/ssh-pubkey`.
    SshPublicKey,
    /// `contents/<name>`.
    Contents(String),
    /// `config/<name>`.
    Config(ConfigKey),
    /// `install/<LRN>/containers/<name>`.
    InstalledContainer(Lrn, String),
    /// `install/<LRN>/debs/<name>`.
    InstalledDeb(Lrn, String),
    /// `finish/<LRN>`.
    Finish(Lrn),
    /// `leader/updater//<lease>` and its kin: a candidate of an election.
    Candidate {
        /// Whose election: `updater`, `worker`, `sabakan-state-setter`, `neco-rebooter`.
        election: String,
        /// The candidate's lease.
        lease: u64,
    },
    /// `bmc/bmc-user`, `bmc/ipmi-user`, `bmc/ipmi-password`, `bmc/repair-user`, `bmc/repair-password`.
    Bmc(String),
    /// `teleport/auth-token`.
    TeleportAuthToken,
    /// `cke/weight`.
    CkeWeight,
    /// `vault-unseal-key`.
    VaultUnsealKey,
    /// `vault-root-token`.
    VaultRootToken,
    /// `sabakan-state-setter/grace-periods`.
    GracePeriods,
    /// `neco-rebooter/reboot-list/<16 hex digits>`.
    RebootListEntry(u64),
    /// `neco-rebooter/write-index`.
    RebooterWriteIndex,
    /// `neco-rebooter/processing-group`.
    RebooterProcessingGroup,
    /// `neco-rebooter/is-enabled`.
    RebooterIsEnabled,
}

/// A key that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} is no key of Neco")]
pub struct KeyError {
    /// The key, relative to the prefix, shortened.
    pub key: String,
}

const BMC: [&str; 5] = ["bmc-user", "ipmi-user", "ipmi-password", "repair-user", "repair-password"];
const ELECTIONS: [&str; 4] = ["updater", "worker", "sabakan-state-setter", "neco-rebooter"];

impl Key {
    /// Whether the value must not be shown or logged.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Config(key) => key.is_secret(),
            Self::Bmc(name) => name.ends_with("password") || name == "bmc-user",
            Self::TeleportAuthToken | Self::VaultUnsealKey | Self::VaultRootToken => true,
            _ => false,
        }
    }

    /// The prefix of everything under `history/<time>-<id>`, the record itself included.
    pub fn history_prefix(at: Timestamp, id: &RequestId) -> String {
        Self::History(at, id.clone()).to_string()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request => f.write_str("status/current"),
            Self::Status(lrn) => write!(f, "status/bootservers/{lrn}"),
            Self::Progress(lrn) => write!(f, "progress/{lrn}"),
            Self::Plan(lrn) => write!(f, "plan/{lrn}"),
            Self::Alive(lrn) => write!(f, "alive/{lrn}"),
            Self::Turn(name) => write!(f, "turn/{name}"),
            Self::Group(name) => write!(f, "group/{name}"),
            Self::Clock(id) => write!(f, "clock/{id}"),
            Self::Target => f.write_str("control/target"),
            Self::Pause => f.write_str("control/pause"),
            Self::Withdrawn(version) => write!(f, "control/withdrawn/{version}"),
            Self::Epoch => f.write_str("control/epoch"),
            Self::Seen(version) => write!(f, "seen/{version}"),
            Self::History(at, id) => write!(f, "history/{}-{id}", at.fixed()),
            Self::HistoryServer(at, id, lrn) => write!(f, "history/{}-{id}/{lrn}", at.fixed()),
            Self::Order(at) => write!(f, "order/{}", at.fixed()),
            Self::Preview(lease) => write!(f, "preview/{lease:x}"),
            Self::PreviewAnswer(lease, lrn) => write!(f, "preview/{lease:x}/{lrn}"),
            Self::BootServer(lrn) => write!(f, "info/bootservers/{lrn}"),
            Self::Release => f.write_str("info/neco-release"),
            Self::SshPublicKey => f.write_str("info/ssh-pubkey"),
            Self::Contents(name) => write!(f, "contents/{name}"),
            Self::Config(key) => write!(f, "config/{}", key.stored_name()),
            Self::InstalledContainer(lrn, name) => write!(f, "install/{lrn}/containers/{name}"),
            Self::InstalledDeb(lrn, name) => write!(f, "install/{lrn}/debs/{name}"),
            Self::Finish(lrn) => write!(f, "finish/{lrn}"),
            // The original's prefixes end in a slash and its election library adds another one.
            Self::Candidate { election, lease } => write!(f, "leader/{election}//{lease:x}"),
            Self::Bmc(name) => write!(f, "bmc/{name}"),
            Self::TeleportAuthToken => f.write_str("teleport/auth-token"),
            Self::CkeWeight => f.write_str("cke/weight"),
            Self::VaultUnsealKey => f.write_str("vault-unseal-key"),
            Self::VaultRootToken => f.write_str("vault-root-token"),
            Self::GracePeriods => f.write_str("sabakan-state-setter/grace-periods"),
            Self::RebootListEntry(index) => write!(f, "neco-rebooter/reboot-list/{index:016x}"),
            Self::RebooterWriteIndex => f.write_str("neco-rebooter/write-index"),
            Self::RebooterProcessingGroup => f.write_str("neco-rebooter/processing-group"),
            Self::RebooterIsEnabled => f.write_str("neco-rebooter/is-enabled"),
        }
    }
}

impl std::str::FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError { key: abridged(text, LONGEST_SHOWN) })
    }
}

fn parse(text: &str) -> Option<Key> {
    let (folder, rest) = text.split_once('/').unwrap_or((text, ""));
    // Bytes that were no text have become the replacement character: such a key cannot be written again.
    let odd = |c: char| c == '/' || c == '\u{fffd}' || c.is_control();
    let name = || (!rest.is_empty() && !rest.contains(odd)).then(|| rest.to_owned());
    let lrn = || rest.parse::<Lrn>().ok();
    match folder {
        "status" if rest == "current" => Some(Key::Request),
        "status" => Some(Key::Status(rest.strip_prefix("bootservers/")?.parse().ok()?)),
        "progress" => Some(Key::Progress(lrn()?)),
        "plan" => Some(Key::Plan(lrn()?)),
        "alive" => Some(Key::Alive(lrn()?)),
        "finish" => Some(Key::Finish(lrn()?)),
        "turn" => Some(Key::Turn(name()?)),
        "group" => Some(Key::Group(name()?)),
        "clock" => Some(Key::Clock(RequestId::claimed(name()?))),
        "contents" => Some(Key::Contents(name()?)),
        "control" => match rest {
            "target" => Some(Key::Target),
            "pause" => Some(Key::Pause),
            "epoch" => Some(Key::Epoch),
            _ => Some(Key::Withdrawn(rest.strip_prefix("withdrawn/")?.parse().ok()?)),
        },
        "seen" => Some(Key::Seen(rest.parse().ok()?)),
        "history" => parse_history(rest),
        "order" => Some(Key::Order(fixed_time(rest)?)),
        "preview" => match rest.split_once('/') {
            None => Some(Key::Preview(lease(rest)?)),
            Some((question, lrn)) => Some(Key::PreviewAnswer(lease(question)?, lrn.parse().ok()?)),
        },
        "info" => match rest {
            "neco-release" => Some(Key::Release),
            "ssh-pubkey" => Some(Key::SshPublicKey),
            _ => Some(Key::BootServer(rest.strip_prefix("bootservers/")?.parse().ok()?)),
        },
        "config" => Some(Key::Config(ConfigKey::from_stored_name(rest)?)),
        "install" => {
            let mut parts = rest.splitn(3, '/');
            let (lrn, kind, name) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
            match kind {
                _ if name.is_empty() || name.contains('/') => None,
                "containers" => Some(Key::InstalledContainer(lrn, name.to_owned())),
                "debs" => Some(Key::InstalledDeb(lrn, name.to_owned())),
                _ => None,
            }
        }
        "leader" => {
            let (election, id) = rest.split_once("//")?;
            let lease = lease(id)?;
            ELECTIONS
                .contains(&election)
                .then(|| Key::Candidate { election: election.to_owned(), lease })
        }
        "bmc" => BMC.contains(&rest).then(|| Key::Bmc(rest.to_owned())),
        "teleport" => (rest == "auth-token").then_some(Key::TeleportAuthToken),
        "cke" => (rest == "weight").then_some(Key::CkeWeight),
        "vault-unseal-key" => (text == "vault-unseal-key").then_some(Key::VaultUnsealKey),
        "vault-root-token" => (text == "vault-root-token").then_some(Key::VaultRootToken),
        "sabakan-state-setter" => (rest == "grace-periods").then_some(Key::GracePeriods),
        "neco-rebooter" => match rest {
            "write-index" => Some(Key::RebooterWriteIndex),
            "processing-group" => Some(Key::RebooterProcessingGroup),
            "is-enabled" => Some(Key::RebooterIsEnabled),
            _ => {
                let index = rest.strip_prefix("reboot-list/").filter(|index| index.len() == 16)?;
                let plain = index.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                Some(Key::RebootListEntry(u64::from_str_radix(index, 16).ok().filter(|_| plain)?))
            }
        },
        _ => None,
    }
}

/// The id of a lease, as etcd's own programs write it into keys.
fn lease(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| plain && !text.starts_with('0'))
}

/// A time with nine fraction digits.
fn fixed_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|at: &Timestamp| at.fixed() == text)
}

/// `<time with nine fraction digits>-<id>` with an optional `/<LRN>`.
fn parse_history(rest: &str) -> Option<Key> {
    const TIME: usize = "2026-11-21T08:00:00.000000000Z".len();
    let (time, rest) = rest.split_at_checked(TIME)?;
    let at = fixed_time(time)?;
    let rest = rest.strip_prefix('-')?;
    match rest.split_once('/') {
        None if !rest.is_empty() => Some(Key::History(at, RequestId::claimed(rest))),
        Some((id, lrn)) if !id.is_empty() => {
            Some(Key::HistoryServer(at, RequestId::claimed(id), lrn.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpadded_number_alone_names_a_server() {
        assert_eq!("status/bootservers/10".parse(), Ok(Key::Status(Lrn::new(10))));
        for stray in [
            "status/bootservers/x",
            "status/bootservers/01",
            "status/bootservers/",
            "status/stray",
            "status",
            "nope",
            "info/bootservers/-1",
            "config/nope",
            "install/1/containers/",
            "history/2026-11-21T08:00:00Z-a",
            "order/2026-11-21T08:00:00Z",
            "order/",
            "preview/",
            "preview/0a",
            "preview/A",
            "preview/+a",
            "preview/a/",
            "preview/a/0/1",
            "leader/updater/694d",
            "leader/updater//",
            "neco-rebooter/reboot-list/1",
            "sabakan-state-setter/",
            "sabakan-state-setter/grace-periods/1",
            "turn/",
            "turn/a\nb",
            "contents/\u{fffd}",
            "control/withdrawn/",
        ] {
            assert!(stray.parse::<Key>().is_err(), "{stray}");
        }
    }

    #[test]
    fn candidates_have_the_double_slash_and_hex_lease_of_the_original() {
        let key = Key::Candidate { election: "updater".to_owned(), lease: 0x694d_8f00_0000_0001 };
        assert_eq!(key.to_string(), "leader/updater//694d8f0000000001");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn secrets_are_marked() {
        for secret in [
            "config/github-token",
            "vault-unseal-key",
            "vault-root-token",
            "bmc/ipmi-password",
            "teleport/auth-token",
            "config/notification/slack",
        ] {
            assert!(secret.parse::<Key>().expect(secret).is_secret(), "{secret}");
        }
        assert!(!Key::Request.is_secret());
    }
}
