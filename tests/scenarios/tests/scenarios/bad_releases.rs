//! Releases that are not what they should be.

use std::path::Path;

use neco_playground::{Flaw, outcome_of};
use neco_scenarios::{
    LONG, Scenario, aborted, leads_alone, lines, others_come_back, versions_between,
};
use neco_schema::{NecoVersion, Outcome, UpdateRequest};
use nix::sys::signal::Signal;

/// What is noticed of a package that is another than was requested, and how it became one.
type Replacement = (&'static str, fn(&mut Vec<u8>));

/// What is done about any of them.
const REMEDY: &str = "nothing of it was installed, a sound package in a newer release goes on";

/// Waits for the end of a request that nobody can carry out, and checks that nothing came of it.
async fn refused(scenario: &Scenario, version: &NecoVersion, words: &[&str]) -> UpdateRequest {
    aborted(scenario, version, &[words, &[version.as_str(), REMEDY]].concat()).await
}

/// Replaces a file as a whole.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_file_name(".new");
    std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path)).expect("replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unsound_is_installed_and_a_sound_release_goes_on() {
    let scenario = Scenario::begin().await;
    let leader = scenario.server(0);
    leads_alone(&scenario, leader).await;
    let processes = scenario.processes();
    let mut versions = versions_between();
    let mut requests = Vec::new();

    // Tags that name no version, where all of them are looked through.
    std::fs::create_dir(scenario.mirror_dir().join("release-nonsense")).expect("room");
    scenario.write("config/env", "staging").await;
    let words = ["/releases", "\"release-nonsense\"", "tag releases like release-"];
    scenario.logged(leader, "neco-updater", &words).await;

    // A package that nobody has signed, or not yet: no server is bothered with it.
    let unsigned = versions.next().expect("another");
    scenario.publish_flawed(&unsigned, Flaw::Unsigned).await.expect("published");
    let incomplete = format!("release-{unsigned} is not complete");
    let words = [&*incomplete, "bears no signature", ".minisig beside it"];
    scenario.logged(leader, "neco-updater", &words).await;

    // Packages that are wrong from the beginning.
    for (flaw, words) in [
        (Flaw::OtherBits, vec![".minisig does not fit the package"]),
        (Flaw::OtherKey, vec!["which is not trusted here"]),
        (Flaw::OtherName, vec!["says Package: coil"]),
        (Flaw::OtherVersion, vec!["says Version: 2026.11.20-"]),
    ] {
        let version = versions.next().expect("another");
        scenario.publish_flawed(&version, flaw).await.expect("published");
        requests.push(refused(&scenario, &version, &words).await);
    }
    // A key that was trusted and is revoked.
    let keys = |server: &neco_playground::BootServer| server.root().join("etc/neco/release-keys");
    let key = std::fs::read_to_string(scenario.other_key()).expect("a key");
    let id = key.split_whitespace().find(|word| word.len() == 16).expect("its id").to_owned();
    for server in scenario.servers() {
        std::fs::write(keys(server).join("other.pub"), &key).expect("room");
        std::fs::write(keys(server).join("revoked"), format!("# lost\n{id}\n")).expect("room");
    }
    let version = versions.next().expect("another");
    scenario.publish_flawed(&version, Flaw::OtherKey).await.expect("published");
    let words = [&*id, "release-keys/revoked revokes"];
    requests.push(refused(&scenario, &version, &words).await);

    // Packages that are replaced after they were requested: another size, other bits.
    let replacements: [Replacement; 2] = [
        ("size", |bytes| bytes.extend(b"more")),
        ("SHA-256", |bytes| *bytes.last_mut().expect("bits") ^= 1),
    ];
    for (what, change) in replacements {
        let version = versions.next().expect("another");
        let first = scenario.server(0);
        first.kill_worker(Signal::SIGSTOP).await.expect("it runs");
        let deb = scenario.publish_flawed(&version, Flaw::Hollow).await.expect("published");
        scenario
            .until("the request", |view| {
                view.current().is_some_and(|request| request.version == version)
            })
            .await;
        let mut bytes = std::fs::read(&deb).expect("a package");
        change(&mut bytes);
        replace(&deb, &bytes);
        first.kill_worker(Signal::SIGCONT).await.expect("it is still there");
        let file = format!("neco_{version}_amd64.deb");
        let words = [&*file, what, "the release was replaced"];
        requests.push(refused(&scenario, &version, &words).await);
    }

    assert_eq!(scenario.processes(), processes, "nobody ended for any of them");
    for once in ["\"release-nonsense\"", &*incomplete] {
        let said = lines(leader, "neco-updater", &[once]);
        assert_eq!(said.len(), 1, "{said:#?}");
    }
    others_come_back(&scenario, leader).await;
    let version = scenario.publish_update().await;
    let view = scenario.wait_completed(&version, LONG, |_| {}).await.expect("completed");
    assert_eq!(scenario.value(&format!("seen/{unsigned}")).await, None, "it was noted");
    let mut ended = view.history.values().flatten();
    assert!(ended.all(|record| record.version != unsigned), "it was requested");
    for request in &requests {
        assert_eq!(outcome_of(&view, request), Some(Outcome::Aborted), "{}", request.version);
    }
    scenario.verdict(&version).await;
}
