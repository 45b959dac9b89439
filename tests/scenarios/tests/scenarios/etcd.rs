//! etcd is restarted, hangs, has no quorum, and forgets its history.

use neco_plan::View;
use neco_plan::invariants::Fact;
use neco_playground::{BootServer, HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario, Wire, effects, is_up, necoctl};
use neco_schema::{Key, Lrn};

/// How members of etcd go away.
#[derive(Clone, Copy)]
enum Away {
    /// Their connections break.
    Killed,
    /// Their connections stay, and nothing answers.
    Hung,
}

impl Away {
    async fn take(self, scenario: &Scenario, members: &[usize]) {
        let mut etcd = scenario.etcd().await;
        for member in members {
            match self {
                Self::Killed => etcd.member_mut(*member).kill().await.expect("killed"),
                Self::Hung => etcd.member(*member).pause().await.expect("hung"),
            }
        }
    }

    async fn give_back(self, scenario: &Scenario, members: &[usize]) {
        let mut etcd = scenario.etcd().await;
        for member in members {
            match self {
                Self::Killed => etcd.member_mut(*member).restart().await.expect("it comes back"),
                Self::Hung => etcd.member(*member).resume().await.expect("it goes on"),
            }
        }
    }
}

/// The restarts of one service that one server after another comes to, each held between its stop and its start.
struct Turns<'a> {
    scenario: &'a Scenario,
    held: Vec<(&'a BootServer, Held<'a>)>,
}

impl<'a> Turns<'a> {
    fn of(scenario: &'a Scenario) -> Self {
        let held = |server| (server, Held::next_start_of(server, HELD_UNIT).expect("room"));
        Self { scenario, held: scenario.servers().iter().map(held).collect() }
    }

    /// The server that has its turn now, and what holds it.
    async fn next(&mut self) -> (&'a BootServer, Held<'a>) {
        let mut at = None;
        self.scenario
            .until_true("the next server with its service stopped", async || {
                at = self.held.iter().position(|(server, _)| !is_up(server, HELD_UNIT));
                at.is_some()
            })
            .await;
        self.held.swap_remove(at.expect("just found"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_restarted_member_by_member_and_compacted_does_not_disturb_an_update() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let pids = |scenario: &Scenario| {
        scenario.servers().iter().map(|server| server.worker().pid()).collect::<Vec<_>>()
    };
    let before = pids(&scenario);
    {
        let mut etcd = scenario.etcd().await;
        for number in 0..etcd.len() {
            etcd.member_mut(number).restart().await.expect("it comes back");
            // Whoever watches from an older revision has to list again.
            scenario.compact().await;
        }
    }
    held.release().expect("room");
    scenario.completed(&version).await;

    assert_eq!(pids(&scenario), before, "no worker ended for it");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn an_update_goes_on_after_an_outage_of_all_of_etcd() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let running = scenario.processes();
    {
        let mut etcd = scenario.etcd().await;
        etcd.stop().await.expect("stopped");
        scenario.fact(Fact::Quorum { stands: false });
        for server in scenario.servers() {
            let told = necoctl(server, &["status", "--timeout=2s"]).await.ended(2);
            assert!(told.out.starts_with("STALE: "), "{}{}", told.out, told.err);
        }
        scenario.fact(Fact::Quorum { stands: true });
        etcd.restart().await.expect("it comes back");
    }
    assert_eq!(scenario.processes(), running, "nobody gives up");
    held.release().expect("room");
    scenario.completed(&version).await;
    assert_eq!(scenario.requests(from).await.len(), 1, "one request");
    scenario.verdict(&version).await;
}

async fn goes_on_while_each_member_is_away(away: Away) {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let mut turns = Turns::of(&scenario);
    let version = scenario.publish_update().await;
    let mut running = Vec::new();
    // Whatever a daemon is connected to goes away once, the leader of etcd too.
    for member in 0..3 {
        let (server, held) = turns.next().await;
        if member > 0 {
            away.give_back(&scenario, &[member - 1]).await;
        } else {
            running = scenario.processes();
        }
        away.take(&scenario, &[member]).await;
        held.release().expect("room");
        scenario.until_true("the end of a restart", async || is_up(server, HELD_UNIT)).await;
    }
    drop(turns);
    scenario.completed(&version).await;
    away.give_back(&scenario, &[2]).await;
    assert_eq!(scenario.processes(), running, "no daemon ended for it");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, never stopped");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn an_update_goes_on_while_a_member_of_etcd_is_killed_and_comes_back() {
    goes_on_while_each_member_is_away(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn an_update_goes_on_while_a_member_of_etcd_hangs() {
    goes_on_while_each_member_is_away(Away::Hung).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn without_quorum_everything_halts_at_a_safe_point_and_goes_on_by_itself_with_it() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let mut turns = Turns::of(&scenario);
    let version = scenario.publish_update().await;
    for (away, members) in [(Away::Killed, [0, 1]), (Away::Hung, [1, 2])] {
        let (server, held) = turns.next().await;
        let before: Vec<_> = scenario.servers().iter().map(effects).collect();
        let running = scenario.processes();
        away.take(&scenario, &members).await;
        scenario.fact(Fact::Quorum { stands: false });
        held.release().expect("room");
        // What was begun is brought to its end, and nothing else is begun.
        scenario.until_true("the end of the restart", async || is_up(server, HELD_UNIT)).await;
        for any in scenario.servers() {
            let said = necoctl(any, &["status"]).await.ended(2);
            let stale = said.out.contains("STALE") && said.out.contains("neco-worker");
            assert!(stale, "{}{}", said.out, said.err);
        }
        for (any, before) in scenario.servers().iter().zip(&before) {
            let mut expected = before.clone();
            if any.lrn() == server.lrn() {
                expected.push(format!("start {HELD_UNIT}"));
            }
            assert_eq!(effects(any), expected, "boot-{} without quorum", any.lrn());
        }
        assert_eq!(scenario.processes(), running, "nobody gives up");
        scenario.fact(Fact::Quorum { stands: true });
        away.give_back(&scenario, &members).await;
    }
    let (_, held) = turns.next().await;
    held.release().expect("room");
    drop(turns);
    scenario.completed(&version).await;
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, never stopped");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_worker_that_was_cut_off_while_history_was_compacted_goes_on_where_it_was() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let victim = scenario.server(2);
    let wire = Wire::lay(&scenario, victim).await;
    let post = [Key::Status(victim.lrn()).to_string(), "\"step\":3,\"cond\":1".to_owned()];
    wire.cut_before(&[&post[0], &post[1]]);
    let version = scenario.publish_update().await;
    wire.caught().await;
    let pid = victim.worker().pid();
    let step = |view: &View, lrn: Lrn| {
        let status = view.current().and_then(|request| view.status_of(request, lrn));
        status.map_or(0, |status| status.value.step)
    };
    let view = scenario
        .until("the others in step 3", |view| {
            [0, 1].iter().all(|&lrn| step(view, Lrn::new(lrn)) == 3)
        })
        .await;
    assert_eq!(step(&view, victim.lrn()), 2);
    scenario.compact().await;
    // What it had seen is older than what can be followed from now on.
    wire.mend();
    scenario.completed(&version).await;

    assert_eq!(victim.worker().pid(), pid, "no reason to end");
    let posted = scenario.posted(victim, from).await;
    assert_eq!(posted.iter().filter(|status| status.step == 3).count(), 1, "posted once");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request");
    scenario.verdict(&version).await;
}
