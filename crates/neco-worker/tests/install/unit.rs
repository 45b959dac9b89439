//! The unit that installs: its verdicts, and that a power cut anywhere changes none of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use neco_host::journal::{Checkpoint, Journal, JournalStore, Options};
use neco_host::{FakeInstall, Installed, Sandbox};
use neco_schema::journal::{Entry, IntentEnd};
use neco_worker::install::{UNIT, run_unit};

use crate::site::{FROM, Site, TO, version};

fn yes(text: &str) -> Installed {
    Installed::Yes(version(text))
}

async fn run(site: &Site) {
    run_unit(&site.setup()).await.unwrap();
}

#[tokio::test]
async fn a_good_package_is_installed_and_its_daemons_run() {
    let site = Site::new();
    site.ready_to_install();
    run(&site).await;
    assert_eq!(site.verdict(), Some(IntentEnd::Completed));
    assert_eq!(site.packages.log(), [TO]);
    assert_eq!(*site.daemons.restarts.lock().unwrap(), ["neco-updater", "neco-worker"]);
    // Once more, as at a boot that comes before it is disabled: there is nothing to do.
    run(&site).await;
    assert_eq!(site.packages.log(), [TO]);
    assert!(site.detached.fake.unit(UNIT).enabled.is_none());
}

#[tokio::test]
async fn the_sandbox_is_installed_into_as_well() {
    let site = Site::with(|root| Some(Arc::new(Sandbox::new(root.clone()))));
    site.ready_to_install();
    run(&site).await;
    assert_eq!(site.verdict(), Some(IntentEnd::Completed));
    assert_eq!(site.installed().await, yes(TO));
    let text = std::fs::read_to_string(site.root.join("/usr/share/neco/VERSION")).unwrap();
    assert_eq!(text.trim(), TO);
}

#[tokio::test]
async fn daemons_that_do_not_start_bring_the_old_package_back() {
    let site = Site::new();
    site.ready_to_install();
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    run(&site).await;
    let cause = site.cause();
    assert!(cause.contains("was not ready within") && cause.contains("neco-worker"), "{cause}");
    assert!(!cause.contains("going back"), "{cause}");
    assert_eq!(site.packages.log(), [TO, FROM]);
    assert_eq!(site.installed().await, yes(FROM));
    let state = site.state();
    assert!(state.intents.is_empty());
    let request = neco_schema::RequestId::claimed("43eef0a3d1a72173");
    assert_eq!(state.of(&request).failed, Some((0, cause)), "the worker aborts for it");
}

/// A recipe of one step, of which two components write one path, with what else stands in the folder.
fn bad_recipe(site: &Site, step: &str, more: &[(&str, &str)]) {
    let folder = site.root.join("/usr/share/neco");
    let recipe = format!("format = 1\n\n[[step]]\nname = \"one\"\n{step}\n");
    for (name, text) in [("recipe.toml", &*recipe)].iter().chain(more) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[tokio::test]
async fn daemons_that_cannot_use_their_recipe_say_where_it_is_wrong() {
    let file = |name: &str| {
        format!("format = 1\nname = \"{name}\"\n[[file]]\npath = \"/etc/x\"\ntemplate = \"x.j2\"\n")
    };
    let (one, other) = (file("one"), file("other"));
    let template = ("templates/x.j2", "x\n");
    let owned: [(&str, &str); 3] =
        [("components/one.toml", &one), ("components/other.toml", &other), template];
    let circle = [("components/one.toml", &*one), ("templates/x.j2", "x\n{% include 'x.j2' %}")];
    let strays: [(&str, &str); 5] =
        ["a", "b", "c", "d", "e\n"].map(|name| (name, "")).map(|(name, text)| match name {
            "a" => ("templates/a", text),
            "b" => ("templates/b", text),
            "c" => ("templates/c", text),
            "d" => ("templates/d", text),
            _ => ("components/e\n", text),
        });
    let nothing = "effect = \"none\"\nreason = \"x\"";
    // What recipe.toml says, other files of the package, and what is told.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 5] = [
        (
            nothing,
            &owned,
            "cannot use its recipe: components/other.toml:4: file[1].path: /etc/x stands in components/one.toml:4 already; let one component own it, once",
        ),
        (
            nothing,
            &circle,
            "cannot use its recipe: templates/x.j2:2: the template leads back to itself: x.j2:2 includes x.j2; take one of these out",
        ),
        (
            "action = \"dance\"",
            &[],
            "cannot use its recipe: recipe.toml:3: step[1].action: this version has no action dance; write one of: fetch-images, ",
        ),
        ("effect = 1", &[], "cannot use its recipe: recipe.toml:"),
        (nothing, &strays, "cannot use its recipe: components/e\\n: this file would not be read; "),
    ];
    for (step, more, told) in cases {
        let site = Site::new();
        site.ready_to_install();
        site.daemons.bad.lock().unwrap().insert(TO.to_owned());
        bad_recipe(&site, step, more);
        run(&site).await;
        let cause = site.cause();
        assert!(cause.starts_with(&format!("{TO} was not ready within ")), "{cause}");
        assert!(cause.contains("neco-worker does not run; ") && cause.contains(told), "{cause}");
        assert!(cause.contains(&format!("; {FROM} cannot use")), "who says so: {cause}");
        assert_eq!(cause.lines().count(), 1, "{cause}");
        assert_eq!(cause.ends_with("; and 2 more"), more.len() == 5, "{cause}");
        assert_eq!(site.installed().await, yes(FROM));
    }
    // It does not run for another reason.
    let site = Site::new();
    site.ready_to_install();
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    bad_recipe(&site, nothing, &[]);
    run(&site).await;
    assert!(site.cause().ends_with("neco-worker does not run"), "{}", site.cause());
}

/// At boot the unit may be quicker than the daemons: one that came up meanwhile must not go on as the old program.
#[tokio::test]
async fn a_daemon_that_comes_up_during_the_installation_is_restarted_too() {
    for says in [FROM, TO] {
        let site = Site::new();
        site.ready_to_install();
        site.daemons.end("neco-updater");
        let daemons = site.daemons.clone();
        site.packages.when_installed(TO, move || daemons.start("neco-updater", says));
        run(&site).await;
        assert_eq!(site.verdict(), Some(IntentEnd::Completed));
        let restarts = site.daemons.restarts.lock().unwrap().clone();
        assert!(restarts.contains(&"neco-updater".to_owned()), "it said {says}: {restarts:?}");
    }
}

#[tokio::test]
async fn a_package_that_fails_half_way_is_replaced_by_the_old_one() {
    let site = Site::new();
    site.ready_to_install();
    site.packages.fake.next(FakeInstall::Break);
    run(&site).await;
    let cause = site.cause();
    assert!(cause.contains("half-configured"), "{cause}");
    assert_eq!(site.installed().await, yes(FROM));
    assert_eq!(site.packages.log(), [TO, FROM]);
    // The scripts of the bad package are not run once more on the way back.
    assert_eq!(site.packages.repairs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_install_that_changed_nothing_needs_no_way_back() {
    let site = Site::new();
    let package = site.keep(TO);
    site.begin(package, None);
    site.packages.fake.next(FakeInstall::DoNothing);
    run(&site).await;
    let cause = site.cause();
    assert!(!cause.contains("going back"), "the old version is there still: {cause}");
    assert_eq!(site.installed().await, yes(FROM));
}

#[tokio::test]
async fn without_a_way_back_the_cause_says_that_there_was_none() {
    let site = Site::new();
    let package = site.keep(TO);
    site.begin(package, None);
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    run(&site).await;
    let cause = site.cause();
    assert!(cause.contains("was not ready within"), "{cause}");
    assert!(cause.contains("without a way back"), "{cause}");
    assert_eq!(site.installed().await, yes(TO));
}

#[tokio::test]
async fn a_package_that_was_changed_in_the_cache_is_not_installed() {
    let site = Site::new();
    site.ready_to_install();
    let path = site.cache.path(&format!("neco_{TO}_amd64.deb"));
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(path, content).unwrap();
    run(&site).await;
    assert!(site.cause().contains("verifying the package"), "{}", site.cause());
    assert_eq!(site.packages.log(), [""; 0]);
    assert_eq!(site.installed().await, yes(FROM));
}

/// Nobody installs what could not be undone: the way back is looked at before anything is changed.
#[tokio::test]
async fn a_way_back_that_is_damaged_keeps_the_new_package_out() {
    let site = Site::new();
    site.ready_to_install();
    std::fs::write(site.cache.path(&format!("neco_{FROM}_amd64.deb")), "damaged").unwrap();
    run(&site).await;
    assert!(site.cause().contains("way back"), "{}", site.cause());
    assert_eq!(site.packages.log(), [""; 0]);
}

/// A release that rotates keys may not know the key of the one before any more.
#[tokio::test]
async fn the_way_back_is_taken_although_the_bad_package_revokes_its_key() {
    let site = Site::new();
    site.ready_to_install();
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    let (keys, other) = (site.keys(), site.other_key().public_key().unwrap());
    site.packages.when_installed(TO, move || {
        std::fs::remove_file(keys.join("test.pub")).unwrap();
        std::fs::write(keys.join("other.pub"), &other).unwrap();
    });
    run(&site).await;
    assert!(!site.cause().contains("going back"), "{}", site.cause());
    assert_eq!(site.installed().await, yes(FROM));
}

#[tokio::test]
async fn a_locked_package_manager_is_waited_for_also_on_the_way_back() {
    let site = Site::new();
    site.ready_to_install();
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    let locked = site.packages.locked.clone();
    locked.store(1, Ordering::SeqCst);
    site.packages.when_installed(TO, move || locked.store(1, Ordering::SeqCst));
    run(&site).await;
    assert!(!site.cause().contains("lock"), "{}", site.cause());
    assert_eq!(site.packages.log(), [TO, FROM]);
    assert_eq!(site.installed().await, yes(FROM));
}

#[tokio::test]
async fn what_an_earlier_interruption_left_half_done_is_completed_and_not_installed_again() {
    let site = Site::new();
    site.ready_to_install();
    let (version, state) = (TO.to_owned(), "half-configured".to_owned());
    site.packages.fake.set("neco", Installed::Broken { version, state });
    run(&site).await;
    assert_eq!(site.verdict(), Some(IntentEnd::Completed));
    assert_eq!(site.packages.log(), [""; 0]);
    assert_eq!(site.packages.repairs.load(Ordering::SeqCst), 1);
}

/// Cuts the power at every call of a driver, before and after its effect, and runs the unit again.
async fn cut_everywhere(
    bad: bool,
    broken: Option<FakeInstall>,
    log: &[&str],
    check: impl Fn(IntentEnd, usize),
) {
    for at in 1.. {
        let site = Site::new();
        site.ready_to_install();
        if bad {
            site.daemons.bad.lock().unwrap().insert(TO.to_owned());
        }
        if let Some(broken) = broken.clone() {
            site.packages.fake.next(broken);
        }
        site.fuse.blow_at(at);
        let setup = site.setup();
        let cut = tokio::select! {
            biased;
            () = site.fuse.blown() => true,
            ended = run_unit(&setup) => {
                ended.unwrap();
                false
            }
        };
        site.fuse.blow_at(0);
        if cut {
            run(&site).await;
        }
        check(site.verdict().expect("a verdict"), at);
        assert_eq!(site.packages.log(), log, "cut at passage {at}");
        assert!(site.detached.fake.unit(UNIT).enabled.is_none());
        if !cut {
            assert!(at > 8, "the fuse was passed {at} times only");
            return;
        }
    }
}

#[tokio::test]
async fn a_power_cut_anywhere_does_not_change_a_good_verdict() {
    cut_everywhere(false, None, &[TO], |end, at| {
        assert_eq!(end, IntentEnd::Completed, "cut at passage {at}");
    })
    .await;
}

#[tokio::test]
async fn a_power_cut_anywhere_does_not_change_a_bad_verdict() {
    cut_everywhere(true, None, &[TO, FROM], |end, at| {
        let IntentEnd::Failed { cause } = end else { panic!("cut at passage {at}: {end:?}") };
        assert!(cause.contains("was not ready within"), "cut at passage {at}: {cause}");
        assert!(!cause.contains("going back"), "cut at passage {at}: {cause}");
    })
    .await;
}

#[tokio::test]
async fn a_power_cut_while_daemons_come_up_is_no_verdict() {
    let site = Site::new();
    site.ready_to_install();
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    let mut setup = site.setup();
    setup.ready_within = Duration::from_secs(600);
    let restarted = async {
        while site.daemons.restarts.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::select! {
        biased;
        () = restarted => {}
        ended = run_unit(&setup) => panic!("{ended:?}"),
    }
    assert_eq!(site.verdict(), None);
    site.daemons.bad.lock().unwrap().clear();
    run(&site).await;
    assert_eq!(site.verdict(), Some(IntentEnd::Completed));
    assert_eq!(site.packages.log(), [TO]);
}

#[tokio::test]
async fn a_verdict_that_the_disk_refuses_is_written_once_it_can_be() {
    let site = Site::new();
    site.ready_to_install();
    let journal = site.journal.clone();
    site.packages.when_installed(TO, move || journal.fail_with(Some(28)));
    let freed = async {
        while site.daemons.restarts.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.journal.fail_with(None);
    };
    tokio::join!(run(&site), freed);
    assert_eq!(site.verdict(), Some(IntentEnd::Completed));
}

fn journal(dir: &std::path::Path) -> Journal {
    let now = Arc::new(|| neco_schema::Timestamp::from_unix(1_800_000_000));
    let none: Checkpoint = Arc::new(|_| Vec::new());
    Journal::open(dir, Options::new(now, none)).unwrap().0
}

/// What has begun is carried out with what the command line says, though nobody can read the configuration any more.
#[tokio::test]
async fn the_program_itself_comes_to_a_verdict_without_a_readable_configuration() {
    let site = Site::new();
    site.ready_to_install();
    for name in ["neco-updater", "neco-worker"] {
        // Their files name this process, which is not to be ended.
        site.daemons.end(name);
    }
    let elsewhere = site.dir.path().join("elsewhere");
    std::fs::rename(site.cache.dir(), &elsewhere).unwrap();
    let config = site.root.join("/etc/neco/config.yml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "endpoints: [\n").unwrap();
    let journal = journal(&site.root.join("/var/lib/neco/journal"));
    let entries: Vec<_> = site.journal.entries().unwrap().into_iter().map(|r| r.entry).collect();
    journal.append_all(&entries).unwrap();
    let mut unit = tokio::process::Command::new(env!("CARGO_BIN_EXE_neco-worker"));
    unit.args(["install", "--sandbox", "--ready-within", "1s", "--root"]).arg(site.root.path());
    unit.arg("--cache").arg(&elsewhere).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), unit.output()).await;
    let output = output.expect("ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ends: Vec<IntentEnd> = journal
        .entries()
        .unwrap()
        .into_iter()
        .filter_map(|record| match record.entry {
            Entry::IntentClosed { end, .. } => Some(end),
            _ => None,
        })
        .collect();
    let [IntentEnd::Failed { cause }] = &ends[..] else { panic!("{ends:?}: {said}") };
    // Installed, then: nobody supervises its daemons here.
    assert!(cause.contains(&format!("{TO} was not ready within")), "{cause}");
    assert!(said.contains("unsigned packages are refused"), "{said}");
}
