//! Why a package was refused.

use std::path::PathBuf;

use neco_base::KeyId;

use crate::{CommandError, FileError};

/// Why a package was refused. Each is one clear line; none of the package was run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The package or a signature cannot be read.
    #[error("the package cannot be verified")]
    File(#[from] FileError),
    /// The size is wrong.
    #[error(
        "{} has {found} bytes, but {expected} were promised (remove it, so that it is fetched again)",
        path.display()
    )]
    Size {
        /// The package.
        path: PathBuf,
        /// The size it should have.
        expected: u64,
        /// The size it has.
        found: u64,
    },
    /// The digest is wrong.
    #[error(
        "{} has SHA-256 {found}, but {expected} was promised (remove it, so that it is fetched again)",
        path.display()
    )]
    Digest {
        /// The package.
        path: PathBuf,
        /// The SHA-256 it should have.
        expected: String,
        /// The SHA-256 it has.
        found: String,
    },
    /// No key is trusted here.
    #[error(
        "{} cannot be verified: no trusted release key in {} (put the maintainers' *.pub there, or allow \
         unsigned packages with `release: {{unsigned: allow}}` in /etc/neco/config.yml)",
        path.display(), places(dirs)
    )]
    NoKeys {
        /// The package.
        path: PathBuf,
        /// Where keys were looked for.
        dirs: Vec<PathBuf>,
    },
    /// It bears no signature.
    #[error(
        "{} bears no signature (its release should carry a file of the same name with .minisig appended)",
        path.display()
    )]
    Unsigned {
        /// The package.
        path: PathBuf,
    },
    /// It bears signatures, and none of them can be accepted.
    #[error("{} bears no signature that can be accepted: {}", path.display(), list(rejections))]
    Signature {
        /// The package.
        path: PathBuf,
        /// What is wrong with each.
        rejections: Vec<Rejection>,
    },
    /// It is no Debian package.
    #[error("{} is no Debian package: {why}", path.display())]
    NotADeb {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its control file names something else.
    #[error("{} says {field}: {found}, but {expected} was to be installed", path.display())]
    Control {
        /// The package.
        path: PathBuf,
        /// `Package`, `Version` or `Architecture`.
        field: &'static str,
        /// What it should say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// Its control file could not be looked at.
    #[error("the control file of the package cannot be read")]
    Command(#[from] CommandError),
}

/// Why one signature was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The file holds something else.
    #[error("{} is no minisign signature ({why})", file.display())]
    Malformed {
        /// The signature file.
        file: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// It was made in the old way, over the file instead of its hash.
    #[error("{} by key {key} is not of the pre-hashed form (sign with `minisign -S -H`)", file.display())]
    NotPreHashed {
        /// The signature file.
        file: PathBuf,
        /// The key.
        key: KeyId,
    },
    /// Its key is dead.
    #[error("{} was made by key {key}, which {} revokes", file.display(), by.display())]
    RevokedKey {
        /// The signature file.
        file: PathBuf,
        /// The key.
        key: KeyId,
        /// The list that revokes it.
        by: PathBuf,
    },
    /// Its key is not trusted.
    #[error("{} was made by key {key}, which is not trusted here ({})", file.display(), known(trusted))]
    UnknownKey {
        /// The signature file.
        file: PathBuf,
        /// The key.
        key: KeyId,
        /// The keys that are trusted.
        trusted: Vec<KeyId>,
    },
    /// It was not made over these bits by this key.
    #[error("{} does not fit the package and key {key}", file.display())]
    Invalid {
        /// The signature file.
        file: PathBuf,
        /// The key.
        key: KeyId,
    },
    /// It was made for something else.
    #[error("{} by key {key} is for {found:?}, not for {expected:?}", file.display())]
    Comment {
        /// The signature file.
        file: PathBuf,
        /// The key.
        key: KeyId,
        /// The trusted comment it should have.
        expected: String,
        /// The one it has.
        found: String,
    },
}

fn places(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" or ")
}

fn list(rejections: &[Rejection]) -> String {
    rejections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn known(trusted: &[KeyId]) -> String {
    match trusted {
        [] => "no key is".to_owned(),
        ids => {
            format!("trusted: {}", ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}
