//! Leads an update: elects, looks, decides, writes; finds releases and sends notices.
//!
//! The [`Engine`] campaigns for leadership; while it leads it looks at etcd, asks `neco-plan` what to do and writes it,
//! each write proving that it still leads. Workers are told nothing: they look for themselves.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod engine;
mod leading;
mod newest;
mod notify;
mod observation;
mod probe;
mod releases;
mod slack;
mod strays;

pub use engine::Engine;
pub use leading::{Context, Local, Outline};
pub use notify::{Notify, Told};
pub use observation::Observation;
pub use probe::{EtcdProbe, Probe};
pub use slack::Slack;
