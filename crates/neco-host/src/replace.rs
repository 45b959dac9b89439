//! Replacing a file so that a reader, a crash or a power cut finds either the old one or the new one, whole.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Doing;
use crate::fs::{FileSystem, Kind, Owner};
use crate::{FileError, Root};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Whether content, permission bits or owner were other than wanted.
    pub changed: bool,
}

/// Tells the temporary files of one process apart.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Ends the names of temporary files.
const TEMPORARY: &str = ".neco-new";

/// Makes the file at `path` below `root` hold `content` with these permission bits and this owner (`None`: the
/// one who writes).
///
/// A file that is so already is left alone, and its name is made durable. Otherwise a temporary file in the same
/// directory is written, given its owner and mode, made durable and renamed into place. Missing parents are made with mode 0755. A symbolic link
/// at `path` itself is replaced, not followed; links on the way are followed inside the root. After an error the
/// old file is untouched and no temporary file is left, as far as the disk allows it to be removed; one that a
/// killed process left is removed by the next replacement of the same file.
pub fn replace(
    fs: &dyn FileSystem,
    root: &Root,
    path: impl AsRef<Path>,
    content: &[u8],
    mode: u32,
    owner: Option<Owner>,
) -> Result<Replaced, FileError> {
    let asked = path.as_ref();
    let target = root.resolve_parent(asked).doing("resolving", root.join(asked))?;
    // Both are there: `resolve_parent` has put a name behind a directory.
    let dir = target.parent().unwrap_or_else(|| root.path());
    if is_so(fs, &target, content, mode, owner)? {
        // Perhaps from a try that ended between name and disk. The file itself was durable before it had the name.
        fs.sync_dir(dir).doing("syncing", dir)?;
        return Ok(Replaced { changed: false });
    }
    let name = target.file_name().unwrap_or_default();
    create_dirs(fs, dir)?;
    remove_leftovers(fs, dir, name);
    // People know the file by its own name, and the same trouble has the same words at the next try.
    let temporary = create_temporary(fs, dir, name, content, mode, owner)
        .map_err(|error| FileError { path: target.clone(), ..error })?;
    if let Err(error) = fs.rename(&temporary, &target) {
        discard(fs, &temporary);
        return Err(FileError::new("replacing", &target, error));
    }
    fs.sync_dir(dir).doing("syncing", dir)?;
    Ok(Replaced { changed: true })
}

/// Whether the file is as wanted.
fn is_so(
    fs: &dyn FileSystem,
    target: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<Owner>,
) -> Result<bool, FileError> {
    let Some(found) = fs.metadata(target).doing("looking at", target)? else { return Ok(false) };
    let attributes = found.kind == Kind::File
        && found.mode == mode
        && owner.is_none_or(|owner| owner == found.owner)
        && found.len == content.len() as u64;
    Ok(attributes && fs.read(target).doing("reading", target)? == content)
}

/// Makes `dir` and its missing parents, mode 0755, each name durable.
pub(crate) fn create_dirs(fs: &dyn FileSystem, dir: &Path) -> Result<(), FileError> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors() {
        match fs.metadata(ancestor).doing("looking at", ancestor)? {
            Some(_) => break,
            None => missing.push(ancestor),
        }
    }
    for dir in missing.into_iter().rev() {
        match fs.create_dir(dir, 0o755) {
            // Somebody else made it just now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.doing("making", dir)?,
        }
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent).doing("syncing", parent)?;
        }
    }
    Ok(())
}

/// Writes a durable file with its final attributes beside the target.
fn create_temporary(
    fs: &dyn FileSystem,
    dir: &Path,
    name: &OsStr,
    content: &[u8],
    mode: u32,
    owner: Option<Owner>,
) -> Result<PathBuf, FileError> {
    let (file, path) = loop {
        let mut temporary = prefix(name);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!("{}-{serial}{TEMPORARY}", std::process::id()));
        let path = dir.join(temporary);
        match fs.create(&path) {
            // Left by an earlier process of the same id; the serial number moves on.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => break (made.doing("making", &path)?, path),
        }
    };
    let fill = || {
        fs.write(&file, content).doing("writing", &path)?;
        if let Some(owner) = owner {
            fs.set_owner(&file, owner).doing("setting the owner of", &path)?;
        }
        // After the owner: changing the owner takes set-user-id bits away.
        fs.set_mode(&file, mode).doing("setting the mode of", &path)?;
        fs.sync(&file).doing("syncing", &path)
    };
    match fill() {
        Ok(()) => Ok(path),
        Err(error) => {
            discard(fs, &path);
            Err(error)
        }
    }
}

/// What the names of a file's temporary files begin with.
fn prefix(name: &OsStr) -> std::ffi::OsString {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// Removes what killed processes left of earlier replacements of the same file.
fn remove_leftovers(fs: &dyn FileSystem, dir: &Path, name: &OsStr) {
    let Ok(names) = fs.list(dir) else { return };
    let prefix = prefix(name);
    for found in names {
        let pid = found
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .and_then(|rest| rest.strip_suffix(TEMPORARY))
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            discard(fs, &dir.join(found));
        }
    }
}

/// Removes a temporary file; a failure is worth a word, not an error.
fn discard(fs: &dyn FileSystem, path: &Path) {
    if let Err(error) = fs.remove(path) {
        tracing::warn!(path = %path.display(), %error, "a temporary file stays behind");
    }
}
