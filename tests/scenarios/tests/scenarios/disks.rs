//! The disk fills up, or becomes read-only, wherever an update writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use neco_plan::View;
use neco_playground::{HELD_UNIT, Held, is_completed};
use neco_scenarios::disk_walk::{DiskWalk, JOURNAL, Weather};
use neco_scenarios::{LONG, Marks, Scenario, daemons, directories, is_up, necoctl, processes};
use neco_schema::{Condition, NecoVersion};

const CACHE: &str = "var/cache/neco";
const ENABLED: &str = "var/lib/neco/enabled";
const GROUPS: &str = "var/lib/neco/groups";
const RUN: &str = "run/neco";
const LOGS: &str = "var/log/neco";
const ETC: &str = "etc";
/// Each of these is a file system of its own.
const PLACES: [&str; 7] = [JOURNAL, CACHE, ENABLED, GROUPS, RUN, LOGS, ETC];
/// Everything else is on the root's, for the package's files are moved from one of these to the other.
const ROOT: &str = "";
const ON_ROOT: [&str; 2] = ["var/lib/neco", "usr"];

/// The disk that a directory is on, by the names above.
fn place_of(dir: &Path) -> Option<&'static str> {
    let places = PLACES.into_iter().chain(ON_ROOT).filter(|place| dir.starts_with(place));
    places.max_by_key(|place| place.len())
}

async fn an_update_waits_wherever_it_writes(weather: Weather) {
    let scenario = Scenario::begin().await;
    let (victim, untouched, last) = (scenario.server(0), scenario.server(1), scenario.server(2));
    let disks = victim.give_disks(&PLACES).await.expect("namespaces");
    scenario.until_true("its daemons", async || processes(victim).len() == 2).await;
    let (first, version) = (scenario.packages().first(), scenario.packages().update().clone());
    let fetch = format!("fetch neco_{version}_amd64.deb");
    victim.hold(&fetch).expect("room");
    last.hold("unpack neco").expect("room");
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let before = directories(untouched.root());
    let mut walk = DiskWalk::new(&scenario, victim, disks, weather);

    if weather == Weather::Full {
        walk.spoil(CACHE);
        let free = ["MiB are free in ", "make room for at least 256 MiB"];
        scenario.publish_update().await;
        walk.why_names(&free).await;
        walk.mend(CACHE);
    } else {
        scenario.publish_update().await;
    }
    let lrn = victim.lrn();
    scenario
        .until("a download", |view| {
            let request = view.current().filter(|request| request.version == version);
            let progress = view.progress.get(&lrn);
            request.is_some_and(|request| {
                progress.is_some_and(|progress| progress.value.request == request.id())
            })
        })
        .await;
    let ran = processes(victim);
    for place in [CACHE, JOURNAL, ENABLED, RUN] {
        walk.spoil(place);
    }
    victim.release(&fetch).expect("room");
    walk.complains(CACHE, &["neco_", "check space and permissions"]).await;
    walk.why_names(&[weather.words()[0], "check space"]).await;
    walk.spoil(ROOT);
    let remedy = weather.words()[1];
    if weather == Weather::Full {
        // Room for the package, but not for the copy of the program that installs it.
        let package = scenario.packages().of(&version).expect("a package");
        let len = std::fs::metadata(&package.path).expect("a package").len();
        walk.disks.leave(CACHE, len + (1 << 20)).expect("some room");
        walk.complains(CACHE, &["keeping a copy of this program", remedy]).await;
    }
    walk.mend(CACHE);
    walk.complains(ENABLED, &["starting neco-install", ENABLED, remedy]).await;
    walk.why_names(&[ENABLED, remedy]).await;
    walk.mend(ENABLED);
    walk.complains(RUN, &["starting neco-install", RUN, remedy]).await;
    walk.mend(RUN);
    walk.complains(ROOT, &["waits for the disk", "install.json", remedy]).await;
    if weather == Weather::Full {
        walk.disks.leave(ROOT, 8 << 20).expect("some room");
        walk.complains(ROOT, &["not installed yet", "dpkg-deb"]).await;
    }
    assert_eq!(victim.version_on_disk().as_deref(), Some(first.as_str()), "it still runs");
    assert_eq!(processes(victim), ran, "nobody ended for it");
    walk.mend(ROOT);

    let step = |view: &View| {
        let request = view.current().filter(|request| request.version == version)?;
        let status = view.status_of(request, lrn).map(|status| &status.value)?;
        assert_eq!(status.cond, Condition::Running, "{}", status.message);
        Some(status.step)
    };
    walk.until("the new version on the first server", |view| step(view) == Some(1)).await;
    if weather == Weather::Full {
        // What is appended to a page needs no room; a new file does.
        std::fs::remove_file(victim.root().join(LOGS).join("containers.log")).expect("there");
    }
    for place in [ROOT, LOGS, GROUPS, ETC] {
        walk.spoil(place);
    }
    last.release("unpack neco").expect("room");
    // A lock that is there needs no room, but it is opened before the log.
    let mut ledger = [(LOGS, "containers.log"), (ROOT, "sandbox-containers.json")];
    if weather == Weather::ReadOnly {
        ledger.reverse();
    }
    for (place, file) in ledger {
        walk.complains(place, &["pulling ", file, remedy]).await;
        walk.mend(place);
    }
    walk.complains(GROUPS, &[GROUPS, "vault.json", remedy]).await;
    walk.mend(GROUPS);
    walk.complains(ETC, &["/etc/", remedy]).await;
    walk.why_names(&["/etc/", remedy]).await;
    walk.mend(ETC);

    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    walk.spoil(JOURNAL);
    held.release().expect("room");
    scenario
        .until_true("the service, while the journal is refused", async || is_up(victim, HELD_UNIT))
        .await;
    walk.until("the completion", |view| is_completed(view, &version)).await;
    if walk.wrong.contains(JOURNAL) {
        walk.mend(JOURNAL);
    }
    ends_well(&scenario, walk, &before, &version).await;
    scenario.verdict(&version).await;
}

/// The end of a walk: what was written elsewhere was complained of here, daemons and verbs know what to do, nothing is wrong.
async fn ends_well(
    scenario: &Scenario,
    mut walk: DiskWalk<'_>,
    before: &BTreeMap<PathBuf, Marks>,
    version: &NecoVersion,
) {
    let (victim, remedy) = (scenario.server(0), walk.weather.words()[1]);
    // A new place where something durable is written belongs into the list, and into the story above.
    let after = directories(scenario.server(1).root());
    let written = after.iter().filter(|(dir, marks)| before.get(*dir) != Some(*marks));
    let (mut places, mut strange) = (BTreeSet::new(), Vec::new());
    for (dir, _) in written {
        match place_of(dir) {
            Some(place) => drop(places.insert(place)),
            None => strange.push(dir),
        }
    }
    assert!(strange.is_empty(), "nobody has looked what a full disk does to {strange:?}");
    assert_eq!(places, PLACES.into_iter().chain(ON_ROOT).collect(), "nothing was written there");
    assert_eq!(walk.told, PLACES.into_iter().chain([ROOT]).collect(), "nothing was said");

    // Daemons that cannot say that they run end, and come back.
    let updater = victim.updater().expect("an updater");
    for daemon in daemons(victim) {
        daemon.stop().await;
    }
    walk.spoil(RUN);
    let ends = daemons(victim).map(|daemon| daemon.state().exits.len()).collect::<Vec<_>>();
    for (daemon, ends) in daemons(victim).zip(ends) {
        daemon.up().await;
        scenario.until_true("an end", async || daemon.state().exits.len() > ends).await;
        let exited = daemon.state().exits[ends];
        assert_eq!(exited.status.code(), Some(1), "{}", daemon.name());
    }
    for daemon in ["neco-worker", "neco-updater"] {
        let log = victim.log(daemon);
        let words = ["error: ", walk.weather.words()[0], RUN];
        let says = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(log.lines().any(says), "{log}");
        assert!(log.lines().any(|line| line.starts_with("hint: ")), "{log}");
    }
    walk.mend(RUN);
    updater.successor_of(0, LONG).await.expect("it comes back");
    let ready =
        |daemon: &str| victim.ready(daemon).is_some_and(|file| file.version == version.as_str());
    scenario
        .until_true("daemons that run", async || ready("neco-worker") && ready("neco-updater"))
        .await;

    // Verbs read, and say where they cannot write.
    walk.spoil(ROOT);
    walk.spoil(ETC);
    necoctl(victim, &["status"]).await.ended(0);
    necoctl(victim, &["why"]).await.ended(0);
    let key = format!("{}/etc/neco/new.key", victim.own_root().display());
    let told = necoctl(victim, &["key", "new", &key, "--no-password"]).await.ended(1);
    let lines: Vec<&str> = told.err.lines().collect();
    assert!(lines[0].starts_with("error: ") && lines[0].contains("new.key"), "{}", told.err);
    assert!(told.err.contains(walk.weather.words()[0]), "{}", told.err);
    assert!(told.err.contains("free space on") || told.err.contains(remedy), "{}", told.err);
    necoctl(victim, &["config", "set", "worker-timeout", "--dry-run", "1h"]).await.ended(0);
    walk.mend(ETC);
    walk.mend(ROOT);
    assert!(!victim.root().join("etc/neco/new.key").exists(), "nothing is left of it");
    assert_eq!(walk.wrong, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_waits_wherever_it_writes_while_the_disk_is_full() {
    an_update_waits_wherever_it_writes(Weather::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn an_update_waits_wherever_it_writes_while_the_disk_is_read_only() {
    an_update_waits_wherever_it_writes(Weather::ReadOnly).await;
}
