//! Outage groups: a service is stopped on all servers, then started again on all.

use std::time::Duration;

use neco_components::{Component, Desired, Effect as Change, Facts, diff, effects};
use neco_plan::{GroupShape, Rest, View};
use neco_schema::journal::{Entry, Phase};
use neco_schema::{Lrn, RequestId, Revision, Way};

use crate::context::{StepContext, StepError};
use crate::steps::host::{StepHost, unit_name};
use crate::steps::{apply, packages};

/// How long a restoration waits for an answer of Docker that it can do without.
const ASK_DOCKER_WITHIN: Duration = Duration::from_secs(20);
/// How long it waits for an image or for programs that were brought before the outage and are gone.
const BRING_WITHIN: Duration = Duration::from_secs(300);

/// The components of a group, in the order in which they are applied, and what their templates may ask.
pub(crate) struct Members<'a> {
    /// The components.
    pub(crate) components: Vec<&'a Component>,
    /// What their templates may ask.
    pub(crate) facts: Facts,
}

impl Members<'_> {
    /// What one of them should look like here. It is asked when it is the turn of that one: it may watch what one before it
    /// has written.
    fn desired(&self, host: &StepHost, component: &Component) -> Result<Desired, StepError> {
        host.desired(component, &self.facts)
    }
}

/// The stop step: if any of the components changes on any member, their units are stopped, the last applied first, and kept
/// from starting at boot.
///
/// # Errors
/// Cancelled at a safe point, or failed.
pub(crate) async fn stop(
    context: &StepContext,
    host: &StepHost,
    group: &GroupShape,
    members: &Members<'_>,
) -> Result<(), StepError> {
    let id = context.request.id();
    let view = with_all_plans(context).await?;
    let changing: Vec<String> = view
        .plans
        .iter()
        .filter(|(lrn, plan)| context.request.is_member(**lrn) && plan.value.request == id)
        .filter(|(_, plan)| {
            let changes = |component: &&Component| {
                plan.value.changes.iter().any(|name| name == component.name.as_str())
            };
            members.components.iter().any(changes)
        })
        .map(|(lrn, _)| lrn.to_string())
        .collect();
    if changing.is_empty() {
        context.doing(format!("{} changes nowhere and goes on running", group.name));
        return Ok(());
    }
    // What can be brought while they run, and may fail, does not wait for the outage.
    for component in &members.components {
        apply::bring(context, host, &members.desired(host, component)?).await?;
    }
    context.doing(format!(
        "stopping {}: it changes on boot servers {}",
        group.name,
        changing.join(", ")
    ));
    let units = members.components.iter().filter_map(|component| component.running_unit());
    let units: Vec<String> = units.map(|unit| unit.name.clone()).collect();
    host.keep_group_facts(&group.name, &context.request, units.clone())?;
    let view = context.fence().await?;
    context.record(&[Entry::GroupOpened {
        group: group.name.clone(),
        request: id,
        revision: view.revision,
    }])?;
    for unit in units.iter().rev() {
        let what = format!("stop {unit}");
        context.effect_begins(&what, &view)?;
        let done = stop_for_good(host, unit).await;
        context.effect_ends(&what, &view, done.is_ok())?;
        done?;
    }
    Ok(())
}

/// Stops a unit so that a reboot does not start the old beside the new.
async fn stop_for_good(host: &StepHost, unit: &str) -> Result<(), StepError> {
    let name = unit_name(unit)?;
    let state = host.units.state(&name).await;
    // A server that is new has nothing to stop.
    if !state.map_err(|error| StepError::failed(format!("state of {name}"), &error))?.exists() {
        return Ok(());
    }
    host.units
        .disable(&name)
        .await
        .map_err(|error| StepError::failed(format!("disabling {name}"), &error))?;
    host.units
        .stop(&name)
        .await
        .map_err(|error| StepError::failed(format!("stopping {name}"), &error))
}

/// A fence that has the plans of all members that write one: without them nobody knows where the component changes.
async fn with_all_plans(context: &StepContext) -> Result<View, StepError> {
    let id = context.request.id();
    loop {
        let view = context.fence().await?;
        let lost = |lrn: &Lrn| view.plans.get(lrn).is_none_or(|plan| plan.value.request != id);
        let writes = view
            .member_statuses(&context.request)
            .filter(|(_, status)| status.value.request.is_some())
            .map(|(lrn, _)| lrn);
        let missing: Vec<Lrn> = writes.filter(lost).collect();
        if missing.is_empty() {
            return Ok(view);
        }
        if missing.contains(&context.lrn) {
            // It is published again before the step is begun again.
            return Err(StepError::Cancelled("the own plan was lost".to_owned()));
        }
        context.waiting(&Rest::Plans { missing }.to_string());
        context.changed(&view).await;
    }
}

/// The apply step: decides that the group goes forward, then starts what is desired.
///
/// # Errors
/// Cancelled at a safe point, or failed; then the engine ends the group.
pub(crate) async fn apply(
    context: &StepContext,
    host: &StepHost,
    group: &GroupShape,
    members: &Members<'_>,
) -> Result<(), StepError> {
    let id = context.request.id();
    let open =
        host.shared.local().journal.groups.get(&group.name).is_some_and(|open| open.request == id);
    if !open {
        // Nothing was stopped here. Where others go back, this server has no business to go forward.
        let view = context.fence().await?;
        let decided = view.groups.get(&group.name).map(|group| &group.value);
        if decided.is_some_and(|decided| decided.request == id && decided.way == Way::Back) {
            return Err(StepError::Failed(format!(
                "group {} goes back, and is not open on this server",
                group.name
            )));
        }
        for component in &members.components {
            let desired = members.desired(host, component)?;
            apply::component(context, host, component, &desired, None).await?;
        }
        return Ok(());
    }
    if context.decide_way(&group.name, Way::Forward).await? == Way::Back {
        // Somebody restores, and will say why when it has done so.
        let why = format!("group {} goes back", group.name);
        match context.wait_for_the_end(&why).await? {}
    }
    let view = context.fence().await?;
    forward(host, members, &Going::Applied { context, view: &view }).await?;
    context.record(&[Entry::GroupClosed {
        group: group.name.clone(),
        request: id,
        way: Way::Forward,
    }])
}

/// Ends an open group by starting what is desired.
///
/// # Errors
/// What does not start or is not ready, of all components.
pub(crate) async fn restore_forward(
    host: &StepHost,
    members: &Members<'_>,
    request: &RequestId,
) -> Result<(), StepError> {
    forward(host, members, &Going::Restored { request }).await
}

/// How far an effect is when it is noted.
#[derive(Clone, Copy)]
enum At {
    Begin,
    End { succeeded: bool },
}

/// Who brings a group forward.
enum Going<'a> {
    /// The apply step: it takes its time, and hears that its request ends.
    Applied { context: &'a StepContext, view: &'a View },
    /// The restoration, which nobody ends, and which must not wait for what can do without.
    Restored { request: &'a RequestId },
}

impl Going<'_> {
    fn note(&self, host: &StepHost, what: &str, at: At) -> Result<(), StepError> {
        match (self, at) {
            (Self::Applied { context, view }, At::Begin) => context.effect_begins(what, view),
            (Self::Applied { context, view }, At::End { succeeded }) => {
                context.effect_ends(what, view, succeeded)
            }
            (Self::Restored { request }, at) => restoring(host, request, what, at),
        }
    }

    /// Whether the image of a component is here. It was brought before the outage; where Docker is away, a restoration
    /// takes that for granted: systemd starts the unit once Docker is back.
    async fn has_image(&self, host: &StepHost, desired: &Desired) -> Result<bool, StepError> {
        let asked = host.has_image(desired);
        match self {
            Self::Applied { context, .. } => {
                context.unless_cancelled("looking for images", asked).await
            }
            Self::Restored { .. } => match tokio::time::timeout(ASK_DOCKER_WITHIN, asked).await {
                Ok(has) => has,
                Err(_) => {
                    tracing::warn!(component = %desired.component, "Docker is away: going on without it");
                    Ok(true)
                }
            },
        }
    }

    /// Makes a change that asks Docker for something.
    async fn bring(
        &self,
        what: &str,
        work: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), StepError> {
        match self {
            Self::Applied { context, .. } => context.unless_cancelled(what, work).await,
            Self::Restored { .. } => match tokio::time::timeout(BRING_WITHIN, work).await {
                Ok(done) => done,
                Err(_) => {
                    Err(StepError::Failed(format!("{what}: not done within {BRING_WITHIN:?}")))
                }
            },
        }
    }
}

/// Starts what is desired of all components, and then proves each. What is wrong with one keeps no other from being started.
async fn forward(
    host: &StepHost,
    members: &Members<'_>,
    going: &Going<'_>,
) -> Result<(), StepError> {
    let (mut troubles, mut started) = (Troubles::default(), Vec::new());
    for component in &members.components {
        let before = troubles.0.len();
        let begun = match members.desired(host, component) {
            Ok(desired) => start_desired(host, &desired, going, &mut troubles).await,
            Err(error) => Err(error),
        };
        troubles.note(begun);
        if troubles.0.len() == before {
            started.push(*component);
        }
    }
    prove(host, &started, &mut troubles).await;
    troubles.end()
}

/// Brings one component to what is desired. That its image or its programs cannot be brought keeps nothing else from being
/// done: what is started then is never the old.
async fn start_desired(
    host: &StepHost,
    desired: &Desired,
    going: &Going<'_>,
    troubles: &mut Troubles,
) -> Result<(), StepError> {
    let image = going.has_image(host, desired).await?;
    let observed = host.observe_beside(image, desired).await?;
    for change in effects(desired, &diff(desired, &observed)) {
        let what = match &change {
            Change::Restart(unit) => format!("start {unit}"),
            other => apply::describe(other),
        };
        going.note(host, &what, At::Begin)?;
        let brings = matches!(change, Change::Pull(_) | Change::InstallTools(_));
        let work = apply::perform(host, desired, &change);
        let done = match (&change, &desired.package, going) {
            (Change::InstallPackage(_), Some(package), Going::Applied { context, .. }) => {
                match packages::fetch(context, host, package).await {
                    Ok(file) => packages::install(host, package, &file).await,
                    Err(error) => Err(error),
                }
            }
            _ if brings => going.bring(&what, work).await,
            _ => work.await,
        };
        going.note(host, &what, At::End { succeeded: done.is_ok() })?;
        match (done, going) {
            (Err(error @ StepError::Failed(_)), Going::Restored { .. }) if brings => {
                troubles.note(Err(error));
            }
            (done, _) => done?,
        }
    }
    Ok(())
}

/// Waits until what was started is ready, one component after another.
async fn prove(host: &StepHost, started: &[&Component], troubles: &mut Troubles) {
    for component in started {
        troubles.note(apply::ready(host, component).await);
    }
}

/// What is wrong with the components of a group, each of which gets its chance.
#[derive(Default)]
struct Troubles(Vec<StepError>);

impl Troubles {
    fn note(&mut self, done: Result<(), StepError>) {
        self.0.extend(done.err());
    }

    /// All of it as one error. What asks to be done again or to be left says that for all.
    fn end(mut self) -> Result<(), StepError> {
        let asks = |error: &StepError| !matches!(error, StepError::Failed(_));
        if let Some(at) = self.0.iter().position(asks) {
            return Err(self.0.swap_remove(at));
        }
        match self.0.is_empty() {
            true => Ok(()),
            false => {
                let causes: Vec<String> = self.0.iter().map(ToString::to_string).collect();
                Err(StepError::Failed(causes.join("; ")))
            }
        }
    }
}

/// Ends an open group by starting what ran before. The files are the old ones: the new are written after the way forward
/// was decided.
///
/// # Errors
/// What does not start or is not ready, of all components.
pub(crate) async fn restore_back(
    host: &StepHost,
    components: &[&Component],
    request: &RequestId,
) -> Result<(), StepError> {
    let (mut troubles, mut started) = (Troubles::default(), Vec::new());
    for component in components {
        let Some(unit) = component.running_unit() else { continue };
        let begun = match host.lets_run(unit) {
            Ok(runs) => start_as_it_was(host, &unit.name, runs, request).await,
            Err(error) => Err(error),
        };
        match begun {
            Ok(true) => started.push(*component),
            // It never ran here: there is nothing to go back to.
            Ok(false) => {}
            Err(error) => troubles.note(Err(error)),
        }
    }
    prove(host, &started, &mut troubles).await;
    troubles.end()
}

/// Ends an open group that the recipe does not know, because another version has opened it: starts what that has stopped,
/// with what is on the disk now.
///
/// # Errors
/// What does not start, or it is not known what was stopped.
pub(crate) async fn restore_unknown(
    host: &StepHost,
    group: &str,
    request: &RequestId,
) -> Result<(), StepError> {
    let units = host.units_of_group(group);
    if units.is_empty() {
        return Err(StepError::Failed(format!(
            "this recipe has no group {group}, and it is not known what was stopped for it: \
             'systemctl enable --now' its units on this server"
        )));
    }
    tracing::warn!(%group, ?units, "this recipe has no such group: starting what was stopped for it");
    let mut troubles = Troubles::default();
    for unit in &units {
        // Whether everything is there that it needs, its conditions tell systemd.
        let started = start_as_it_was(host, unit, true, request).await;
        troubles.note(started.map(|_| ()));
    }
    troubles.end()
}

/// Enables a unit, and starts it where it `runs` on this server, with what is on the disk; says whether there is one.
async fn start_as_it_was(
    host: &StepHost,
    unit: &str,
    runs: bool,
    request: &RequestId,
) -> Result<bool, StepError> {
    let name = unit_name(unit)?;
    let state = host.units.state(&name).await;
    if !state.map_err(|error| StepError::failed(format!("state of {name}"), &error))?.exists() {
        return Ok(false);
    }
    let what = format!("start {unit} as it was");
    restoring(host, request, &what, At::Begin)?;
    let enabled = host.units.enable(&name).await;
    let enabled = enabled.map_err(|error| StepError::failed(format!("enabling {name}"), &error));
    let started = if runs { apply::start(host, unit, None).await } else { Ok(()) };
    restoring(host, request, &what, At::End { succeeded: enabled.is_ok() && started.is_ok() })?;
    enabled.and(started).map(|()| true)
}

/// The units of a group that do not run, or would not after a reboot, though there is nothing that keeps them from it.
pub(crate) async fn left(host: &StepHost, components: &[&Component]) -> Vec<String> {
    let mut left = Vec::new();
    for unit in components.iter().filter_map(|component| component.running_unit()) {
        if stays_away(host, &unit.name, host.lets_run(unit).unwrap_or(true)).await {
            left.push(unit.name.clone());
        }
    }
    left
}

/// The same of a group that the recipe does not know.
pub(crate) async fn left_unknown(host: &StepHost, group: &str) -> Vec<String> {
    let mut left = Vec::new();
    for unit in host.units_of_group(group) {
        if stays_away(host, &unit, true).await {
            left.push(unit);
        }
    }
    left
}

/// Whether a unit of this server is off now, though it `runs` here, or would be after a reboot. What cannot be told is no
/// good news.
async fn stays_away(host: &StepHost, unit: &str, runs: bool) -> bool {
    let Ok(name) = unit_name(unit) else { return true };
    match host.units.state(&name).await {
        Ok(state) => state.exists() && (state.wants_enabling() || (runs && !state.is_active())),
        Err(_) => true,
    }
}

fn restoring(host: &StepHost, request: &RequestId, what: &str, at: At) -> Result<(), StepError> {
    host.record(&[Entry::Effect {
        request: request.clone(),
        step: 0,
        attempt: 1,
        what: what.to_owned(),
        phase: match at {
            At::Begin => Phase::Begin,
            At::End { .. } => Phase::End,
        },
        revision: Revision(0),
    }])
}
