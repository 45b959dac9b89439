//! Bringing a component to what is desired: write what differs, restart what runs with something else, wait until ready.

use std::time::Duration;

use neco_components::{Component, Desired, DesiredUnit, Effect as Change, Probe, diff, effects};
use neco_schema::journal::{Effect, Entry, IntentEnd};

use crate::context::{StepContext, StepError};
use crate::steps::host::{StepHost, unit_name};

/// How often a program that is not ready yet is asked again.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a unit that a crash left stopped may take to start.
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);

/// Applies a component. Every effect has a fence before it; between a stop and its start there is none.
///
/// # Errors
/// Cancelled at a safe point, or failed.
pub(crate) async fn component(
    context: &StepContext,
    host: &StepHost,
    component: &Component,
    desired: &Desired,
) -> Result<(), StepError> {
    let observed = host.observe(desired, context).await?;
    let differences = diff(desired, &observed);
    if differences.is_empty() {
        context.doing(format!("{} is as it should be", component.name));
        return Ok(());
    }
    for change in effects(desired, &differences) {
        let view = context.fence().await?;
        context.doing(describe(&change));
        if let Change::Restart(unit) = &change {
            restart(context, host, desired, unit).await?;
            continue;
        }
        let what = describe(&change);
        context.effect_begins(&what, &view)?;
        perform(host, desired, &change).await?;
        context.effect_ends(&what, &view)?;
    }
    ready(host, component).await
}

/// One change that needs no intent.
pub(crate) async fn perform(
    host: &StepHost,
    desired: &Desired,
    change: &Change,
) -> Result<(), StepError> {
    match change {
        Change::Write(path) => {
            let file = desired.file(path).ok_or_else(|| {
                StepError::Failed(format!("this is a bug: {} is not desired", path.display()))
            })?;
            host.write(file)
        }
        Change::Reload => host
            .units
            .daemon_reload()
            .await
            .map_err(|error| StepError::failed("reloading units", &error)),
        Change::Enable(unit) => {
            let name = unit_name(unit)?;
            host.units
                .enable(&name)
                .await
                .map_err(|error| StepError::failed(format!("enabling {unit}"), &error))
        }
        Change::Start(unit) | Change::Restart(unit) => {
            start(host, unit, digest_of(desired, unit)).await
        }
    }
}

/// Starts a unit and writes down with what.
pub(crate) async fn start(
    host: &StepHost,
    unit: &str,
    digest: Option<String>,
) -> Result<(), StepError> {
    let name = unit_name(unit)?;
    host.units
        .start(&name)
        .await
        .map_err(|error| StepError::failed(format!("starting {unit}"), &error))?;
    match digest {
        Some(digest) => host.record(&[Entry::Started { unit: unit.to_owned(), digest }]),
        None => Ok(()),
    }
}

pub(crate) fn digest_of(desired: &Desired, unit: &str) -> Option<String> {
    let found: Option<&DesiredUnit> = desired.units.iter().find(|desired| desired.name == unit);
    found.map(|unit| unit.digest.as_str().to_owned())
}

/// Restarts a unit under an intent: a crash in between is completed before anything else.
async fn restart(
    context: &StepContext,
    host: &StepHost,
    desired: &Desired,
    unit: &str,
) -> Result<(), StepError> {
    let digest = digest_of(desired, unit);
    restart_unit(context, host, unit, digest).await
}

/// The same for any unit.
pub(crate) async fn restart_unit(
    context: &StepContext,
    host: &StepHost,
    unit: &str,
    digest: Option<String>,
) -> Result<(), StepError> {
    let name = unit_name(unit)?;
    let effect = Effect::Restart { unit: unit.to_owned(), digest: digest.clone() };
    let intent = context.open_intent(unit, effect)?;
    let view = match context.fence().await {
        Ok(view) => view,
        Err(error) => {
            context.close_intent(&intent, IntentEnd::Dropped)?;
            return Err(error);
        }
    };
    context.begin_intent(&intent, &view)?;
    let what = format!("restart {unit}");
    context.effect_begins(&what, &view)?;
    let stopped = host
        .units
        .stop(&name)
        .await
        .map_err(|error| StepError::failed(format!("stopping {unit}"), &error));
    let done = match stopped {
        Ok(()) => start(host, unit, digest).await,
        Err(error) => Err(error),
    };
    context.effect_ends(&what, &view)?;
    match done {
        Ok(()) => context.close_intent(&intent, IntentEnd::Completed),
        Err(error) => {
            context.close_intent(&intent, IntentEnd::Failed { cause: error.to_string() })?;
            Err(error)
        }
    }
}

/// Brings a restart that a crash cut off to its end.
///
/// # Errors
/// The unit does not start.
pub(crate) async fn complete_restart(
    host: &StepHost,
    unit: &str,
    digest: Option<&str>,
) -> Result<(), StepError> {
    let started = start(host, unit, digest.map(str::to_owned));
    match tokio::time::timeout(COMPLETE_WITHIN, started).await {
        Ok(result) => result,
        Err(_) => {
            Err(StepError::Failed(format!("{unit} did not start within {COMPLETE_WITHIN:?}")))
        }
    }
}

/// Waits until everything that the component promises holds.
pub(crate) async fn ready(host: &StepHost, component: &Component) -> Result<(), StepError> {
    let Some(ready) = &component.ready else { return Ok(()) };
    let all = async {
        for probe in &ready.probes {
            while !holds(host, probe).await? {
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(ready.within, all).await {
        Ok(result) => result,
        Err(_) => Err(StepError::Failed(format!(
            "{} was not ready within {:?}",
            component.name, ready.within
        ))),
    }
}

async fn holds(host: &StepHost, probe: &Probe) -> Result<bool, StepError> {
    match probe {
        Probe::UnitActive(unit) => {
            let name = unit_name(unit)?;
            let state = host.units.state(&name).await;
            Ok(state
                .map_err(|error| StepError::failed(format!("state of {unit}"), &error))?
                .is_active())
        }
        other => Err(StepError::Failed(format!("this version cannot probe {other:?}"))),
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Write(path) => format!("write {}", path.display()),
        Change::Reload => "reload units".to_owned(),
        Change::Enable(unit) => format!("enable {unit}"),
        Change::Start(unit) => format!("start {unit}"),
        Change::Restart(unit) => format!("restart {unit}"),
    }
}
