//! Outage groups: a service is stopped on all servers, then started again on all.

use neco_components::{Component, Desired, Effect as Change, Facts, diff, effects};
use neco_plan::{GroupShape, Rest, View};
use neco_schema::journal::{Entry, Phase};
use neco_schema::{Lrn, RequestId, Revision, Way};

use crate::context::{StepContext, StepError};
use crate::steps::apply;
use crate::steps::host::{StepHost, unit_name};

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
    host.keep_group_facts(&group.name, &context.request)?;
    let view = context.fence().await?;
    context.record(&[Entry::GroupOpened {
        group: group.name.clone(),
        request: id,
        revision: view.revision,
    }])?;
    let units = members.components.iter().rev().filter_map(|component| component.running_unit());
    for unit in units {
        let what = format!("stop {}", unit.name);
        context.effect_begins(&what, &view)?;
        let done = stop_for_good(host, &unit.name).await;
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
    forward(host, members, &mut |what, at| match at {
        At::Begin => context.effect_begins(what, &view),
        At::End { succeeded } => context.effect_ends(what, &view, succeeded),
    })
    .await?;
    context.record(&[Entry::GroupClosed {
        group: group.name.clone(),
        request: id,
        way: Way::Forward,
    }])
}

/// Ends an open group by starting what is desired.
///
/// # Errors
/// The service does not start.
pub(crate) async fn restore_forward(
    host: &StepHost,
    members: &Members<'_>,
    request: &RequestId,
) -> Result<(), StepError> {
    forward(host, members, &mut |what, at| restoring(host, request, what, at)).await
}

/// How far an effect is when it is noted.
#[derive(Clone, Copy)]
enum At {
    Begin,
    End { succeeded: bool },
}

async fn forward(
    host: &StepHost,
    members: &Members<'_>,
    note: &mut (dyn FnMut(&str, At) -> Result<(), StepError> + Send),
) -> Result<(), StepError> {
    for component in &members.components {
        let desired = members.desired(host, component)?;
        let observed = host.observe_now(&desired).await?;
        for change in effects(&desired, &diff(&desired, &observed)) {
            let what = match &change {
                Change::Restart(unit) => format!("start {unit}"),
                other => apply::describe(other),
            };
            note(&what, At::Begin)?;
            let done = apply::perform(host, &desired, &change).await;
            note(&what, At::End { succeeded: done.is_ok() })?;
            done?;
        }
        apply::ready(host, component).await?;
    }
    Ok(())
}

/// Ends an open group by starting what ran before. The files are the old ones: the new are written after the way forward
/// was decided.
///
/// # Errors
/// The service does not start.
pub(crate) async fn restore_back(
    host: &StepHost,
    components: &[&Component],
    request: &RequestId,
) -> Result<(), StepError> {
    for component in components {
        let Some(unit) = component.running_unit() else { continue };
        let name = unit_name(&unit.name)?;
        let state = host
            .units
            .state(&name)
            .await
            .map_err(|error| StepError::failed(format!("state of {name}"), &error))?;
        if !state.exists() {
            // It never ran here: there is nothing to go back to.
            continue;
        }
        let what = format!("start {} as it was", unit.name);
        restoring(host, request, &what, At::Begin)?;
        host.units
            .enable(&name)
            .await
            .map_err(|error| StepError::failed(format!("enabling {name}"), &error))?;
        if host.lets_run(unit)? {
            apply::start(host, &unit.name, None).await?;
        }
        restoring(host, request, &what, At::End { succeeded: true })?;
        apply::ready(host, component).await?;
    }
    Ok(())
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
