//! Names every etcd key and value of Neco, and the wire form they have.
//!
//! This is the vocabulary all other crates share: plain data, no I/O, no clock. A value that came from
//! etcd is parsed here once, at the rim; what is written is what the original's Go programs can decode
//! (`reference`: the etcd schema of cybozu-go/neco), and fields that this version does not know survive a
//! read and a write.
//!
//! - [`Key`] is every key under the prefix, typed; [`SCHEMA`] describes them and is the source of
//!   `docs/etcd.md`.
//! - [`Record`] is a value: decode from bytes, encode to bytes.
//! - [`Txn`] is a guarded transaction as data, so that a pure decision can produce it and a store execute it.
//! - [`journal`] is what one boot server writes down about itself.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod config;
mod docs;
mod grace;
mod history;
mod id;
pub mod journal;
mod key;
mod lrn;
mod membership;
mod preview;
mod rebooter;
mod recipe;
mod request;
mod severity;
mod status;
mod time;
mod txn;
mod version;
mod wire;

pub use config::{ConfigKey, Environment, check_stored_value, parse_config_value, stored_duration};
pub use docs::{KeyDoc, SCHEMA, etcd_markdown};
pub use grace::GracePeriods;
pub use history::{HistoryRecord, HistoryServer, Notice, OrderNote, Outcome, StepTimes};
pub use id::{RecipeDigest, RequestId};
pub use key::{Key, KeyError, PREFIX, prefixes};
pub use lrn::{Lrn, LrnError};
pub use membership::{Alive, Group, Turn, Way};
pub use preview::{
    ChangeKind, GroupPreview, Preview, PreviewQuestion, PreviewedChange, StepPreview,
};
pub use rebooter::{RebootListEntry, RebootStatus};
pub use recipe::{GroupShape, RecipeShape};
pub use request::{Ending, PackageRef, RequestKind, StopNote, UpdateRequest};
pub use severity::Severity;
pub use status::{
    ClockRecord, Condition, ContentsStatus, Control, MemberPlan, Origin, Progress, Seen, Target,
    UpdateStatus,
};
pub use time::{Timestamp, TimestampError};
pub use txn::{
    Compare, KeyValue, LeaseId, Op, Range, Revision, Snapshot, Target as CompareTarget, Txn,
};
pub use version::{NecoVersion, ReleaseVersion, VersionError};
pub use wire::{DecodeError, Fields, Record, abridged, encode_object};
