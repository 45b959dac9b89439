//! What an update would change: asked of every server, and told.

mod ask;
mod human;
mod report;

pub use ask::{Answers, ask};
pub use human::show;
pub use report::{Estimate, Outage, Report, Server};
