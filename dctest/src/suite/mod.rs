//! Runs stories: brings a data centre up, tells them one after the other, has everything judged after each, keeps what it said
//! where one failed, and takes it down.

mod results;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::timeout;

pub use self::results::{Outcome, Results, Told};
use crate::instance::orders::Phase;
use crate::site::{Runs, Site, Tools};

/// What a story finds when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Boot servers on which nothing of Neco was ever installed.
    Bare,
    /// etcd runs on them, and Neco, which has completed an update.
    Running,
    /// Everything runs on them that a boot server runs, etcd and Vault too under Neco's hands. They are other boot servers than
    /// those of the other stages.
    Full,
}

impl Stage {
    /// What boot servers of this stage run.
    const fn runs(self) -> Runs {
        match self {
            Self::Bare | Self::Running => Runs::Little,
            Self::Full => Runs::Everything,
        }
    }
}

/// One story.
pub struct Story {
    /// By which it is chosen: behaviour, in words with dashes between them.
    pub name: &'static str,
    /// What is seen in it.
    pub about: &'static str,
    /// Whether it belongs to the short suite.
    pub core: bool,
    /// What it finds.
    pub stage: Stage,
    /// Whether others cannot go on with what it leaves.
    pub spoils: bool,
    /// How long it may take.
    pub within: Duration,
    /// What happens.
    pub run: Run,
}

/// What happens in a story.
pub type Run = for<'a> fn(&'a mut Site) -> BoxFuture<'a, Result<()>>;

/// How long a story may take that does not say otherwise.
const LONG: Duration = Duration::from_secs(420);

impl Story {
    /// One that finds Neco running and leaves it so, and is not part of the short suite.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, run: Run) -> Self {
        let (core, stage, spoils) = (false, Stage::Running, false);
        Self { name, about, core, stage, spoils, within: LONG, run }
    }

    /// The same as a part of the short suite.
    #[must_use]
    pub const fn in_core(self) -> Self {
        Self { core: true, ..self }
    }

    /// The same on boot servers on which nothing of Neco was ever installed.
    #[must_use]
    pub const fn on_bare_machines(self) -> Self {
        Self { stage: Stage::Bare, ..self }
    }

    /// The same on boot servers that run everything.
    #[must_use]
    pub const fn on_full_servers(self) -> Self {
        Self { stage: Stage::Full, ..self }
    }

    /// The same, with which others cannot go on.
    #[must_use]
    pub const fn spoiling(self) -> Self {
        Self { spoils: true, ..self }
    }

    /// The same with twice the time.
    #[must_use]
    pub const fn for_long(self) -> Self {
        Self { within: self.within.saturating_mul(2), ..self }
    }

    /// A word for those who look at a list.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        match self.stage {
            Stage::Full => "full",
            _ if self.core => "core",
            _ => "",
        }
    }
}

/// How long it may take until Neco runs for the first time, or runs again.
const INSTALLATION: Duration = Duration::from_secs(300);

/// How long a verdict may take; `necoctl audit` itself gives up before.
const VERDICT: Duration = Duration::from_secs(90);

/// Runs stories on data centres called `name`, in the order of their stages.
pub struct Suite<'a> {
    /// What data centres are made with.
    pub tools: &'a Tools,
    /// How they are called.
    pub name: &'a str,
    /// Hears of each phase as it ends.
    pub told: &'a mut dyn FnMut(&Phase),
}

impl Suite<'_> {
    /// Tells `stories`. Whatever happens is in the results, also that a data centre does not come up or not go away.
    pub async fn run(mut self, stories: &[&Story]) -> Results {
        let begun = Instant::now();
        let mut results = Results::default();
        let mut stories = stories.to_vec();
        stories.sort_by_key(|story| story.stage);
        let mut site = None;
        let mut hopeless: Option<String> = None;
        for story in stories {
            if let Some(why) = &hopeless {
                results.stories.push(self.untold(story, why));
                continue;
            }
            // Boot servers are of one kind from their first start on.
            let fits = site.as_ref().is_none_or(|site: &Site| site.runs == story.stage.runs());
            if let Some(site) = site.take_if(|_| !fits) {
                self.down(site, &mut results).await;
            }
            let fresh = match site.take() {
                Some(site) => Ok(site),
                None => self.up(story.stage.runs(), &mut results).await,
            };
            match fresh {
                Ok(fresh) => {
                    let (told, kept) = self.tell(story, fresh, &mut results).await;
                    results.stories.push(told);
                    site = kept;
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    results.stories.push(self.untold(story, &why));
                    hopeless = Some(format!("not told, because no data centre came up: {why}"));
                }
            }
        }
        if let Some(site) = site {
            self.down(site, &mut results).await;
        }
        results.seconds = begun.elapsed().as_secs_f64();
        results
    }

    fn untold(&self, story: &Story, why: &str) -> Told {
        let artefacts = self.tools.top.artefacts(self.name);
        let outcome = Outcome::Failed { why: why.to_owned(), artefacts };
        let figures = BTreeMap::new();
        Told { name: story.name, about: story.about, seconds: 0.0, figures, outcome }
    }

    /// Takes a data centre down; that it does not go away is a failure of its own.
    async fn down(&mut self, site: Site, results: &mut Results) {
        let begun = Instant::now();
        let artefacts = site.dirs.dir.clone();
        if let Err(error) = site.down().await {
            results.stories.push(Told {
                name: "down",
                about: "nothing of a data centre is left",
                seconds: begun.elapsed().as_secs_f64(),
                figures: BTreeMap::new(),
                outcome: Outcome::Failed { why: format!("{error:#}"), artefacts },
            });
        }
        self.phase(results, "down", begun);
    }

    fn phase(&mut self, results: &mut Results, name: &str, begun: Instant) {
        let phase = Phase { phase: name.to_owned(), seconds: begun.elapsed().as_secs_f64() };
        (self.told)(&phase);
        results.phases.push(phase);
    }

    async fn up(&mut self, runs: Runs, results: &mut Results) -> Result<Site> {
        let begun = Instant::now();
        let mut phases = Vec::new();
        let told = &mut self.told;
        let site = Site::up(self.tools, self.name, runs, |phase: &Phase| {
            told(phase);
            phases.push(phase.clone());
        })
        .await?;
        results.phases.extend(phases);
        self.phase(results, "data centre", begun);
        Ok(site)
    }

    /// Tells one story; gives the site back if others can go on with it.
    async fn tell(
        &mut self,
        story: &Story,
        mut site: Site,
        results: &mut Results,
    ) -> (Told, Option<Site>) {
        let mut outcome = Ok(());
        if story.stage != Stage::Bare {
            let begun = Instant::now();
            let running = timeout(INSTALLATION, site.get_running()).await;
            let late = || Err(anyhow!("not installed after {} s", INSTALLATION.as_secs()));
            outcome = running.unwrap_or_else(|_| late()).context("before the story has begun");
            if begun.elapsed() > Duration::from_secs(1) {
                self.phase(results, "install", begun);
            }
        }
        let begun = Instant::now();
        if outcome.is_ok() {
            // One that panics is one that failed: the others are told all the same.
            let story_told = AssertUnwindSafe((story.run)(&mut site)).catch_unwind();
            outcome = match timeout(story.within, story_told).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(anyhow!("it panicked; what it said stands above")),
                Err(_) => Err(anyhow!("not over after {} s", story.within.as_secs())),
            };
        }
        // Nothing may be broken for the verdict, nor for the next one.
        let healed = site.heal().await;
        let verdict = if site.runs_neco() {
            match timeout(VERDICT, site.audit()).await {
                Ok(verdict) => verdict.map(Some),
                Err(_) => Err(anyhow!("no verdict after {} s", VERDICT.as_secs())),
            }
        } else {
            Ok(None)
        };
        results.memory.extend(site.memory().await.unwrap_or_default());
        self.phase(results, story.name, begun);
        let seconds = begun.elapsed().as_secs_f64();
        let figures = std::mem::take(&mut site.figures);
        let told =
            |outcome| Told { name: story.name, about: story.about, seconds, figures, outcome };
        let mut troubles = Vec::new();
        troubles.extend(outcome.err().map(|error| format!("{error:#}")));
        troubles.extend(healed.err().map(|error| format!("healing: {error:#}")));
        let verdict = verdict.unwrap_or_else(|error| {
            troubles.push(format!("{error:#}"));
            None
        });
        if troubles.is_empty() {
            if story.spoils {
                self.down(site, results).await;
                return (told(Outcome::Passed { verdict }), None);
            }
            return (told(Outcome::Passed { verdict }), Some(site));
        }
        let artefacts = match self.keep(story, &site).await {
            Ok(kept) => kept,
            Err(error) => {
                troubles.push(format!("what was said is not kept: {error:#}"));
                site.dirs.dir.clone()
            }
        };
        self.down(site, results).await;
        (told(Outcome::Failed { why: troubles.join("; "), artefacts }), None)
    }

    /// Keeps what the data centre has said under the story's name; gives the folder.
    async fn keep(&self, story: &Story, site: &Site) -> Result<PathBuf> {
        let kept = site.keep().await?;
        let named = kept.with_file_name(format!("{}-{}", self.name, story.name));
        if named.exists() {
            std::fs::remove_dir_all(&named)
                .with_context(|| format!("removing {}", named.display()))?;
        }
        std::fs::rename(&kept, &named).with_context(|| format!("naming {}", named.display()))?;
        Ok(named)
    }
}

/// The stories that are meant: the short suite, all, or those of these names.
///
/// # Errors
/// A name is that of no story.
pub fn choose(
    stories: &'static [Story],
    all: bool,
    words: &[String],
) -> Result<Vec<&'static Story>> {
    if all {
        return Ok(stories.iter().collect());
    }
    let mut chosen: Vec<&'static Story> = Vec::new();
    let core = ["core".to_owned()];
    for word in if words.is_empty() { &core[..] } else { words } {
        let found = stories.iter().filter(|story| match word.as_str() {
            "core" => story.core,
            name => story.name == name,
        });
        let before = chosen.len();
        chosen.extend(found);
        if chosen.len() == before {
            let known: Vec<&str> = stories.iter().map(|story| story.name).collect();
            bail!("there is no story {word}; there are core, {}", known.join(", "));
        }
    }
    Ok(stories.iter().filter(|story| chosen.iter().any(|one| one.name == story.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories::STORIES;

    #[test]
    fn names_are_words_with_dashes_and_each_is_there_once() {
        for story in STORIES {
            assert!(
                story.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{}",
                story.name
            );
            assert_eq!(STORIES.iter().filter(|other| other.name == story.name).count(), 1);
            assert_ne!(story.name, "core");
        }
    }

    #[test]
    fn the_page_for_people_tells_of_every_story() {
        let page = include_str!("../../../docs/dctest.md");
        for story in STORIES {
            let mark = Some(story.mark()).filter(|mark| !mark.is_empty());
            let mark = mark.map(|mark| format!(", {mark}")).unwrap_or_default();
            let row = format!("| `{}`{mark} | {} |\n", story.name, story.about);
            assert!(page.contains(&row), "not in docs/dctest.md: {row}");
        }
    }

    #[test]
    fn the_short_suite_is_what_is_meant_by_nothing() {
        let names = |stories: Vec<&Story>| -> Vec<&str> {
            stories.iter().map(|story| story.name).collect()
        };
        let core = names(choose(STORIES, false, &[]).unwrap());
        assert_eq!(core, names(choose(STORIES, false, &["core".to_owned()]).unwrap()));
        assert!(core.len() < STORIES.len() && !core.is_empty());
        assert_eq!(choose(STORIES, true, &[]).unwrap().len(), STORIES.len());
        let error = choose(STORIES, false, &["nonsense".to_owned()]).err().unwrap().to_string();
        assert!(error.starts_with("there is no story nonsense; there are core, "), "{error}");
    }
}
