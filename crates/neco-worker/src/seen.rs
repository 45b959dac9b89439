//! What a worker has seen of etcd.

use neco_plan::View;
use neco_schema::Snapshot;
use neco_store::{Change, bring_forward};

/// Keys as they stood together, and the view of them.
pub(crate) struct Seen {
    keys: Snapshot,
    pub(crate) view: View,
}

impl Seen {
    /// Assembles the view.
    pub(crate) fn new(keys: Snapshot) -> Self {
        Self { view: View::assemble(&keys), keys }
    }

    /// The same with what has changed since.
    pub(crate) fn with(mut self, changes: Vec<Change>) -> Self {
        bring_forward(&mut self.keys, changes);
        Self::new(self.keys)
    }
}
