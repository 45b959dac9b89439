//! Random schedules of whole clusters: nothing is violated, and everything comes to rest.

use neco_testkit::cluster::{Counts, Outcome, Plan, shrink};

/// How many schedules a plain `cargo test` plays.
const SCHEDULES: u64 = 10_000;

/// Plays the schedules of the seeds `from` to `to` on as many threads as there are processors.
fn play(from: u64, to: u64) -> (Counts, Vec<(Plan, Outcome)>) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = u64::try_from(threads).unwrap_or(2);
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    let mut failed = Vec::new();
                    for seed in (from..to).filter(|seed| seed % threads == part) {
                        let plan = Plan::random(seed);
                        let outcome = plan.run(false);
                        counts.merge(&outcome.counts);
                        if !outcome.failures.is_empty() {
                            failed.push((plan, outcome));
                        }
                    }
                    (counts, failed)
                })
            })
            .collect();
        running.into_iter().map(|part| part.join().expect("a run panicked")).collect::<Vec<_>>()
    });
    let mut all = (Counts::default(), Vec::new());
    for (counts, failed) in parts {
        all.0.merge(&counts);
        all.1.extend(failed);
    }
    all.1.sort_by_key(|(plan, _)| plan.seed);
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

fn chosen_seed() -> Option<u64> {
    std::env::var("NECO_SIM_SEED").ok()?.parse().ok()
}

#[test]
fn random_schedules_violate_nothing_and_come_to_rest() {
    if let Some(seed) = chosen_seed() {
        let plan = Plan::random(seed);
        let fails = !plan.run(false).failures.is_empty();
        assert!(!fails, "{}", tell(&plan));
        return;
    }
    let schedules = std::env::var("NECO_SIM_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let (counts, failed) = play(0, schedules.unwrap_or(SCHEDULES));
    println!("{counts}");
    if let Some((plan, _)) = failed.first() {
        let kinds: Vec<String> = failed
            .iter()
            .map(|(plan, outcome)| format!("{}: {}", plan.seed, outcome.failures.join(" | ")))
            .collect();
        panic!("{}\n{} of the schedules fail:\n{}", tell(plan), failed.len(), kinds.join("\n"));
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..20 {
        let plan = Plan::random(seed);
        assert_eq!(plan.run(false).hash, plan.run(true).hash, "seed {seed}");
    }
}
