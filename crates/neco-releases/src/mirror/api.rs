//! The JSON of GitHub's API, as far as clients read it.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layout::{Mark, MirrorFile, MirrorRelease};
use crate::error::ReleaseError;
use crate::part::digest_of;

/// The digests of files, as long as the files are the same.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<BTreeMap<PathBuf, (Mark, String)>>,
}

impl Digests {
    /// The SHA-256 of a file in hex; reads it if it is new or changed; blocks.
    pub(super) fn of(&self, path: &Path, mark: Mark) -> Result<String, ReleaseError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((marked, digest)) = known
            && marked == mark
        {
            return Ok(digest);
        }
        let missing = || ReleaseError::Io {
            action: "reading",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let (_, digest) = digest_of(path)?.ok_or_else(missing)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), (mark, digest.clone()));
        Ok(digest)
    }

    /// The digest of a file that is open.
    pub(super) fn of_open(&self, path: &Path, metadata: &Metadata) -> Result<String, ReleaseError> {
        self.of(path, Mark::of(metadata))
    }

    /// Forgets files that are gone.
    pub(super) fn keep_only(&self, releases: &[MirrorRelease]) {
        let there: std::collections::BTreeSet<_> =
            releases.iter().flat_map(|release| &release.files).map(|file| &file.path).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| there.contains(path));
    }
}

/// Where the API is reached, and for which repository: goes into the URLs of answers.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Without a slash at the end.
    pub(super) base: String,
    pub(super) owner: String,
    pub(super) repository: String,
}

impl Place {
    pub(super) fn releases(&self) -> String {
        format!("{}/repos/{}/{}/releases", self.base, self.owner, self.repository)
    }
}

/// The number of a release or file; the same as long as its name is.
pub(super) fn id(parts: &[&str]) -> u64 {
    let digest = Sha256::digest(parts.join("/"));
    let head = digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
    // What any JSON reader can hold exactly.
    head >> 12
}

/// A release as the API describes it; blocks while digests are computed.
pub(super) fn release(
    place: &Place,
    release: &MirrorRelease,
    digests: &Digests,
) -> Result<Value, ReleaseError> {
    let files = release.files.iter().map(|file| asset(place, release, file, digests));
    let id = id(&[&release.tag]);
    Ok(json!({
        "id": id,
        "url": format!("{}/{id}", place.releases()),
        "tag_name": release.tag,
        "name": release.tag,
        "draft": release.draft,
        "prerelease": release.prerelease,
        "created_at": release.published_at,
        "published_at": release.published_at,
        "assets": files.collect::<Result<Vec<_>, _>>()?,
        "body": "",
    }))
}

/// A file as the API describes it; blocks while its digest is computed.
pub(super) fn asset(
    place: &Place,
    release: &MirrorRelease,
    file: &MirrorFile,
    digests: &Digests,
) -> Result<Value, ReleaseError> {
    let id = id(&[&release.tag, &file.name]);
    let Place { base, owner, repository } = place;
    let (tag, name) = (&release.tag, &file.name);
    Ok(json!({
        "id": id,
        "url": format!("{}/assets/{id}", place.releases()),
        "browser_download_url": format!("{base}/{owner}/{repository}/releases/download/{tag}/{name}"),
        "name": name,
        "label": "",
        "state": "uploaded",
        "content_type": "application/octet-stream",
        "size": file.size,
        "digest": format!("sha256:{}", digests.of(&file.path, file.mark)?),
    }))
}
