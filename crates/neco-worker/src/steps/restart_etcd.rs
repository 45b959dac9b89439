//! `restart-etcd`: restarts this server's etcd if it runs with something else than what is on the disk, one server at a
//! time and only while all others are healthy.

use neco_components::ContentDigest;

use crate::context::{Pauses, StepContext, StepError};
use crate::steps::apply::{self, Guard};
use crate::steps::host::{StepHost, unit_name};

/// The name in recipes.
pub(crate) const NAME: &str = "restart-etcd";

const UNIT: &str = "etcd-container.service";
const UNIT_FILE: &str = "/etc/systemd/system/etcd-container.service";
const CONFIG: &str = "/etc/etcd/etcd.conf.yml";

/// Takes the turn, proves that etcd is healthy, restarts what needs it, proves it again and gives the turn back.
///
/// # Errors
/// Cancelled at a safe point, or etcd does not come back.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    turn: &str,
) -> Result<(), StepError> {
    context.take_turn(turn).await?;
    if let Some(digest) = needs_restart(context, host).await? {
        let guard = Guard { turn: Some(turn), etcd: true };
        apply::restart_unit(context, host, UNIT, Some(digest), &guard).await?;
    }
    healthy(context).await?;
    context.release_turn(turn).await
}

/// What etcd should be started with, if it runs with something else. A server whose etcd Neco does not manage has no unit.
async fn needs_restart(
    context: &StepContext,
    host: &StepHost,
) -> Result<Option<String>, StepError> {
    let name = unit_name(UNIT)?;
    let state = host
        .units
        .state(&name)
        .await
        .map_err(|error| StepError::failed(format!("state of {UNIT}"), &error))?;
    if !state.exists() {
        context.doing("etcd is not managed on this server");
        return Ok(None);
    }
    let mut defined = Vec::new();
    for path in [UNIT_FILE, CONFIG] {
        let path = host.root.join(path);
        match host.fs.metadata(&path) {
            Ok(None) => {}
            Ok(Some(_)) => defined.extend(host.fs.read(&path).map_err(|error| {
                StepError::Failed(format!("reading {}: {error}", path.display()))
            })?),
            Err(error) => {
                return Err(StepError::Failed(format!("looking at {}: {error}", path.display())));
            }
        }
        defined.push(0);
    }
    let digest = ContentDigest::of(defined).as_str().to_owned();
    Ok((context.started_with(UNIT).as_ref() != Some(&digest)).then_some(digest))
}

/// Waits until every member of etcd is healthy.
async fn healthy(context: &StepContext) -> Result<(), StepError> {
    let mut pauses = Pauses::new();
    loop {
        context.fence().await?;
        match apply::etcd_trouble(context).await {
            None => return Ok(()),
            Some(trouble) => context.doing(trouble),
        }
        context.pause(&mut pauses).await;
    }
}
