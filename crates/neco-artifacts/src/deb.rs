//! Debian packages of GitHub releases.

use neco_toml::{Fields, Name};
use serde::Serialize;

use crate::artifacts::{sha256, word};

/// A Debian package that a component installs, from a release on GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deb {
    /// The name of the package; its asset is `<name>_….deb`.
    pub name: Name,
    /// Who owns the repository.
    pub owner: String,
    /// The repository.
    pub repository: String,
    /// The tag of the release, such as `v1.4.9`.
    pub release: String,
    /// What its file must be; without it, what the release says of its asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Deb {
    pub(crate) fn read(entry: &Fields<'_>) -> Option<Self> {
        let name = entry.required_parsed("name", "name the package, such as \"etcdpasswd\"");
        let owner = word(entry, "owner", "-", "write the owner, such as \"cybozu-go\"");
        let remedy = "write the repository, such as \"etcdpasswd\"";
        let repository = word(entry, "repository", "._-", remedy);
        let release = word(entry, "release", "._+-", "write the tag, such as \"v1.4.9\"");
        let sha256 = sha256(entry);
        Some(Self {
            name: name?.value,
            owner: owner?.to_owned(),
            repository: repository?.to_owned(),
            release: release?.to_owned(),
            sha256,
        })
    }
}
