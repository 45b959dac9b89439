//! Putting releases into a mirror's directory, and taking them out; all of it blocks.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use neco_schema::{Environment, NecoVersion, Timestamp};

use super::layout::{Manifest, MirrorRelease, folder, list, version_of};
use super::sign::trusted_comment;
use super::{ARCHITECTURE, MirrorError, PACKAGE, sync_directory};
use crate::release::is_plain_file_name;

/// What is said about a release when it is added.
#[derive(Clone, Debug, Default)]
pub struct NewRelease {
    /// The tag; `release-VERSION` if not given.
    pub tag: Option<String>,
    /// Not to be offered yet.
    pub draft: bool,
    /// Not for production.
    pub prerelease: bool,
    /// When it was published; now if not given.
    pub published_at: Option<Timestamp>,
}

/// A release that may be published: everything about it was looked at, and nothing written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The tag.
    pub tag: String,
    /// The folder that it will have.
    pub folder: PathBuf,
    /// What will be copied into it: the package and its signatures.
    pub sources: Vec<PathBuf>,
}

/// Looks whether a package can be published with the signatures that lie beside it (`….minisig`, `….minisig.<key id>`).
///
/// The version is the one in the file's name.
pub fn check(dir: &Path, deb: &Path, new: &NewRelease) -> Result<Addition, MirrorError> {
    let (name, version) = package_name(deb)?;
    let tag = new.tag.clone().unwrap_or_else(|| Environment::Prod.tag(&version));
    let folder = folder(dir, &tag)?;
    match version_of(&tag) {
        Some(tagged) if tagged == version => {}
        Some(tagged) => {
            return Err(MirrorError::OtherVersion {
                what: format!("tag {tag}"),
                expected: version.to_string(),
                found: tagged.to_string(),
            });
        }
        None => return Err(MirrorError::Tag { tag }),
    }
    check_is_package(deb)?;
    let signatures = signatures_beside(deb, &name)?;
    for signature in &signatures {
        check_signature(signature, &version)?;
    }
    if folder.exists() {
        return Err(MirrorError::Exists { tag });
    }
    let sources = std::iter::once(deb.to_owned()).chain(signatures).collect();
    Ok(Addition { tag, folder, sources })
}

/// Publishes a package as [`check`] says. The release appears all at once.
pub fn add(dir: &Path, deb: &Path, new: &NewRelease) -> Result<MirrorRelease, MirrorError> {
    let Addition { tag, folder, sources } = check(dir, deb, new)?;
    std::fs::create_dir_all(dir).map_err(MirrorError::io("creating", dir))?;
    let staging = Staging::new(dir)?;
    for source in sources {
        staging.take(&source)?;
    }
    let published_at = new
        .published_at
        .unwrap_or_else(|| Timestamp::new(jiff::Timestamp::now()).unwrap_or_default());
    Manifest { draft: new.draft, prerelease: new.prerelease, published_at: Some(published_at) }
        .write(&staging.folder)?;
    staging.publish(&folder, &tag)?;
    find(dir, &tag)
}

/// Takes a release out of what is offered; its files stay.
pub fn withdraw(dir: &Path, tag: &str) -> Result<MirrorRelease, MirrorError> {
    set_draft(dir, tag, true)
}

/// Offers a draft, or a withdrawn release again.
pub fn publish(dir: &Path, tag: &str) -> Result<MirrorRelease, MirrorError> {
    set_draft(dir, tag, false)
}

/// Deletes a release with its files.
pub fn remove(dir: &Path, tag: &str) -> Result<(), MirrorError> {
    let folder = existing(dir, tag)?;
    // First out of sight, so that nobody is offered half of it.
    let hidden = dir.join(format!(".removed-{:016x}", rand::random::<u64>()));
    std::fs::rename(&folder, &hidden).map_err(MirrorError::io("removing", &folder))?;
    sync_directory(dir)?;
    std::fs::remove_dir_all(&hidden).map_err(MirrorError::io("removing", &hidden))
}

/// Name and version of a package file `neco_VERSION_amd64.deb`.
pub(super) fn package_name(deb: &Path) -> Result<(String, NecoVersion), MirrorError> {
    let error = || MirrorError::Name { path: deb.to_owned() };
    let name = deb.file_name().and_then(|name| name.to_str()).ok_or_else(error)?;
    let version = name
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| rest.strip_suffix(".deb")?.strip_suffix(ARCHITECTURE)?.strip_suffix('_'))
        .and_then(|version| version.parse().ok())
        .ok_or_else(error)?;
    Ok((name.to_owned(), version))
}

fn check_is_package(deb: &Path) -> Result<(), MirrorError> {
    let mut magic = [0; 8];
    let mut file = File::open(deb).map_err(MirrorError::io("reading", deb))?;
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"!<arch>\n" => Ok(()),
        _ => Err(MirrorError::NotAPackage { path: deb.to_owned() }),
    }
}

fn signatures_beside(deb: &Path, name: &str) -> Result<Vec<PathBuf>, MirrorError> {
    let directory = crate::part::parent(deb);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(MirrorError::io("reading", directory))? {
        let entry = entry.map_err(MirrorError::io("reading", directory))?;
        let file = entry.file_name();
        let beside = file.to_str().filter(|file| is_plain_file_name(file));
        let rest = beside.and_then(|file| file.strip_prefix(name)?.strip_prefix(".minisig"));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a signature is for this version. Whether it is right is for those to check who trust its key.
fn check_signature(path: &Path, version: &NecoVersion) -> Result<(), MirrorError> {
    let text = std::fs::read_to_string(path).map_err(MirrorError::io("reading", path))?;
    let comments = text.lines().find_map(|line| line.strip_prefix("trusted comment: "));
    let (expected, found) = (trusted_comment(version), comments.unwrap_or_default());
    if found == expected {
        return Ok(());
    }
    Err(MirrorError::OtherSignature { path: path.to_owned(), expected, found: found.to_owned() })
}

fn set_draft(dir: &Path, tag: &str, draft: bool) -> Result<MirrorRelease, MirrorError> {
    let folder = existing(dir, tag)?;
    let shown = find(dir, tag)?;
    let manifest = Manifest::read(&folder)?;
    // The folder's own time, which stood for the missing one, is about to change.
    let published_at = Some(manifest.published_at.unwrap_or(shown.published_at));
    Manifest { draft, published_at, ..manifest }.write(&folder)?;
    find(dir, tag)
}

fn existing(dir: &Path, tag: &str) -> Result<PathBuf, MirrorError> {
    let folder = folder(dir, tag)?;
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(MirrorError::Missing { tag: tag.to_owned(), dir: dir.to_owned() })
    }
}

fn find(dir: &Path, tag: &str) -> Result<MirrorRelease, MirrorError> {
    let found = list(dir)?.into_iter().find(|release| release.tag == tag);
    found.ok_or_else(|| MirrorError::Missing { tag: tag.to_owned(), dir: dir.to_owned() })
}

/// A folder that is filled out of sight, and removed again unless it is published.
struct Staging {
    folder: PathBuf,
}

impl Staging {
    fn new(dir: &Path) -> Result<Self, MirrorError> {
        let folder = dir.join(format!(".incoming-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).map_err(MirrorError::io("creating", &folder))?;
        Ok(Self { folder })
    }

    fn take(&self, source: &Path) -> Result<(), MirrorError> {
        let copy = self.folder.join(source.file_name().unwrap_or_default());
        std::fs::copy(source, &copy)
            .and_then(|_| File::open(&copy)?.sync_all())
            .map_err(MirrorError::io("copying", source))
    }

    fn publish(self, folder: &Path, tag: &str) -> Result<(), MirrorError> {
        sync_directory(&self.folder)?;
        match std::fs::rename(&self.folder, folder) {
            Ok(()) => sync_directory(crate::part::parent(folder)),
            Err(error) if folder.exists() => {
                tracing::debug!(%error, tag, "published by somebody else meanwhile");
                Err(MirrorError::Exists { tag: tag.to_owned() })
            }
            Err(source) => Err(MirrorError::io("publishing", folder)(source)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already where it was published.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
