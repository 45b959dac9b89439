//! The real decisions, driven through whole updates: they keep every invariant, and bugs planted in them do not.

use std::collections::BTreeSet;
use std::time::Duration;

use neco_schema::journal::Entry;
use neco_schema::{Compare, Key, LeaseId, NecoVersion, Op, Revision, Timestamp};

use super::log::*;
use crate::invariants::InvariantId::{self, Liveness, Safety};
use crate::invariants::{Fact, Rules, Writer};
use crate::{
    Doing, Elapsed, LeaderContext, Limits, Local, Move, PostKind, StatusWrite, View, Window,
    decide_way, next_action, next_move, operator,
};

/// One server of the little cluster.
struct Node {
    me: Local,
    /// Whether its worker runs.
    up: bool,
    /// Turns in which it does nothing.
    asleep: u32,
}

/// A cluster in which everybody acts in turn, on fresh views.
struct Cluster {
    log: Log,
    nodes: Vec<Node>,
    #[cfg(feature = "testing")]
    planted: Option<crate::testing::Planted>,
}

impl Cluster {
    fn new(rules: Rules) -> Self {
        let recipe = rules.recipe.clone().expect("a recipe");
        let mut log = Log::new(rules);
        let mut nodes = Vec::new();
        for lrn in [A, B, C] {
            log.write([Op::put_bytes(&Key::BootServer(lrn), "")]);
            log.write([Op::put(&Key::Alive(lrn), &alive("0.9.0"))]);
            log.line(lrn, started("0.9.0"));
            nodes.push(Node {
                me: Local::new(lrn, "m", version("0.9.0"), recipe.clone()),
                up: true,
                asleep: 0,
            });
        }
        let candidate = Key::Candidate { election: "updater".to_owned(), lease: 7 };
        log.write([Op::put_bytes(&candidate, "boot-0").with_lease(LeaseId(7))]);
        log.write([Op::put_bytes(&Key::Release, "1.0.0")]);
        Self {
            log,
            nodes,
            #[cfg(feature = "testing")]
            planted: None,
        }
    }

    fn view(&self) -> View {
        View::assemble(&self.log.snapshot())
    }

    fn lead(&mut self) {
        let view = self.view();
        let limits = Limits {
            request: Duration::from_secs(3600),
            step: Duration::from_secs(1200),
            window: Window::Open,
            probes: vec![],
        };
        let candidate = Key::Candidate { election: "updater".to_owned(), lease: 7 };
        let context = LeaderContext {
            leadership: Compare::exists(&candidate),
            now: Timestamp::from_unix(100 + self.log.revision.0),
            host: "boot-0".to_owned(),
            package: Some(package('a')),
        };
        let action = next_action(&view, &limits, &Elapsed::default());
        if let Some(txn) = action.txn(&view, &context) {
            assert!(self.log.txn(Writer::Leader, &txn), "{action:?}");
        }
    }

    fn write(&mut self, at: usize, entry: Entry) {
        let lrn = self.nodes[at].me.lrn;
        self.nodes[at].me.journal.apply(&entry);
        self.log.line(lrn, entry);
    }

    /// One move of one worker.
    fn work(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.asleep = node.asleep.saturating_sub(1);
        if !node.up || node.asleep > 0 {
            return;
        }
        #[cfg(feature = "testing")]
        {
            node.me.planted = self.planted;
        }
        let (view, lrn) = (View::assemble(&self.log.snapshot()), node.me.lrn);
        let me = node.me.clone();
        let decided = next_move(&view, &me);
        let write = StatusWrite {
            now: Timestamp::from_unix(100 + self.log.revision.0),
            changes: vec![],
            steps: vec![],
        };
        if !matches!(decided, Move::Keep | Move::Rest(_)) {
            self.write(at, mark(view.cluster_id, view.revision.0));
        }
        match &decided {
            Move::Post(post) => {
                let cond = post.condition().code();
                self.write(
                    at,
                    Entry::Posting { request: post.request.clone(), step: post.step, cond },
                );
                let txn = decided.txn(&view, &me, &write).expect("a post is written");
                assert!(self.log.txn(Writer::Worker(lrn), &txn));
                if matches!(post.kind, PostKind::Settled) {
                    assert!(self.nodes[at].me.doing.is_none());
                }
            }
            Move::PublishPlan { .. } | Move::ReleaseTurn { .. } => {
                let txn = decided.txn(&view, &me, &write).expect("it is written");
                assert!(self.log.txn(Writer::Worker(lrn), &txn));
            }
            Move::Run { request, step, attempt } => {
                let revision = view.revision;
                let (request, step, attempt) = (request.clone(), *step, *attempt);
                self.write(
                    at,
                    Entry::StepBegun { request: request.clone(), step, attempt, revision },
                );
                self.nodes[at].me.doing = Some(Doing::Step { request, step });
            }
            Move::Keep => self.go_on(at, &view),
            Move::Cancel { .. } => {
                if let Some(Doing::Step { request, step }) = self.nodes[at].me.doing.take() {
                    self.write(at, Entry::StepCancelled { request, step });
                }
            }
            Move::Install { request, version, .. } => {
                let entry = install_of(request, version);
                self.write(at, entry);
                self.write(at, intent_begun(view.revision));
                let end = neco_schema::journal::IntentEnd::Completed;
                let intent = neco_schema::journal::IntentId("i".to_owned());
                self.write(at, Entry::IntentClosed { intent, end });
                self.nodes[at].me.installed = version.clone();
            }
            Move::ExitForNewBinary => {
                self.write(at, Entry::PlannedExit { why: "new binary".to_owned() });
                let new = self.nodes[at].me.installed.clone();
                self.nodes[at].me.running = new.clone();
                self.write(at, started(new.as_str()));
                self.log.put(&Key::Alive(lrn), &alive(new.as_str()));
            }
            Move::Restore { group, request, way, decided: known } => {
                if !known {
                    let txn = decided.txn(&view, &me, &write).expect("the way is written");
                    assert!(self.log.txn(Writer::Worker(lrn), &txn));
                    return;
                }
                let (group, request, way) = (group.clone(), request.clone(), *way);
                self.write(at, Entry::GroupClosed { group, request, way });
            }
            Move::CompleteIntent { .. } | Move::DropIntent { .. } | Move::Rest(_) => {}
        }
    }

    /// The running step ends; a stop step opens its group, an apply step closes it.
    fn go_on(&mut self, at: usize, view: &View) {
        let Some(Doing::Step { request, step }) = self.nodes[at].me.doing.clone() else { return };
        let revision = view.revision;
        let groups = self.nodes[at].me.recipe.groups.clone();
        let lrn = self.nodes[at].me.lrn;
        for group in groups {
            let (name, request) = (group.name.clone(), request.clone());
            if group.stop == step && !self.nodes[at].me.journal.groups.contains_key(&name) {
                self.write(at, Entry::GroupOpened { group: name, request, revision });
                return;
            }
            if group.apply == step && self.nodes[at].me.journal.groups.contains_key(&name) {
                let way = neco_schema::Way::Forward;
                if view.groups.get(&name).is_none_or(|group| group.value.request != request) {
                    let txn = decide_way(view, &name, &request, way);
                    assert!(self.log.txn(Writer::Worker(lrn), &txn));
                }
                self.write(at, Entry::GroupClosed { group: name, request, way });
            }
        }
        self.nodes[at].me.doing = None;
        self.write(at, Entry::StepDone { request, step });
    }

    fn crash(&mut self, at: usize) {
        self.nodes[at].me.doing = None;
        let running = self.nodes[at].me.running.clone();
        self.write(at, started(running.as_str()));
    }

    fn rounds(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.lead();
            for at in 0..self.nodes.len() {
                self.work(at);
            }
        }
    }

    fn is_finished(&self) -> bool {
        let view = self.view();
        view.current().is_some_and(|request| crate::leader::is_finished(&view, request))
    }

    fn stop(&mut self) {
        let order = operator::Order {
            by: "somebody".to_owned(),
            reason: "because".to_owned(),
            now: Timestamp::from_unix(5_000),
        };
        let txn = operator::stop(&self.view(), &order).expect("it can be stopped");
        assert!(self.log.txn(Writer::Operator { forced: false }, &txn));
    }
}

fn install_of(request: &neco_schema::RequestId, to: &NecoVersion) -> Entry {
    intent(
        request,
        neco_schema::journal::Effect::Install {
            from: version("0.9.0"),
            to: to.clone(),
            package: package('a'),
            way_back: Some("neco_0.9.0.deb".to_owned()),
        },
    )
}

fn grouped() -> Rules {
    Rules { recipe: Some(recipe(5, &[(2, 4)])), ..Rules::default() }
}

fn found(log: &mut Log) -> BTreeSet<InvariantId> {
    log.finish().violations.iter().map(|violation| violation.invariant).collect()
}

#[test]
fn an_update_with_a_crash_keeps_every_invariant() {
    let mut cluster = Cluster::new(grouped());
    cluster.rounds(9);
    cluster.crash(1);
    cluster.rounds(40);
    assert!(cluster.is_finished());
    cluster.log.auditor.fact(Fact::FaultsEnded);
    let report = cluster.log.finish();
    assert!(report.violations.is_empty(), "{report}");
    for invariant in [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 20, 22, 27, 28, 29, 32, 33, 39, 40] {
        assert!(report.holding.contains(&Safety(invariant)), "{invariant} was not put to the test");
    }
    assert!(report.holding.contains(&Liveness(1)) && report.holding.contains(&Liveness(6)));
    // Without anybody's facts, from revisions alone.
    let (report, tallies) = cluster.log.fed_from(None);
    assert!(report.violations.is_empty() && report.log_faults.is_empty(), "{report}");
    for invariant in [1, 3, 5, 7, 8, 9, 10, 11, 13, 14, 20, 22, 27, 28, 29, 32, 33, 39] {
        assert!(report.holding.contains(&Safety(invariant)), "{invariant} was not put to the test");
    }
    assert!(tallies.values().all(|tally| tally.judged > 0 && tally.unjudged == 0), "{tallies:?}");
}

#[test]
fn a_history_of_which_any_beginning_is_compacted_is_not_accused() {
    for moment in [6, 9, 14, 20] {
        let mut cluster = Cluster::new(grouped());
        cluster.rounds(moment);
        cluster.crash(2);
        cluster.rounds(2);
        cluster.stop();
        cluster.rounds(20);
        let order = operator::Order {
            by: "somebody".to_owned(),
            reason: "again".to_owned(),
            now: Timestamp::from_unix(6_000),
        };
        let txn = operator::recover(&cluster.view(), operator::Recovery::default(), &order);
        let txn = txn.expect("settled");
        assert!(cluster.log.txn(Writer::Operator { forced: false }, &txn));
        cluster.rounds(60);
        assert!(cluster.is_finished(), "stop after {moment} rounds");
        for compacted in 0..=cluster.log.revision.0 {
            let (report, _) = cluster.log.fed_from(Some(Revision(compacted)));
            let sound = report.violations.is_empty() && report.log_faults.is_empty();
            assert!(sound, "stop after {moment} rounds, compacted at {compacted}: {report}");
        }
    }
}

#[test]
fn a_stop_at_any_moment_keeps_every_invariant() {
    for moment in 2..30 {
        let mut cluster = Cluster::new(grouped());
        cluster.rounds(moment);
        if cluster.is_finished() {
            break;
        }
        cluster.stop();
        cluster.rounds(20);
        cluster.log.auditor.fact(Fact::FaultsEnded);
        let report = cluster.log.finish();
        assert!(report.violations.is_empty(), "stop after {moment} rounds: {report}");
        let order = operator::Order {
            by: "somebody".to_owned(),
            reason: "again".to_owned(),
            now: Timestamp::from_unix(6_000),
        };
        let view = cluster.view();
        let txn = operator::recover(&view, operator::Recovery::default(), &order).expect("settled");
        assert!(cluster.log.txn(Writer::Operator { forced: false }, &txn));
        cluster.rounds(60);
        assert!(cluster.is_finished(), "stop after {moment} rounds");
        assert!(found(&mut cluster.log).is_empty());
    }
}

#[test]
fn a_log_tells_the_same_whichever_comes_first() {
    // The journals of a whole run come after its changes: the views decide, not the order of arrival.
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let mut allowed = Vec::new();
    for step in 1..=2 {
        for lrn in [A, B] {
            log.status(lrn, &one, step, neco_schema::Condition::Running);
        }
        allowed.push((step, log.revision));
    }
    for (step, revision) in allowed {
        log.line(A, begun(&one, step, 1, revision));
        log.line(A, Entry::StepDone { request: one.id(), step });
    }
    log.line(B, begun(&one, 1, 1, Revision(4)));
    assert_eq!(found(&mut log), BTreeSet::from([Safety(7)]));
}

#[cfg(feature = "testing")]
mod planted {
    use super::*;
    use crate::testing::Planted;

    fn run(planted: Planted, script: impl FnOnce(&mut Cluster)) -> BTreeSet<InvariantId> {
        let mut cluster = Cluster::new(grouped());
        cluster.planted = Some(planted);
        script(&mut cluster);
        found(&mut cluster.log)
    }

    /// Everybody but C gets going.
    fn one_sleeps(cluster: &mut Cluster) {
        cluster.nodes[2].asleep = 60;
        cluster.rounds(20);
    }

    #[test]
    fn a_barrier_by_majority_is_caught() {
        let found = run(Planted::BarrierByMajority, |cluster| {
            cluster.rounds(6);
            one_sleeps(cluster);
        });
        assert!(found.contains(&Safety(7)), "{found:?}");
    }

    #[test]
    fn a_step_left_behind_after_a_crash_is_caught() {
        let found = run(Planted::ResumeAtNext, |cluster| {
            while !matches!(cluster.nodes[1].me.doing, Some(Doing::Step { .. })) {
                cluster.rounds(1);
            }
            cluster.crash(1);
            cluster.rounds(10);
        });
        assert!(found.contains(&Safety(13)), "{found:?}");
    }

    #[test]
    fn a_missing_guard_is_caught() {
        let found = run(Planted::GuardLeftOut, |cluster| cluster.rounds(10));
        assert!(found.contains(&Safety(4)), "{found:?}");
    }

    #[test]
    fn a_stop_that_settles_before_the_group_is_restored_is_caught() {
        let found = run(Planted::StopBeforeRestore, |cluster| {
            while cluster.nodes[0].me.journal.groups.is_empty() {
                cluster.rounds(1);
            }
            cluster.nodes.iter_mut().for_each(|node| node.me.doing = None);
            cluster.stop();
            cluster.rounds(10);
        });
        assert!(found.contains(&Safety(20)), "{found:?}");
    }
}
