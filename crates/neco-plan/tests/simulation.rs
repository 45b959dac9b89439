//! Random schedules of whole clusters: nothing is violated, and everything comes to rest.

use std::collections::BTreeMap;
use std::io::Write;

use neco_plan::invariants::InvariantId;
use neco_testkit::cluster::{Counts, Kind, Outcome, Plan, shrink};

/// How many schedules a plain `cargo test` plays.
const SCHEDULES: u64 = 10_000;

/// What 10,000 schedules must have come by, or they prove nothing.
const REACHED: [(Kind, &[&str]); 7] = [
    (
        Kind::WorkerRow,
        &[
            " 1", " 2", " 3", " 4", " 5", " 6", " 7", " 8", " 9", "10", "11", "12", "13", "14",
            "15", "16", "17", "18",
        ],
    ),
    (
        Kind::LeaderAction,
        &[
            "note-seen",
            "record",
            "reconfigure",
            "request-update",
            "request-stop",
            "wait",
            "wait-for-info",
            "wait-for-user-recovery",
            "wait-for-workers",
        ],
    ),
    (
        Kind::LeaderWait,
        &[
            "release",
            "recovery",
            "settling",
            "workers",
            "preflight",
            "window",
            "paused",
            "aborted before",
            "withdrawn",
            "idle",
        ],
    ),
    (
        Kind::Fault,
        &[
            "worker killed",
            "updater killed",
            "power cut",
            "power cut of all",
            "worker frozen",
            "updater frozen",
            "cut off from etcd",
            "etcd outage",
            "compaction",
            "backup",
            "restored as another cluster",
            "restored as the same cluster",
            "disk replaced",
            "dead for ever",
            "answers get lost",
            "lost answer",
            "lagging view",
            "window closed",
            "probe finds trouble",
            "recipe of one server changed",
            "request deleted by hand",
            "taken out and registered again",
            "good release",
            "release that dies at start",
            "release with a failing step",
            "release with a killing step",
            "release with a broken service",
            "step fails",
            "step ends the worker",
            "service does not start",
            "silence",
            "record garbled",
        ],
    ),
    (
        Kind::Order,
        &[
            "stop",
            "recover",
            "recover --force",
            "recover waits",
            "recover (Go)",
            "pause",
            "resume",
            "leave",
            "leave --force",
            "join",
            "withdraw",
            "update --to",
            "update --unpin",
            "turn release",
            "turn release --force",
        ],
    ),
    (
        Kind::GoWriter,
        &[
            "wait-for-info",
            "request-update",
            "reconfigure",
            "request-stop",
            "wait-for-workers",
            "wait-for-user-recovery",
        ],
    ),
    (
        Kind::State,
        &[
            "decided differently on a fresh view",
            "fence cancels",
            "fence waits",
            "group restored back",
            "group restored forward",
            "failure told while a group is restored",
            "abort told more of",
            "turn is held by another",
            "turn was taken away",
            "another etcd is not healthy",
            "etcd restarted",
            "member of etcd added",
            "member of etcd removed",
            "done once per cluster",
            "way back",
            "alive record lapsed",
            "office lapsed",
            "updater frozen with a write in flight",
            "write of a former leader refused",
            "request could not be read",
            "status could not be read",
            "turn could not be read",
            "way of a group could not be read",
            "epoch could not be read",
            "target could not be read",
            "note of a release could not be read",
        ],
    ),
];

/// What leaves no trace in a simulation, which sends no notices and has no secrets.
const NOT_SIMULATED: [InvariantId; 2] = [InvariantId::Safety(42), InvariantId::Safety(43)];

/// What many schedules came to.
#[derive(Default)]
struct Played {
    counts: Counts,
    exercised: BTreeMap<InvariantId, u64>,
    failed: Vec<(Plan, Outcome)>,
}

impl Played {
    fn add(&mut self, plan: Plan, outcome: Outcome) {
        self.counts.merge(&outcome.counts);
        for (invariant, times) in &outcome.exercised {
            *self.exercised.entry(*invariant).or_default() += times;
        }
        if !outcome.failures.is_empty() {
            self.failed.push((plan, outcome));
        }
    }

    fn merge(&mut self, other: Self) {
        self.counts.merge(&other.counts);
        for (invariant, times) in other.exercised {
            *self.exercised.entry(invariant).or_default() += times;
        }
        self.failed.extend(other.failed);
    }
}

/// Plays these schedules on as many threads as there are processors.
fn play(seeds: std::ops::Range<u64>) -> Played {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = u64::try_from(threads).unwrap_or(2);
    let mut all = Played::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|part| {
                let seeds = seeds.clone();
                scope.spawn(move || {
                    let mut played = Played::default();
                    for seed in (seeds.start + part..seeds.end).step_by(threads as usize) {
                        let plan = Plan::random(seed);
                        let outcome = plan.run(false);
                        played.add(plan, outcome);
                    }
                    played
                })
            })
            .collect();
        for part in running {
            all.merge(part.join().expect("a run panicked"));
        }
    });
    all.failed.sort_by_key(|(plan, _)| plan.seed);
    all
}

/// What to print about a schedule that fails: the smallest one, its story, and how to see it again.
fn tell(plan: &Plan) -> String {
    let small = shrink(plan);
    let outcome = small.run(true);
    let failures = outcome.failures.join("\n  ");
    let seed = plan.seed;
    format!(
        "seed {seed} fails; again with: NECO_SIM_SEED={seed} cargo test -p neco-plan --test simulation\n\
         {}\n{small:#?}\n  {failures}",
        outcome.story.join("\n")
    )
}

/// A number that was asked for: `NECO_SIM_SEED` plays one schedule, `NECO_SIM_SCHEDULES` so many, from `NECO_SIM_FIRST` on.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_schedules_violate_nothing_and_come_to_rest() {
    if let Some(seed) = number("NECO_SIM_SEED") {
        let plan = Plan::random(seed);
        let fails = !plan.run(false).failures.is_empty();
        assert!(!fails, "{}", tell(&plan));
        return;
    }
    let first = number("NECO_SIM_FIRST").unwrap_or(0);
    let schedules = number("NECO_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let Played { counts, exercised, failed } = play(first..first + schedules);
    let mut report =
        format!("{schedules} schedules\n{counts}Invariants put to the test by the auditor\n");
    let simulated =
        || exercised.iter().filter(|(invariant, _)| !NOT_SIMULATED.contains(*invariant));
    for (invariant, times) in simulated() {
        report += &format!("  {times:>9}  {invariant} {}\n", invariant.name());
    }
    // Past the harness, which keeps to itself what a test that passes prints: the counts say what the run is worth.
    let _ = std::io::stderr().write_all(report.as_bytes());
    if let Some((plan, _)) = failed.first() {
        let kinds: Vec<String> = failed
            .iter()
            .map(|(plan, outcome)| format!("{}: {}", plan.seed, outcome.failures.join(" | ")))
            .collect();
        panic!("{}\n{} of the schedules fail:\n{}", tell(plan), failed.len(), kinds.join("\n"));
    }
    if schedules >= SCHEDULES {
        let never: Vec<String> = REACHED
            .iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)))
            .filter(|(kind, name)| counts.of(*kind, name) == 0)
            .map(|(kind, name)| format!("{kind:?} {name:?}"))
            .collect();
        assert!(never.is_empty(), "never happened in {schedules} schedules: {}", never.join(", "));
        let untested: Vec<String> = simulated()
            .filter(|(_, times)| **times == 0)
            .map(|(invariant, _)| format!("{invariant} {}", invariant.name()))
            .collect();
        assert!(untested.is_empty(), "never put to the test: {}", untested.join(", "));
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..20 {
        let plan = Plan::random(seed);
        assert_eq!(plan.run(false).hash, plan.run(true).hash, "seed {seed}");
    }
}
