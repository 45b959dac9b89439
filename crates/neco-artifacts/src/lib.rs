//! What one version of Neco pins: the file `artifacts.toml`.
//!
//! - [`Image`] is a container image with its tag, [`Deb`] a Debian package of a GitHub release, [`OsImage`] what worker
//!   servers boot, [`Program`] a program that the package of Neco carries inside itself.
//! - [`Artifacts::parse`] reads them; what is wrong stands in one report with file, line and field.
//!
//! `docs/components.md` describes the format.

mod artifacts;
mod deb;
mod image;
mod os_image;
mod program;

pub use artifacts::Artifacts;
pub use deb::Deb;
pub use image::{Image, ListedImage};
pub use os_image::OsImage;
pub use program::{Folder, Program};
