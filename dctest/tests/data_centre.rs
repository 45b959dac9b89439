//! Data centres that run: they come up, break, heal, and leave nothing behind, whoever is killed.
//!
//! They need root, what `cargo xtask dc check` asks for, and some seconds each.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use neco_dctest::host::cgroup;
use neco_dctest::instance::dirs::{Dirs, TOP_VARIABLE, Top};
use neco_dctest::instance::record::Record;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

/// The folder of the repository's own data centres: the base tree there is shared.
fn top() -> Top {
    let program = Path::new(env!("CARGO_BIN_EXE_neco-dctest"));
    let target = program.ancestors().nth(2).expect("target/PROFILE/program");
    Top(std::env::var_os(TOP_VARIABLE).map_or_else(|| target.join("dctest"), PathBuf::from))
}

fn dc(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neco-dctest"));
    command.env(TOP_VARIABLE, top().0).args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    dc(words).output().expect("it starts")
}

/// What a command said that went well.
fn said(words: &[&str]) -> String {
    let output = run(words);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}: {complained}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A name that nobody else has: these tests may run twice at a time.
fn named(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// One that is taken down however the test ends, also if it is killed.
struct DataCentre {
    name: String,
    dirs: Dirs,
    driver: Child,
}

impl DataCentre {
    fn up(name: &str, description: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("room");
        fs::write(file.path(), description).expect("room");
        let name = named(name);
        let dirs = top().instance(&name);
        let mut centre = Self { driver: tied(&name, file.path()), name, dirs };
        let mut line = String::new();
        let said = centre.driver.stdout.as_mut().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("a line");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(told["outcome"], "ready");
        centre
    }

    fn dc(&self, words: &[&str]) -> String {
        said(&[&["--name", &self.name], words].concat())
    }

    fn fails(&self, words: &[&str]) -> String {
        self.fails_with(1, words)
    }

    fn fails_with(&self, code: i32, words: &[&str]) -> String {
        let output = run(&[&["--name", &self.name], words].concat());
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    fn power(&self, machine: &str) -> String {
        let status: Value =
            serde_json::from_str(&self.dc(&["status", "--output", "json"])).expect("JSON");
        let machines = status["machines"].as_array().expect("machines").iter();
        let found = machines.into_iter().find(|one| one["name"] == machine).expect("that machine");
        found["power"].as_str().expect("a word").to_owned()
    }

    /// Whether a machine gets an answer from an address.
    fn reaches(&self, machine: &str, address: &str) -> bool {
        let words =
            ["--name", &self.name, "sh", machine, "--", "ping", "-q", "-c1", "-W1", address];
        run(&words).status.success()
    }
}

impl Drop for DataCentre {
    fn drop(&mut self) {
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
    }
}

const THREE: &str = "\
format: 1
name: dc0
boot-servers: 3
images: [{ name: tools, tag: a, files: [/usr/bin/cat, /usr/bin/sleep] }]
";
const ONE: &str = "format: 1\nname: dc0\nboot-servers: 1\n";
const BOOT_1: &str = "10.69.0.195";

/// Everything of a data centre that is still on this host.
fn left(dirs: &Dirs) -> Vec<String> {
    let mut left = Vec::new();
    if dirs.dir.exists() {
        left.push(format!("the folder {}", dirs.dir.display()));
    }
    let tag = top().tag_of(&dirs.name);
    if cgroup::tags().expect("cgroups").contains(&tag) {
        left.push(format!("cgroups of {tag}"));
    }
    let folder = dirs.dir.display().to_string();
    if fs::read_to_string("/proc/self/mounts").expect("mounts").contains(&folder) {
        left.push(format!("mounts below {folder}"));
    }
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let ours =
            [format!("warden {}", dirs.name), format!("first {}", dirs.name), folder.clone()];
        if ours.iter().any(|ours| words.contains(ours.as_str())) {
            left.push(format!("the process {words}"));
        }
    }
    left
}

/// Network spaces and interfaces of this host; those of data centres are not among them.
fn network() -> (Vec<String>, String) {
    let names = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    (names("/run/netns"), names("/sys/class/net").join(" "))
}

#[test]
#[ignore = "needs root and boots machines; `cargo xtask test --all` runs it"]
fn machines_and_cables_break_and_heal() {
    let before = network();
    let centre = DataCentre::up("t-faults", THREE);
    assert_eq!(network(), before, "nothing of it is seen outside");
    assert_eq!(centre.dc(&["ssh", "boot-1", "--", "hostname"]), "dc0-boot-1\n");
    assert!(centre.reaches("boot-0", BOOT_1));

    // An image comes from the registry over TLS, without any exception being made for it.
    let container =
        ["docker", "run", "--rm", "--network=none", "registry.test/tools:a", "/etc/passwd"];
    let told = centre.dc(&[&["sh", "boot-2", "--"], container.as_slice()].concat());
    assert!(told.starts_with("root:x:0:0:"), "{told}");
    let absent =
        centre.fails_with(125, &["sh", "boot-2", "--", "docker", "run", "registry.test/tools:b"]);
    assert!(absent.contains("manifest unknown"), "{absent}");

    // A cable that is broken, and then one that is silent: the other one carries on.
    for state in ["down", "drop"] {
        centre.dc(&["link", "rack0-tor1", "boot-0", state]);
        until("the way by the other switch", || {
            let routes = centre.dc(&["sh", "boot-0", "--", "ip", "route", "show", "default"]);
            routes.contains("via 10.69.0.129") && !routes.contains("via 10.69.0.65")
        });
        assert!(centre.reaches("boot-0", BOOT_1));
        centre.dc(&["heal"]);
        until("both ways again", || {
            centre
                .dc(&["sh", "boot-0", "--", "ip", "route", "show", "default"])
                .contains("via 10.69.0.65")
        });
    }

    centre.dc(&["partition", "boot-0", "--from", "boot-1"]);
    assert!(!centre.reaches("boot-0", BOOT_1) && centre.reaches("boot-0", "10.69.1.131"));
    centre.dc(&["heal"]);
    until("the end of the partition", || centre.reaches("boot-0", BOOT_1));

    // A file that was written before the power went is there when it comes back.
    centre.dc(&["sh", "boot-1", "--", "sh", "-c", "echo kept > /var/lib/kept"]);
    centre.dc(&["power", "boot-1", "cut"]);
    assert_eq!(centre.power("boot-1"), "off");
    assert!(!centre.reaches("boot-0", BOOT_1));
    assert!(centre.fails(&["sh", "boot-1", "--", "true"]).contains("boot-1 is off"));
    centre.dc(&["power", "boot-1", "on"]);
    assert_eq!(centre.dc(&["sh", "boot-1", "--", "cat", "/var/lib/kept"]), "kept\n");
    until("the way to it", || centre.reaches("boot-0", BOOT_1));

    let boot = [
        "sh",
        "boot-2",
        "--",
        "systemctl",
        "show",
        "--value",
        "--property=UserspaceTimestampMonotonic",
    ];
    let booted = centre.dc(&boot);
    centre.dc(&["power", "boot-2", "reboot"]);
    assert_ne!(centre.dc(&boot), booted, "it has booted anew");

    centre.dc(&["freeze", "boot-2"]);
    assert_eq!(centre.power("boot-2"), "frozen");
    assert!(centre.fails(&["sh", "boot-2", "--", "true"]).contains("boot-2 is frozen"));
    centre.dc(&["heal"]);
    assert_eq!(centre.power("boot-2"), "on");
    centre.dc(&["freeze", "boot-2"]);
    // What is frozen can lose its power.
    centre.dc(&["power", "boot-2", "cut"]);
    assert_eq!(centre.power("boot-2"), "off");

    let journal = centre.dc(&["logs", "boot-2", "--unit", "docker"]);
    assert!(journal.contains("dockerd["), "{journal}");
    assert!(centre.fails(&["logs", "boot-7"]).contains("no journal of boot-7"));
    centre.dc(&["power", "boot-1", "off"]);
    assert_eq!(centre.power("boot-1"), "off");
    assert!(centre.fails(&["power", "boot-1", "off"]).contains("boot-1 is off"));
    assert!(centre.fails(&["power", "boot-0", "on"]).contains("boot-0 is on"));
    assert!(centre.fails(&["link", "boot-0", "boot-1", "down"]).contains("there is no cable"));

    // The clock is the host's, and nobody in there may set it: capabilities(7), by their numbers.
    let (admin, time) = (21, 25);
    let status = centre.dc(&["sh", "boot-0", "--", "cat", "/proc/self/status"]);
    let effective =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("capabilities");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a number");
    assert_eq!((effective >> admin & 1, effective >> time & 1), (1, 0), "{effective:x}");

    let there = left(&centre.dirs).join("\n");
    assert!(
        ["the folder", "cgroups of", "the process"].iter().all(|what| there.contains(what)),
        "{there}"
    );
    centre.dc(&["freeze", "boot-0"]);
    centre.dc(&["down"]);
    assert_eq!(left(&centre.dirs), Vec::<String>::new());
    assert_eq!(network(), before);
}

#[test]
#[ignore = "needs root and boots machines; `cargo xtask test --all` runs it"]
fn two_run_side_by_side_with_the_same_addresses() {
    let [one, other] = ["t-one", "t-other"].map(|name| DataCentre::up(name, ONE));
    for centre in [&one, &other] {
        centre.dc(&["sh", "boot-0", "--", "sh", "-c", &format!("echo {} > /name", centre.name)]);
    }
    assert_eq!(one.dc(&["ssh", "boot-0", "--", "cat", "/name"]), format!("{}\n", one.name));
    assert_eq!(other.dc(&["ssh", "boot-0", "--", "cat", "/name"]), format!("{}\n", other.name));
    let again = run(&["up", "--name", &one.name]);
    let complained = String::from_utf8_lossy(&again.stderr).into_owned();
    let already = format!("a data centre {} runs already", one.name);
    assert!(complained.contains(&already), "{complained}");
    one.dc(&["down"]);
    assert_eq!(left(&one.dirs), Vec::<String>::new());
    assert_eq!(other.dc(&["ssh", "boot-0", "--", "cat", "/name"]), format!("{}\n", other.name));
}

/// Starts one that ends with its driver.
fn tied(name: &str, file: &Path) -> Child {
    let file = file.display().to_string();
    let mut command = dc(&["up", &file, "--tied", "--name", name, "--output", "json"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    child.expect("it starts")
}

#[test]
#[ignore = "needs root and boots machines; `cargo xtask test --all` runs it"]
fn whoever_is_killed_nothing_stays_behind() {
    let file = tempfile::NamedTempFile::new().expect("room");
    fs::write(file.path(), ONE).expect("room");
    let name = named("t-killed");
    let dirs = top().instance(&name);
    let ready = |dirs: &Dirs| {
        let words = ["--name", &dirs.name, "status"];
        until("a data centre that is ready", || run(&words).status.success());
    };

    // The driver, in the middle of the start and after it.
    for in_the_middle in [true, false] {
        let mut driver = tied(&name, file.path());
        if in_the_middle {
            until("a record", || matches!(Record::read(&dirs), Ok(Some(_))));
        } else {
            ready(&dirs);
        }
        driver.kill().expect("it runs");
        driver.wait().expect("it has ended");
        until("nothing of it", || left(&dirs).is_empty());
    }

    // Those that hold it: what they leave on the disk the next one sweeps away.
    for victim in ["warden", "outer"] {
        let mut driver = tied(&name, file.path());
        ready(&dirs);
        let record = Record::read(&dirs).expect("a record").expect("a record");
        if victim == "warden" {
            record.warden.kill()
        } else {
            record.outer.kill()
        }
        until("the end of its processes", || !record.outer.lives() && !record.warden.lives());
        said(&["down", "--name", &name]);
        until("nothing of it", || left(&dirs).is_empty());
        driver.kill().expect("it can be killed");
        driver.wait().expect("it has ended");
    }
}

/// The namespaces of a process (namespaces(7)).
fn spaces(pid: u32) -> BTreeSet<PathBuf> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"].into_iter();
    kinds.filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()).collect()
}

/// All processes of this host, each with its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Its name, which may be anything, ends with the last bracket.
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
    .collect()
}

/// The namespaces of everybody below a process that are not those of this one.
fn spaces_below(pid: u32) -> BTreeSet<PathBuf> {
    let (processes, mut below) = (processes(), vec![pid]);
    let mut at = 0;
    while let Some(&parent) = below.get(at) {
        let children = processes.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid);
        below.extend(children);
        at += 1;
    }
    let all: BTreeSet<PathBuf> = below.into_iter().flat_map(spaces).collect();
    &all - &spaces(std::process::id())
}

/// A package that is one only as far as stories need it that install nothing.
fn hollow_package(dir: &Path) {
    let tree = dir.join("tree");
    for (path, text) in [
        (
            "DEBIAN/control",
            "Package: neco\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n",
        ),
        ("DEBIAN/md5sums", ""),
        ("usr/share/neco/artifacts.toml", ""),
        ("usr/share/neco/recipe.toml", ""),
        ("usr/share/neco/components/none.toml", ""),
        ("usr/share/neco/templates/none.j2", ""),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("room");
        fs::write(path, text).expect("room");
    }
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-b"]).arg(&tree).arg(dir.join("neco.deb"));
    let built = build.output().expect("dpkg-deb");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
#[ignore = "needs root and boots machines; `cargo xtask test --all` runs it"]
fn a_driver_of_stories_that_is_killed_leaves_nothing() {
    let room = tempfile::tempdir().expect("room");
    hollow_package(room.path());
    // A story that would go on for long.
    let suite = room.path().join("suites/lasting");
    fs::create_dir(room.path().join("suites")).expect("room");
    fs::write(&suite, "#!/bin/sh\ntouch /run/lasts\nsleep 600\n").expect("room");
    fs::set_permissions(&suite, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let (name, before) = (named("t-told"), network());
    let dirs = top().instance(&name);
    let mut command = dc(&["--name", &name, "stories", "drivers-keep-their-contracts"]);
    command.env("NECO_PACKAGES", room.path()).env("NECO_BIN_DIR", room.path());
    command.env("NECO_SUITES", suite.parent().expect("a folder"));
    let mut driver =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until("the story to be in the middle", || {
        let ended = driver.try_wait().expect("it can be asked");
        assert_eq!(ended, None, "the driver has ended");
        let words = ["--name", &name, "sh", "boot-0", "--", "test", "-e", "/run/lasts"];
        run(&words).status.success()
    });
    let record = Record::read(&dirs).expect("a record").expect("a record");
    let spaces_then = spaces_below(u32::try_from(record.outer.pid).expect("positive"));
    // Those of the data centre, and more of each machine.
    assert!(spaces_then.len() > 12, "{spaces_then:?}");

    driver.kill().expect("it runs");
    driver.wait().expect("it has ended");
    until("nothing of it", || left(&dirs).is_empty());
    until("the end of its namespaces", || {
        let now: BTreeSet<PathBuf> =
            processes().into_iter().flat_map(|(pid, _)| spaces(pid)).collect();
        now.is_disjoint(&spaces_then)
    });
    assert_eq!(network(), before);
    fs::remove_dir_all(top().0.join("results").join(&name)).expect("it is there");
}

#[test]
#[ignore = "needs root and boots machines; `cargo xtask test --all` runs it"]
fn a_machine_that_does_not_boot_is_told_within_its_deadline_with_what_it_said() {
    let file = tempfile::NamedTempFile::new().expect("room");
    fs::write(file.path(), format!("{ONE}limits: {{ boot: 100ms }}\n")).expect("room");
    let name = named("t-never");
    let output = run(&["up", &file.path().display().to_string(), "--name", &name]);
    assert_eq!(output.status.code(), Some(1));
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complained.contains("boot: ") && complained.contains("boot-0"), "{complained}");
    let kept = top().artefacts(&name);
    assert!(complained.contains(&kept.display().to_string()), "{complained}");
    assert!(kept.join("boot-0/console.log").is_file() && kept.join("routers/core.conf").is_file());
    assert_eq!(left(&top().instance(&name)), Vec::<String>::new());
    fs::remove_dir_all(kept).expect("it is there");
}

#[test]
fn a_broken_description_is_told_whole_before_anything_is_started() {
    let dir = tempfile::tempdir().expect("room");
    let file = dir.path().join("dc.yml");
    fs::write(&file, "format: 1\nname: X\nboot-servers: 0\n").expect("room");
    let mut command = dc(&["up", &file.display().to_string()]);
    let output = command.env(TOP_VARIABLE, dir.path()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complained.contains("dc.yml:2: name: ") && complained.contains("dc.yml:3: boot-servers: "),
        "{complained}"
    );
    assert!(!dir.path().join("instances").exists());
    // A program that reads what this one says hears of it, too.
    let mut command = dc(&["up", &file.display().to_string(), "--output", "json"]);
    let output = command.env(TOP_VARIABLE, dir.path()).output().expect("it starts");
    let told = String::from_utf8(output.stdout).expect("text");
    let told: Value = serde_json::from_str(told.lines().last().expect("a line")).expect("JSON");
    assert_eq!(told["outcome"], "failed");
    assert!(told["reason"].as_str().expect("text").contains("dc.yml:2: name: "), "{told}");
}

#[test]
fn wrong_usage_is_64() {
    // A name that would lead to another folder ends nothing.
    assert_eq!(run(&["down", "--name", ".."]).status.code(), Some(64));
    assert_eq!(run(&["power", "boot-0", "sideways"]).status.code(), Some(64));
}
