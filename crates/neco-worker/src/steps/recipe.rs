//! The steps of an installed recipe: which file does what.

use std::sync::Arc;

use async_trait::async_trait;
use neco_components::{
    Component, Desired, Difference, Facts, Part, Phase, Problems, Recipe, Step, StepScope, Work,
    diff,
};
use neco_plan::{GroupShape, RecipeShape};
use neco_schema::journal::Effect;
use neco_schema::{RequestId, UpdateRequest, Way};

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::{
    PlanError, Steps, apply, cke_template, contents, fetch_images, group, restart_etcd,
    vault_leader,
};

/// The actions that recipes may name.
const ACTIONS: [&str; 4] =
    [fetch_images::NAME, contents::DHCP_JSON, cke_template::NAME, restart_etcd::NAME];

/// The checks that components may name.
const CHECKS: [&str; 1] = [vault_leader::NAME];

/// A recipe on this server.
pub struct RecipeSteps {
    recipe: Recipe,
    shape: RecipeShape,
    host: Arc<StepHost>,
}

impl RecipeSteps {
    /// Follows `recipe` with the drivers of `host`.
    ///
    /// # Errors
    /// The recipe names actions that this version does not have.
    pub fn new(recipe: Recipe, host: Arc<StepHost>) -> Result<Self, Problems> {
        recipe.check_actions(&ACTIONS, &CHECKS)?;
        Ok(Self { shape: recipe.shape(), recipe, host })
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
        let facts = self.facts(&context.request).await?;
        let desired = self.host.desired(component, &facts)?;
        match &part.scope {
            StepScope::All => {
                apply::component(context, &self.host, component, &desired, None).await
            }
            StepScope::OneAtATime { turn } => {
                if diff(&desired, &self.host.observe_now(&desired).await?).is_empty() {
                    return apply::as_it_should_be(context, &self.host, component).await;
                }
                context.take_turn(turn.as_str()).await?;
                // Given back by the engine, should this fail: a turn without an open intent or a running step is released.
                let turn = Some(turn.as_str());
                apply::component(context, &self.host, component, &desired, turn).await
            }
            StepScope::OncePerCluster { contents } => {
                let inputs = self.recipe.digest().to_string();
                let work = || apply::component(context, &self.host, component, &desired, None);
                contents::once(context, contents, &inputs, work).await
            }
        }
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
            contents::DHCP_JSON => {
                let data = self.recipe.data("dhcp.json").unwrap_or_default();
                let inputs = self.recipe.inputs_of(part).as_str().to_owned();
                contents::dhcp_json(context, &self.host, data, &inputs).await
            }
            cke_template::NAME => match &part.scope {
                StepScope::OncePerCluster { contents } => {
                    let shipped = self.recipe.data(cke_template::DATA).unwrap_or_default();
                    cke_template::run(context, &self.host, contents, shipped).await
                }
                _ => Err(StepError::Failed(format!("{action} is done once per cluster alone"))),
            },
            restart_etcd::NAME => match &part.scope {
                StepScope::OneAtATime { turn } => {
                    restart_etcd::run(context, &self.host, turn.as_str()).await
                }
                _ => Err(StepError::Failed("etcd is restarted under a turn alone".to_owned())),
            },
            other => Err(StepError::Failed(format!("this version has no action {other}"))),
        }
    }

    /// The components of a group, in the order in which they are applied.
    fn members(&self, group: &GroupShape) -> Result<Vec<&Component>, StepError> {
        let known = self.recipe.groups().iter().find(|known| known.name == *group.name.as_str());
        let names = known.into_iter().flat_map(|group| &group.components);
        names.map(|name| self.component(name.as_str())).collect()
    }

    /// The components of a group with what each should look like here.
    async fn desired_members(
        &self,
        context: &StepContext,
        shape: &GroupShape,
    ) -> Result<Vec<(&Component, Desired)>, StepError> {
        let facts = self.facts(&context.request).await?;
        let desired = |component| Ok((component, self.host.desired(component, &facts)?));
        self.members(shape)?.into_iter().map(desired).collect()
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
        let mut changes = Vec::new();
        let applied = self.recipe.steps().flat_map(|(_, step)| step.components(Phase::Apply));
        for name in applied {
            let component = self.component(name.as_str()).map_err(never)?;
            let desired = self.host.desired(component, &facts).map_err(never)?;
            let observed = self.host.observe_now(&desired).await;
            let observed = observed.map_err(|error| PlanError::NotYet(error.to_string()))?;
            // What is only fetched beforehand takes nothing away from anybody.
            let mut differences = diff(&desired, &observed).into_iter();
            let fetched = |difference: &Difference| {
                matches!(difference, Difference::Image { .. } | Difference::Tools { .. })
            };
            if differences.any(|difference| !fetched(&difference)) {
                changes.push(name.to_string());
            }
        }
        Ok(changes)
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
                    let members = self.desired_members(context, shape).await?;
                    group::stop(context, &self.host, shape, &members).await?;
                    grouped = true;
                }
                (Work::Component { .. }, None, Some(shape)) => {
                    let members = self.desired_members(context, shape).await?;
                    group::apply(context, &self.host, shape, &members).await?;
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
            return Err(StepError::Failed(format!(
                "this recipe has no group {group}: start its service by hand"
            )));
        };
        let names = &shape.components;
        let members: Vec<&Component> =
            names.iter().map(|name| self.component(name.as_str())).collect::<Result<_, _>>()?;
        match way {
            Way::Back => group::restore_back(&self.host, &members, request).await,
            Way::Forward => {
                let facts = self.with_variants(self.host.facts_of_group(group)?).await?;
                let desired = |component| Ok((component, self.host.desired(component, &facts)?));
                let members: Vec<_> =
                    members.into_iter().map(desired).collect::<Result<_, StepError>>()?;
                group::restore_forward(&self.host, &members, request).await
            }
        }
    }

    async fn complete(&self, effect: &Effect) -> Result<(), StepError> {
        match effect {
            Effect::Restart { unit, digest } => {
                apply::complete_restart(&self.host, unit, digest.as_deref()).await?;
                if unit == restart_etcd::UNIT {
                    restart_etcd::caught_up(&self.host).await;
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
