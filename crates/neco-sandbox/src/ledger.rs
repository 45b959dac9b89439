//! A state and a log of effects that change together.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A state `S` in a JSON file beside a log of effects `E`, one JSON line each.
///
/// A change takes a lock on a file beside the state, so processes that share a root take turns. It is committed by
/// the rename of the state file, which also says how long the log is: a line whose change was cut off before the
/// rename is taken back by the next change. Nothing is synced to the disk, because a sandbox has to survive the
/// death of a process and not that of the machine.
pub struct Ledger<S, E> {
    state: PathBuf,
    log: PathBuf,
    types: PhantomData<fn() -> (S, E)>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<E> {
    /// Counts effects from 1, across processes and simulated reboots.
    pub seq: u64,
    /// When, by the wall clock: microseconds since 1970; 0 when that is not known.
    #[serde(default)]
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub effect: E,
}

/// How an effect was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its number, see [`Entry::seq`].
    pub seq: u64,
    /// When, see [`Entry::at`].
    pub at: u64,
}

/// The effects that one change notes down.
#[derive(Debug)]
pub struct Entries<E> {
    last: u64,
    new: Vec<Entry<E>>,
}

/// Why a ledger cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what this crate writes.
    #[error("{path} is damaged; remove it to begin with an empty sandbox")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    sequence: u64,
    log_bytes: u64,
    state: S,
}

impl<E> Entries<E> {
    /// Notes `effect` down and says as what.
    pub fn note(&mut self, effect: E) -> Noted {
        self.last += 1;
        let at = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros());
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        self.new.push(Entry { seq: self.last, at, effect });
        Noted { seq: self.last, at }
    }
}

impl<S, E> Ledger<S, E>
where
    S: Default + Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    /// A ledger with these files; they need not exist.
    pub fn new(state: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), log: log.into(), types: PhantomData }
    }

    /// The file of the state.
    pub fn state_path(&self) -> &Path {
        &self.state
    }

    /// The file of the log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The state as it is now.
    pub fn read(&self) -> Result<S, LedgerError> {
        Ok(self.saved()?.map(|saved| saved.state).unwrap_or_default())
    }

    /// All effects that were committed, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry<E>>, LedgerError> {
        let committed = self.saved()?.map(|saved| saved.log_bytes);
        let text = match std::fs::read(&self.log) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io("reading", &self.log, source)),
        };
        let end = committed
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map_or(text.len(), |bytes| bytes.min(text.len()));
        text[..end]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line)
                    .map_err(|source| LedgerError::Damaged { path: self.log.clone(), source })
            })
            .collect()
    }

    /// Changes the state and notes effects, as one change; what `change` returns is handed on after it is committed.
    ///
    /// Blocks while another process changes the same ledger.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut S, &mut Entries<E>) -> T,
    ) -> Result<T, LedgerError> {
        for path in [&self.state, &self.log] {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).map_err(|e| io("creating the folder", folder, e))?;
        }
        let _locked = self.lock()?;
        let saved = match self.saved()? {
            Some(saved) => saved,
            None => {
                let entries = self.entries()?;
                Saved {
                    sequence: entries.last().map_or(0, |entry| entry.seq),
                    log_bytes: std::fs::metadata(&self.log).map_or(0, |meta| meta.len()),
                    state: S::default(),
                }
            }
        };
        let mut state = saved.state;
        let mut entries = Entries { last: saved.sequence, new: Vec::new() };
        let result = change(&mut state, &mut entries);
        let log_bytes = self.append(saved.log_bytes, &entries.new)?;
        self.save(&Saved { sequence: entries.last, log_bytes, state })?;
        Ok(result)
    }

    fn saved(&self) -> Result<Option<Saved<S>>, LedgerError> {
        match std::fs::read(&self.state) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| LedgerError::Damaged { path: self.state.clone(), source }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io("reading", &self.state, source)),
        }
    }

    fn lock(&self) -> Result<File, LedgerError> {
        let path = beside(&self.state, "lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| io("opening", &path, e))?;
        file.lock().map_err(|e| io("locking", &path, e))?;
        Ok(file)
    }

    fn append(&self, committed: u64, new: &[Entry<E>]) -> Result<u64, LedgerError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.log)
            .map_err(|e| io("opening", &self.log, e))?;
        let length = file.metadata().map_err(|e| io("reading", &self.log, e))?.len();
        let start = committed.min(length);
        if start < length {
            file.set_len(start).map_err(|e| io("cutting", &self.log, e))?;
        }
        file.seek(SeekFrom::Start(start)).map_err(|e| io("writing", &self.log, e))?;
        let mut text = Vec::new();
        for entry in new {
            serde_json::to_writer(&mut text, entry)
                .map_err(|source| LedgerError::Damaged { path: self.log.clone(), source })?;
            text.push(b'\n');
        }
        file.write_all(&text).map_err(|e| io("writing", &self.log, e))?;
        Ok(start + text.len() as u64)
    }

    fn save(&self, saved: &Saved<S>) -> Result<(), LedgerError> {
        let temporary = beside(&self.state, "new");
        let text = serde_json::to_vec_pretty(saved)
            .map_err(|source| LedgerError::Damaged { path: self.state.clone(), source })?;
        std::fs::write(&temporary, text).map_err(|e| io("writing", &temporary, e))?;
        std::fs::rename(&temporary, &self.state).map_err(|e| io("replacing", &self.state, e))
    }
}

impl<S, E> std::fmt::Debug for Ledger<S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("state", &self.state).field("log", &self.log).finish()
    }
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> LedgerError {
    LedgerError::Io { operation, path: path.to_owned(), source }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Added {
        added: u32,
    }

    fn ledger(root: &Path) -> Ledger<Vec<u32>, Added> {
        Ledger::new(root.join("lib/state.json"), root.join("log/effects.log"))
    }

    fn add(ledger: &Ledger<Vec<u32>, Added>, number: u32) -> u64 {
        ledger
            .update(|state, entries| {
                state.push(number);
                entries.note(Added { added: number }).seq
            })
            .expect("a writable folder")
    }

    /// Number and effect of each line of the log; each has a time that grows.
    fn lines(ledger: &Ledger<Vec<u32>, Added>) -> Vec<(u64, u32)> {
        let log = std::fs::read_to_string(ledger.log_path()).expect("a log");
        assert!(log.ends_with('\n'), "{log}");
        let parse = |line| serde_json::from_str::<Entry<Added>>(line).expect("a whole line");
        let entries: Vec<_> = log.lines().map(parse).collect();
        assert!(entries[0].at > 0 && entries.is_sorted_by_key(|entry| entry.at), "{log}");
        entries.into_iter().map(|entry| (entry.seq, entry.effect.added)).collect()
    }

    #[test]
    fn an_empty_root_has_an_empty_state_and_no_effects() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(ledger(root.path()).read().expect("readable"), Vec::<u32>::new());
        assert_eq!(ledger(root.path()).entries().expect("readable"), Vec::new());
    }

    #[test]
    fn state_and_sequence_go_on_in_another_process() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(add(&ledger(root.path()), 7), 1);
        assert_eq!(add(&ledger(root.path()), 8), 2);
        assert_eq!(ledger(root.path()).read().expect("readable"), vec![7, 8]);
        assert_eq!(lines(&ledger(root.path())), [(1, 7), (2, 8)]);
    }

    #[test]
    fn a_line_whose_change_was_cut_off_is_taken_back() {
        let root = tempfile::tempdir().expect("a folder");
        let ledger = ledger(root.path());
        add(&ledger, 1);
        let mut log = std::fs::read(ledger.log_path()).expect("a log");
        log.extend_from_slice(b"{\"seq\":2,\"added\":99}\n{\"se");
        std::fs::write(ledger.log_path(), log).expect("writable");
        assert_eq!(ledger.entries().expect("readable").len(), 1);
        add(&ledger, 2);
        let added: Vec<u32> =
            ledger.entries().expect("readable").iter().map(|entry| entry.effect.added).collect();
        assert_eq!(added, vec![1, 2]);
        assert_eq!(lines(&ledger), [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_lost_state_does_not_repeat_sequence_numbers() {
        let root = tempfile::tempdir().expect("a folder");
        let ledger = ledger(root.path());
        add(&ledger, 1);
        add(&ledger, 2);
        std::fs::remove_file(ledger.state_path()).expect("removable");
        assert_eq!(add(&ledger, 3), 3);
    }

    #[test]
    fn changes_from_many_threads_are_all_kept() {
        let root = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ledger = ledger(root.path());
                scope.spawn(move || {
                    for number in 0..25 {
                        add(&ledger, thread * 100 + number);
                    }
                });
            }
        });
        let entries = ledger(root.path()).entries().expect("readable");
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, (1..=100).collect::<Vec<u64>>());
        assert_eq!(ledger(root.path()).read().expect("readable").len(), 100);
    }

    #[test]
    fn a_damaged_state_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let ledger = ledger(root.path());
        add(&ledger, 1);
        std::fs::write(ledger.state_path(), "{").expect("writable");
        let error = ledger.read().expect_err("damaged");
        assert!(error.to_string().contains("state.json is damaged"), "{error}");
    }
}
