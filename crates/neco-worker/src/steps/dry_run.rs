//! What a recipe would change on this server: looked at, and nothing is done. What units run with that others started is noted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use neco_components::{
    Desired, Difference, Facts, Part, Phase, Recipe, Step, StepScope, Work, diff, preview,
};
use neco_schema::{
    ChangeKind, ContentsStatus, GroupPreview, Key, NecoVersion, PreviewQuestion, PreviewedChange,
    Range, Record, StepPreview,
};

use crate::context::StepError;
use crate::steps::actions::{etcd, fetch_images};
use crate::steps::host::{StepHost, image_ref};

/// What is shown of a recipe.
pub(crate) struct Previewed {
    pub(crate) steps: Vec<StepPreview>,
    pub(crate) groups: Vec<GroupPreview>,
}

/// What an update to the version of `recipe` would do here. `package` is the folder of the unpacked package of that version;
/// without it, that version is installed.
///
/// # Errors
/// What is desired, or what is there, cannot be told.
pub(crate) async fn of(
    recipe: &Recipe,
    host: &StepHost,
    question: &PreviewQuestion,
    package: Option<&Path>,
) -> Result<Previewed, StepError> {
    let mut facts = host.facts_for(&question.version, &question.servers)?;
    let private = recipe.artifacts().images.values().filter(|image| image.private);
    facts.variants = host.variants(private).await?;
    let looking = Looking { recipe, host, question, facts: &facts, package };
    let (mut steps, mut down) = (Vec::new(), BTreeSet::new());
    for (_, step) in recipe.steps() {
        steps.push(looking.step(step, &mut down).await?);
    }
    let groups = recipe.groups().iter().map(|group| {
        let concerned = group.components.iter().map(neco_components::Name::as_str);
        let concerned: Vec<&str> = concerned.collect();
        let units = concerned.iter().filter_map(|name| recipe.component(name)?.running_unit());
        let because = concerned.iter().filter(|name| down.contains(**name));
        GroupPreview {
            name: group.name.to_string(),
            stop: group.stop,
            apply: group.apply,
            units: units.map(|unit| unit.name.clone()).collect(),
            because: because.map(|name| (*name).to_owned()).collect(),
        }
    });
    let groups = groups.collect();
    Ok(Previewed { steps, groups })
}

/// One look at this server.
struct Looking<'a> {
    recipe: &'a Recipe,
    host: &'a StepHost,
    question: &'a PreviewQuestion,
    facts: &'a Facts,
    package: Option<&'a Path>,
}

impl Looking<'_> {
    /// What one step would change; `down` gets the components for which a group would be stopped.
    async fn step(
        &self,
        step: &Step,
        down: &mut BTreeSet<String>,
    ) -> Result<StepPreview, StepError> {
        let mut changes = Vec::new();
        let mut scopes: Vec<String> = Vec::new();
        for part in &step.parts {
            let found = match &part.work {
                // What is stopped, and why, stands with the group.
                Work::None { .. } | Work::Component { phase: Phase::Stop, .. } => Vec::new(),
                Work::Component { component, phase: Phase::Apply } => {
                    self.component(component.as_str(), down).await?
                }
                Work::Action { action } => self.action(part, action.as_str()).await?,
            };
            if !found.is_empty() {
                let words = in_words(&part.scope).filter(|words| !scopes.contains(words));
                scopes.extend(words);
            }
            changes.extend(found);
        }
        Ok(StepPreview {
            name: step.name.to_string(),
            one_way: step.one_way,
            scope: scopes.join(", "),
            changes,
        })
    }

    async fn component(
        &self,
        name: &str,
        down: &mut BTreeSet<String>,
    ) -> Result<Vec<PreviewedChange>, StepError> {
        let component = self.recipe.component(name);
        let component = component
            .ok_or_else(|| StepError::Failed(format!("the recipe has no component {name}")))?;
        let desired = self.host.desired_of(component, self.facts, self.package)?;
        let observed = self.host.observe_now(&desired).await?;
        if diff(&desired, &observed).iter().any(Difference::takes_down) {
            down.insert(name.to_owned());
        }
        Ok(preview(&desired, &observed, &self.texts(&desired)))
    }

    /// The files of a component as they are, as far as they are text.
    fn texts(&self, desired: &Desired) -> BTreeMap<PathBuf, String> {
        let text = |path: &PathBuf| {
            let content = self.host.fs.read(&self.host.root.join(path)).ok()?;
            Some((path.clone(), String::from_utf8(content).ok()?))
        };
        desired.files.iter().filter_map(|file| text(&file.path)).collect()
    }

    async fn action(&self, part: &Part, action: &str) -> Result<Vec<PreviewedChange>, StepError> {
        if action == fetch_images::NAME {
            return self.images(part).await;
        }
        if action == etcd::NAME || action == etcd::endpoints::NAME {
            return self.etcd(action).await;
        }
        if self.recipe.has_nothing_for(part) {
            return Ok(Vec::new());
        }
        if let StepScope::OncePerCluster { contents } = &part.scope
            && self.is_done(contents).await?
        {
            return Ok(Vec::new());
        }
        Ok(vec![PreviewedChange::new(
            ChangeKind::Action,
            action,
            "runs; it does what is not done yet",
        )])
    }

    /// The same as for its steps: where etcd is not one of this server's components, somebody else manages it.
    async fn etcd(&self, action: &str) -> Result<Vec<PreviewedChange>, StepError> {
        let servers = &self.question.servers;
        let component = self.recipe.component(etcd::COMPONENT);
        let desired = match component {
            Some(component) if self.host.concerns(component)? => {
                Some(self.host.desired_of(component, self.facts, self.package)?)
            }
            _ => None,
        };
        match (action, &desired) {
            (etcd::NAME, desired) => etcd::dry_run(self.host, servers, desired.as_ref()).await,
            (_, Some(_)) => etcd::dry_run_of_endpoints(self.host, servers),
            (_, None) => Ok(Vec::new()),
        }
    }

    async fn images(&self, part: &Part) -> Result<Vec<PreviewedChange>, StepError> {
        let mut missing = Vec::new();
        for image in self.recipe.images_of(part) {
            let name = self.facts.reference(image);
            let has = self.host.runtime.has(&image_ref(&name)?).await;
            if !has.map_err(|error| StepError::failed(format!("looking for {name}"), &error))? {
                missing.push(PreviewedChange::new(ChangeKind::Image, &name, "is fetched"));
            }
        }
        Ok(missing)
    }

    /// Whether a once-per-cluster work was done for this version. What it is made of may have changed since: then it is done
    /// again, which only whoever does it finds out.
    async fn is_done(&self, contents: &str) -> Result<bool, StepError> {
        let key = Key::Contents(contents.to_owned());
        let read = self.host.shared.store.read(&[Range::from(&key)], None).await;
        let snapshot = read.map_err(|error| StepError::failed(format!("reading {key}"), &error))?;
        let recorded = snapshot.kvs.get(&key.to_string());
        let status = recorded.and_then(|kv| ContentsStatus::decode(&kv.value).ok());
        let version: &NecoVersion = &self.facts.version;
        Ok(status.is_some_and(|status| status.success && status.version == *version))
    }
}

fn in_words(scope: &StepScope) -> Option<String> {
    match scope {
        StepScope::All => None,
        StepScope::OneAtATime { turn } => Some(format!("one server at a time, turn {turn}")),
        StepScope::OncePerCluster { .. } => Some("one server for all".to_owned()),
    }
}
