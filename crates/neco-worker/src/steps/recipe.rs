//! The steps of an installed recipe: which file does what.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use neco_base::Tree;
use neco_components::{
    Component, Difference, Facts, Image, LoadError, Part, Phase, Recipe, Step, StepScope, Work,
    diff, read_ignitions,
};
use neco_connect::one_line;
use neco_plan::{GroupShape, RecipeShape};
use neco_schema::journal::Effect;
use neco_schema::{RequestId, UpdateRequest, Way};

use crate::context::{StepContext, StepError};
use crate::steps::actions::{
    self, cke_contents, cke_template, dhcp_json, etcd, fetch_images, sabakan_contents,
    user_resources,
};
use crate::steps::host::StepHost;
use crate::steps::{PlanError, Steps, apply, checks, contents, group, installed};

/// Whether this version can follow a recipe, with what lies beside it in `folder`: the sources of ignition templates, where
/// a step uploads them.
///
/// # Errors
/// It cannot, or something cannot be read.
fn check(recipe: &Recipe, folder: &Path) -> Result<Tree, LoadError> {
    let invalid = |problems| LoadError::Invalid { folder: folder.to_owned(), problems };
    recipe.check_actions(&actions::NAMES, &checks::NAMES).map_err(invalid)?;
    let uploads = recipe.actions().any(|action| *action == *sabakan_contents::NAME);
    let ignitions = if uploads { read_ignitions(folder)? } else { Tree::default() };
    actions::check(recipe, &ignitions).map_err(invalid)?;
    Ok(ignitions)
}

/// A recipe on this server.
pub struct RecipeSteps {
    recipe: Recipe,
    ignitions: Tree,
    shape: RecipeShape,
    host: Arc<StepHost>,
}

impl RecipeSteps {
    /// Follows `recipe`, which lies below the root of `host`, with its drivers.
    ///
    /// # Errors
    /// The recipe names actions that this version does not have, or they could not use what the package holds for them.
    pub fn new(recipe: Recipe, host: Arc<StepHost>) -> Result<Self, LoadError> {
        let ignitions = check(&recipe, &host.root.join(Recipe::FOLDER))?;
        Ok(Self { shape: recipe.shape(), recipe, ignitions, host })
    }

    /// What keeps this version from following the recipe in `folder`, each with file and line; empty where nothing does.
    pub(crate) fn unusable(folder: &Path) -> Vec<String> {
        match Recipe::load(folder).and_then(|recipe| check(&recipe, folder)) {
            Ok(_) => Vec::new(),
            Err(LoadError::Invalid { problems, .. }) => {
                problems.iter().map(ToString::to_string).collect()
            }
            Err(error @ LoadError::Read { .. }) => vec![one_line(&error)],
        }
    }

    fn step(&self, number: u32) -> Result<&Step, StepError> {
        self.recipe
            .step(number)
            .ok_or_else(|| StepError::Failed(format!("the recipe has no step {number}")))
    }

    fn component(&self, name: &str) -> Result<&Component, StepError> {
        self.recipe
            .component(name)
            .ok_or_else(|| StepError::Failed(format!("the recipe has no component {name}")))
    }

    /// Whether this server's etcd is a component of it.
    fn manages_etcd(&self) -> Result<bool, StepError> {
        let component = self.recipe.component(etcd::COMPONENT);
        component.map_or(Ok(false), |component| self.host.concerns(component))
    }

    /// What templates may ask while `request` runs.
    async fn facts(&self, request: &UpdateRequest) -> Result<Facts, StepError> {
        self.with_variants(self.host.facts(request)?).await
    }

    /// The facts with the images of which this server runs the private variant.
    async fn with_variants(&self, mut facts: Facts) -> Result<Facts, StepError> {
        let images = self.recipe.artifacts().images.values().filter(|image| image.private);
        facts.variants = self.host.variants(images).await?;
        Ok(facts)
    }

    /// Does one part of a step.
    async fn part(&self, context: &StepContext, step: &Step, part: &Part) -> Result<(), StepError> {
        match &part.work {
            Work::None { reason } => {
                context.doing(format!("no effect: {reason}"));
                Ok(())
            }
            Work::Component { phase: Phase::Stop, component } => Err(StepError::Failed(format!(
                "step {} stops {component} outside of a group",
                step.name
            ))),
            Work::Component { phase: Phase::Apply, component } => {
                self.apply(context, part, self.component(component.as_str())?).await
            }
            Work::Action { action } => self.action(context, part, action.as_str()).await,
        }
    }

    async fn apply(
        &self,
        context: &StepContext,
        part: &Part,
        component: &Component,
    ) -> Result<(), StepError> {
        if !self.host.concerns(component)? {
            context.doing(format!("{} is not managed on this server", component.name));
            return Ok(());
        }
        let facts = self.facts(&context.request).await?;
        let desired = self.host.desired(component, &facts)?;
        let turn = match &part.scope {
            StepScope::All => None,
            StepScope::OneAtATime { turn } => {
                let observed = apply::observe(context, &self.host, &desired).await?;
                let turn = turn.as_str();
                (!diff(&desired, &observed).is_empty()).then_some(turn)
            }
            StepScope::OncePerCluster { contents } => {
                let inputs = self.recipe.digest().to_string();
                let work = || async {
                    apply::component(context, &self.host, component, &desired, None).await?;
                    installed::record(context, component).await;
                    Ok(())
                };
                return contents::once(context, contents, &inputs, work).await;
            }
        };
        if let Some(turn) = turn {
            // Given back by the engine, should this fail: a turn without an open intent or a running step is released.
            context.take_turn(turn).await?;
        }
        apply::component(context, &self.host, component, &desired, turn).await?;
        installed::record(context, component).await;
        Ok(())
    }

    async fn action(
        &self,
        context: &StepContext,
        part: &Part,
        action: &str,
    ) -> Result<(), StepError> {
        match action {
            fetch_images::NAME => {
                let facts = self.facts(&context.request).await?;
                let images = self.recipe.images_of(part).map(|image| facts.reference(image));
                fetch_images::run(context, &self.host, images).await
            }
            etcd::endpoints::NAME => {
                etcd::endpoints::run(context, &self.host, self.manages_etcd()?).await
            }
            etcd::NAME => match &part.scope {
                StepScope::OneAtATime { turn } => {
                    etcd::run(context, &self.host, self.manages_etcd()?, turn.as_str()).await
                }
                _ => Err(StepError::Failed(
                    "the members of etcd are changed under a turn alone".to_owned(),
                )),
            },
            other => match &part.scope {
                StepScope::OncePerCluster { contents } => {
                    self.once(context, part, other, contents).await
                }
                _ => Err(StepError::Failed(format!("{other} is done once per cluster alone"))),
            },
        }
    }

    /// Does what one server does for all, and records it at `contents`.
    async fn once(
        &self,
        context: &StepContext,
        part: &Part,
        action: &str,
        contents: &str,
    ) -> Result<(), StepError> {
        let (host, recipe) = (&*self.host, &self.recipe);
        match action {
            dhcp_json::NAME => {
                let inputs = recipe.inputs_of(part).as_str().to_owned();
                let text = recipe.data(dhcp_json::DATA).unwrap_or_default();
                dhcp_json::run(context, host, contents, text, &inputs).await
            }
            cke_template::NAME => {
                let shipped = recipe.data(cke_template::DATA);
                cke_template::run(context, host, contents, shipped).await
            }
            cke_contents::NAME => cke_contents::run(context, host, contents).await,
            sabakan_contents::NAME => {
                let facts = self.facts(&context.request).await?;
                let images: Vec<&Image> = recipe.images_of(part).collect();
                let package = sabakan_contents::Package {
                    recipe,
                    images: &images,
                    ignitions: &self.ignitions,
                };
                sabakan_contents::run(context, host, contents, &package, &facts).await
            }
            user_resources::NAME => {
                let files: Vec<_> = recipe.data_of(part).collect();
                let images = recipe.artifacts().images.values();
                user_resources::run(context, host, contents, images, &files).await
            }
            other => Err(StepError::Failed(format!("this version has no action {other}"))),
        }
    }

    /// The components of a group, in the order in which they are applied.
    fn members(&self, group: &GroupShape) -> Result<Vec<&Component>, StepError> {
        let known = self.recipe.groups().iter().find(|known| known.name == *group.name.as_str());
        let names = known.into_iter().flat_map(|group| &group.components);
        names.map(|name| self.component(name.as_str())).collect()
    }

    /// The same with what their templates may ask while the request of `context` runs.
    async fn members_now(
        &self,
        context: &StepContext,
        shape: &GroupShape,
    ) -> Result<group::Members<'_>, StepError> {
        let facts = self.facts(&context.request).await?;
        Ok(group::Members { components: self.members(shape)?, facts })
    }

    fn group_applied_in(&self, step: u32) -> Option<GroupShape> {
        self.shape.groups.iter().find(|group| group.apply == step).cloned()
    }

    fn group_stopped_in(&self, step: u32) -> Option<GroupShape> {
        self.shape.groups.iter().find(|group| group.stop == step).cloned()
    }
}

#[async_trait]
impl Steps for RecipeSteps {
    fn shape(&self) -> &RecipeShape {
        &self.shape
    }

    fn name(&self, step: u32) -> String {
        self.recipe.step(step).map_or_else(|| format!("step {step}"), |step| step.name.to_string())
    }

    async fn changes(&self, request: &UpdateRequest) -> Result<Vec<String>, PlanError> {
        let never = |error: StepError| PlanError::Never(error.to_string());
        let facts = self.facts(request).await.map_err(never)?;
        let not_yet = |error: StepError| PlanError::NotYet(error.to_string());
        etcd::note_run(&self.host).await.map_err(not_yet)?;
        let mut changes = Vec::new();
        let applied = self.recipe.steps().flat_map(|(_, step)| step.components(Phase::Apply));
        for name in applied {
            let component = self.component(name.as_str()).map_err(never)?;
            let desired = self.host.desired(component, &facts).map_err(never)?;
            let observed = self.host.observe_now(&desired).await;
            let observed = observed.map_err(not_yet)?;
            let in_group = self.recipe.groups().iter().any(|group| group.components.contains(name));
            let counts = |difference: &Difference| match difference {
                // What is only fetched beforehand takes nothing away from anybody.
                Difference::Image { .. } | Difference::Tools { .. } => false,
                difference => difference.takes_down() || !in_group,
            };
            if diff(&desired, &observed).iter().any(counts) {
                changes.push(name.to_string());
            }
        }
        Ok(changes)
    }

    async fn note_runs(&self, request: &UpdateRequest) {
        // Whoever looks writes it down.
        if let Err(error) = self.changes(request).await {
            tracing::info!(%error, "units that others started may be restarted");
        }
    }

    async fn run(&self, context: &StepContext) -> Result<(), StepError> {
        let step = self.step(context.step)?;
        context.doing(step.name.to_string());
        let stops = self.group_stopped_in(context.step);
        let applies = self.group_applied_in(context.step);
        // The components of a group are stopped and applied together, in the place of the first.
        let mut grouped = false;
        for part in &step.parts {
            match (&part.work, &stops, &applies) {
                (Work::Component { .. }, Some(_), _) | (Work::Component { .. }, _, Some(_))
                    if grouped => {}
                (Work::Component { .. }, Some(shape), _) => {
                    let members = self.members_now(context, shape).await?;
                    group::stop(context, &self.host, shape, &members).await?;
                    grouped = true;
                }
                (Work::Component { .. }, None, Some(shape)) => {
                    let members = self.members_now(context, shape).await?;
                    group::apply(context, &self.host, shape, &members).await?;
                    for component in members.components {
                        installed::record(context, component).await;
                    }
                    grouped = true;
                }
                _ => self.part(context, step, part).await?,
            }
        }
        Ok(())
    }

    async fn restore(&self, group: &str, request: &RequestId, way: Way) -> Result<(), StepError> {
        let shape = self.recipe.groups().iter().find(|shape| shape.name.as_str() == group);
        let Some(shape) = shape else {
            return group::restore_unknown(&self.host, group, request).await;
        };
        let names = &shape.components;
        let components: Vec<&Component> =
            names.iter().map(|name| self.component(name.as_str())).collect::<Result<_, _>>()?;
        match way {
            Way::Back => group::restore_back(&self.host, &components, request).await,
            Way::Forward => {
                let facts = self.with_variants(self.host.facts_of_group(group)?).await?;
                let members = group::Members { components, facts };
                group::restore_forward(&self.host, &members, request).await
            }
        }
    }

    async fn left(&self, group: &str) -> Vec<String> {
        let Some(shape) = self.shape.groups.iter().find(|shape| shape.name == group) else {
            return group::left_unknown(&self.host, group).await;
        };
        match self.members(shape) {
            Ok(components) => group::left(&self.host, &components).await,
            Err(_) => Vec::new(),
        }
    }

    async fn complete(&self, effect: &Effect) -> Result<(), StepError> {
        match effect {
            Effect::Restart { unit, digest } => {
                apply::complete_restart(&self.host, unit, digest.as_deref()).await?;
                if unit == etcd::UNIT {
                    etcd::caught_up(&self.host).await;
                    return Ok(());
                }
                // Another recipe than the one that restarted it may not know the unit: it was started, then.
                let belongs = |component: &&Component| {
                    component.units.iter().any(|other| other.name == *unit)
                };
                match self.recipe.components().find(belongs) {
                    Some(component) => apply::ready(&self.host, component).await,
                    None => Ok(()),
                }
            }
            Effect::Install { .. } => {
                Err(StepError::Failed("an installation is completed by its own unit".to_owned()))
            }
        }
    }
}
