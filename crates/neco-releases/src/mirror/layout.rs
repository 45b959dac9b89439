//! What lies in a mirror's directory.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use neco_schema::{Environment, NecoVersion, Timestamp};
use serde::{Deserialize, Serialize};

use super::MirrorError;
use crate::release::is_plain_file_name;
use crate::tag::version_of_tag;

pub(super) const MANIFEST: &str = "release.json";

/// A release in a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorRelease {
    /// The tag: the folder's name.
    pub tag: String,
    /// The version in the tag, for tags of Neco.
    pub version: Option<NecoVersion>,
    /// Whether it is not offered: withdrawn, or not published yet.
    pub draft: bool,
    /// Whether it is not for production.
    pub prerelease: bool,
    /// When it was published.
    pub published_at: Timestamp,
    /// Whether the API answers with it as the latest.
    pub latest: bool,
    /// Its files, by name.
    pub files: Vec<MirrorFile>,
    /// Why it is not offered although it is not withdrawn: its `release.json` or one of its files cannot be read.
    pub problem: Option<String>,
}

/// A file of a release in a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorFile {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    pub(super) mark: Mark,
}

/// What tells that a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

/// The content of `release.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    pub(super) draft: bool,
    pub(super) prerelease: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) published_at: Option<Timestamp>,
}

impl Manifest {
    /// The manifest of a release's folder; the default if it has none.
    pub(super) fn read(folder: &Path) -> Result<Self, MirrorError> {
        let path = folder.join(MANIFEST);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| MirrorError::Manifest { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(MirrorError::Io { action: "reading", path, source }),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), MirrorError> {
        let path = folder.join(MANIFEST);
        let mut text = serde_json::to_vec(self)
            .map_err(|source| MirrorError::Manifest { path: path.clone(), source })?;
        text.push(b'\n');
        super::write_durably(&path, &text, 0o644)
    }
}

impl MirrorRelease {
    /// Whether a signature lies beside the package.
    pub fn is_signed(&self) -> bool {
        self.files.iter().any(|file| file.name.contains(".deb.minisig"))
    }
}

/// The version in a tag of any environment.
pub(super) fn version_of(tag: &str) -> Option<NecoVersion> {
    let parsed = version_of_tag(Environment::Prod, tag);
    parsed.or_else(|_| version_of_tag(Environment::Dev, tag)).ok()
}

/// The folder of a release, if `tag` can be the name of one.
pub(super) fn folder(dir: &Path, tag: &str) -> Result<PathBuf, MirrorError> {
    if is_plain_file_name(tag) {
        Ok(dir.join(tag))
    } else {
        Err(MirrorError::Tag { tag: tag.to_owned() })
    }
}

/// All releases in the mirror at `dir`, drafts included, newest first; blocks.
pub fn list(dir: &Path) -> Result<Vec<MirrorRelease>, MirrorError> {
    let mut releases = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(MirrorError::io("reading", dir))? {
        let entry = entry.map_err(MirrorError::io("reading", dir))?;
        let Ok(tag) = entry.file_name().into_string() else { continue };
        if !is_plain_file_name(&tag) {
            continue;
        }
        match read(&entry.path(), tag) {
            Ok(release) => releases.extend(release),
            // Removed while it was read.
            Err(MirrorError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    releases.sort_by(|a, b| {
        let version = match (&a.version, &b.version) {
            (Some(a), Some(b)) => b.precedence(a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        b.published_at.cmp(&a.published_at).then(version).then_with(|| b.tag.cmp(&a.tag))
    });
    if let Some(latest) = latest(&releases) {
        releases[latest].latest = true;
    }
    Ok(releases)
}

/// The greatest version that production may run.
fn latest(releases: &[MirrorRelease]) -> Option<usize> {
    let mut best: Option<(usize, NecoVersion)> = None;
    for (index, release) in releases.iter().enumerate() {
        if release.draft || release.prerelease {
            continue;
        }
        let Ok(version) = version_of_tag(Environment::Prod, &release.tag) else { continue };
        if best.as_ref().is_none_or(|(_, best)| version.precedence(best).is_gt()) {
            best = Some((index, version));
        }
    }
    best.map(|(index, _)| index)
}

fn read(folder: &Path, tag: String) -> Result<Option<MirrorRelease>, MirrorError> {
    let metadata = std::fs::metadata(folder).map_err(MirrorError::io("reading", folder))?;
    if !metadata.is_dir() {
        return Ok(None);
    }
    let (mut manifest, mut problem) = match Manifest::read(folder) {
        Ok(manifest) => (manifest, None),
        Err(MirrorError::Manifest { path, source }) => (
            Manifest { draft: true, ..Manifest::default() },
            Some(format!("{}: {source}", path.display())),
        ),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(MirrorError::io("reading", folder))? {
        let entry = entry.map_err(MirrorError::io("reading", folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == MANIFEST || !is_plain_file_name(&name) {
            continue;
        }
        let path = entry.path();
        match look(&path) {
            Ok(None) => {}
            Ok(Some(metadata)) => {
                let mark = Mark::of(&metadata);
                files.push(MirrorFile { name, path, size: metadata.len(), mark });
            }
            Err(error) => {
                manifest.draft = true;
                problem = Some(format!("{}: {error}", path.display()));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(MirrorRelease {
        version: version_of(&tag),
        tag,
        draft: manifest.draft,
        prerelease: manifest.prerelease,
        published_at: manifest
            .published_at
            .unwrap_or_else(|| Timestamp::from_unix(metadata.mtime())),
        latest: false,
        files,
        problem,
    }))
}

/// A file that can be read; `None` for what is no file.
fn look(path: &Path) -> std::io::Result<Option<Metadata>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    std::fs::File::open(path)?.metadata().map(Some)
}
