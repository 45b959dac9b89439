//! What a verb works with.

use std::path::PathBuf;
use std::sync::Arc;

use neco_plan::View;
use neco_plan::operator::Order;
use neco_process::exit::Failure;
use neco_schema::{Snapshot, Timestamp};
use neco_store::Store;

use crate::cli::Change;
use crate::failure;
use crate::io::Io;

/// What a verb works with.
pub struct Session<'s, 'io> {
    /// etcd.
    pub store: Arc<dyn Store>,
    /// The root of the system this runs on.
    pub root: PathBuf,
    /// Who runs this.
    pub user: String,
    /// The wall clock.
    pub now: fn() -> Timestamp,
    /// Where to write.
    pub io: &'s mut Io<'io>,
}

impl std::fmt::Debug for Session<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Session<'_, '_> {
    /// Everything in etcd at one revision, and what it means.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn look(&self) -> Result<(Snapshot, View), Failure> {
        let ranges = neco_plan::operator_ranges();
        let snapshot = self.store.read(&ranges, None).await.map_err(failure::of_store)?;
        let view = View::assemble(&snapshot);
        Ok((snapshot, view))
    }

    /// The order that the arguments of a changing verb make.
    pub fn order(&self, change: &Change) -> Order {
        Order {
            by: change.by.clone().unwrap_or_else(|| self.user.clone()),
            reason: change.reason.clone(),
            now: (self.now)(),
        }
    }
}

/// Who runs this, before `sudo`.
pub fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "an unknown user".to_owned())
}

/// This machine's wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}
