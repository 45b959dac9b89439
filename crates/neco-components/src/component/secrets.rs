//! The files of a component that others put on a server, and that nobody but their reader is to see.

use std::path::PathBuf;

use neco_toml::Fields;
use serde::Serialize;

use super::Place;
use super::files::{account, mode, plain_path};

/// A file that is not the component's and that its program reads, such as a private key: who may read it is kept, and what it
/// holds is nobody's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretSpec {
    /// Where it lies.
    pub path: PathBuf,
    /// Who may do what with it.
    #[serde(flatten)]
    pub access: Access,
    /// Where its component speaks of it.
    #[serde(skip)]
    pub(crate) place: Place,
}

/// Who may do what with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Its permission bits.
    pub mode: u32,
    /// The number of its owner; `None` where nobody looked, or where it does not matter.
    pub owner: Option<String>,
    /// Its group, the same way.
    pub group: Option<String>,
}

impl SecretSpec {
    const MODE: u32 = 0o600;
    /// Everybody who is neither owner nor of the group.
    const OTHERS: u32 = 0o007;

    /// Reads `[[secret]]` number `number`.
    pub(super) fn read(fields: &Fields<'_>, number: usize) -> Option<Self> {
        let path = plain_path(fields, "/etc/etcd/peer.key");
        let mode = mode(fields, Self::MODE);
        if mode.is_some_and(|mode| mode & Self::OTHERS != 0) {
            let what = "would let everybody have a part in a secret";
            fields.problem("mode", what, "write one such as \"0600\" or \"0640\"");
        }
        let (owner, group) = (account(fields, "owner"), account(fields, "group"));
        let (path, mode) = (path?, mode?);
        let place = Place { line: path.line, field: format!("secret[{number}].path") };
        let path = PathBuf::from(path.value);
        Some(Self { path, access: Access { mode, owner, group }, place })
    }
}
