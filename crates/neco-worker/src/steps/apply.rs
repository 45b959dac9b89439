//! Bringing a component to what is desired: write what differs, restart what runs with something else, wait until ready.

use std::time::Duration;

use neco_components::{
    Component, Desired, DesiredUnit, Effect as Change, Observed, absent_unit, diff, effects,
};
use neco_plan::View;
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_systemd::UnitName;

use crate::context::{StepContext, StepError};
use crate::steps::host::{StepHost, image_ref, unit_name};
use crate::steps::started::NOTHING;
use crate::steps::{packages, probe, tools};

/// How often a program that is not ready yet is asked again.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a unit that a crash left stopped may take to start.
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);
/// How often it is tried to be started: after a power cut, what it needs may come up late.
const COMPLETE_TRIES: u32 = 5;
const COMPLETE_AGAIN: Duration = Duration::from_secs(2);

/// Applies a component. Every effect has a fence before it; between a stop and its start there is none.
///
/// What was restarted is proven ready before the turn goes, and the intents close after that. Whatever comes in between
/// leaves them open: they are completed, with the same proof, before anything else.
///
/// # Errors
/// Cancelled at a safe point, or failed.
pub(crate) async fn component(
    context: &StepContext,
    host: &StepHost,
    component: &Component,
    desired: &Desired,
    turn: Option<&str>,
) -> Result<(), StepError> {
    let observed = observe(context, host, desired).await?;
    if let Some(unit) = absent_unit(desired, &observed) {
        let (name, unit) = (&component.name, &unit.name);
        context.doing(format!("{name} is not on this server: systemd knows no {unit}"));
        return Ok(());
    }
    let differences = diff(desired, &observed);
    if differences.is_empty() {
        return as_it_should_be(context, host, component).await;
    }
    let mut restarts = Vec::new();
    for change in effects(desired, &differences) {
        if let Change::Restart(unit) | Change::Start(unit) = &change {
            context.doing(describe(&change));
            let digest = digest_of(desired, unit);
            restarts.push(restart_unit(context, host, unit, digest, turn).await?);
            continue;
        }
        if let (Change::InstallPackage(_), Some(package)) = (&change, &desired.package) {
            // A release may take long to be had; what is done with it comes under a fence of its own.
            let file = packages::fetch(context, host, package).await?;
            let view = guarded(context, turn).await?;
            noted(context, &change, &view, packages::install(host, package, &file)).await?;
            continue;
        }
        let view = guarded(context, turn).await?;
        noted(context, &change, &view, perform(host, desired, &change)).await?;
    }
    let proven =
        context.unless_cancelled("waiting until it is ready", ready(host, component)).await;
    if let Err(StepError::Failed(cause)) = &proven {
        for intent in &restarts {
            context.close_intent(intent, IntentEnd::Failed { cause: cause.clone() })?;
        }
    }
    proven?;
    if let Some(turn) = turn {
        context.release_turn(turn).await?;
    }
    for intent in &restarts {
        context.close_intent(intent, IntentEnd::Completed)?;
    }
    Ok(())
}

/// What `desired` is compared with. Where systemd or Docker is away that takes as long as it takes, or until the request ends.
///
/// # Errors
/// Cancelled, or something cannot be looked at.
pub(crate) async fn observe(
    context: &StepContext,
    host: &StepHost,
    desired: &Desired,
) -> Result<Observed, StepError> {
    let what = format!("looking at {}", desired.component);
    context.unless_cancelled(&what, host.observe_now(desired)).await
}

/// Nothing differs: an earlier attempt may have brought it here, and what it started is to be ready all the same.
///
/// # Errors
/// Cancelled, or it is not ready.
pub(crate) async fn as_it_should_be(
    context: &StepContext,
    host: &StepHost,
    component: &Component,
) -> Result<(), StepError> {
    context.doing(format!("{} is as it should be", component.name));
    context.unless_cancelled("waiting until it is ready", ready(host, component)).await
}

/// Brings the image of a component and its client programs, and does nothing else.
///
/// # Errors
/// Cancelled at a safe point, or failed.
pub(crate) async fn bring(
    context: &StepContext,
    host: &StepHost,
    desired: &Desired,
) -> Result<(), StepError> {
    let observed = observe(context, host, desired).await?;
    for change in effects(desired, &diff(desired, &observed)) {
        if !matches!(change, Change::Pull(_) | Change::InstallTools(_)) {
            continue;
        }
        let view = context.fence().await?;
        noted(context, &change, &view, perform(host, desired, &change)).await?;
    }
    Ok(())
}

/// Makes a change that needs no intent, and notes its begin and end. What is only brought may take as long as somebody is
/// away, and may be left.
async fn noted(
    context: &StepContext,
    change: &Change,
    view: &View,
    work: impl Future<Output = Result<(), StepError>>,
) -> Result<(), StepError> {
    let what = describe(change);
    context.doing(what.clone());
    context.effect_begins(&what, view)?;
    let done = match change {
        Change::Pull(_) | Change::InstallTools(_) => context.unless_cancelled(&what, work).await,
        _ => work.await,
    };
    context.effect_ends(&what, view, done.is_ok())?;
    done
}

/// A fence under a turn, if there is one; a turn that was taken away is taken again.
async fn guarded(context: &StepContext, turn: Option<&str>) -> Result<View, StepError> {
    loop {
        let view = context.fence().await?;
        match turn {
            Some(turn) if !context.holds_turn(&view, turn) => {
                context.take_turn(turn).await?;
            }
            _ => return Ok(view),
        }
    }
}

/// One change that needs no intent.
pub(crate) async fn perform(
    host: &StepHost,
    desired: &Desired,
    change: &Change,
) -> Result<(), StepError> {
    match change {
        Change::Pull(image) => {
            let parsed = image_ref(image)?;
            let pulled = host.runtime.pull(&parsed, &|_| {}).await;
            pulled
                .map(|_| ())
                .map_err(|error| StepError::failed(format!("pulling {image}"), &error))
        }
        Change::InstallTools(image) => {
            let wanted = desired.tools.as_ref().ok_or_else(|| {
                StepError::Failed(format!("this is a bug: {image} has no client programs"))
            })?;
            tools::install(host, &desired.component, wanted, image).await
        }
        Change::InstallPackage(name) => {
            let package = desired.package.as_ref().ok_or_else(|| {
                StepError::Failed(format!("this is a bug: package {name} is not desired"))
            })?;
            packages::bring(host, package).await
        }
        Change::Write(path) => {
            let file = desired.file(path).ok_or_else(|| {
                StepError::Failed(format!("this is a bug: {} is not desired", path.display()))
            })?;
            host.write(file).await
        }
        Change::Restrict(path) => {
            let secret = desired.secrets.iter().find(|secret| secret.path == *path);
            let secret = secret.ok_or_else(|| {
                StepError::Failed(format!("this is a bug: {} is no secret", path.display()))
            })?;
            host.restrict(secret)
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
        Change::Start(unit) => start(host, unit, digest_of(desired, unit)).await,
        Change::Restart(unit) => {
            // It runs, though it should not: with what, nobody knows.
            stop(host, unit).await?;
            start(host, unit, digest_of(desired, unit)).await
        }
        Change::ReloadUnit(unit) => {
            let name = unit_name(unit)?;
            let reloaded = host.units.reload(&name).await;
            reloaded.map_err(|error| StepError::failed(format!("reloading {unit}"), &error))?;
            runs_with(host, &name, digest_of(desired, unit)).await
        }
    }
}

async fn stop(host: &StepHost, unit: &str) -> Result<(), StepError> {
    let name = unit_name(unit)?;
    let stopped = host.units.stop(&name).await;
    stopped.map_err(|error| StepError::failed(format!("stopping {unit}"), &error))
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
    runs_with(host, &name, digest).await
}

/// Writes down what the present run of a unit began with.
async fn runs_with(
    host: &StepHost,
    name: &UnitName,
    digest: Option<String>,
) -> Result<(), StepError> {
    let Some(digest) = digest else { return Ok(()) };
    // Where systemd does not tell, the start counts until the next boot.
    let run = host.units.state(name).await.ok().and_then(|state| state.run);
    let run = run.map(|run| run.id);
    host.record(&[Entry::Started { unit: name.to_string(), digest, run }])
}

pub(crate) fn digest_of(desired: &Desired, unit: &str) -> Option<String> {
    let found: Option<&DesiredUnit> = desired.units.iter().find(|desired| desired.name == unit);
    found.map(|unit| unit.digest.as_str().to_owned())
}

/// Starts a unit, stopped before if it runs, under an intent: a crash in between is completed before anything else.
///
/// The intent is still open then: the caller closes it once what runs is proven to be healthy.
///
/// # Errors
/// Cancelled before it began, or failed; the intent is closed, unless the disk refuses.
pub(crate) async fn restart_unit(
    context: &StepContext,
    host: &StepHost,
    unit: &str,
    digest: Option<String>,
    turn: Option<&str>,
) -> Result<IntentId, StepError> {
    let opened = open_restart(context, host, unit, digest, turn).await?;
    carry_out(context, host, opened).await
}

/// The start of a unit, stopped before if it runs, that may begin: its intent is open, and nothing has happened yet. Whoever
/// does not carry it out drops the intent.
pub(crate) struct Opened {
    pub(crate) intent: IntentId,
    /// Whether the unit runs, and is stopped.
    pub(crate) runs: bool,
    unit: String,
    digest: Option<String>,
    view: View,
}

/// The first half of [`restart_unit`], for whoever has something to prove right before the unit is touched.
///
/// # Errors
/// Cancelled; the intent is closed.
pub(crate) async fn open_restart(
    context: &StepContext,
    host: &StepHost,
    unit: &str,
    digest: Option<String>,
    turn: Option<&str>,
) -> Result<Opened, StepError> {
    let name = unit_name(unit)?;
    let state = host.units.state(&name).await;
    let runs =
        state.map_err(|error| StepError::failed(format!("state of {unit}"), &error))?.is_active();
    let effect = Effect::Restart { unit: unit.to_owned(), digest: digest.clone() };
    let intent = context.open_intent(unit, effect)?;
    match guarded(context, turn).await {
        Ok(view) => Ok(Opened { intent, runs, unit: unit.to_owned(), digest, view }),
        Err(error) => {
            context.close_intent(&intent, IntentEnd::Dropped)?;
            Err(error)
        }
    }
}

/// The second half.
///
/// # Errors
/// It failed; the intent is closed, unless the disk refuses.
pub(crate) async fn carry_out(
    context: &StepContext,
    host: &StepHost,
    opened: Opened,
) -> Result<IntentId, StepError> {
    let Opened { intent, runs, unit, digest, view } = opened;
    let unit = unit.as_str();
    let what = if runs { format!("restart {unit}") } else { format!("start {unit}") };
    context.begin_intent(&intent, &what, &view)?;
    // From here to the start nothing may fail but the units themselves: what the disk refuses waits until after it.
    let stopped = if runs { stop(host, unit).await } else { Ok(()) };
    let done = match stopped {
        Ok(()) => {
            let noted = host.record(&[nothing_runs(unit)]);
            start(host, unit, digest).await.and(noted)
        }
        Err(error) => Err(error),
    };
    if let Err(error @ (StepError::Journal(_) | StepError::Disk(_))) = done {
        // The intent stays open: it is completed once the disk is writable.
        return Err(error);
    }
    context.effect_ends(&what, &view, done.is_ok())?;
    match done {
        Ok(()) => Ok(intent),
        Err(error) => {
            context.close_intent(&intent, IntentEnd::Failed { cause: error.to_string() })?;
            Err(error)
        }
    }
}

/// Says that the process that `unit` was started with before is gone: what runs from here on reads what is on the disk.
fn nothing_runs(unit: &str) -> Entry {
    Entry::Started { unit: unit.to_owned(), digest: NOTHING.to_owned(), run: None }
}

/// Brings the start of a restart that a crash cut off to its end. Whether what runs is healthy, the caller finds out.
///
/// # Errors
/// The unit does not start.
pub(crate) async fn complete_restart(
    host: &StepHost,
    unit: &str,
    digest: Option<&str>,
) -> Result<(), StepError> {
    let name = unit_name(unit)?;
    let state = host.units.state(&name).await;
    let runs =
        state.map_err(|error| StepError::failed(format!("state of {unit}"), &error))?.is_active();
    let stopped =
        host.shared.local().journal.started_with.get(unit).is_some_and(|had| had == NOTHING);
    if runs && !stopped {
        // It was never taken away. What runs is the old one, and the step will find that out.
        return Ok(());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let started = start(host, unit, digest.map(str::to_owned));
        match tokio::time::timeout(COMPLETE_WITHIN, started).await {
            Ok(Err(error @ StepError::Failed(_))) if tries < COMPLETE_TRIES => {
                tracing::warn!(unit, error = %error, "it does not start, trying again");
                tokio::time::sleep(COMPLETE_AGAIN).await;
            }
            Ok(result) => return result,
            Err(_) => {
                return Err(StepError::Failed(format!(
                    "{unit} did not start within {COMPLETE_WITHIN:?}"
                )));
            }
        }
    }
}

/// Waits until everything that the component promises holds. A unit that lacks what it needs does not run, and promises
/// nothing; nor does one that is not on this server.
pub(crate) async fn ready(host: &StepHost, component: &Component) -> Result<(), StepError> {
    let Some(ready) = &component.ready else { return Ok(()) };
    if !host.concerns(component)? {
        return Ok(());
    }
    if let Some(unit) = component.running_unit()
        && (!host.lets_run(unit)? || !host.has_units_of(component).await?)
    {
        return Ok(());
    }
    // What is not so yet, for whoever asks why it took too long.
    let mut missing = String::new();
    let all = async {
        for probe in &ready.probes {
            missing = format!("waiting for {probe}, which has not answered yet");
            while let Some(why) = probe::trouble(host, probe).await? {
                missing = format!("waiting for {probe}: {why}");
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    };
    let on_top = ready.probes.iter().map(probe::on_top).max().unwrap_or_default();
    match tokio::time::timeout(ready.within + on_top, all).await {
        Ok(result) => result,
        Err(_) => Err(StepError::Failed(format!(
            "{} was not ready within {:?}: {missing}",
            component.name, ready.within
        ))),
    }
}

/// A change in words, which journal and status tell.
pub(crate) fn describe(change: &Change) -> String {
    match change {
        Change::Reload => "reload units".to_owned(),
        other => other.to_string(),
    }
}
