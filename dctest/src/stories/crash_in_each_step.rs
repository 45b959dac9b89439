//! The worker of a server dies in every step.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use neco_components::Recipe;
use neco_schema::journal::{Entry, Phase};
use tokio::time::timeout;

use super::new_etcd_image::another_image;
use crate::site::{Draft, Site, UPDATE, pins};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "crash-in-each-step",
    "a worker that is killed in each step of an update that changes much, as it begins and once more as an effect of it does, resumes it each time, and the same update completes",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// How many updates there may be: one that is over before the blow falls is struck in the next.
const UPDATES: u32 = 6;

/// Whose worker dies.
const VICTIM: u32 = 1;

/// The steps in which every server has something to change: a worker that only dies before that has left nothing half done.
const CHANGE: [&str; 6] = ["stop-vault", "vault", "sabakan", "stop-cke", "cke", "final-sync"];

async fn run(site: &mut Site) -> Result<()> {
    let recipe = Recipe::load(site.workshop.data())?;
    let steps = recipe.len();
    let changes =
        |step| recipe.step(step).is_some_and(|step| CHANGE.iter().any(|name| step.name == *name));
    ensure!((1..=steps).filter(|step| changes(*step)).count() == CHANGE.len(), "{CHANGE:?}");
    let mut resumed = BTreeSet::new();
    let mut in_effects = BTreeSet::new();
    let (mut updates, mut deaths) = (0, 0);
    loop {
        let told =
            |step: &u32| resumed.contains(step) && (!changes(*step) || in_effects.contains(step));
        let spared: BTreeSet<u32> = (1..=steps).filter(told).collect();
        if spared.len() == steps as usize || updates == UPDATES {
            break;
        }
        let life = an_update(site, steps, &spared).await?;
        (updates, deaths) = (updates + 1, deaths + life.deaths.values().sum::<u32>());
        resumed.extend(life.resumed);
        in_effects.extend(life.in_effects);
    }
    site.note("updates in which the worker died", f64::from(updates));
    site.note("deaths of the worker", f64::from(deaths));
    site.note("steps in an effect of which the worker died", in_effects.len() as f64);
    let missing: Vec<u32> = (1..=steps).filter(|step| !resumed.contains(step)).collect();
    ensure!(missing.is_empty(), "in {updates} updates no step {missing:?} was resumed");
    let missing: Vec<u32> =
        (1..=steps).filter(|step| changes(*step) && !in_effects.contains(step)).collect();
    ensure!(missing.is_empty(), "in {updates} updates the worker died in no effect of {missing:?}");
    site.everything_runs().await
}

/// Has an update made that changes much, in which the worker dies in all steps but those that are spared. Gives what its journal
/// tells of it.
async fn an_update(site: &mut Site, steps: u32, spared: &BTreeSet<u32>) -> Result<Life> {
    let version = site.next_version();
    let draft = Draft::sound(version.clone());
    let draft = draft.vault_begins_with("").other_sabakan().other_cke();
    let etcd = pins::with_tag("etcd", another_image(site, VICTIM).await?)?;
    let mut worker = site.follow_worker(site.machine(VICTIM)).await?;
    site.workshop.publish(&draft.with(pins::FILE, etcd)).await?;
    let update = site.begins(&version).await?;
    let mut life = Life::new(&update.request, steps);
    let mut struck = false;
    let blows = timeout(UPDATE * 4, async {
        while !life.is_over {
            let entry = worker.next().await?;
            life.tell(&entry)?;
            match entry {
                Entry::ProcessStarted { .. } => struck = false,
                // It is dead already; what it wrote before is read.
                _ if struck => {}
                entry if life.is_to_die(&entry, spared) => {
                    worker.kill().await?;
                    struck = true;
                }
                _ => {}
            }
        }
        anyhow::Ok(())
    });
    match blows.await {
        Ok(done) => done?,
        Err(_) => bail!("the update is not over; {life:?}; {}", site.status().await?.in_brief()),
    }
    site.completes(&update, UPDATE).await?;
    let mut life = Life::new(&update.request, steps);
    for entry in site.journal(site.machine(VICTIM)).await? {
        life.tell(&entry)?;
    }
    Ok(life)
}

/// What a worker has been through in an update.
#[derive(Debug, Default)]
struct Life {
    request: String,
    /// How many steps it has.
    steps: u32,
    /// The step that was begun and is not done.
    running: Option<u32>,
    /// Whether something was begun in it that has not ended.
    in_effect: bool,
    /// Whether the worker has said that it is going to end.
    ends: bool,
    /// How often it died in which step.
    deaths: BTreeMap<u32, u32>,
    /// In which of them it died in an effect.
    in_effects: BTreeSet<u32>,
    /// Which of them it began again, and got done.
    resumed: BTreeSet<u32>,
    /// Whether the last step is done.
    is_over: bool,
}

impl Life {
    fn new(request: &str, steps: u32) -> Self {
        Self { request: request.to_owned(), steps, ..Self::default() }
    }

    /// Hears the next entry of the journal.
    fn tell(&mut self, entry: &Entry) -> Result<()> {
        if let Entry::ProcessStarted { .. } = entry {
            let ended = std::mem::take(&mut self.ends);
            let in_effect = std::mem::take(&mut self.in_effect);
            if let Some(step) = self.running.take().filter(|_| !ended) {
                *self.deaths.entry(step).or_default() += 1;
                if in_effect {
                    self.in_effects.insert(step);
                }
            }
        }
        if let Entry::PlannedExit { .. } = entry {
            self.ends = true;
        }
        if entry.request().is_none_or(|request| request.as_str() != self.request) {
            return Ok(());
        }
        match entry {
            Entry::StepBegun { step, .. } => (self.running, self.in_effect) = (Some(*step), false),
            Entry::StepDone { step, .. } => {
                if self.running.take() == Some(*step) && self.deaths.contains_key(step) {
                    self.resumed.insert(*step);
                }
                self.is_over |= *step == self.steps;
            }
            Entry::Effect { step, phase, .. } if self.running == Some(*step) => {
                self.in_effect = *phase == Phase::Begin;
            }
            Entry::StepFailed { step, cause, .. } => bail!("step {step} has failed: {cause}"),
            _ => {}
        }
        Ok(())
    }

    /// Whether the worker is to die now: a step begins, or in one that was begun again after a death an effect does.
    fn is_to_die(&self, entry: &Entry, spared: &BTreeSet<u32>) -> bool {
        let Some(step) = self.running.filter(|step| !spared.contains(step)) else { return false };
        match (entry, self.deaths.get(&step)) {
            (Entry::StepBegun { .. }, None) => true,
            (Entry::Effect { phase: Phase::Begin, .. }, Some(1)) => self.in_effect,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use neco_schema::{RequestId, Revision};

    use super::*;

    fn request() -> RequestId {
        RequestId::claimed("a")
    }

    fn begun(step: u32, attempt: u32) -> Entry {
        Entry::StepBegun { request: request(), step, attempt, revision: Revision(1) }
    }

    fn started() -> Entry {
        let version = "2026.11.22-40001".parse().unwrap();
        Entry::ProcessStarted { version, boot_id: "a".to_owned(), pid: 1 }
    }

    fn effect(step: u32, phase: Phase) -> Entry {
        let (what, revision) = ("stop vault".to_owned(), Revision(1));
        Entry::Effect { request: request(), step, attempt: 2, what, phase, revision }
    }

    fn told(entries: &[Entry]) -> Life {
        let mut life = Life::new(request().as_str(), 18);
        entries.iter().for_each(|entry| life.tell(entry).unwrap());
        life
    }

    #[test]
    fn a_step_is_resumed_that_was_cut_off_begun_again_and_done() {
        let done = |step| Entry::StepDone { request: request(), step };
        let exit = Entry::PlannedExit { why: "a".to_owned() };
        for (entries, deaths, resumed) in [
            (vec![begun(1, 1), started(), begun(1, 2), done(1)], 1, true),
            (vec![begun(1, 1), done(1), started()], 0, false),
            (vec![begun(1, 1), started(), begun(1, 2)], 1, false),
            (vec![begun(1, 1), exit, started(), begun(1, 2), done(1)], 0, false),
            (vec![begun(1, 1), started(), begun(1, 2), started(), begun(1, 3), done(1)], 2, true),
        ] {
            let life = told(&entries);
            assert_eq!(life.deaths.values().sum::<u32>(), deaths, "{entries:?}");
            assert_eq!(life.resumed.contains(&1), resumed, "{entries:?}");
        }
    }

    #[test]
    fn the_worker_dies_as_a_step_begins_and_as_an_effect_of_it_does() {
        let mut life = told(&[]);
        let mut falls = |entry: Entry| {
            life.tell(&entry).unwrap();
            life.is_to_die(&entry, &[2].into())
        };
        assert!(falls(begun(1, 1)));
        assert!(!falls(started()) && !falls(begun(1, 2)));
        assert!(falls(effect(1, Phase::Begin)));
        assert!(!falls(started()) && !falls(begun(1, 3)) && !falls(effect(1, Phase::Begin)));
        assert!(!falls(effect(1, Phase::End)) && !falls(begun(2, 1)));
        assert_eq!((life.deaths.get(&1), life.in_effects.contains(&1)), (Some(&2), true));
    }
}
