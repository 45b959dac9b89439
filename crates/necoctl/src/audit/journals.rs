//! The journals of servers: that of this one, and copies of others.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use neco_connect::one_line as chain;
use neco_host::journal::{DIRECTORY, Damage, DamageKind, read_all};
use neco_host::{Root, identity};
use neco_plan::invariants::{JournalLine, part_of};
use neco_process::exit::{ExitCode, Failure};
use neco_process::under;
use neco_schema::Lrn;
use neco_schema::journal::Mark;

use crate::failure;
use crate::words::one_line;

/// What is asked for.
const COPY: &str = "give a copy of the directory /var/lib/neco/journal of that server";

/// What keeps a journal from being read, mostly.
const MAY_READ: &str = "run this as a user who may read it";

/// The journal of a server.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Whose it is.
    pub lrn: Lrn,
    /// Where it lies.
    pub dir: PathBuf,
    /// Its lines; none if they are not to be judged.
    pub lines: Vec<JournalLine>,
    /// Where the part begins that was written in this etcd.
    pub begin: usize,
    /// What is worth knowing of it.
    pub notes: Vec<String>,
    /// Why it cannot be trusted.
    pub fault: Option<String>,
}

/// The journals that there are to judge.
#[derive(Clone, Debug, Default)]
pub struct Journals {
    /// Those that were read, by server.
    pub read: Vec<Journal>,
    /// That of the server this runs on, if it may not be read: its number and where it lies.
    pub forbidden: Option<(Lrn, PathBuf)>,
}

/// A server, and where a copy of its journal lies: `LRN=DIR`.
///
/// # Errors
/// It is something else.
pub fn argument(text: &str) -> Result<(Lrn, PathBuf), String> {
    let wanted = "write the number of the server and the directory, such as 1=/tmp/journal-1";
    let (lrn, dir) = text.split_once('=').ok_or(wanted)?;
    let digits = !lrn.is_empty() && lrn.bytes().all(|byte| byte.is_ascii_digit());
    let lrn = lrn.parse().ok().filter(|_| digits).ok_or(wanted)?;
    if dir.is_empty() {
        return Err(wanted.to_owned());
    }
    Ok((Lrn::new(lrn), PathBuf::from(dir)))
}

/// Reads the journal of the server below `root`, if it is one and no copy of its own was given, and the given copies.
/// Nobody asked for its own one: without the right to read it there is one less to judge.
///
/// # Errors
/// One of them cannot be read, or a server is named twice.
pub fn read(root: &Path, given: &[(Lrn, PathBuf)]) -> Result<Journals, Failure> {
    let mut journals: Vec<Journal> = Vec::new();
    let mut forbidden = None;
    for (lrn, dir) in given {
        if journals.iter().any(|journal| journal.lrn == *lrn) {
            let what =
                format!("--journal {lrn}={}: boot server {lrn} is named twice", dir.display());
            return Err(failure::usage(one_line(&what)).with_hint("give each server once"));
        }
        if !dir.is_dir() {
            return Err(Unreadable::new(*lrn, dir, "it is no directory").failure(COPY));
        }
        let journal = Journal::read(*lrn, dir.clone()).map_err(|error| error.failure(MAY_READ))?;
        if journal.is_empty() {
            return Err(Unreadable::new(*lrn, dir, "there is no journal in it").failure(COPY));
        }
        if let Some(twin) = journals.iter().find(|other| other.is_twin_of(&journal)) {
            let what = format!(
                "{} and {} hold the journal of one server, which cannot be that of {} and of {lrn}",
                twin.dir.display(),
                dir.display(),
                twin.lrn,
            );
            return Err(failure::usage(one_line(&what)));
        }
        journals.push(journal);
    }
    let own = Root::new(root).ok().and_then(|root| identity::lrn(&root).ok());
    if let Some(lrn) = own.filter(|lrn| journals.iter().all(|journal| journal.lrn != *lrn)) {
        let dir = under(root, Path::new(DIRECTORY));
        match Journal::read(lrn, dir.clone()) {
            Ok(journal) if journal.is_empty() => {}
            Ok(journal) => journals.push(journal),
            Err(error) if error.is_forbidden() => forbidden = Some((lrn, dir)),
            Err(error) => return Err(error.failure(MAY_READ)),
        }
    }
    journals.sort_by_key(|journal| journal.lrn);
    Ok(Journals { read: journals, forbidden })
}

impl Journal {
    /// Whether both are copies of one journal, the one perhaps older than the other.
    fn is_twin_of(&self, other: &Self) -> bool {
        let (one, two) = (&self.lines, &other.lines);
        let is_told = !one.is_empty() && !two.is_empty();
        is_told && (one.starts_with(two) || two.starts_with(one))
    }

    /// Whether nothing was ever written there.
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.notes.is_empty() && self.fault.is_none()
    }

    fn read(lrn: Lrn, dir: PathBuf) -> Result<Self, Unreadable> {
        let (records, damage) =
            read_all(&dir).map_err(|error| Unreadable::new(lrn, &dir, chain(&error)))?;
        let mut journal = Self {
            lrn,
            dir,
            lines: Vec::with_capacity(records.len()),
            begin: 0,
            notes: Vec::new(),
            fault: None,
        };
        let lines = records.into_iter().map(|record| (record.seq, record.entry));
        journal.lines.extend(lines.map(|(seq, entry)| JournalLine { seq, entry }));
        journal.look_at(&damage)?;
        Ok(journal)
    }

    /// A line that is cut off was never acknowledged; whatever else is missing may be what counts.
    fn look_at(&mut self, damage: &[Damage]) -> Result<(), Unreadable> {
        let lrn = self.lrn;
        for damage in damage {
            let what = one_line(&damage.to_string());
            match &damage.kind {
                DamageKind::Truncated => self.notes.push(what),
                DamageKind::Unreadable(why) => {
                    return Err(Unreadable::new(lrn, &damage.file, why));
                }
                DamageKind::Unknown(_) => {
                    self.lines.clear();
                    self.notes.push(format!("not judged: {what}; ask the necoctl of that version"));
                }
                DamageKind::Empty
                | DamageKind::Checksum
                | DamageKind::Missing { .. }
                | DamageKind::Repeated { .. } => {
                    self.lines.clear();
                    self.fault.get_or_insert_with(|| {
                        format!(
                            "the journal of boot server {lrn} is damaged and was not judged: {what}; \
                             look after its disk"
                        )
                    });
                }
            }
        }
        Ok(())
    }

    /// Finds out what of it was written in the etcd that was `found`.
    pub fn place(&mut self, found: Mark) {
        match part_of(&self.lines, found) {
            Ok(begin) => {
                self.begin = begin;
                if begin > 0 {
                    self.notes.push(format!(
                        "{begin} lines are older than the last time etcd was restored or replaced"
                    ));
                }
            }
            Err(other) => {
                self.lines.clear();
                let lrn = self.lrn;
                self.fault.get_or_insert_with(|| {
                    format!("the journal of boot server {lrn} was not judged: {other}")
                });
            }
        }
    }
}

/// A journal that cannot be read.
#[derive(Debug)]
struct Unreadable {
    lrn: Lrn,
    /// The file or directory that cannot.
    path: PathBuf,
    why: String,
}

impl Unreadable {
    fn new(lrn: Lrn, path: &Path, why: impl std::fmt::Display) -> Self {
        Self { lrn, path: path.to_owned(), why: why.to_string() }
    }

    /// Whether it is for want of permission.
    fn is_forbidden(&self) -> bool {
        File::open(&self.path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    fn failure(self, hint: &'static str) -> Failure {
        let Self { lrn, path, why } = self;
        let path = path.display();
        let what = format!("the journal of boot server {lrn} cannot be read: {path}: {why}");
        Failure::new(ExitCode::No, anyhow!(one_line(&what))).with_hint(hint)
    }
}
