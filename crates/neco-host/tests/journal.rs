//! The journal on a real disk: what it says after crashes, damage, rotation, full disks and other writers.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neco_host::fs::{Fault, PowerCut, RecordingFs};
use neco_host::journal::{DamageKind, Options, Record, in_brief, read_all};
use neco_host::{Journal, JournalError, JournalStore};
use neco_schema::Timestamp;
use neco_schema::journal::Entry;

fn entry(number: usize) -> Entry {
    Entry::PlannedExit { why: format!("entry {number}") }
}

fn numbers(records: &[Record]) -> Vec<usize> {
    records
        .iter()
        .map(|record| match &record.entry {
            Entry::PlannedExit { why } => {
                why.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
            }
            other => panic!("not written by this test: {other:?}"),
        })
        .collect()
}

/// The state of these tests is the last three entries.
fn options() -> Options {
    let keep = |records: &[Record]| -> Vec<Entry> {
        records[records.len().saturating_sub(3)..].iter().map(|r| r.entry.clone()).collect()
    };
    Options {
        lock_within: Duration::from_millis(50),
        ..Options::new(Arc::new(|| Timestamp::from_unix(1_800_000_000)), Arc::new(keep))
    }
}

fn open(dir: &Path) -> (Journal, Vec<Record>) {
    let (journal, records, damage) = Journal::open(dir, options()).expect("a journal");
    assert_eq!(damage, [], "no damage");
    (journal, records)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    paths
}

fn append_raw(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).expect("a segment");
    file.write_all(bytes).expect("room");
}

#[test]
fn entries_come_back_in_order_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = dir.path().join("var/lib/journal");
    let (journal, records) = open(&inner);
    assert!(records.is_empty());
    journal.append(&entry(0)).expect("room");
    journal.append_all(&[entry(1), entry(2)]).expect("room");
    assert_eq!(numbers(&journal.entries().expect("readable")), [0, 1, 2]);
    let (journal, records) = open(&inner);
    assert_eq!(numbers(&records), [0, 1, 2]);
    assert_eq!(records[0].at, Timestamp::from_unix(1_800_000_000));
    journal.append(&entry(3)).expect("room");
    assert_eq!(numbers(&read_all(&inner).expect("readable").0), [0, 1, 2, 3]);
    let seqs: Vec<_> = journal.entries().expect("readable").iter().map(|r| r.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}

#[test]
fn an_append_is_durable_before_it_returns() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RecordingFs::new());
    let options = Options { fs: Arc::clone(&fs) as _, ..options() };
    let (journal, ..) = Journal::open(dir.path().join("journal"), options).expect("a journal");
    assert_eq!(fs.names(), ["create-dir", "sync-dir"]);
    fs.clear();
    journal.append(&entry(0)).expect("room");
    assert_eq!(fs.names(), ["create", "write", "set-mode", "sync", "rename", "sync-dir"]);
    fs.clear();
    journal.append_all(&[entry(1), entry(2)]).expect("room");
    assert_eq!(fs.names(), ["write", "sync"], "one sync for both");
}

#[test]
fn a_note_waits_for_no_disk_and_is_durable_with_what_is_appended_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RecordingFs::new());
    let options = Options { fs: Arc::clone(&fs) as _, segment_bytes: 300, ..options() };
    let path = dir.path().join("journal");
    let (journal, ..) = Journal::open(&path, options.clone()).expect("a journal");
    journal.append(&entry(0)).expect("room");
    fs.clear();
    journal.note(&[entry(1)]).expect("room");
    assert_eq!(fs.names(), ["write"]);
    let (_, records, damage) = Journal::open(&path, options).expect("a journal");
    assert_eq!((numbers(&records), damage), (vec![0, 1], vec![]), "a crash loses nothing");
    fs.clear();
    // The segment is full by now: a power cut must not leave a gap before the next one.
    journal.note(&[entry(2)]).expect("room");
    journal.append(&entry(3)).expect("room");
    let names = fs.names();
    let first = |wanted: &str| names.iter().position(|name| *name == wanted);
    assert!(first("sync") < first("create"), "{names:?}");
}

/// The worker notes, and the unit that installs the package begins the next segment.
#[test]
fn a_power_cut_leaves_no_gap_before_a_segment_that_another_process_begins() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("journal");
    let fs = Arc::new(RecordingFs::new());
    let limits = |options| Options { segment_bytes: 700, ..options };
    let open = || {
        let options = limits(Options { fs: Arc::clone(&fs) as _, ..options() });
        Journal::open(&path, options).expect("a journal").0
    };
    let (noter, other) = (open(), open());
    for number in 0..30 {
        match number % 3 {
            0 => other.append(&entry(number)).expect("room"),
            _ => noter.note(&[entry(number)]).expect("room"),
        }
    }
    assert!(segments(&path).len() > 3, "both filled segments");
    let cut_at_once = |cut| {
        for calls in 0..=fs.calls().len() {
            let left = tempfile::tempdir().expect("a directory");
            for (path, content) in fs.after_power_cut(calls, cut) {
                std::fs::write(left.path().join(path.file_name().expect("a file")), content)
                    .expect("room");
            }
            let (_, _, damage) = Journal::open(left.path(), limits(options())).expect("a journal");
            let gap =
                damage.iter().find(|damage| matches!(damage.kind, DamageKind::Missing { .. }));
            assert_eq!(gap, None, "{cut:?} after {calls} changes");
        }
    };
    cut_at_once(PowerCut::LosesAllUnsynced);
    cut_at_once(PowerCut::KeepsNames);
}

/// A bad place in the old segment, of which nothing more is asked.
#[test]
fn a_segment_that_cannot_be_synced_is_followed_by_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RecordingFs::new());
    let options = Options { fs: Arc::clone(&fs) as _, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
    journal.append(&entry(0)).expect("room");
    for number in [1, 2] {
        fs.clear();
        // Extending: write, sync. Beginning the next: sync of the old one, and all else.
        let nth = usize::from(number == 1);
        fs.set_fault(Some(Fault::Once { nth, errno: nix::libc::EIO }));
        let done = journal.append(&entry(number));
        assert_eq!(done.is_ok(), number == 2, "{done:?}");
    }
    fs.set_fault(None);
    assert_eq!(fs.names()[..2], ["sync", "create"]);
    assert_eq!(segments(dir.path()).len(), 2);
    assert_eq!(numbers(&journal.entries().expect("readable")), [0, 2]);
}

#[test]
fn a_line_that_is_cut_off_is_named_and_removed_by_the_next_append() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    journal.append_all(&[entry(0), entry(1)]).expect("room");
    let path = segments(dir.path()).remove(0);
    let whole = std::fs::read(&path).expect("a segment");
    let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').expect("lines") + 1;
    // Every length of an entry whose end is missing, that of all but the line feed included.
    for cut in 1..whole.len() - last {
        std::fs::write(&path, &whole[..last + cut]).expect("room");
        let (journal, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
        // Both were written at once: one without the other does not count.
        assert_eq!(numbers(&records), [] as [usize; 0], "cut at {cut}");
        let [damage] = &damage[..] else { panic!("one damage: {damage:?}") };
        assert_eq!((&damage.file, damage.line), (&path, 2));
        assert_eq!(damage.kind, DamageKind::Truncated);
        assert!(damage.to_string().contains(&format!("{}:2: ", path.display())), "{damage}");
        journal.append(&entry(7)).expect("room");
        let (_, records) = open(dir.path());
        assert_eq!(numbers(&records), [7], "cut at {cut}");
    }
}

#[test]
fn a_corrupted_line_is_named_and_the_rest_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    for number in 0..5 {
        journal.append(&entry(number)).expect("room");
    }
    let path = segments(dir.path()).remove(0);
    let text = std::fs::read_to_string(&path).expect("a segment");
    std::fs::write(&path, text.replace("entry 2", "entry 9")).expect("room");
    let (journal, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert_eq!(numbers(&records), [0, 1, 3, 4]);
    assert_eq!(damage.len(), 1, "{damage:?}");
    // The first line is the segment's head.
    assert_eq!((&damage[0].file, damage[0].line), (&path, 4));
    assert_eq!(damage[0].kind, DamageKind::Checksum);
    journal.append(&entry(5)).expect("room");
    assert_eq!(numbers(&journal.entries().expect("readable")), [0, 1, 3, 4, 5]);
}

#[test]
fn lost_and_repeated_lines_are_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    for number in 0..5 {
        journal.append(&entry(number)).expect("room");
    }
    let path = segments(dir.path()).remove(0);
    let text = std::fs::read_to_string(&path).expect("a segment");
    let mut lines: Vec<_> = text.lines().collect();
    let second = lines[2];
    lines.drain(2..4);
    lines.push(second);
    std::fs::write(&path, lines.join("\n") + "\n").expect("room");
    let (_, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert_eq!(numbers(&records), [0, 3, 4]);
    let kinds: Vec<_> = damage.iter().map(|damage| damage.kind.clone()).collect();
    assert_eq!(
        kinds,
        [DamageKind::Missing { from: 3, to: 4 }, DamageKind::Repeated { seq: 3 }],
        "head is 1, entry 0 is 2"
    );
}

#[test]
fn garbage_of_any_kind_costs_only_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    journal.append(&entry(0)).expect("room");
    let path = segments(dir.path()).remove(0);
    append_raw(&path, b"\n{}\nnull\n\xff\xfe\n");
    append_raw(&path, &[0; 4096]);
    let (journal, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert_eq!(numbers(&records), [0]);
    assert_eq!(damage.len(), 5, "four lines and a tail without end: {damage:?}");
    journal.append(&entry(1)).expect("room");
    assert_eq!(numbers(&journal.entries().expect("readable")), [0, 1]);
    std::fs::remove_file(&path).expect("there");
    std::fs::create_dir(&path).expect("room");
    let (_, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert!(records.is_empty());
    assert!(matches!(damage[0].kind, DamageKind::Unreadable(_)), "{damage:?}");
}

#[test]
fn a_file_that_lost_everything_is_named_and_taken_up_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    journal.append(&entry(0)).expect("room");
    std::fs::write(segments(dir.path()).remove(0), "").expect("room");
    let (journal, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert!(records.is_empty());
    assert_eq!(damage.len(), 1);
    assert_eq!((damage[0].line, &damage[0].kind), (0, &DamageKind::Empty));
    journal.append(&entry(1)).expect("room");
    let (_, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert_eq!((numbers(&records), damage), (vec![1], vec![]));
}

#[test]
fn damage_of_one_kind_is_told_once_for_each_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    journal.append(&entry(0)).expect("room");
    let path = segments(dir.path()).remove(0);
    append_raw(&path, b"x\ny\nz\ncut");
    let (_, _, damage) = Journal::open(dir.path(), options()).expect("a journal");
    let brief = in_brief(&damage);
    assert_eq!(brief.len(), 2, "{brief:?}");
    assert!(brief[0].contains("checksum") && brief[0].ends_with("2 more times in this file"));
    assert!(brief[1].contains("cut off") && !brief[1].contains("more times"), "{brief:?}");
}

#[test]
fn a_full_segment_gives_way_to_one_that_begins_with_a_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options { segment_bytes: 1000, segments: 3, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options()).expect("a journal");
    for number in 0..100 {
        journal.append(&entry(number)).expect("room");
        let state = numbers(&journal.entries().expect("readable"));
        assert_eq!(state.last(), Some(&number));
        let from = number.saturating_sub(2);
        assert!(state.ends_with(&(from..=number).collect::<Vec<_>>()), "{state:?}");
        assert!(segments(dir.path()).len() <= 3);
    }
    assert_eq!(segments(dir.path()).len(), 3);
    let (all, damage) = read_all(dir.path()).expect("readable");
    assert_eq!(damage, [], "old segments that are gone are no damage");
    let all = numbers(&all);
    assert_eq!(all, (100 - all.len()..100).collect::<Vec<_>>(), "no entry twice, none missing");
    let (_, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
    assert_eq!(damage, []);
    assert_eq!(records, journal.entries().expect("readable"));
}

#[test]
fn what_is_read_begins_with_what_follows_from_the_segments_that_are_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        segment_bytes: 600,
        segments: 3,
        checkpoint: Arc::new(|_| vec![entry(7000)]),
        ..options()
    };
    let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
    for number in 0..40 {
        journal.append(&entry(number)).expect("room");
    }
    let (records, damage) = read_all(dir.path()).expect("readable");
    assert_eq!(damage, []);
    let found = numbers(&records);
    assert_eq!(found[0], 7000);
    assert_eq!(found[1..], (41 - found.len()..40).collect::<Vec<_>>());

    let oldest = segments(dir.path()).remove(0);
    let text = std::fs::read_to_string(&oldest).expect("a segment");
    let second = text.find('\n').expect("lines");
    std::fs::write(&oldest, format!("{{}}{}", &text[second..])).expect("room");
    let (_, damage) = read_all(dir.path()).expect("readable");
    let first: u64 = oldest
        .file_stem()
        .and_then(|stem| stem.to_str()?.strip_prefix("journal-")?.parse().ok())
        .expect("a number");
    let missing = DamageKind::Missing { from: 1, to: first - 1 };
    assert!(damage.iter().any(|damage| damage.kind == missing), "{damage:?}");
}

#[test]
fn of_a_file_that_cannot_be_read_nothing_is_said_to_be_missing() {
    for unreadable in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { segment_bytes: 600, segments: 3, ..options() };
        let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
        for number in 0..40 {
            journal.append(&entry(number)).expect("room");
        }
        let path = segments(dir.path()).remove(unreadable);
        std::fs::remove_file(&path).expect("there");
        std::fs::create_dir(&path).expect("room");
        let (_, damage) = read_all(dir.path()).expect("readable");
        let [damage] = &damage[..] else { panic!("one damage: {damage:?}") };
        assert_eq!(damage.file, path);
        assert!(matches!(damage.kind, DamageKind::Unreadable(_)), "{damage}");
    }
}

#[test]
fn a_journal_can_be_read_while_it_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { segment_bytes: 2000, segments: 4, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..300 {
                journal.append(&entry(number)).expect("room");
            }
        });
        while !writer.is_finished() {
            let (records, damage) = read_all(dir.path()).expect("readable");
            let harmless =
                |damage: &neco_host::journal::Damage| matches!(damage.kind, DamageKind::Truncated);
            assert!(damage.iter().all(harmless), "{damage:?}");
            assert!(numbers(&records).is_sorted_by(|a, b| a + 1 == *b), "{records:?}");
        }
    });
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options { segment_bytes: 600, segments: 3, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options()).expect("a journal");
    for number in 0..20 {
        journal.append(&entry(number)).expect("room");
    }
    let before = numbers(&journal.entries().expect("readable"));
    let newest = segments(dir.path()).pop().expect("segments");
    let text = std::fs::read_to_string(&newest).expect("a segment");
    let lines: Vec<_> = text.lines().collect();
    // Each line of the checkpoint, the head among them.
    for bad in 0..4 {
        let mut lines = lines.clone();
        lines[bad] = "{}";
        std::fs::write(&newest, lines.join("\n") + "\n").expect("room");
        let (_, records, damage) = Journal::open(dir.path(), options()).expect("a journal");
        let after = numbers(&records);
        assert!(
            after.len() > before.len() && after.ends_with(&before[..]),
            "line {bad}: {after:?}"
        );
        assert!(after.is_sorted_by(|a, b| a < b), "nothing counts twice: {after:?}");
        assert_eq!(damage.len(), 1, "{damage:?}");
    }
}

#[test]
fn entries_that_a_full_or_read_only_disk_refused_never_count() {
    for errno in [nix::libc::ENOSPC, nix::libc::EROFS, nix::libc::EIO] {
        for lasting in [false, true] {
            for nth in 0..8 {
                let dir = tempfile::tempdir().expect("a directory");
                let fs = Arc::new(RecordingFs::new());
                let options = Options {
                    fs: Arc::clone(&fs) as _,
                    segment_bytes: 700,
                    segments: 1000,
                    ..options()
                };
                let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
                let mut good = Vec::new();
                for number in 0..14 {
                    // Every other append meets a fault, in the places of extending and of rotating.
                    fs.clear();
                    fs.set_fault((number % 2 == 1).then_some(if lasting {
                        Fault::From { nth, errno }
                    } else {
                        Fault::Once { nth, errno }
                    }));
                    match journal.append_all(&[entry(2 * number), entry(2 * number + 1)]) {
                        Ok(()) => good.extend([2 * number, 2 * number + 1]),
                        Err(error) => {
                            let file = error.file().expect("a file operation");
                            assert_eq!(file.source.raw_os_error(), Some(errno));
                            assert_eq!(file.is_full(), errno == nix::libc::ENOSPC);
                            assert_eq!(file.is_read_only(), errno == nix::libc::EROFS);
                        }
                    }
                }
                fs.set_fault(None);
                let (records, _) = read_all(dir.path()).expect("readable");
                let found = numbers(&records);
                let context = format!("errno {errno}, change {nth}, lasting {lasting}");
                let lost: Vec<_> = good.iter().filter(|n| !found.contains(n)).collect();
                // What was refused may stand there whole only if even taking it back failed.
                let extra: Vec<_> = found.iter().filter(|n| !good.contains(n)).collect();
                assert!(lost.is_empty(), "{context}: lost {lost:?}");
                assert!(lasting || extra.is_empty(), "{context}: refused and there: {extra:?}");
                assert!(extra.len().is_multiple_of(2), "{context}: half a batch: {extra:?}");
                journal.append(&entry(1000)).expect("room again");
                assert_eq!(numbers(&journal.entries().expect("readable")).last(), Some(&1000));
            }
        }
    }
}

/// What stands there was acknowledged: its numbers must not be given again, nor may it be cut off or left out of a
/// checkpoint.
#[test]
fn a_segment_that_cannot_be_read_takes_no_entry_and_loses_none() {
    for errno in [nix::libc::EIO, nix::libc::EMFILE] {
        for segment_bytes in [1 << 20, 1] {
            let dir = tempfile::tempdir().expect("a directory");
            let fs = Arc::new(RecordingFs::new());
            let options = || Options { fs: Arc::clone(&fs) as _, segment_bytes, ..options() };
            let open = || Journal::open(dir.path(), options()).expect("a journal");
            let (first, ..) = open();
            first.append_all(&[entry(0), entry(1)]).expect("room");
            let (second, ..) = open();
            fs.fail_reads(Some(errno));
            let (third, records, damage) = open();
            assert!(records.is_empty() && matches!(damage[0].kind, DamageKind::Unreadable(_)));
            fs.clear();
            let error = third.entries().expect_err("nobody knows");
            assert_eq!(error.file().expect("a file").source.raw_os_error(), Some(errno));
            for journal in [&second, &third] {
                let error = journal.append(&entry(7)).expect_err("nobody knows where");
                assert_eq!(error.file().expect("a file").source.raw_os_error(), Some(errno));
            }
            assert_eq!(fs.names(), [""; 0], "nothing was changed");
            fs.fail_reads(None);
            for (journal, number) in [(&second, 2), (&third, 3)] {
                journal.append(&entry(number)).expect("room");
            }
            let (records, damage) = read_all(dir.path()).expect("readable");
            assert_eq!(numbers(&records), [0, 1, 2, 3]);
            assert_eq!(damage, []);
            let last = [1, 2, 3];
            assert!(numbers(&first.entries().expect("readable")).ends_with(&last));
        }
    }
}

/// Rotation reads all that is still open, also for a process that knows where the journal ends.
#[test]
fn a_segment_that_cannot_be_read_is_not_followed_by_one_without_its_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RecordingFs::new());
    let options = Options { fs: Arc::clone(&fs) as _, segment_bytes: 1, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
    journal.append_all(&[entry(0), entry(1)]).expect("room");
    fs.fail_reads(Some(nix::libc::EIO));
    journal.append(&entry(2)).expect_err("nobody knows what is open");
    assert_eq!(segments(dir.path()).len(), 1);
    fs.fail_reads(None);
    journal.append(&entry(2)).expect("room");
    assert_eq!(numbers(&journal.entries().expect("readable")), [0, 1, 2]);
}

#[test]
fn the_remedy_stands_in_the_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RecordingFs::new());
    let options = Options { fs: Arc::clone(&fs) as _, ..options() };
    let (journal, ..) = Journal::open(dir.path(), options).expect("a journal");
    fs.set_fault(Some(Fault::From { nth: 0, errno: nix::libc::ENOSPC }));
    let error = journal.append(&entry(0)).expect_err("full");
    let file = error.file().expect("a file operation").to_string();
    assert!(file.contains("free space") && file.contains(&dir.path().display().to_string()));
}

#[test]
fn several_writers_lose_nothing_and_see_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options {
        segment_bytes: 2000,
        segments: 1000,
        lock_within: Duration::from_secs(60),
        ..options()
    };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = dir.path().to_owned();
            scope.spawn(move || {
                let (journal, ..) = Journal::open(dir, options()).expect("a journal");
                for number in 0..50 {
                    journal.append(&entry(writer * 50 + number)).expect("room");
                }
            });
        }
    });
    let (records, damage) = read_all(dir.path()).expect("readable");
    assert_eq!(damage, []);
    let mut found = numbers(&records);
    for writer in 0..4 {
        let own: Vec<_> = found.iter().filter(|&&n| n / 50 == writer).collect();
        assert!(own.is_sorted(), "each writer's entries are in its order");
    }
    found.sort_unstable();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    assert!(segments(dir.path()).len() > 5, "there was rotation under way");
}

#[test]
fn a_lock_that_another_process_keeps_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    let path = dir.path().join("lock");
    let holder = std::fs::File::open(&path).expect("the lock file");
    holder.lock().expect("free");
    let error = journal.append(&entry(0)).expect_err("held");
    assert!(matches!(&error, JournalError::Locked { path: named, .. } if *named == path));
    assert!(error.to_string().contains("fuser"), "{error}");
    drop(holder);
    journal.append(&entry(0)).expect("free again");
}

#[test]
fn a_power_cut_at_any_change_loses_no_acknowledged_entry_and_halves_no_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("var/journal");
    let fs = Arc::new(RecordingFs::new());
    let limits = |options| Options { segment_bytes: 700, segments: 2, ..options };
    let recorded = limits(Options { fs: Arc::clone(&fs) as _, ..options() });
    let (journal, ..) = Journal::open(&dir, recorded).expect("a journal");
    // How many changes had been made when as many entries were acknowledged.
    let mut acknowledged = vec![(fs.calls().len(), 0)];
    for number in 0..20 {
        if number % 2 == 1 {
            journal.note(&[entry(2 * number), entry(2 * number + 1)]).expect("room");
            continue;
        }
        journal.append_all(&[entry(2 * number), entry(2 * number + 1)]).expect("room");
        acknowledged.push((fs.calls().len(), 2 * number + 2));
    }
    assert!(fs.names().iter().filter(|name| **name == "remove").count() > 3, "segments went");
    for cut in [PowerCut::LosesAllUnsynced, PowerCut::KeepsNames] {
        for calls in 0..=fs.calls().len() {
            let left = tempfile::tempdir().expect("a directory");
            for (path, content) in fs.after_power_cut(calls, cut) {
                std::fs::write(left.path().join(path.file_name().expect("a file")), content)
                    .expect("room");
            }
            let (journal, records, _) =
                Journal::open(left.path(), limits(options())).expect("a journal");
            let found = numbers(&records);
            let sure = acknowledged.iter().rfind(|(made, _)| *made <= calls).map_or(0, |(_, n)| *n);
            let context = format!("{cut:?} after {calls} changes: {found:?}, sure {sure}");
            let end = found.last().map_or(0, |last| last + 1);
            assert!(end >= sure && end.is_multiple_of(2), "{context}");
            // The state of these tests: the last three entries, without a gap.
            assert!(
                found.ends_with(&(end.saturating_sub(3)..end).collect::<Vec<_>>()),
                "{context}"
            );
            journal.append(&entry(1000)).expect("room");
            let after = numbers(&journal.entries().expect("readable"));
            assert_eq!(after.last(), Some(&1000), "{context}");
        }
    }
}
