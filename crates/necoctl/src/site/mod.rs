//! A package of a site's own: the released one with components, templates, programs and keys of the site laid over it.
//!
//! - [`Overlay`] reads the site's folder and says where each of its files goes.
//! - [`programs`] brings the programs that an `artifacts.toml` lists.
//! - [`Tree`] is an unpacked package; it is packed again with its control files right.
//!
//! `docs/components.md` shows it at work.

mod overlay;
pub mod programs;
mod tree;

pub use overlay::{DATA, IGNITIONS, Laid, Overlay, is_ours};
pub use tree::{Compression, Tree};
