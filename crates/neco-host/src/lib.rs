//! Knows this server: identity, addresses, files under a root, journal, verified packages, dpkg.

pub mod address;
mod cache;
mod command;
pub mod detached;
mod error;
pub mod fs;
mod hardware;
pub mod identity;
pub mod journal;
mod lock;
pub mod package;
mod replace;
mod root;
mod site_ca;
mod verify;

pub use cache::{CACHE_DIRECTORY, PackageCache};
pub use command::{CommandError, CommandOutput, run_command};
pub use detached::{DetachError, DetachedProcess, EnabledUnit, RunDetached};
#[cfg(feature = "testing")]
pub use detached::{FakeDetached, FakeUnit};
pub use error::{FileError, disk_trouble};
pub use fs::{FileSystem, Owner, RealFs, SandboxFs};
pub use hardware::{Hardware, HardwareError};
pub use identity::IdentityError;
pub use journal::{Journal, JournalError, JournalStore};
pub use package::{
    Dpkg, DpkgOptions, Installed, PackageError, PackageManager, SANDBOX_RECORD, Sandbox,
    sandbox_script,
};
#[cfg(feature = "testing")]
pub use package::{FakeInstall, FakeLock, FakePackages};
pub use replace::{Replaced, replace};
pub use root::Root;
pub use site_ca::SITE_CA;
pub use verify::{
    Expected, KEY_DIRECTORIES, KeysError, Rejection, TrustedKeys, Unsigned, VerifiedPackage,
    VerifyError, verify_package,
};
