//! Packages that are rightly signed and rightly named, and cannot be installed.

use std::os::unix::fs::PermissionsExt;

use neco_host::{Root, sandbox_script};
use neco_playground::{Flaw, outcome_of};
use neco_scenarios::{Scenario, aborted, lines, necoctl, processes, refitted, versions_between};
use neco_schema::Outcome;

/// What is done about those that are refused before anything of them runs.
const REFUSED: &str = "nothing of it was installed, a sound package in a newer release goes on";
/// What the scripts complain about.
const COMPLAINT: &str = "the moon is in the wrong house";

/// What is wrong, and what is said about it.
type Case = (&'static str, Flaw, &'static [&'static str]);

/// Wrong before anything of them runs.
const FORM: [Case; 6] = [
    ("not a .deb", Flaw::NoPackage, &["is no Debian package", "not a Debian format archive"]),
    ("no control file", Flaw::NoControl, &["is no Debian package", "control' for reading"]),
    ("no version", Flaw::NoVersion, &["is no Debian package", "missing 'Version' field"]),
    ("no architecture", Flaw::NoArchitecture, &["is no Debian package", "no Architecture"]),
    ("other architecture", Flaw::OtherArchitecture, &["says Architecture: arm64, but amd64 was"]),
    ("other name", Flaw::OtherName, &["says Package: coil, but neco was"]),
];

/// Wrong when they are installed: the installation fails, and the server goes back.
const CONTENT: [Case; 4] = [
    ("data does not unpack", Flaw::BrokenData, &["dpkg-deb -x", "internal gzip read error"]),
    (
        "preinst fails",
        Flaw::Preinst,
        &["preinst upgrade", COMPLAINT, "now neco is: 2026.11.20-40151;"],
    ),
    ("postinst fails", Flaw::Postinst, &["postinst configure", COMPLAINT, "(half-configured)"]),
    // That of the version which is there; the test sees to it.
    ("prerm of the old one fails", Flaw::Hollow, &["prerm upgrade", COMPLAINT]),
];

/// What the worker of a version says that has a recipe which it cannot load.
type Unloadable = (&'static str, &'static str, String, &'static [&'static str]);

/// Packages that install, and whose recipe no worker can load.
fn unloadable() -> [Unloadable; 2] {
    let rival = "format = 1\nname = \"rival\"\nrestart = \"never\"\n\n\
                 [[file]]\npath = \"/etc/serf/serf.json\"\ntemplate = \"serf.json.j2\"\nmode = \"0644\"\n";
    let circle = "{\n{% include \"serf.json.j2\" %}\n}\n";
    [
        (
            "two components write one path",
            "usr/share/neco/components/rival.toml",
            rival.to_owned(),
            &[
                "components/serf.toml",
                "/etc/serf/serf.json stands in components/rival.toml:6 already",
            ],
        ),
        (
            "a template includes itself",
            "usr/share/neco/templates/serf.json.j2",
            circle.to_owned(),
            &["templates/serf.json.j2:2", "serf.json.j2:2 includes serf.json.j2"],
        ),
    ]
}

/// Checks what a person is told on a server that has nothing to do with it.
async fn told(scenario: &Scenario, name: &str, words: &[&str]) {
    for verb in ["why", "status"] {
        let told = necoctl(scenario.server(2), &[verb]).await.ended(0).out;
        assert!(words.iter().all(|word| told.contains(word)), "{name}: {verb}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_package_that_cannot_be_installed_stays_on_the_first_server_and_the_next_heals() {
    let scenario = Scenario::begin().await;
    let installed = scenario.packages().first().clone();
    let (first, others) = (scenario.server(0), [scenario.server(1), scenario.server(2)]);
    let all = processes(first);
    let elsewhere = || others.map(processes);
    let before = elsewhere();
    let root = Root::new(first.root()).expect("absolute");
    let prerm = root.join(sandbox_script("prerm"));
    let mut versions = versions_between();
    let mut ended = Vec::new();

    for (name, flaw, words) in FORM {
        let version = versions.next().expect("another");
        scenario.publish_flawed(&version, flaw).await.expect("published");
        let words = [words, &[REFUSED]].concat();
        ended.push((name, words[0], aborted(&scenario, &version, &words).await));
        told(&scenario, name, &words).await;
    }
    assert_eq!(processes(first), all, "nobody ended for any of them");

    let sound = std::fs::read(&prerm).expect("a script of ours");
    for (name, flaw, words) in CONTENT {
        let version = versions.next().expect("another");
        if flaw == Flaw::Hollow {
            std::fs::write(&prerm, format!("#!/bin/sh\necho '{COMPLAINT}' >&2\nexit 1\n"))
                .expect("room");
        }
        scenario.publish_flawed(&version, flaw).await.expect("published");
        ended.push((name, words[0], aborted(&scenario, &version, words).await));
        told(&scenario, name, words).await;
        let now = first.installed().await.expect("a record").to_string();
        assert_eq!(now, installed.as_str(), "{name}");
        let back = format!("going back to {installed}");
        assert!(!lines(first, "neco-worker", &[words[0], &back]).is_empty(), "{name}");
    }
    let mode = std::fs::metadata(&prerm).expect("still there").permissions().mode();
    assert!(mode & 0o111 != 0 && std::fs::read(&prerm).expect("there") != sound);
    assert_eq!(elsewhere(), before, "the others have not noticed");

    // The next release heals: what it brings along knows a way around the script that fails.
    let update = scenario.publish_update().await;
    let view = scenario.completed(&update).await;
    let history = necoctl(scenario.server(1), &["history", "--output=json"]).await.ended(0).out;
    for (name, word, request) in &ended {
        assert_eq!(outcome_of(&view, request), Some(Outcome::Aborted), "{name}");
        assert!(history.contains(word), "{name}: {history}");
    }
    assert_eq!(std::fs::read(&prerm).expect("there"), sound, "its own script is back");
    scenario.verdict(&update).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_release_whose_recipe_cannot_be_loaded_is_taken_back_and_the_next_heals() {
    let scenario = Scenario::begin().await;
    let installed = scenario.packages().first().clone();
    let (first, others) = (scenario.server(0), [scenario.server(1), scenario.server(2)]);
    let elsewhere = || others.map(processes);
    let before = elsewhere();
    let mut versions = versions_between();
    let mut ended = Vec::new();

    for (name, path, text, words) in unloadable() {
        let version = versions.next().expect("another");
        let file = first.root().join(path);
        let sound = std::fs::read(&file).ok();
        let package = refitted(&scenario, &version, &[(path, &text)]);
        scenario.publish(&package).await.expect("published");
        // It was installed, and its worker refused to run.
        let unready = format!("{version} was not ready within ");
        let aborted = aborted(&scenario, &version, &[&unready, "neco-worker does not run"]).await;
        scenario.logged(first, "neco-worker", words).await;
        told(&scenario, name, &[&[&*unready][..], words].concat()).await;
        let now = first.installed().await.expect("a record").to_string();
        assert_eq!(now, installed.as_str(), "{name}");
        let back = format!("going back to {installed}");
        assert!(!lines(first, "neco-worker", &[&unready, &back]).is_empty(), "{name}");
        assert_eq!(std::fs::read(&file).ok(), sound, "{name}: what was there is there again");
        ended.push((name, aborted));
    }
    assert_eq!(elsewhere(), before, "the others have not noticed");

    let update = scenario.publish_update().await;
    let view = scenario.completed(&update).await;
    for (name, request) in &ended {
        assert_eq!(outcome_of(&view, request), Some(Outcome::Aborted), "{name}");
    }
    scenario.verdict(&update).await;
}
