//! Random schedules: made from a seed, played, judged, made small.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_plan::invariants::InvariantId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::counts::{Counts, Kind};
use super::fault::{Fault, ORDERS, Quality};
use super::{Bug, Cluster, Recipe, StepKind, audit};

/// A schedule: everything that makes a run what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The seed, also of the interleaving.
    pub seed: u64,
    /// How many servers are registered at first.
    pub servers: usize,
    /// The numbers of all machines.
    pub numbers: Vec<u32>,
    /// The steps.
    pub recipe: Recipe,
    /// Whether the second updater behaves like the original's.
    pub go_updater: bool,
    /// By how many seconds the wall clocks of the updaters are off.
    pub skews: [i64; 2],
    /// Whether views lag behind.
    pub lag: bool,
    /// What happens after how many actions, ascending.
    pub faults: Vec<(u32, Fault)>,
    /// A rule that is left out.
    pub bug: Option<Bug>,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was wrong; nothing if the run is fine.
    pub failures: Vec<String>,
    /// A hash over everything that happened.
    pub hash: u64,
    /// How often things happened.
    pub counts: Counts,
    /// How often the auditor put each invariant to the test.
    pub exercised: BTreeMap<InvariantId, u64>,
    /// The story, if it was asked for.
    pub story: Vec<String>,
}

impl Plan {
    /// The schedule of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x6e65_636f);
        let mut pick = |bound: usize| rng.random_range(0..bound);
        let servers = [2, 2, 2, 2, 3, 3, 3, 3, 4, 5][pick(10)];
        let numbers = if pick(4) == 0 { vec![1, 2, 10, 11, 3] } else { vec![0, 1, 2, 3, 4] };
        let spare = usize::from(servers < 5 && pick(4) == 0);
        let numbers = numbers.into_iter().take(servers + spare).collect();
        let mut steps = vec![StepKind::Plain];
        if pick(3) > 0 {
            let group = "vault".to_owned();
            steps.push(StepKind::GroupStop(group.clone()));
            if pick(3) == 0 {
                steps.push(StepKind::Plain);
            }
            steps.push(StepKind::GroupApply(group));
        }
        match pick(4) {
            0 => steps.push(StepKind::Slow(3)),
            1 => steps.push(StepKind::Once("sabakan".to_owned())),
            _ => {}
        }
        if pick(3) > 0 {
            steps.push(StepKind::EtcdRestart);
        }
        let go_updater = pick(4) == 0;
        let skews = [pick(7200), pick(7200)].map(|skew| i64::try_from(skew).unwrap_or(0) - 3600);
        let lag = pick(4) > 0;
        let first = if pick(4) > 0 { Quality::Good } else { some_quality(pick(4)) };
        let begin = u32::try_from(pick(60)).unwrap_or(0);
        let mut faults = vec![(begin, Fault::Release(first, pick(1000)))];
        for _ in 0..pick(8) {
            let at = u32::try_from(pick(700)).unwrap_or(0);
            faults.push((at, some_fault(&mut pick)));
        }
        if go_updater && pick(2) == 0 {
            // A member more or less while the original leads.
            let at = u32::try_from(300 + pick(400)).unwrap_or(0);
            faults.push((at, Fault::Order(6 + pick(2), pick(1000))));
        }
        let left = faults.iter().find(|(_, fault)| matches!(fault, Fault::Order(6, _)));
        if let Some(at) = left.map(|(at, _)| *at).filter(|_| pick(3) == 0) {
            // A stop while the request is being superseded.
            faults.push((at + u32::try_from(pick(80)).unwrap_or(0), Fault::Order(0, 0)));
        }
        // The original cannot be asked about what it cannot read.
        if !go_updater && pick(5) == 0 {
            let at = begin + u32::try_from(pick(400)).unwrap_or(0);
            faults
                .push((at, Fault::Garbled(pick(1000), u64::try_from(1 + pick(200)).unwrap_or(1))));
        }
        faults.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            servers,
            numbers,
            recipe: Recipe { steps },
            go_updater,
            skews,
            lag,
            faults,
            bug: None,
        }
    }

    /// Plays the schedule.
    pub fn run(&self, with_story: bool) -> Outcome {
        let mut cluster = Cluster::new(self.seed, self.recipe.clone(), &self.numbers, self.servers);
        cluster.world.bug = self.bug;
        for worker in cluster.workers.iter_mut().flatten() {
            worker.local.planted = Bug::planted(self.bug);
        }
        cluster.world.lag = self.lag;
        cluster.world.story = with_story.then(Vec::new);
        cluster.add_updater(0, false, self.skews[0]);
        cluster.add_updater(1, self.go_updater, self.skews[1]);
        let mut faults = self.faults.iter().peekable();
        let mut actions: u32 = 0;
        while faults.peek().is_some() {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= actions) {
                cluster.strike(fault);
            }
            actions += 1;
            let ready = cluster.ready();
            if ready.is_empty() {
                let time = [1, 5, 30][cluster.world.random(3)];
                cluster.pass(Duration::from_secs(time));
                continue;
            }
            let chosen = ready[cluster.world.random(ready.len())];
            cluster.act(chosen);
            if cluster.world.one_in(8) {
                let time = cluster.world.random(2000);
                cluster.pass(Duration::from_millis(u64::try_from(time).unwrap_or(0)));
            }
        }
        cluster.end_faults();
        let rest = cluster.come_to_rest();
        self.judge(cluster, rest)
    }

    fn judge(&self, mut cluster: Cluster, rest: Result<(), String>) -> Outcome {
        let mut failures = std::mem::take(&mut cluster.world.oracle.objections);
        match rest {
            Ok(()) => failures.extend(cluster.leftovers()),
            Err(why) => failures.push(why),
        }
        let world = &mut cluster.world;
        let rules = audit::rules(&world.recipe, &world.releases);
        let mut exercised: BTreeMap<InvariantId, u64> = BTreeMap::new();
        let has_left = world.counts.of(Kind::Order, "leave") > 0;
        let unread = world.counts.of(Kind::State, "request removed that could not be read") > 0;
        let has_forced = world.counts.of(Kind::Order, "recover --force") > 0;
        for report in audit::audit(&rules, &world.evidence.items) {
            failures.extend(report.log_faults.iter().map(|fault| format!("the log: {fault}")));
            let told = report.violations.iter().map(ToString::to_string);
            // Known: a leave between the last `complete` and its record takes the completed status away.
            let known = |text: &String| {
                (has_left && text.contains("was completed and is recorded as"))
                    // Nobody can record what he could not read.
                    || (unread && text.contains("ended without a record in the history"))
                    // Accepted: an effect that was fenced before its request was removed by force.
                    || (has_forced && text.contains("went back from"))
                    // The original's stop compares nothing and may bring a removed request back.
                    || (self.go_updater && text.contains("was made a second time"))
            };
            failures.extend(told.filter(|text| !known(text)));
            for (invariant, times) in report.exercised {
                *exercised.entry(invariant).or_default() += times;
            }
        }
        let mut counts = std::mem::take(&mut world.counts);
        if failures.is_empty() {
            counts.add(Kind::State, "run came to rest");
        }
        Outcome {
            failures,
            hash: world.event_hash(),
            counts,
            exercised,
            story: world.story.take().unwrap_or_default(),
        }
    }
}

fn some_quality(number: usize) -> Quality {
    [Quality::DiesAtStart, Quality::Fails, Quality::Kills, Quality::BrokenServices][number % 4]
}

fn some_fault(pick: &mut impl FnMut(usize) -> usize) -> Fault {
    let seconds = |pick: &mut dyn FnMut(usize) -> usize, bound: usize| {
        u64::try_from(1 + pick(bound)).unwrap_or(1)
    };
    match pick(47) {
        0..=6 => Fault::Crash(pick(5)),
        7 | 8 => Fault::CrashUpdater(pick(2)),
        9..=12 => Fault::PowerCut(pick(5), seconds(pick, 300)),
        13 => Fault::PowerCutAll(seconds(pick, 60)),
        14 | 15 => Fault::Freeze(pick(5), seconds(pick, 120)),
        16..=18 => Fault::FreezeUpdater(pick(2), seconds(pick, 240)),
        19 => Fault::Cut(pick(5), seconds(pick, 120)),
        20 => Fault::Outage(seconds(pick, 300)),
        21 => Fault::Compact,
        22 => Fault::Backup,
        23 => Fault::Restore(pick(2) == 0),
        24 => Fault::NewDisk(pick(5)),
        25 => Fault::Death(pick(5)),
        26 => Fault::LostAnswers(50),
        27 => Fault::Window(seconds(pick, 600)),
        28 => Fault::Trouble(seconds(pick, 300)),
        29 => Fault::Release(Quality::Good, pick(1000)),
        30 => Fault::Release(some_quality(pick(4)), pick(1000)),
        31 => Fault::Silence(seconds(pick, 1200)),
        32 => Fault::OtherRecipe(pick(5)),
        33 => Fault::RequestDeleted,
        34 => Fault::Rejoin(pick(5)),
        _ => Fault::Order(pick(ORDERS), pick(1000)),
    }
}

/// The smallest schedule found that still fails as `plan` does: drops one fault after the other.
pub fn shrink(plan: &Plan) -> Plan {
    let class = |plan: &Plan| plan.run(false).failures.first().map(|failure| class(failure));
    let wanted = class(plan);
    let mut smallest = plan.clone();
    let mut at = smallest.faults.len();
    while at > 0 {
        at -= 1;
        let mut smaller = smallest.clone();
        smaller.faults.remove(at);
        if class(&smaller) == wanted {
            smallest = smaller;
        }
    }
    smallest
}

/// A failure without its particulars: two words of the same wording are the same failure.
fn class(failure: &str) -> String {
    failure.chars().filter(|char| !char.is_ascii_hexdigit()).take(40).collect()
}
