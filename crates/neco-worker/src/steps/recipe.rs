//! The steps of an installed recipe: which file does what.

use std::sync::Arc;

use async_trait::async_trait;
use neco_components::{
    Component, Desired, Facts, Phase, Problems, Recipe, Step, StepScope, Work, diff,
};
use neco_plan::{GroupShape, RecipeShape};
use neco_schema::journal::Effect;
use neco_schema::{RequestId, UpdateRequest, Way};

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::{PlanError, Steps, apply, contents, fetch_images, group, restart_etcd};

/// The actions that recipes may name.
const ACTIONS: [&str; 3] = [fetch_images::NAME, contents::DHCP_JSON, restart_etcd::NAME];

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
        recipe.check_actions(&ACTIONS)?;
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

    fn desired(&self, component: &Component, facts: &Facts) -> Result<Desired, StepError> {
        Desired::render(component, facts)
            .map_err(|error| StepError::Failed(neco_connect::one_line(&error)))
    }

    async fn apply(
        &self,
        context: &StepContext,
        step: &Step,
        component: &Component,
    ) -> Result<(), StepError> {
        let desired = self.desired(component, &self.host.facts(&context.request)?)?;
        if let Some(shape) = self.group_applied_in(context.step) {
            return group::apply(context, &self.host, &shape, component, &desired).await;
        }
        let StepScope::OneAtATime { turn } = &step.scope else {
            return apply::component(context, &self.host, component, &desired, None).await;
        };
        if diff(&desired, &self.host.observe_now(&desired).await?).is_empty() {
            return apply::as_it_should_be(context, &self.host, component).await;
        }
        context.take_turn(turn.as_str()).await?;
        // Given back by the engine, should this fail: a turn without an open intent or a running step is released.
        apply::component(context, &self.host, component, &desired, Some(turn.as_str())).await
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
        let facts = self.host.facts(request).map_err(never)?;
        let mut changes = Vec::new();
        for (_, step) in self.recipe.steps() {
            let Work::Component { component, phase: Phase::Apply } = &step.work else { continue };
            let known = self.component(component.as_str()).map_err(never)?;
            let desired = self.desired(known, &facts).map_err(never)?;
            let observed = self.host.observe_now(&desired).await;
            let observed = observed.map_err(|error| PlanError::NotYet(error.to_string()))?;
            if !diff(&desired, &observed).is_empty() {
                changes.push(component.to_string());
            }
        }
        Ok(changes)
    }

    async fn run(&self, context: &StepContext) -> Result<(), StepError> {
        let step = self.step(context.step)?;
        context.doing(step.name.to_string());
        match &step.work {
            Work::None { reason } => {
                context.doing(format!("no effect: {reason}"));
                Ok(())
            }
            Work::Component { component, phase } => {
                let component = self.component(component.as_str())?;
                match (phase, self.group_stopped_in(context.step)) {
                    (Phase::Stop, Some(shape)) => {
                        group::stop(context, &self.host, &shape, component).await
                    }
                    (Phase::Stop, None) => Err(StepError::Failed(format!(
                        "step {} stops {} outside of a group",
                        step.name, component.name
                    ))),
                    (Phase::Apply, _) => self.apply(context, step, component).await,
                }
            }
            Work::Action { action } => match action.as_str() {
                fetch_images::NAME => {
                    fetch_images::run(context, &self.host, self.recipe.images_of(step)).await
                }
                contents::DHCP_JSON => {
                    let data = self.recipe.data("dhcp.json").unwrap_or_default();
                    let inputs = self.recipe.inputs_of(step).as_str().to_owned();
                    contents::dhcp_json(context, &self.host, data, &inputs).await
                }
                restart_etcd::NAME => match &step.scope {
                    StepScope::OneAtATime { turn } => {
                        restart_etcd::run(context, &self.host, turn.as_str()).await
                    }
                    _ => Err(StepError::Failed(format!(
                        "step {} restarts etcd without a turn",
                        step.name
                    ))),
                },
                other => Err(StepError::Failed(format!("this version has no action {other}"))),
            },
        }
    }

    async fn restore(&self, group: &str, request: &RequestId, way: Way) -> Result<(), StepError> {
        let shape = self.recipe.groups().iter().find(|shape| shape.name.as_str() == group);
        let Some(shape) = shape else {
            return Err(StepError::Failed(format!(
                "this recipe has no group {group}: start its service by hand"
            )));
        };
        let component = self.component(shape.component.as_str())?;
        match way {
            Way::Back => group::restore_back(&self.host, component, request).await,
            Way::Forward => {
                let facts = self.host.facts_of_group(group)?;
                let desired = self.desired(component, &facts)?;
                group::restore_forward(&self.host, component, &desired, request).await
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
