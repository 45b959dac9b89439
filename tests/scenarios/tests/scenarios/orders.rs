//! Operators give orders in the middle of an update: stop, recover, pause, resume.

use neco_plan::invariants::InvariantId;
use neco_plan::{Versioned, View};
use neco_playground::{BootServer, HELD_UNIT, Held, outcome_of};
use neco_scenarios::{
    GROUPED_UNIT, IMAGE, LONG, Said, Scenario, all_settled, attempts, has_done, is_up, necoctl,
    once, one_says_more, posted, request_for, request_of, says, settled, unit,
};
use neco_schema::journal::Entry;
use neco_schema::{
    ClockRecord, Condition, Lrn, NecoVersion, Outcome, Record, RequestKind, Revision,
    UpdateRequest, UpdateStatus, Way,
};
use neco_worker::install::UNIT;

/// The first thing that an installation changes.
const UNPACK: &str = "unpack neco";
/// The steps between which [`GROUPED_UNIT`] is down on all servers.
const GROUP_STOPS: u32 = 3;
const GROUP_APPLIES: u32 = 4;
/// Where the definition of [`GROUPED_UNIT`] lies.
const DEFINITION: &str = "etc/systemd/system/vault.service";

/// What a server posts that has not begun when the request is stopped.
const SETTLED_BEFORE_ANY_STEP: Option<(u32, Condition)> = Some((0, Condition::NotRunning));

/// Waits until a server pulls [`IMAGE`] for `version`.
async fn pulling(scenario: &Scenario, version: &NecoVersion, lrn: u32) {
    scenario
        .until("a pull", |view| {
            let request = request_of(view, version).map(UpdateRequest::id);
            let progress = view.progress.get(&Lrn::new(lrn)).map(|progress| &progress.value);
            progress.is_some_and(|progress| {
                Some(&progress.request) == request.as_ref()
                    && progress.doing.contains("vault:1.18.1.2")
            })
        })
        .await;
}

/// Waits until a server installs and hangs in it.
async fn unpacking(scenario: &Scenario, server: &BootServer) {
    scenario.until_true("the unit that installs", async || server.detached(UNIT).is_some()).await;
}

/// Every service that the update touches runs on every server and comes up at boot.
fn services_run(scenario: &Scenario) {
    for server in scenario.servers() {
        for name in [GROUPED_UNIT, HELD_UNIT] {
            let unit = unit(server, name);
            assert!(unit.active && unit.enabled, "{name} on boot-{}: {unit:?}", server.lrn());
        }
    }
}

/// The text that a verb prints, where it ends well.
async fn told(server: &BootServer, arguments: &[&str]) -> String {
    necoctl(server, arguments).await.ended(0).out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_stop_in_a_long_step_is_heard_in_it_and_recover_waits_for_a_step_that_runs_unless_forced()
{
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let (desk, slow) = (scenario.server(0), scenario.server(1));

    // A pull that hangs: it is left at once, and nothing has to be let go for that.
    slow.hold(IMAGE).expect("room");
    let version = scenario.publish_update().await;
    pulling(&scenario, &version, 1).await;
    let refused = necoctl(desk, &["recover"]).await.ended(5).err;
    says(&refused, &["the update is not stopped", "necoctl stop", "--force"]);
    let done = told(desk, &["stop", "--by=alice", "--reason=wrong week"]).await;
    says(&done, &[version.as_str(), "is stopped"]);
    let again = told(desk, &["stop"]).await;
    assert!(again.starts_with("unchanged: "), "{again}");
    let view = all_settled(&scenario, &version).await;
    let first = view.current().expect("a request").clone();
    services_run(&scenario);
    says(&told(desk, &["status"]).await, &["stopped", "by alice", "wrong week", "settled"]);
    let why = told(desk, &["why"]).await;
    says(&why, &["is stopped: by alice: wrong week", "command necoctl recover\n"]);
    slow.release(IMAGE).expect("room");

    // The same version again; this time a service is stopped and does not start.
    let held = Held::next_start_of(slow, HELD_UNIT).expect("room");
    let done = told(desk, &["recover", "--reason=right week"]).await;
    says(&done, &[version.as_str(), "is put away"]);
    let step = held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let view = scenario.view().await.expect("an answer");
    let second = view.current().expect("a request").clone();
    assert_ne!(second.id(), first.id());
    assert_eq!(outcome_of(&view, &first), Some(Outcome::Stopped));
    told(desk, &["stop", "--by=bob", "--reason=wrong day"]).await;
    settled(&scenario, &second, &[desk, scenario.server(2)]).await;
    let missing = necoctl(desk, &["recover", "--wait=1s"]).await.ended(2).err;
    says(&missing, &["have not settled yet", "boot servers 1", "--force"]);
    let why = told(desk, &["why"]).await;
    says(&why, &["by bob: wrong day", "boot server 1 is busy: ", HELD_UNIT, "necoctl recover"]);
    // Without waiting; what runs there is left alone, and nothing is requested meanwhile.
    told(desk, &["recover", "--force", "--reason=in a hurry"]).await;
    let busy = format!("restart of {HELD_UNIT}");
    scenario
        .until_true("a word of the leader", async || {
            let why = told(desk, &["why"]).await;
            why.contains("not ready for a request: boot server 1 is busy") && why.contains(&busy)
        })
        .await;
    assert!(!is_up(slow, HELD_UNIT), "nobody else starts it");
    assert!(!has_done(slow, &second, step));
    held.release().expect("room");
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &second), Some(Outcome::Stopped));
    let made = scenario.requests(from).await.into_iter().filter_map(|(_, request)| request);
    let mut ids: Vec<_> = made.map(|request| request.id()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "one request after each recovery: {ids:?}");
    for server in scenario.servers() {
        assert_eq!(scenario.done_to(server, HELD_UNIT), once(HELD_UNIT), "boot-{}", server.lrn());
    }
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_an_outage_group_starts_the_service_again_everywhere_and_a_newer_release_goes_on()
{
    let scenario = Scenario::begin().await;
    let (desk, slow) = (scenario.server(0), scenario.server(2));
    let definition = |server: &BootServer| {
        std::fs::read_to_string(server.root().join(DEFINITION)).expect("a definition")
    };
    let before: Vec<(Option<String>, String)> = scenario
        .servers()
        .iter()
        .map(|server| (unit(server, GROUPED_UNIT).started_with, definition(server)))
        .collect();

    // Before anybody has started the new one: all go back.
    let held = "stop vault.service";
    slow.hold(held).expect("room");
    let version = scenario.publish_update().await;
    let first = request_for(&scenario, &version, &[]).await;
    scenario
        .until("the service down on two servers", |view| {
            let at = |lrn| posted(view, &first, scenario.server(lrn));
            let beyond = |lrn| at(lrn) == Some((GROUP_APPLIES, Condition::Running));
            let stops = at(2) == Some((GROUP_STOPS, Condition::Running));
            let opened = view.alive.get(&Lrn::new(2)).map(|alive| alive.value.busy.join(" "));
            beyond(0)
                && beyond(1)
                && stops
                && opened.is_some_and(|busy| busy.contains("group vault"))
        })
        .await;
    for (lrn, runs) in [(0, false), (1, false), (2, true)] {
        let unit = unit(scenario.server(lrn), GROUPED_UNIT);
        assert!(unit.active == runs, "boot-{lrn}: {unit:?}");
        assert!(!unit.enabled, "a reboot of boot-{lrn} must not start it: {unit:?}");
    }
    told(desk, &["stop", "--by=alice", "--reason=not now"]).await;
    settled(&scenario, &first, &[desk, scenario.server(1)]).await;
    let why = told(desk, &["why"]).await;
    says(&why, &["by alice: not now", "boot server 2 is busy: group vault"]);
    slow.release(held).expect("room");
    let view = all_settled(&scenario, &version).await;
    assert_eq!(view.groups["vault"].value.way, Way::Back);
    services_run(&scenario);
    for (server, (started_with, text)) in scenario.servers().iter().zip(&before) {
        assert_eq!(unit(server, GROUPED_UNIT).started_with, *started_with, "what ran before");
        assert_eq!(definition(server), *text, "what ran before");
        let done = scenario.done_to(server, GROUPED_UNIT);
        assert_eq!(done, once(GROUPED_UNIT), "boot-{}", server.lrn());
    }

    // After somebody has: all go forward.
    let held = Held::next_start_of(slow, GROUPED_UNIT).expect("room");
    told(desk, &["recover"]).await;
    let second = request_for(&scenario, &version, &[&first]).await;
    scenario
        .until("the new service on two servers", |view| {
            let beyond = |lrn| {
                let posted = posted(view, &second, scenario.server(lrn));
                posted.is_some_and(|(step, _)| step > GROUP_APPLIES)
            };
            beyond(0) && beyond(1) && !is_up(slow, GROUPED_UNIT)
        })
        .await;
    told(desk, &["stop", "--by=bob", "--reason=not now either"]).await;
    settled(&scenario, &second, &[desk, scenario.server(1)]).await;
    held.release().expect("room");
    let view = all_settled(&scenario, &version).await;
    assert_eq!(view.groups["vault"].value.way, Way::Forward);
    services_run(&scenario);
    for (server, (started_with, _)) in scenario.servers().iter().zip(&before) {
        assert_ne!(unit(server, GROUPED_UNIT).started_with, *started_with, "the new one");
        let words = ["stop", "start", "stop", "start"].map(|word| format!("{word} {GROUPED_UNIT}"));
        assert_eq!(scenario.done_to(server, GROUPED_UNIT), words, "boot-{}", server.lrn());
    }

    // Nobody recovers: a newer release is enough.
    let healing = scenario.packages().healing().expect("a third package").clone();
    scenario.publish_sound(&healing).await;
    let view = scenario.completed(&healing).await;
    for request in [&first, &second] {
        assert_eq!(outcome_of(&view, request), Some(Outcome::Stopped));
    }
    scenario.verdict(&healing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_stop_during_the_install_leaves_a_download_at_once_and_waits_for_a_verdict() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let (first, desk) = (scenario.server(0), scenario.server(1));
    let version = scenario.packages().update().clone();

    // While it downloads: nothing has been changed, so it is left at once.
    let download = format!("fetch neco_{version}_amd64.deb");
    first.hold(&download).expect("room");
    scenario.publish_update().await;
    let fetching = format!("fetching {version}");
    scenario
        .until("a download", |view| {
            let progress = view.progress.get(&first.lrn()).map(|progress| &progress.value);
            request_of(view, &version).is_some()
                && progress.is_some_and(|progress| progress.doing == fetching)
        })
        .await;
    told(desk, &["stop", "--by=alice", "--reason=not today"]).await;
    let view = all_settled(&scenario, &version).await;
    let downloading = view.current().expect("a request").clone();
    let all = [0, 1, 2].map(|lrn| posted(&view, &downloading, scenario.server(lrn)));
    assert_eq!(all, [SETTLED_BEFORE_ANY_STEP; 3]);
    first.release(&download).expect("room");

    // While it unpacks: cut off in its middle it would leave neither version, so it goes to its end.
    first.hold(UNPACK).expect("room");
    told(desk, &["recover"]).await;
    unpacking(&scenario, first).await;
    let view = scenario.view().await.expect("an answer");
    let stopped = request_of(&view, &version).expect("a request").clone();
    told(desk, &["stop", "--by=bob", "--reason=not this one"]).await;
    scenario
        .until("the others settled", |view| {
            let posted = |lrn| posted(view, &stopped, scenario.server(lrn));
            [1, 2].map(posted) == [SETTLED_BEFORE_ANY_STEP; 2]
        })
        .await;
    let missing = necoctl(desk, &["recover", "--wait=1s"]).await.ended(2).err;
    says(&missing, &["have not settled yet", "boot servers 0"]);
    let busy = format!("boot server 0 is busy: install of {version}");
    says(&told(desk, &["why"]).await, &["by bob: not this one", &busy]);
    let since = scenario.recorded().await;
    let recover = ["recover", "--wait=180s", "--reason=this one after all"];
    let let_go = async { first.release(UNPACK).expect("room") };
    let (recovered, ()) = tokio::join!(necoctl(desk, &recover), let_go);
    says(&recovered.ended(0).out, &[version.as_str(), "is put away"]);

    // The verdict came first, then the word of the server, then the recovery.
    let posted_since = scenario.posted(first, since).await;
    let settled = posted_since.first().expect("a word of the server");
    assert_eq!((settled.step, settled.cond), (0, Condition::NotRunning), "{settled:?}");
    assert_eq!(settled.request, Some(stopped.id()));
    let requests = scenario.requests(since).await;
    let (gone_at, _) = requests.iter().find(|(_, request)| request.is_none()).expect("put away");
    let put_away = &scenario.history().await[gone_at];
    let status = put_away.iter().find(|change| change.key == "status/bootservers/0");
    let status = status.and_then(|change| change.before.as_ref()).expect("it had one");
    let status = UpdateStatus::decode(&status.value).expect("a status");
    assert_eq!((status.request, status.cond), (Some(stopped.id()), Condition::NotRunning));
    for server in scenario.servers() {
        let journal = server.journal().expect("a journal");
        let begun = journal.iter().filter(|record| {
            let Entry::IntentOpened { request, .. } = &record.entry else { return false };
            [stopped.id(), downloading.id()].contains(request)
        });
        let expected = usize::from(server.lrn() == first.lrn());
        assert_eq!(begun.count(), expected, "boot-{}: nobody else installs", server.lrn());
    }
    let view = scenario.completed(&version).await;
    for request in [&downloading, &stopped] {
        assert_eq!(outcome_of(&view, request), Some(Outcome::Stopped));
    }
    let made = scenario.requests(from).await.into_iter().filter_map(|(_, request)| request);
    assert_eq!(made.filter(|request| !request.stop).count(), 3, "one after each recovery");
    scenario.verdict(&version).await;
}

/// Pauses, and gives the reason by which this pause is known.
async fn pause(desk: &BootServer, reason: &str) {
    let done = told(desk, &["pause", "--by=alice", "--reason", reason]).await;
    says(&done, &["paused: 'necoctl resume' goes on"]);
    let paused = format!("paused by alice: {reason}");
    says(&told(desk, &["why"]).await, &[&paused, "command necoctl resume"]);
    let status = told(desk, &["status"]).await;
    let line = status.lines().find(|line| line.starts_with("Paused")).expect("a line about it");
    says(line, &["by alice", reason]);
}

/// Waits until the workers of all servers rest because of the pause with this reason.
async fn all_rest(scenario: &Scenario, reason: &str) {
    let paused = format!("paused by alice: {reason}");
    for server in scenario.servers() {
        scenario.logged(server, "neco-worker", &["decided: rest", &paused]).await;
    }
}

/// What stands in `clock/` for a request, the next time that it is written after `since`.
async fn next_clock(scenario: &Scenario, request: &UpdateRequest, since: Revision) -> Clock {
    let id = request.id();
    let later =
        |view: &View| view.clocks.get(&id).filter(|clock| clock.mod_revision > since).cloned();
    let view = scenario.until("the time to be written down", |view| later(view).is_some()).await;
    later(&view).expect("just seen")
}

type Clock = Versioned<ClockRecord>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_pause_in_the_install_in_a_long_step_and_in_an_outage_group_begins_nothing_until_resume()
{
    let scenario = Scenario::begin().await;
    let (desk, first, slow) = (scenario.server(1), scenario.server(0), scenario.server(1));
    let before = scenario.packages().first().clone();
    let on_disk = |version: &NecoVersion| -> Vec<bool> {
        let disks = scenario.servers().iter().map(BootServer::version_on_disk);
        disks.map(|found| found.as_deref() == Some(version.as_str())).collect()
    };

    // During the install: it comes to its end, and the others do not begin theirs.
    first.hold(UNPACK).expect("room");
    let version = scenario.publish_update().await;
    unpacking(&scenario, first).await;
    pause(desk, "in the install").await;
    let again = told(desk, &["pause", "--reason=once more"]).await;
    assert!(again.starts_with("unchanged: already paused by alice"), "{again}");
    first.release(UNPACK).expect("room");
    all_rest(&scenario, "in the install").await;
    assert_eq!(on_disk(&version), [true, false, false]);
    assert_eq!(on_disk(&before), [false, true, true]);
    let view = scenario.view().await.expect("an answer");
    let request = request_of(&view, &version).expect("the request").clone();
    assert_eq!(view.member_statuses(&request).count(), 0, "nobody goes on");

    // In a long step: it comes to its end, the next is not begun, and no deadline comes nearer.
    slow.hold(IMAGE).expect("room");
    told(desk, &["resume", "--by=bob"]).await;
    pulling(&scenario, &version, 1).await;
    pause(desk, "in a long step").await;
    slow.release(IMAGE).expect("room");
    all_rest(&scenario, "in a long step").await;
    assert!(has_done(slow, &request, 1), "what had begun is done");
    let view = scenario.view().await.expect("an answer");
    let one = next_clock(&scenario, &request, view.revision).await;
    let other = next_clock(&scenario, &request, one.mod_revision).await;
    assert_eq!(one.value, other.value, "time stands still");
    assert!(one.value.elapsed > 0, "it was counted until then");
    for server in scenario.servers() {
        assert!(attempts(server, &request, 2).is_empty(), "boot-{} begins a step", server.lrn());
    }

    // In an outage group: the service comes up again everywhere before anything rests.
    let held = "stop vault.service";
    scenario.server(2).hold(held).expect("room");
    told(desk, &["resume"]).await;
    scenario
        .until("the group open on all servers", |view| {
            let open = |lrn: u32| {
                let alive = view.alive.get(&Lrn::new(lrn)).map(|alive| alive.value.busy.join(" "));
                alive.is_some_and(|busy| busy.contains("group vault"))
            };
            (0..3).all(open)
        })
        .await;
    pause(desk, "in a group").await;
    scenario.server(2).release(held).expect("room");
    all_rest(&scenario, "in a group").await;
    let view = scenario.view().await.expect("an answer");
    let beyond = Some((GROUP_APPLIES + 1, Condition::Running));
    for server in scenario.servers() {
        let lrn = server.lrn();
        assert_eq!(posted(&view, &request, server), beyond, "boot-{lrn}");
        assert!(is_up(server, GROUPED_UNIT), "boot-{lrn}");
        assert!(
            attempts(server, &request, GROUP_APPLIES + 1).is_empty(),
            "boot-{lrn} begins a step"
        );
    }
    assert_eq!(view.groups["vault"].value.way, Way::Forward);
    told(desk, &["resume"]).await;
    let again = told(desk, &["resume"]).await;
    assert!(again.starts_with("unchanged: nothing is paused"), "{again}");
    scenario.completed(&version).await;

    // Between two updates: the next is not requested.
    let healing = scenario.packages().healing().expect("a third package").clone();
    told(desk, &["pause", "--by=alice", "--reason=between two"]).await;
    let waits = format!("{healing} waits for 'necoctl resume'");
    let waits = Said::by_updaters(&scenario, &[&waits]);
    scenario.publish_sound(&healing).await;
    scenario
        .until_true("a leader that waits", async || {
            let page = told(desk, &["why"]).await;
            let known = scenario.view().await.is_ok_and(|view| view.seen.contains_key(&healing));
            known && page.contains("paused by alice: between two")
        })
        .await;
    one_says_more(&scenario, &waits).await;
    let view = scenario.view().await.expect("an answer");
    assert_eq!(view.current().map(|request| &request.version), Some(&version));
    told(desk, &["resume"]).await;
    scenario.completed(&healing).await;
    let report = scenario.verdict(&healing).await;
    assert!(report.holding.contains(&InvariantId::Safety(25)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_release_withdrawn_while_it_runs_is_stopped_and_left_for_the_newest_not_withdrawn() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let desk = scenario.server(0);
    let before = scenario.packages().first().clone();
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let view = scenario.view().await.expect("an answer");
    let withdrawn = view.current().expect("a request").clone();
    let order = ["withdraw", version.as_str(), "--by=alice", "--reason=breaks the network"];
    says(&told(desk, &order).await, &["is withdrawn; the update to it is stopped"]);
    let again = told(desk, &order).await;
    assert!(again.starts_with("unchanged: "), "{again}");
    settled(&scenario, &withdrawn, &[desk, scenario.server(2)]).await;
    let why = told(desk, &["why"]).await;
    says(&why, &["boot server 1 is busy: "]);
    let status = told(desk, &["status"]).await;
    says(&status, &[&format!("{version} was withdrawn"), "by alice", "breaks the network"]);
    held.release().expect("room");

    // Going back is what the withdrawal asks for; nobody has to recover.
    let view = scenario.completed(&before).await;
    let back = view.current().expect("a request").clone();
    assert!(back.allow_downgrade && back.kind == Some(RequestKind::Release), "{back:?}");
    assert_eq!(outcome_of(&view, &withdrawn), Some(Outcome::Aborted));
    let status = told(desk, &["status"]).await;
    let line = status.lines().find(|line| line.starts_with("Withdrawn")).expect("a line about it");
    says(line, &[version.as_str(), "by alice", "breaks the network"]);
    let refused = necoctl(desk, &["update", "--to", version.as_str()]).await.ended(5).err;
    says(&refused, &[version.as_str(), "is withdrawn"]);

    let healing = scenario.packages().healing().expect("a third package").clone();
    scenario.publish_sound(&healing).await;
    scenario.completed(&healing).await;
    let made = scenario.requests(from).await.into_iter().filter_map(|(_, request)| request);
    let mut versions: Vec<_> = made.map(|request| request.version).collect();
    versions.dedup();
    assert_eq!(versions, [version, before, healing.clone()]);
    scenario.verdict(&healing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_pin_holds_though_a_newer_release_is_out_and_its_end_goes_on_to_the_newest() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let desk = scenario.server(2);
    let pinned = scenario.packages().update().clone();
    let newest = scenario.packages().healing().expect("a third package").clone();
    let order = ["update", "--to", pinned.as_str(), "--by=alice", "--reason=proven elsewhere"];
    // Both are out before anybody may begin.
    told(desk, &["pause", "--reason=to have both"]).await;
    scenario.publish_sound(&pinned).await;
    scenario.publish_sound(&newest).await;
    scenario.until("both", |view| view.release.as_ref() == Some(&newest)).await;
    says(&told(desk, &order).await, &[pinned.as_str(), "is the target", "--unpin"]);
    let words = ["decided: wait ", "everything is up to date"];
    let idle = Said::by_updaters(&scenario, &words);
    told(desk, &["resume"]).await;
    let view = scenario.completed(&pinned).await;
    let request = view.current().expect("a request").clone();
    assert_eq!(request.kind, Some(RequestKind::Manual));
    assert!(view.seen.contains_key(&newest) && view.release.as_ref() == Some(&newest));
    let status = told(desk, &["status"]).await;
    let line = status.lines().find(|line| line.starts_with("Target")).expect("a line about it");
    says(line, &[pinned.as_str(), "pinned by alice", "proven elsewhere"]);
    // The leader has nothing to do, and says so after the last completion.
    one_says_more(&scenario, &idle).await;
    says(&told(desk, &["why"]).await, &["Nothing stands in the way"]);
    let view = scenario.view().await.expect("an answer");
    assert_eq!(view.current().map(UpdateRequest::id), Some(request.id()), "it stays");

    let order = ["update", "--unpin", "--by=bob"];
    says(&told(desk, &order).await, &["follows releases again, not", pinned.as_str()]);
    let again = told(desk, &order).await;
    assert!(again.starts_with("unchanged: "), "{again}");
    scenario.completed(&newest).await;
    let requests = scenario.requests(from).await;
    let made: Vec<_> = requests.iter().filter_map(|(_, request)| request.as_ref()).collect();
    let versions: Vec<_> = made.iter().map(|request| &request.version).collect();
    assert_eq!(versions, [&pinned, &newest]);
    scenario.verdict(&newest).await;
}
