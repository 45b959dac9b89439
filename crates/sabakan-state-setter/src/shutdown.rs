//! Retired machines are switched off, at the times of a schedule (neco-daemons §3.6).

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use neco_sabakan::{MachineState, Serial};

use crate::engine::Context;
use crate::retire::{finish, in_state};
use crate::schedule::Schedule;

/// How many machines are asked and switched off at once.
const AT_ONCE: usize = 4;
/// How often the schedule and the clock are looked at: either may be changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Switches retired machines off when that is due. A time that passes while nobody leads is not made up for.
pub(crate) async fn shut_down_machines(context: Arc<Context>) -> String {
    let mut planned: Option<(Schedule, Option<Timestamp>)> = None;
    loop {
        let now = context.now().wall.get();
        let schedule = context.list().ok().and_then(|list| list.shutdown.clone());
        match (&planned, schedule) {
            (Some((known, due)), Some(schedule)) if *known == schedule => {
                if due.is_some_and(|due| due <= now) {
                    shut_down(&context).await;
                    let next = schedule.next(context.now().wall.get());
                    planned = Some((schedule, next));
                }
            }
            (_, schedule) => {
                planned = schedule.map(|schedule| {
                    let next = schedule.next(now);
                    (schedule, next)
                });
            }
        }
        let left = planned.as_ref().and_then(|(_, due)| *due).map(|due| {
            Duration::try_from(due.duration_since(context.now().wall.get())).unwrap_or_default()
        });
        tokio::time::sleep(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await;
    }
}

async fn shut_down(context: &Context) {
    let what = "asking for retired machines";
    let Some(serials) = in_state(context, MachineState::Retired, what).await else { return };
    let name = |serial: &Serial| format!("switching off {serial}");
    let known: Vec<_> = serials.iter().map(name).collect();
    context
        .said
        .forget(|what| !what.starts_with("switching off ") || known.iter().any(|one| one == what));
    let one = |serial: Serial| {
        let what = name(&serial);
        async move {
            match switch_off(context, &serial).await {
                // It was off: that is no job.
                Ok(false) => context.said.note(&what, &Ok(())),
                Ok(true) => finish(context, "shutdown", &what, &Ok(())),
                Err(why) => finish(context, "shutdown", &what, &Err(why)),
            }
        }
    };
    stream::iter(serials).map(one).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// Whether the machine had to be switched off.
async fn switch_off(context: &Context, serial: &Serial) -> Result<bool, String> {
    let power = &context.drivers.power;
    if power.is_off(serial).await? {
        return Ok(false);
    }
    power.stop(serial).await?;
    tracing::info!(%serial, "a retired machine is switched off");
    Ok(true)
}
