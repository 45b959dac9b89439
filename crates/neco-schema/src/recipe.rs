//! What of a recipe matters beyond the server that follows it.

use crate::RecipeDigest;

/// What of a recipe the protocol needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeShape {
    /// How many steps there are; at least 1.
    pub steps: u32,
    /// The outage groups, ascending, not overlapping.
    pub groups: Vec<GroupShape>,
    /// The digest of everything that decides what a step does.
    pub digest: RecipeDigest,
}

/// An outage group: a service is down between its two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShape {
    /// Its name.
    pub name: String,
    /// The step that stops the service.
    pub stop: u32,
    /// The step that starts it again; later than `stop`.
    pub apply: u32,
}
