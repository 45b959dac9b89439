//! Atomic replacement: the order of its changes, what stays after a fault, and where it writes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use neco_host::fs::{Call, Fault, PowerCut, RecordingFs};
use neco_host::{Owner, RealFs, Root, replace};

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Root::new(dir.path()).expect("an absolute path");
    (dir, root)
}

fn me(root: &Root) -> Owner {
    let found = root.path().metadata().expect("a directory");
    Owner { uid: found.uid(), gid: found.gid() }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_new_content_is_durable_with_owner_and_mode_before_it_has_the_name() {
    let (_dir, root) = root();
    let fs = RecordingFs::new();
    let done = replace(&fs, &root, "/etc/serf/serf.json", b"new", 0o640, Some(me(&root)));
    assert!(done.expect("room").changed);
    let calls = fs.calls();
    let order: Vec<_> = calls.iter().map(Call::name).collect();
    assert_eq!(
        order,
        [
            "create-dir",
            "sync-dir",
            "create-dir",
            "sync-dir",
            "create",
            "write",
            "set-owner",
            "set-mode",
            "sync",
            "rename",
            "sync-dir"
        ]
    );
    let target = root.join("/etc/serf/serf.json");
    let Call::Create(temporary) = &calls[4] else { panic!("{calls:?}") };
    assert_eq!(temporary.parent(), target.parent(), "the same directory, so the same file system");
    assert_eq!(calls[9], Call::Rename(temporary.clone(), target.clone()));
    assert_eq!(calls[10], Call::SyncDir(root.join("/etc/serf")));
    assert_eq!(std::fs::read(&target).expect("there"), b"new");
    assert_eq!(target.metadata().expect("there").permissions().mode() & 0o7777, 0o640);
    let parent = root.join("/etc").metadata().expect("there");
    assert_eq!(parent.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_so_already_is_left_alone_and_any_difference_is_not() {
    let (_dir, root) = root();
    let fs = RecordingFs::new();
    let put = |content: &[u8], mode, owner| {
        replace(&fs, &root, "/motd", content, mode, owner).expect("room").changed
    };
    assert!(put(b"a", 0o644, None));
    fs.clear();
    assert!(!put(b"a", 0o644, None));
    assert!(!put(b"a", 0o644, Some(me(&root))));
    assert_eq!(fs.names(), ["sync-dir"; 2], "what is so is made to stay so");
    assert!(put(b"b", 0o644, None), "content of the same length");
    assert!(put(b"b", 0o4755, None), "mode");
    assert_eq!(root.join("/motd").metadata().expect("there").mode() & 0o7777, 0o4755);
    assert!(!put(b"b", 0o4755, None));
    if me(&root).uid == 0 {
        let other = Owner { uid: 10000, gid: 10000 };
        assert!(put(b"b", 0o4755, Some(other)), "owner");
        assert!(!put(b"b", 0o4755, Some(other)));
        let found = root.join("/motd").metadata().expect("there");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (10000, 10000, 0o4755));
    }
}

#[test]
fn a_fault_anywhere_leaves_the_old_file_or_the_new_one_and_nothing_else() {
    let owner = |root: &Root| Some(me(root));
    for errno in [nix::libc::ENOSPC, nix::libc::EROFS] {
        let mut faults = 0;
        for nth in 0.. {
            let (_dir, root) = root();
            replace(&RealFs, &root, "/etc/motd", b"old", 0o600, None).expect("room");
            let fs = RecordingFs::new();
            fs.set_fault(Some(Fault::Once { nth, errno }));
            let done = replace(&fs, &root, "/etc/motd", b"new", 0o644, owner(&root));
            assert_eq!(names(&root.join("/etc")), ["motd"], "change {nth}");
            let content = std::fs::read(root.join("/etc/motd")).expect("there");
            let mode = root.join("/etc/motd").metadata().expect("there").mode() & 0o7777;
            let Err(error) = done else {
                assert_eq!((&content[..], mode), (&b"new"[..], 0o644));
                break;
            };
            faults += 1;
            assert_eq!(error.source.raw_os_error(), Some(errno));
            let renamed = fs.names().contains(&"sync-dir");
            if !renamed {
                assert_eq!(error.path, root.join("/etc/motd"), "known by its own name");
            }
            let whole = if renamed { (&b"new"[..], 0o644) } else { (&b"old"[..], 0o600) };
            assert_eq!((&content[..], mode), whole, "change {nth}: {error}");
        }
        assert_eq!(faults, 7, "create, write, owner, mode, sync, rename, directory");
    }
}

/// The disk refused, or the process was killed, when the new file had its name and the name was not durable yet.
#[test]
fn a_name_that_may_not_be_durable_is_made_so_by_the_next_try() {
    let (_dir, root) = root();
    let fs = RecordingFs::new();
    let put = |content: &[u8]| replace(&fs, &root, "/etc/motd", content, 0o644, None);
    put(b"old").expect("room");
    fs.clear();
    fs.set_fault(Some(Fault::From { nth: 5, errno: nix::libc::EIO }));
    for after in [&["create", "write", "set-mode", "sync", "rename", "sync-dir"][..], &["sync-dir"]]
    {
        // Without the power cut the new file is there; with it the old one may be.
        put(b"new").expect_err("not durable");
        assert_eq!(fs.names(), after);
        assert_eq!(std::fs::read(root.join("/etc/motd")).expect("there"), b"new");
        fs.clear();
        fs.set_fault(Some(Fault::From { nth: 0, errno: nix::libc::EIO }));
    }
    fs.set_fault(None);
    assert!(!put(b"new").expect("room").changed);
    assert_eq!(fs.calls(), [Call::SyncDir(root.join("/etc"))]);
}

#[test]
fn a_process_killed_at_any_change_leaves_a_whole_file_and_its_leftover_goes_next_time() {
    for nth in 0..7 {
        let (_dir, root) = root();
        replace(&RealFs, &root, "/etc/motd", b"old", 0o644, None).expect("room");
        let fs = RecordingFs::new();
        fs.set_fault(Some(Fault::From { nth, errno: nix::libc::EIO }));
        replace(&fs, &root, "/etc/motd", b"new", 0o644, Some(me(&root))).expect_err("killed");
        let content = std::fs::read(root.join("/etc/motd")).expect("there");
        assert!(content == b"old" || content == b"new", "change {nth}");
        // The dead process had another id; 4194304 is beyond the largest that Linux gives.
        for name in names(&root.join("/etc")).iter().filter(|name| name.starts_with('.')) {
            let dead = name.replace(&std::process::id().to_string(), "4194305");
            std::fs::rename(root.join("/etc").join(name), root.join("/etc").join(dead))
                .expect("ok");
        }
        std::fs::write(root.join("/etc/.motd.local"), "not ours").expect("room");
        replace(&RealFs, &root, "/etc/motd", b"newer", 0o644, None).expect("room");
        assert_eq!(names(&root.join("/etc")), [".motd.local", "motd"], "change {nth}");
    }
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let (_dir, root) = root();
    let outside = tempfile::tempdir().expect("a directory");
    symlink(outside.path(), root.join("/etc")).expect("a link");
    replace(&RealFs, &root, "/etc/motd", b"x", 0o644, None).expect("room");
    assert_eq!(names(outside.path()), [] as [&str; 0]);
    let inside = root.join(outside.path()).join("motd");
    assert_eq!(std::fs::read(inside).expect("there"), b"x");

    let victim = outside.path().join("victim");
    std::fs::write(&victim, "x").expect("room");
    symlink(&victim, root.join("/file")).expect("a link");
    assert!(replace(&RealFs, &root, "/file", b"x", 0o644, None).expect("room").changed);
    assert!(root.join("/file").symlink_metadata().expect("there").is_file(), "the link gave way");
    replace(&RealFs, &root, "/../../file", b"y", 0o644, None).expect("room");
    assert_eq!(std::fs::read(root.join("/file")).expect("there"), b"y");
    assert_eq!(std::fs::read(&victim).expect("there"), b"x");
}

#[test]
fn a_directory_in_the_way_is_named_and_stays() {
    let (_dir, root) = root();
    std::fs::create_dir_all(root.join("/etc/motd")).expect("room");
    let error = replace(&RealFs, &root, "/etc/motd", b"x", 0o644, None).expect_err("a directory");
    assert!(error.to_string().contains("/etc/motd"), "{error}");
    assert_eq!(names(&root.join("/etc")), ["motd"]);
    assert!(replace(&RealFs, &root, "/", b"x", 0o644, None).is_err());
}

#[test]
fn a_power_cut_at_any_change_leaves_the_old_file_or_the_new_one() {
    let (_dir, root) = root();
    let fs = RecordingFs::new();
    replace(&fs, &root, "/etc/deep/motd", b"old", 0o644, None).expect("room");
    let old_is_there = fs.calls().len();
    replace(&fs, &root, "/etc/deep/motd", b"new", 0o644, None).expect("room");
    let new_is_there = fs.calls().len();
    let path = root.join("/etc/deep/motd");
    for cut in [PowerCut::LosesAllUnsynced, PowerCut::KeepsNames] {
        for calls in 0..=new_is_there {
            let left = fs.after_power_cut(calls, cut);
            let content = left.get(&path).map(Vec::as_slice);
            let context = format!("{cut:?} after {calls} changes: {content:?}");
            match content {
                None => assert!(calls < old_is_there, "{context}"),
                Some(b"old") => assert!(calls < new_is_there, "{context}"),
                Some(b"new") => assert!(calls > old_is_there, "{context}"),
                Some(_) => panic!("{context}"),
            }
        }
    }
}
