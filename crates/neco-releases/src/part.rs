//! The file that a download grows in: hashed while it is written, kept over tries and restarts.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neco_base::hex;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use crate::error::ReleaseError;

/// How long to wait for another download of the same file that is just being given up.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What has come so far: its digest and, unless only that is wanted, the file that holds it.
///
/// Digest, count and file always agree between calls.
pub(crate) struct Part {
    file: Option<(File, PathBuf)>,
    hasher: Sha256,
    written: u64,
}

impl Part {
    /// Keeps nothing but the digest.
    pub(crate) fn digest_only() -> Self {
        Self { file: None, hasher: Sha256::new(), written: 0 }
    }

    /// Opens `path` for this process alone and goes on behind what it holds; blocks.
    pub(crate) fn open(path: &Path) -> Result<Self, ReleaseError> {
        let file = lock(path)?;
        let mut part =
            Self { file: Some((file, path.to_owned())), hasher: Sha256::new(), written: 0 };
        part.take_in().map_err(|source| part.failed("reading", source))?;
        Ok(part)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn sha256(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    /// Begins again with nothing.
    pub(crate) fn restart(&mut self) -> Result<(), ReleaseError> {
        self.hasher = Sha256::new();
        self.written = 0;
        self.cut_back().map_err(|source| self.failed("emptying", source))
    }

    /// Takes in chunks until the sender is gone; blocks. A failed write leaves what was whole before.
    pub(crate) fn drain<B: AsRef<[u8]>>(
        &mut self,
        mut chunks: Receiver<B>,
    ) -> Result<(), ReleaseError> {
        while let Some(chunk) = chunks.blocking_recv() {
            let chunk = chunk.as_ref();
            if let Some((file, _)) = &mut self.file
                && let Err(source) = file.write_all(chunk)
            {
                // Of the two errors the first tells more.
                let _ = self.cut_back();
                return Err(self.failed("writing", source));
            }
            self.hasher.update(chunk);
            self.written += chunk.len() as u64;
        }
        Ok(())
    }

    /// Makes the file durable under its final name; blocks.
    pub(crate) fn finish(self, dest: &Path) -> Result<(), ReleaseError> {
        let Some((file, path)) = self.file else { return Ok(()) };
        let failed = |action, path: &Path, source| ReleaseError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        file.sync_all().map_err(|source| failed("syncing", &path, source))?;
        std::fs::rename(&path, dest).map_err(|source| failed("renaming to", dest, source))?;
        let directory = parent(dest);
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| failed("syncing", directory, source))
    }

    /// Removes the file; blocks.
    pub(crate) fn discard(self) {
        if let Some((_, path)) = self.file {
            let _ = std::fs::remove_file(path);
        }
    }

    fn take_in(&mut self) -> std::io::Result<()> {
        let Some((file, _)) = &mut self.file else { return Ok(()) };
        self.written = hash_into(&mut self.hasher, file)?;
        Ok(())
    }

    /// Makes the file as long as the count says, and writes go on there.
    fn cut_back(&mut self) -> std::io::Result<()> {
        let Some((file, _)) = &mut self.file else { return Ok(()) };
        file.set_len(self.written)?;
        file.seek(SeekFrom::Start(self.written))?;
        Ok(())
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> ReleaseError {
        let path = self.file.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        ReleaseError::Io { action, path, source }
    }
}

/// Size and SHA-256 of a file; `None` if there is none; blocks.
pub(crate) fn digest_of(path: &Path) -> Result<Option<(u64, String)>, ReleaseError> {
    let failed = |source| ReleaseError::Io { action: "reading", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut hasher = Sha256::new();
    let size = hash_into(&mut hasher, &mut file).map_err(failed)?;
    Ok(Some((size, hex(&hasher.finalize()))))
}

/// The SHA-256 of `content` in lower-case hex.
#[cfg(feature = "testing")]
pub(crate) fn sha256_of(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hash_into(hasher: &mut Sha256, file: &mut File) -> std::io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(size),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// The directory of `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock(path: &Path) -> Result<File, ReleaseError> {
    let failed = |source| ReleaseError::Io { action: "opening", path: path.to_owned(), source };
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // Its former holder may have renamed or removed it between the two calls above.
                let ours = file.metadata().map_err(failed)?;
                let there = std::fs::metadata(path).ok();
                if there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
                {
                    return Ok(file);
                }
            }
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        if Instant::now() >= deadline {
            return Err(ReleaseError::Busy { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(part: &mut Part, chunks: &[&[u8]]) {
        let (sender, receiver) = tokio::sync::mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk.to_vec()).expect("room");
        }
        drop(sender);
        part.drain(receiver).unwrap_or_else(|e| panic!("{e}"));
    }

    // SHA-256 of "abc", FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_part_goes_on_where_another_process_stopped() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, dest) = (dir.path().join("f.part"), dir.path().join("f"));
        let mut part = Part::open(&path).unwrap_or_else(|e| panic!("{e}"));
        feed(&mut part, &[b"a"]);
        drop(part);
        let mut part = Part::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(part.written(), 1);
        feed(&mut part, &[b"b", b"c"]);
        assert_eq!(part.sha256(), ABC);
        part.finish(&dest).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(digest_of(&dest).expect("readable"), Some((3, ABC.to_owned())));
        assert!(!path.exists());
    }

    #[test]
    fn a_part_that_begins_again_holds_nothing_of_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, dest) = (dir.path().join("f.part"), dir.path().join("f"));
        let mut part = Part::open(&path).unwrap_or_else(|e| panic!("{e}"));
        feed(&mut part, &[b"something longer"]);
        part.restart().unwrap_or_else(|e| panic!("{e}"));
        feed(&mut part, &[b"abc"]);
        assert_eq!((part.written(), part.sha256().as_str()), (3, ABC));
        part.finish(&dest).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(std::fs::read(dest).expect("readable"), b"abc");
    }

    #[test]
    fn two_downloads_to_one_place_keep_out_of_each_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f.part");
        let held = Part::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(matches!(Part::open(&path), Err(ReleaseError::Busy { .. })));
        drop(held);
        assert!(Part::open(&path).is_ok());
    }

    #[test]
    fn a_missing_file_has_no_digest() {
        assert_eq!(digest_of(Path::new("/nonexistent/file")).expect("no error"), None);
    }
}
