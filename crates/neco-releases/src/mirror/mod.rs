//! The publishing side: a directory of packages and signatures, served over GitHub's API.
//!
//! What `necoctl mirror serve|add|list|sign` call, what the playground publishes its releases with, and what an
//! air-gapped site runs in place of github.com. A mirror is a directory:
//!
//! ```text
//! DIR/
//! ├── release-2026.11.21-40152/            one folder per release, named by its tag
//! │   ├── neco_2026.11.21-40152_amd64.deb
//! │   ├── neco_2026.11.21-40152_amd64.deb.minisig
//! │   └── release.json                     {"draft":false,"prerelease":false,"published_at":"…"}; optional
//! └── .incoming-…                          names with a leading dot are not served
//! ```
//!
//! Without `release.json` a folder is a published release. The directory is the only state: it is read again at each
//! request, so a folder may also be put there, or removed, by hand. Put it there as [`add`] does, under a name with a
//! leading dot that is renamed when all of it is there: what is half there is offered as it is.

mod api;
#[cfg(feature = "testing")]
pub mod faults;
mod file;
mod layout;
mod publish;
mod serve;
pub mod sign;

use std::path::{Path, PathBuf};

pub use layout::{MirrorFile, MirrorRelease, list};
pub use publish::{Addition, NewRelease, add, check, publish, remove, withdraw};
pub use serve::{Mirror, ServeOptions, serve};

/// The package that Neco releases hold.
pub const PACKAGE: &str = "neco";
/// The architecture it is built for.
pub const ARCHITECTURE: &str = "amd64";

/// Why something could not be published, signed or listed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The disk refuses.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file name that tells no version.
    #[error("{} is not named like a package, neco_VERSION_amd64.deb", .path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Not a Debian package.
    #[error("{} is no Debian package", .path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
    },
    /// A tag that cannot be one.
    #[error("{tag:?} is no release tag; expected release-VERSION or test-VERSION")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// Tag, file name or order name different versions.
    #[error("{what} is for version {found}, but the package is {expected}")]
    OtherVersion {
        /// Whose version is another.
        what: String,
        /// The version of the package.
        expected: String,
        /// The other one.
        found: String,
    },
    /// A signature that says something else than what is published.
    #[error("{} vouches for {found:?} instead of {expected:?}; sign the package again", .path.display())]
    OtherSignature {
        /// The signature file.
        path: PathBuf,
        /// The trusted comment it should have.
        expected: String,
        /// The one it has.
        found: String,
    },
    /// There is such a release already.
    #[error(
        "release {tag} exists already; a release is not replaced, remove it first or publish a new version"
    )]
    Exists {
        /// The tag.
        tag: String,
    },
    /// There is no such release.
    #[error("there is no release {tag} in {}", .dir.display())]
    Missing {
        /// The tag.
        tag: String,
        /// The mirror's directory.
        dir: PathBuf,
    },
    /// A `release.json` that says nothing usable.
    #[error("{} is no release.json; mend or remove it", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A key that cannot be used.
    #[error("{}: {problem}", .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong and what to do; holds no secret.
        problem: String,
    },
}

impl MirrorError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Replaces the file at `path` durably; blocks.
fn write_durably(path: &Path, content: &[u8], mode: u32) -> Result<(), MirrorError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let directory = crate::part::parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}-{:016x}", rand::random::<u64>()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(source) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(MirrorError::io("writing", path)(source));
    }
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), MirrorError> {
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(MirrorError::io("syncing", directory))
}
