//! The journal on disk: what this server has announced and done, durable before anything else happens.
//!
//! A directory of *segments* (`journal-<first sequence number>.jsonl`), each a file of lines that carry a sequence
//! number, a time and a checksum. A damaged line is named and skipped; the rest stays. When a segment is full, the
//! next one begins with a *checkpoint*, the state folded from everything before, and only when that is durable the
//! oldest segment goes: what is still open never leaves with an old segment.
//!
//! A file that cannot be *read* is another thing: what it holds is not known and may be what counts, so the journal neither
//! gives out a state nor takes entries until it can be read, or a person has moved it away.
//!
//! Several processes may append (the worker and the unit that installs the package); a lock file keeps them apart,
//! and each notices what the other has done. Everything here blocks: async callers use `spawn_blocking`.

mod line;
#[cfg(feature = "testing")]
mod memory;
mod segment;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neco_schema::Timestamp;
use neco_schema::journal::Entry;

use self::line::Body;
#[cfg(feature = "testing")]
pub use self::memory::MemoryJournal;
use self::segment::{Place, Segment};
use crate::error::Doing;
use crate::lock::{FileLock, LockError};
use crate::replace::create_dirs;
use crate::{FileError, FileSystem, RealFs};

/// Where the journal lies below the root.
pub const DIRECTORY: &str = "/var/lib/neco/journal";

/// The name under which the next segment is written until it is whole.
const NEXT: &str = ".next";

/// The name of the lock file.
const LOCK: &str = "lock";

/// How often a journal is read anew because its oldest segment went in the meantime.
const READ_TRIES: usize = 5;

/// Who may read a segment: its owner and its group.
const MODE: u32 = 0o640;

/// Keeps entries and gives them back.
pub trait JournalStore: Send + Sync {
    /// Makes all these entries durable, in order; after an error none of them counts.
    fn append(&self, entries: &[Entry]) -> Result<(), JournalError>;

    /// Writes entries on which nothing hangs: a crash of this process does not lose them, a power cut may unless something
    /// was appended after them.
    fn note(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.append(entries)
    }

    /// The entries from which the present state follows, oldest first: those of the newest checkpoint and those
    /// appended since.
    fn entries(&self) -> Result<Vec<Record>, JournalError>;
}

/// An entry, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number; grows from entry to entry, with gaps.
    pub seq: u64,
    /// When it was written, by the writer's clock.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}

/// A part of the journal that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub kind: DamageKind,
}

/// What is wrong with a part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The last line, or the last lines that were written at once, have no end: the writer died, or the disk was
    /// full.
    Truncated,
    /// The file holds nothing, though it was not begun without a line.
    Empty,
    /// The line is not what was written.
    Checksum,
    /// The line is what was written, but this version does not understand it.
    Unknown(String),
    /// Lines are missing before this one.
    Missing {
        /// The first missing sequence number.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The line carries a number that was given out before.
    Repeated {
        /// The number.
        seq: u64,
    },
    /// The file cannot be read.
    Unreadable(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        match &self.kind {
            DamageKind::Truncated => f.write_str(": what was written last is cut off; skipped"),
            DamageKind::Empty => f.write_str(": the file is empty: what it held is lost"),
            DamageKind::Checksum => f.write_str(": the line does not match its checksum; skipped"),
            DamageKind::Unknown(why) => {
                write!(f, ": the entry is of another version ({why}); skipped")
            }
            DamageKind::Missing { from, to } if from == to => {
                write!(f, ": entry {from} is missing before it")
            }
            DamageKind::Missing { from, to } => {
                write!(f, ": entries {from} to {to} are missing before it")
            }
            DamageKind::Repeated { seq } => write!(f, ": entry {seq} stands twice; skipped"),
            DamageKind::Unreadable(why) => write!(
                f,
                ": the file cannot be read ({why}); nothing begins until it can be read or is moved away"
            ),
        }
    }
}

/// Damage in a few lines: what is the matter with many lines of one file is told for the first of them.
pub fn in_brief(damage: &[Damage]) -> Vec<String> {
    let alike = |a: &Damage, b: &Damage| {
        a.file == b.file && std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind)
    };
    let mut brief: Vec<(&Damage, usize)> = Vec::new();
    for found in damage {
        match brief.iter_mut().find(|(told, _)| alike(told, found)) {
            Some((_, more)) => *more += 1,
            None => brief.push((found, 0)),
        }
    }
    let words = |(told, more)| match more {
        0 => format!("{told}"),
        more => format!("{told}; and the same {more} more times in this file"),
    };
    brief.into_iter().map(words).collect()
}

/// Why the journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("the journal cannot be {operation}")]
    File {
        /// What was to be done with it.
        operation: &'static str,
        /// The operation that failed.
        #[source]
        source: FileError,
    },
    /// Another process holds the lock for too long.
    #[error(
        "the journal is locked: another process has held {} for {}s (see who with `fuser {}`)",
        path.display(), within.as_secs(), path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// An entry has no written form: a bug.
    #[error("an entry of the journal cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

impl JournalError {
    /// The failed file operation, where it was one.
    pub fn file(&self) -> Option<&FileError> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Locked { .. } | Self::Encode(_) => None,
        }
    }

    fn reading(source: FileError) -> Self {
        Self::File { operation: "read", source }
    }

    fn writing(source: FileError) -> Self {
        Self::File { operation: "written", source }
    }
}

/// Tells the time of an entry.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Folds records into entries from which the same state follows; see [`Options::checkpoint`].
pub type Checkpoint = Arc<dyn Fn(&[Record]) -> Vec<Entry> + Send + Sync>;

/// How a journal is kept.
#[derive(Clone)]
pub struct Options {
    /// Tells the time.
    pub clock: Clock,
    /// Called when a new segment begins, with the records of [`JournalStore::entries`]; what it returns stands at
    /// the head of the segment and replaces them. Every process that appends must pass the same.
    pub checkpoint: Checkpoint,
    /// A segment takes as many bytes of entries, its checkpoint not counted.
    pub segment_bytes: u64,
    /// As many segments are kept.
    pub segments: usize,
    /// The lock is waited for so long.
    pub lock_within: Duration,
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
}

impl Options {
    /// A ring of 8 segments of 8 MiB on the machine's own file system.
    pub fn new(clock: Clock, checkpoint: Checkpoint) -> Self {
        Self {
            clock,
            checkpoint,
            segment_bytes: 8 << 20,
            segments: 8,
            lock_within: Duration::from_secs(10),
            fs: Arc::new(RealFs),
        }
    }
}

/// A journal in a directory.
pub struct Journal {
    dir: PathBuf,
    options: Options,
    state: Mutex<State>,
}

/// What this process knows about the end of the journal.
#[derive(Debug, Default)]
struct State {
    tail: Option<Tail>,
    /// A sync failed: the kernel may have forgotten what was not written, so nothing more goes to that file.
    suspect: bool,
}

/// Whether entries are on the disk when they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    /// They are.
    Now,
    /// With the next that are.
    Later,
}

/// The end of the newest segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tail {
    path: PathBuf,
    /// Bytes on disk.
    len: u64,
    /// Bytes that are whole lines.
    whole_len: u64,
    appended_len: u64,
    next_seq: u64,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in `dir`, making the directory if it is missing, and returns what it says: the entries
    /// as of [`JournalStore::entries`], and the damage in all of it. While a file cannot be read these are none, the
    /// damage names it, and nothing can be appended.
    pub fn open(
        dir: impl Into<PathBuf>,
        options: Options,
    ) -> Result<(Self, Vec<Record>, Vec<Damage>), JournalError> {
        let dir = dir.into();
        create_dirs(&*options.fs, &dir).map_err(JournalError::writing)?;
        let journal = Self { dir, options, state: Mutex::default() };
        let lock = journal.lock()?;
        let places = segment::places(journal.fs(), &journal.dir).map_err(JournalError::reading)?;
        let damage = segment::damage(journal.fs(), &places);
        // Not a part of it: nobody is to act on half a state.
        let records = segment::state_records(journal.fs(), places).unwrap_or_default();
        drop(lock);
        Ok((journal, records, damage))
    }

    /// Makes one entry durable.
    pub fn append(&self, entry: &Entry) -> Result<(), JournalError> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Makes several entries durable with one sync; after an error none of them counts.
    pub fn append_all(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.write(entries, Lasting::Now)
    }

    fn write(&self, entries: &[Entry], lasting: Lasting) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock()?;
        let places = segment::places(self.fs(), &self.dir).map_err(JournalError::reading)?;
        let known = state.tail.take();
        let tail = self.tail(places.last(), known).map_err(JournalError::reading)?;
        let at = (self.options.clock)();
        let suspect = std::mem::take(&mut state.suspect);
        let next = match tail {
            Some(tail) if !suspect => {
                let mut text = Vec::new();
                let next_seq = encode_all(&mut text, tail.next_seq, at, entries)?;
                let full = tail.appended_len + text.len() as u64 > self.options.segment_bytes;
                if full && tail.appended_len > 0 {
                    let settled = self.settle(&tail.path);
                    state.suspect = settled.is_err();
                    settled.map_err(JournalError::writing)?;
                    self.rotate(places, Some(tail), at, entries)
                } else {
                    self.extend(&mut state, tail, &text, next_seq, lasting)
                }
            }
            tail => {
                if let Some(tail) = &tail
                    && let Err(error) = self.settle(&tail.path)
                {
                    // It has refused before: one bad place on the disk must not keep the journal shut for good.
                    tracing::warn!(%error, "what was written last may be missing after a power cut");
                }
                let rotated = self.rotate(places, tail, at, entries);
                state.suspect = suspect && rotated.is_err();
                rotated
            }
        }?;
        state.tail = Some(next);
        Ok(())
    }

    /// Where this journal lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn fs(&self) -> &dyn FileSystem {
        &*self.options.fs
    }

    fn lock(&self) -> Result<FileLock, JournalError> {
        let lock = FileLock::exclusive(&self.dir.join(LOCK), self.options.lock_within);
        lock.map_err(|error| match error {
            LockError::File(source) => JournalError::writing(source),
            LockError::Held { path, within } => JournalError::Locked { path, within },
        })
    }

    /// The end of the newest segment: as this process left it, or as another has moved it.
    fn tail(&self, newest: Option<&Place>, known: Option<Tail>) -> Result<Option<Tail>, FileError> {
        let Some(newest) = newest else { return Ok(None) };
        let found = self.fs().metadata(&newest.path).doing("looking at", &newest.path)?;
        let len = found.map_or(0, |found| found.len);
        if let Some(known) = known.filter(|known| known.path == newest.path && known.len == len) {
            return Ok(Some(known));
        }
        let segment = Segment::read(self.fs(), newest.clone())?;
        Ok(Some(Tail {
            path: newest.path.clone(),
            len: segment.len,
            whole_len: segment.whole_len,
            appended_len: segment.appended_len,
            next_seq: segment.next_seq,
        }))
    }

    /// Makes what was only written durable, before a later segment is: nobody is to miss it between the two. Whether
    /// there is such a thing only its writer knows, and that may be another process.
    fn settle(&self, path: &Path) -> Result<(), FileError> {
        let file = self.fs().open_append(path).doing("opening", path)?;
        self.fs().sync(&file).doing("syncing", path)
    }

    /// Appends whole lines to the newest segment.
    fn extend(
        &self,
        state: &mut State,
        tail: Tail,
        text: &[u8],
        next_seq: u64,
        lasting: Lasting,
    ) -> Result<Tail, JournalError> {
        let path = &tail.path;
        let file = self.fs().open_append(path).doing("opening", path);
        let file = file.map_err(JournalError::writing)?;
        let write = || {
            if tail.len > tail.whole_len {
                tracing::warn!(path = %path.display(), "a line that was cut off is removed");
                self.fs().truncate(&file, tail.whole_len).doing("truncating", path)?;
            }
            self.fs().write(&file, text).doing("writing", path)
        };
        let written = write();
        let synced = match &written {
            Ok(()) if lasting == Lasting::Now => self.fs().sync(&file).doing("syncing", path),
            Ok(()) | Err(_) => Ok(()),
        };
        state.suspect = synced.is_err();
        if let Err(error) = written.and(synced) {
            // Best effort: whatever stays is a line that is cut off, or one that was not acknowledged.
            if let Err(error) = self.fs().truncate(&file, tail.whole_len) {
                tracing::warn!(path = %path.display(), %error, "a part of an entry stays behind");
            }
            return Err(JournalError::writing(error));
        }
        let len = tail.whole_len + text.len() as u64;
        let appended_len = tail.appended_len + text.len() as u64;
        Ok(Tail { len, whole_len: len, appended_len, next_seq, ..tail })
    }

    /// Begins a new segment with a checkpoint and the entries, then lets the oldest ones go.
    fn rotate(
        &self,
        mut places: Vec<Place>,
        tail: Option<Tail>,
        at: Timestamp,
        entries: &[Entry],
    ) -> Result<Tail, JournalError> {
        let first = tail.map_or(1, |tail| tail.next_seq);
        let records = segment::state_records(self.fs(), places.clone());
        let records = records.map_err(JournalError::reading)?;
        let kept = if records.is_empty() { vec![] } else { (self.options.checkpoint)(&records) };
        drop(records);
        let mut text = Vec::new();
        line::encode(&mut text, first, at, &Body::Head { kept: kept.len() as u64 })?;
        let mut seq = first + 1;
        for entry in kept {
            line::encode(&mut text, seq, at, &Body::Kept(entry))?;
            seq += 1;
        }
        let checkpoint_len = text.len() as u64;
        let next_seq = encode_all(&mut text, seq, at, entries)?;
        let path = segment::path_of(&self.dir, first);
        self.write_segment(&path, &text).map_err(JournalError::writing)?;
        places.push(Place { path: path.clone(), first });
        let surplus = places.len().saturating_sub(self.options.segments.max(1));
        for place in &places[..surplus] {
            if let Err(error) = self.fs().remove(&place.path) {
                tracing::warn!(path = %place.path.display(), %error, "an old segment stays");
            }
        }
        let len = text.len() as u64;
        Ok(Tail { path, len, whole_len: len, appended_len: len - checkpoint_len, next_seq })
    }

    /// Writes a segment that is there whole or not at all.
    fn write_segment(&self, path: &Path, text: &[u8]) -> Result<(), FileError> {
        let fs = self.fs();
        let next = self.dir.join(NEXT);
        let file = match fs.create(&next) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Under the lock nobody else is writing it: its writer died.
                fs.remove(&next).doing("removing", &next)?;
                fs.create(&next)
            }
            created => created,
        }
        .doing("making", &next)?;
        let fill = || {
            fs.write(&file, text).doing("writing", &next)?;
            fs.set_mode(&file, MODE).doing("setting the mode of", &next)?;
            fs.sync(&file).doing("syncing", &next)?;
            fs.rename(&next, path).doing("renaming", &next)
        };
        let undo = |leftover: &Path| {
            if let Err(error) = fs.remove(leftover) {
                tracing::warn!(path = %leftover.display(), %error, "a part of a segment stays");
            }
        };
        fill().inspect_err(|_| undo(&next))?;
        fs.sync_dir(&self.dir).doing("syncing", &self.dir).inspect_err(|_| undo(path))
    }
}

impl JournalStore for Journal {
    fn append(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.append_all(entries)
    }

    fn note(&self, entries: &[Entry]) -> Result<(), JournalError> {
        self.write(entries, Lasting::Later)
    }

    fn entries(&self) -> Result<Vec<Record>, JournalError> {
        let _lock = self.lock()?;
        let places = segment::places(self.fs(), &self.dir).map_err(JournalError::reading)?;
        segment::state_records(self.fs(), places).map_err(JournalError::reading)
    }
}

/// Everything that was appended to the journal in `dir` and is still there, oldest first, and what is damaged in it.
/// Where old segments are gone, the checkpoint that stands for them comes first. Changes nothing, and takes no lock:
/// beside a writer, what it writes at this moment may be missing or named as cut off.
///
/// # Errors
/// The directory cannot be listed. One that is not there holds nothing.
pub fn read_all(dir: &Path) -> Result<(Vec<Record>, Vec<Damage>), JournalError> {
    let mut tries = 0;
    loop {
        let places = segment::places(&RealFs, dir).map_err(JournalError::reading)?;
        let (mut records, mut damage) = (Vec::new(), Vec::new());
        let mut is_oldest = true;
        segment::each(&RealFs, &places, |mut segment| {
            damage.append(&mut segment.damage);
            records.extend(segment.records(std::mem::take(&mut is_oldest)));
        });
        // Its writer begins a new segment and lets the oldest go; nobody lets another go.
        let gone = places.first().is_some_and(|oldest| !oldest.path.exists());
        tries += 1;
        if !gone || tries == READ_TRIES {
            return Ok((records, damage));
        }
    }
}

/// Encodes entries as appended lines and returns the sequence number after them.
fn encode_all(
    text: &mut Vec<u8>,
    mut seq: u64,
    at: Timestamp,
    entries: &[Entry],
) -> Result<u64, JournalError> {
    for (more, entry) in (0..entries.len() as u64).rev().zip(entries) {
        line::encode(text, seq, at, &Body::Appended { entry: entry.clone(), more })?;
        seq += 1;
    }
    Ok(seq)
}
