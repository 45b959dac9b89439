//! The journal of a server is cut off, damaged, unreadable or gone.

use std::path::PathBuf;

use neco_plan::invariants::Fact;
use neco_playground::{BootServer, HELD_UNIT, Held, outcome_of};
use neco_scenarios::{LONG, Scenario, all_settled, is_up, lines, necoctl, once};
use neco_schema::Outcome;

/// What befalls a byte.
const DAMAGE: u8 = 1;

/// The newest file of a server's journal.
fn segment(server: &BootServer) -> PathBuf {
    let dir = server.root().join("var/lib/neco/journal");
    let entries = std::fs::read_dir(dir).expect("a journal").flatten();
    let names = entries.map(|entry| entry.path());
    let segments = names.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.max().expect("a segment")
}

/// Starts a worker again and waits until it says that it runs.
async fn comes_back(scenario: &Scenario, server: &BootServer) {
    server.worker().up().await;
    scenario.until_true("its worker", async || server.ready("neco-worker").is_some()).await;
}

/// Waits for a line with all of `words` that was not there before, and checks that there is one of them.
async fn says_once(scenario: &Scenario, server: &BootServer, words: &[&str]) {
    scenario.logged(server, "neco-worker", words).await;
    let said = lines(server, "neco-worker", words);
    assert_eq!(said.len(), 1, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_journal_with_a_damaged_line_and_one_cut_off_is_gone_on_with() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    victim.worker().kill().await;
    scenario.keep_journal(victim);

    let path = segment(victim);
    let mut text = std::fs::read(&path).expect("a segment");
    let decision = text.windows(12).position(|word| word == b"\"decision\",\"").expect("one");
    let number = text[..decision].iter().filter(|byte| **byte == b'\n').count() + 1;
    text[decision + 2] ^= DAMAGE;
    text.truncate(text.len() - 5);
    std::fs::write(&path, text).expect("room");
    comes_back(&scenario, victim).await;
    let line = format!("{}:{number}: ", path.display());
    says_once(&scenario, victim, &[&line, "does not match its checksum; skipped"]).await;
    says_once(&scenario, victim, &["what was written last is cut off; skipped"]).await;
    held.release().expect("room");
    scenario.completed(&version).await;

    // Who audits a journal wants to have all of it: the disk is mended.
    let mut text = std::fs::read(&path).expect("a segment");
    text[decision + 2] ^= DAMAGE;
    std::fs::write(&path, text).expect("room");
    assert_eq!(scenario.done_to(victim, HELD_UNIT), once(HELD_UNIT));
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_journal_that_is_lost_between_updates_holds_nobody_up() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);

    // A directory in its place: nobody knows what is open, so nothing begins.
    victim.worker().kill().await;
    let path = segment(victim);
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).and_then(|()| std::fs::create_dir(&path)).expect("room");
    victim.worker().up().await;
    let name = path.display().to_string();
    says_once(&scenario, victim, &[&name, "the file cannot be read", "moved away"]).await;
    says_once(&scenario, victim, &["waiting for the journal", &name, "directory"]).await;
    assert_eq!(victim.ready("neco-worker"), None, "it does nothing without it");
    std::fs::remove_dir(&path).and_then(|()| std::fs::rename(&aside, &path)).expect("room");
    scenario.until_true("its worker", async || victim.ready("neco-worker").is_some()).await;

    // Garbage, and nothing at all.
    victim.worker().kill().await;
    scenario.keep_journal(victim);
    scenario.fact(Fact::JournalLost { lrn: victim.lrn() });
    std::fs::write(&path, "garbage\n".repeat(500)).expect("room");
    comes_back(&scenario, victim).await;
    says_once(&scenario, victim, &[&name, ":1: ", "checksum", "499 more times in this file"]).await;
    victim.worker().kill().await;
    scenario.keep_journal(victim);
    scenario.fact(Fact::JournalLost { lrn: victim.lrn() });
    for entry in std::fs::read_dir(path.parent().expect("a folder")).expect("a journal").flatten() {
        std::fs::remove_file(entry.path()).expect("there");
    }
    comes_back(&scenario, victim).await;

    let version = scenario.publish_update().await;
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_server_that_lost_its_journal_in_mid_update_gives_up_and_recovers() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    victim.worker().kill().await;
    scenario.keep_journal(victim);
    scenario.fact(Fact::JournalLost { lrn: victim.lrn() });
    let path = segment(victim);
    std::fs::write(&path, "").expect("room");
    held.release().expect("room");
    comes_back(&scenario, victim).await;
    let name = path.display().to_string();
    says_once(&scenario, victim, &[&name, "the file is empty: what it held is lost"]).await;

    let view = all_settled(&scenario, &version).await;
    let request = view.current().expect("a request").clone();
    let status = view.status_of(&request, victim.lrn()).expect("an abort");
    let origin = status.value.origin.as_ref().expect("an origin");
    assert_eq!(origin.lrn, victim.lrn());
    assert!(origin.cause.contains("was its disk replaced?"), "{}", origin.cause);
    let why = necoctl(scenario.server(0), &["why"]).await.ended(0).out;
    assert!(why.contains("boot server 1") && why.contains("was its disk replaced?"), "{why}");
    assert!(why.contains("necoctl recover"), "{why}");

    necoctl(scenario.server(0), &["recover", "--retry", "--reason", "its disk was replaced"])
        .await
        .ended(0);
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Aborted));
    assert!(is_up(victim, HELD_UNIT), "what was stopped runs again");
    scenario.verdict(&version).await;
}
