//! A registry in memory that speaks the real protocol, and things to put into it.
//!
//! - [`FakeRegistry`] serves tags, manifests and blobs, to everybody or to whom it knows, and fails as it is told by
//!   [`Faults`].
//! - [`TestImage`] is an image to push, of bytes that are there or that are made while they are sent ([`Content`]).
//! - [`Cutter`] stands before any registry and cuts connections.
//! - [`Changing`] are credentials that can be changed.

mod body;
mod content;
mod credentials;
mod cutter;
mod faults;
mod image;
mod registry;

pub use content::Content;
pub use credentials::Changing;
pub use cutter::Cutter;
pub use faults::{Asked, Fault, Faults, Scope};
pub use image::{Kind, TestImage, TestLayer, index};
pub use registry::{Door, FakeRegistry};
