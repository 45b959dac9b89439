//! What is asked of a program that data cannot say: one file for each check that a component may name.

pub(crate) mod vault_leader;

/// The checks that components may name.
pub(crate) const NAMES: [&str; 1] = [vault_leader::NAME];
