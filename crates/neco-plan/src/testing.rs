//! Test-only: bugs planted in the decisions, and a writer that behaves like the original.

mod planted;

pub use planted::{Planted, planted_barrier};
