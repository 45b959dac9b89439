//! `restart-etcd`: restarts this server's etcd if it runs with something else than what is on the disk, one server at a
//! time and only while all others are healthy.

use std::time::Duration;

use neco_components::ContentDigest;
use neco_connect::one_line;
use neco_host::address;
use neco_schema::Lrn;
use neco_schema::journal::IntentEnd;
use neco_store::Store;

use crate::context::{Pauses, StepContext, StepError};
use crate::steps::apply::{self, Guard};
use crate::steps::host::{StepHost, unit_name};

/// The name in recipes.
pub(crate) const NAME: &str = "restart-etcd";

/// The unit of this server's etcd.
pub(crate) const UNIT: &str = "etcd-container.service";
const UNIT_FILE: &str = "/etc/systemd/system/etcd-container.service";
const CONFIG: &str = "/etc/etcd/etcd.conf.yml";

/// How long a restart that a crash cut off is waited for until the own etcd is healthy, before the step itself waits.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
/// How often that is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Takes the turn, proves that etcd is healthy, restarts what needs it, proves it again and gives the turn back. Where
/// nothing needs it, no turn is taken.
///
/// # Errors
/// Cancelled at a safe point, or etcd does not come back.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    turn: &str,
) -> Result<(), StepError> {
    let Some(digest) = needs_restart(context, host).await? else {
        // An earlier attempt may have restarted it and not lived to see how it is.
        return match context.attempt {
            ..=1 => Ok(()),
            _ => healthy(context, Whose::Own).await,
        };
    };
    context.take_turn(turn).await?;
    let guard = Guard { turn: Some(turn), etcd: true };
    let intent = apply::restart_unit(context, host, UNIT, Some(digest), &guard).await?;
    // Left before the end, the intent stays open and is completed by the engine.
    healthy(context, Whose::Everybodys).await?;
    context.release_turn(turn).await?;
    context.close_intent(&intent, IntentEnd::Completed)
}

/// Waits for a while until the own etcd is healthy: the engine, which completes an intent, must not need etcd. After a
/// power cut the others may take long to come up; the step waits for them, and says so.
pub(crate) async fn caught_up(host: &StepHost) {
    let healthy = async {
        while let Some(trouble) = own_trouble(&*host.shared.store, host.about.lrn).await {
            tracing::info!(%trouble, "waiting for the own etcd");
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    if tokio::time::timeout(CAUGHT_UP_WITHIN, healthy).await.is_err() {
        tracing::warn!("the own etcd was started and is not healthy yet");
    }
}

/// Why the own member of etcd is not healthy. A server without one asks for the majority.
async fn own_trouble(store: &dyn Store, lrn: Lrn) -> Option<String> {
    let name = address::etcd_member_name(lrn);
    match store.health().await {
        Ok(health) => match health.members.iter().find(|member| member.name == name) {
            Some(own) if own.healthy => None,
            Some(own) => Some(format!("waiting for the own etcd member {name}: {}", own.trouble)),
            None if health.quorum => None,
            None => Some("waiting for a majority of the members of etcd".to_owned()),
        },
        Err(error) => Some(format!("waiting for etcd: {}", one_line(&error))),
    }
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

/// Of whose members something is asked.
enum Whose {
    Own,
    Everybodys,
}

/// Waits until the members of etcd are healthy.
async fn healthy(context: &StepContext, whose: Whose) -> Result<(), StepError> {
    let mut pauses = Pauses::new();
    loop {
        context.fence().await?;
        let trouble = match whose {
            Whose::Own => own_trouble(&**context.store(), context.lrn).await,
            Whose::Everybodys => apply::etcd_trouble(context).await,
        };
        match trouble {
            None => return Ok(()),
            Some(trouble) => context.doing(trouble),
        }
        context.pause(&mut pauses).await;
    }
}
