//! Reading the files of a journal: what is whole, what is damaged, and where the state begins.

use std::io;
use std::path::{Path, PathBuf};

use super::line::{self, Body, Line};
use super::{Damage, DamageKind, Record};
use crate::error::Doing;
use crate::{FileError, FileSystem};

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".jsonl";

/// The path of the segment whose first line has this sequence number.
pub(super) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{first:020}{SUFFIX}"))
}

/// A segment's place on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) first: u64,
}

/// The segments of a journal, oldest first. A directory that is not there holds none.
pub(super) fn places(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<Place>, FileError> {
    let names = match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.doing("listing", dir)?,
    };
    let mut places: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let digits = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
            Some(Place { path: dir.join(name), first: digits.parse().ok()? })
        })
        .collect();
    places.sort_unstable_by_key(|place| place.first);
    Ok(places)
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) place: Place,
    /// The lines that are whole, with their number in the file.
    pub(super) lines: Vec<(usize, Line)>,
    pub(super) damage: Vec<Damage>,
    /// Bytes up to the last line feed: what follows is no line.
    pub(super) whole_len: u64,
    /// Bytes on disk.
    pub(super) len: u64,
    /// Bytes that are not the checkpoint's.
    pub(super) appended_len: u64,
    /// The sequence number that the next line may have.
    pub(super) next_seq: u64,
}

/// What a segment was before a batch.
#[derive(Clone, Copy)]
struct BatchStart {
    number: usize,
    lines: usize,
    whole_len: u64,
    appended_len: u64,
    next_seq: u64,
}

impl Segment {
    /// Reads a segment.
    ///
    /// # Errors
    /// The file cannot be read: what it holds is not known then, and may well be good.
    pub(super) fn read(fs: &dyn FileSystem, place: Place) -> Result<Self, FileError> {
        let bytes = fs.read(&place.path).doing("reading", &place.path)?;
        let mut segment = Self::empty(place);
        segment.parse(&bytes);
        Ok(segment)
    }

    /// The same for a report, where a file that cannot be read counts as damage.
    fn read_for_report(fs: &dyn FileSystem, place: Place) -> Self {
        Self::read(fs, place.clone()).unwrap_or_else(|error| {
            let mut segment = Self::empty(place);
            segment.damaged(0, DamageKind::Unreadable(error.source.to_string()));
            segment
        })
    }

    fn empty(place: Place) -> Self {
        Self {
            lines: Vec::new(),
            damage: Vec::new(),
            whole_len: 0,
            len: 0,
            appended_len: 0,
            next_seq: place.first,
            place,
        }
    }

    fn parse(&mut self, bytes: &[u8]) {
        self.len = bytes.len() as u64;
        if bytes.is_empty() {
            self.damaged(0, DamageKind::Empty);
        }
        // Where the batch that has not ended yet began.
        let mut batch: Option<BatchStart> = None;
        for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            let Some(body) = line.strip_suffix(b"\n") else {
                self.damaged(number, DamageKind::Truncated);
                break;
            };
            let start = BatchStart {
                number,
                lines: self.lines.len(),
                whole_len: self.whole_len,
                appended_len: self.appended_len,
                next_seq: self.next_seq,
            };
            self.whole_len += line.len() as u64;
            match line::decode(body) {
                Ok(line) if line.seq < self.next_seq => {
                    self.damaged(number, DamageKind::Repeated { seq: line.seq });
                }
                Ok(read) => {
                    // Each damaged line before has moved `next_seq` on by one.
                    if read.seq > self.next_seq {
                        let (from, to) = (self.next_seq, read.seq - 1);
                        self.damaged(number, DamageKind::Missing { from, to });
                    }
                    if let Body::Appended { more, .. } = read.body {
                        self.appended_len += line.len() as u64;
                        batch = (more > 0).then(|| batch.unwrap_or(start));
                    }
                    self.next_seq = read.seq + 1;
                    self.lines.push((number, read));
                }
                Err(kind) => {
                    // Whether the batch went on cannot be told: what can be read of it counts.
                    batch = None;
                    self.damaged(number, kind);
                    self.next_seq += 1;
                    self.appended_len += line.len() as u64;
                }
            }
        }
        if let Some(start) = batch {
            self.lines.truncate(start.lines);
            self.whole_len = start.whole_len;
            self.appended_len = start.appended_len;
            self.next_seq = start.next_seq;
            self.damage.retain(|damage| damage.kind != DamageKind::Truncated);
            self.damaged(start.number, DamageKind::Truncated);
        }
    }

    pub(super) fn damaged(&mut self, line: usize, kind: DamageKind) {
        self.damage.push(Damage { file: self.place.path.clone(), line, kind });
    }

    fn is_unreadable(&self) -> bool {
        self.damage.iter().any(|damage| matches!(damage.kind, DamageKind::Unreadable(_)))
    }

    /// Whether everything before this segment is unneeded: its checkpoint is whole.
    pub(super) fn has_whole_checkpoint(&self) -> bool {
        let Some((1, Line { body: Body::Head { kept }, .. })) = self.lines.first() else {
            return false;
        };
        // The checkpoint's lines follow the head without a gap.
        let whole = (2..)
            .zip(&self.lines[1..])
            .take_while(|(number, (at, line))| number == at && matches!(line.body, Body::Kept(_)))
            .count();
        whole as u64 == *kept
    }

    /// The records: those appended here, and those of the checkpoint if `with_kept`.
    pub(super) fn records(self, with_kept: bool) -> impl Iterator<Item = Record> {
        self.lines.into_iter().filter_map(move |(_, line)| match line.body {
            Body::Appended { entry, .. } => Some(Record { seq: line.seq, at: line.at, entry }),
            Body::Kept(entry) if with_kept => Some(Record { seq: line.seq, at: line.at, entry }),
            Body::Kept(_) | Body::Head { .. } => None,
        })
    }
}

/// The records from which the present state follows: from the newest whole checkpoint on. Without one, everything
/// that is left.
///
/// # Errors
/// One of the files cannot be read, so nobody knows what follows.
pub(super) fn state_records(
    fs: &dyn FileSystem,
    places: Vec<Place>,
) -> Result<Vec<Record>, FileError> {
    let mut read = Vec::new();
    for place in places.into_iter().rev() {
        let segment = Segment::read(fs, place)?;
        let begins_here = segment.has_whole_checkpoint();
        read.push(segment);
        if begins_here {
            break;
        }
    }
    let mut segments = read.into_iter().rev();
    let first = segments.next().into_iter().flat_map(|segment| segment.records(true));
    Ok(first.chain(segments.flat_map(|segment| segment.records(false))).collect())
}

/// The damage in these segments, between them included.
pub(super) fn damage(fs: &dyn FileSystem, places: &[Place]) -> Vec<Damage> {
    let mut damage = Vec::new();
    each(fs, places, |mut segment| damage.append(&mut segment.damage));
    damage
}

/// Reads the segments one after another, marking what is missing between two of them, and before the oldest if it does
/// not begin with all that follows from those before it. What a file that cannot be read holds is not known: it may be
/// what would be missing.
pub(super) fn each(fs: &dyn FileSystem, places: &[Place], mut see: impl FnMut(Segment)) {
    let mut expected = Some(1);
    for (at, place) in places.iter().enumerate() {
        let mut segment = Segment::read_for_report(fs, place.clone());
        let stands_alone = at == 0 && segment.has_whole_checkpoint();
        let missing = expected
            .filter(|&from| from < place.first && !stands_alone && !segment.is_unreadable());
        if let Some(from) = missing {
            segment.damaged(0, DamageKind::Missing { from, to: place.first - 1 });
        }
        expected = (!segment.is_unreadable()).then_some(segment.next_seq);
        see(segment);
    }
}
