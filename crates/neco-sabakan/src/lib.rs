//! Speaks sabakan's API: machines, settings, OS images, assets, ignition templates; builds the templates.
//!
//! - [`Sabakan`] is what Neco asks of sabakan; [`SabakanClient`] asks a real one over HTTP, in bounded time.
//! - [`Content`] is what is uploaded: of known length, and read while it is sent.
//! - [`Ensure`] brings things in that may be there already; [`boot_servers`] and its neighbours are questions that take more
//!   than one request.
//! - [`ignition`] turns the source files of a role into a template: pure, over a tree of files.
//! - `fake`, behind the feature `testing`, is a server that stands in for sabakan; `contract`, behind the same feature, the
//!   suite that a client passes on it.
//!
//! Sections that the documentation names (external-apis §1.5) are those of the project's reference, which describes sabakan
//! 3.1.

mod asset;
mod client;
mod content;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod digest;
mod ensure;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod ignition;
mod image;
mod lookup;
mod machine;
mod name;
mod sabakan;
mod settings;
mod tar;
mod template;
mod wire;

pub use asset::{AssetMeta, AssetUpload, UploadedAsset};
pub use client::{HttpsOptions, Limits, Options, SabakanClient};
pub use content::{Content, Reader};
pub use digest::{ContentDigest, ContentDigestError};
pub use ensure::{Ensure, Ensured};
pub use error::{GraphqlProblem, SabakanError};
pub use image::{OS, OsImage};
pub use lookup::{boot_servers, the_machine, wait_until_it_answers};
pub use machine::{
    Bmc, BmcInfo, Machine, MachineFilter, MachineInfo, MachineParams, MachineQuery, MachineSpec,
    MachineState, MachineStateError, MachineStatus, NetworkInfo, NicConfig,
};
pub use name::{AssetName, IgnitionId, ImageId, NameError, Role, Serial};
pub use neco_http::Url;
pub use sabakan::{Health, OnProgress, Sabakan, UploadProgress};
pub use settings::{DhcpConfig, IpamConfig, KernelParams};
pub use template::{IgnitionTemplate, IgnitionVersion, IgnitionVersionError};
