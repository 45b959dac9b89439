//! Once-per-cluster steps: one server does the work, all others see that it is done.

use std::sync::Arc;
use std::time::Duration;

use neco_connect::one_line;
use neco_plan::View;
use neco_schema::{Compare, ContentsStatus, Key, Op, Txn};
use neco_store::{Committed, Election, Leadership, Session};

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;

/// The name of the action in recipes.
pub(crate) const DHCP_JSON: &str = "dhcp-json";

/// How long an elected server may be silent before another takes over.
const SESSION: Duration = Duration::from_secs(15);

/// Publishes the DHCP settings, once for the cluster.
///
/// This package does not drive sabakan yet: the settings are checked and put where it will take them from.
///
/// # Errors
/// Cancelled at a safe point, or the settings are malformed.
pub(crate) async fn dhcp_json(
    context: &StepContext,
    host: &StepHost,
    data: &str,
    inputs: &str,
) -> Result<(), StepError> {
    once(context, "dhcp.json", inputs, || async {
        let settings: serde_json::Value = serde_json::from_str(data).map_err(|error| {
            StepError::Failed(format!("dhcp.json of the package is malformed: {error}"))
        })?;
        let text = serde_json::to_vec_pretty(&settings)
            .map_err(|error| StepError::Failed(error.to_string()))?;
        host.write_bytes("/var/lib/neco/published/dhcp.json".as_ref(), &text, 0o644)
    })
    .await
}

/// Has `work` done by one server for all, unless it was done already for this version and these inputs.
async fn once<F>(
    context: &StepContext,
    name: &str,
    inputs: &str,
    work: impl FnOnce() -> F,
) -> Result<(), StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let election = Election::new(Arc::clone(context.store()), "worker");
    let mut work = Some(work);
    loop {
        let view = context.fence().await?;
        if done(context, &view, name, inputs)? {
            return Ok(());
        }
        let Ok(session) = Session::open(Arc::clone(context.store()), SESSION).await else {
            context.pause().await;
            continue;
        };
        context.doing(format!("standing for election for {name}"));
        let elected = tokio::select! {
            biased;
            () = context.cancel().cancelled() => None,
            elected = election.campaign(&session, context.lrn.to_string()) => elected.ok(),
        };
        let result = match elected {
            Some(leadership) => {
                let result = lead(context, &leadership, name, inputs, &mut work).await;
                let _ = election.resign(&leadership).await;
                result
            }
            None => Ok(Elected::Again),
        };
        let _ = session.close().await;
        match result? {
            Elected::Done => return Ok(()),
            Elected::Again => context.pause().await,
        }
    }
}

enum Elected {
    Done,
    Again,
}

async fn lead<F>(
    context: &StepContext,
    leadership: &Leadership,
    name: &str,
    inputs: &str,
    work: &mut Option<impl FnOnce() -> F>,
) -> Result<Elected, StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let view = context.fence().await?;
    if done(context, &view, name, inputs)? {
        return Ok(Elected::Done);
    }
    let Some(work) = work.take() else {
        return Err(StepError::Failed(format!("{name}: lost the election while working")));
    };
    context.doing(format!("publishing {name}"));
    let what = format!("publish {name}");
    context.effect_begins(&what, &view)?;
    let result = work().await;
    context.effect_ends(&what, &view)?;
    let status = ContentsStatus {
        version: context.request.version.clone(),
        success: result.is_ok(),
        request: Some(context.request.id()),
        inputs: Some(inputs.to_owned()),
        unknown: serde_json::Map::new(),
    };
    let key = Key::Contents(name.to_owned());
    let txn = Txn::default()
        .when(leadership.compare())
        .when(Compare::unchanged(&Key::Request, view.request.mod_revision()))
        .then(Op::put(&key, &status));
    let recorded = context.commit(&txn).await;
    result?;
    match recorded {
        Ok(Committed::Done(_)) => Ok(Elected::Done),
        Ok(Committed::Refused) => Err(StepError::Cancelled(format!(
            "{name}: somebody else leads, or the request changed"
        ))),
        Err(error) => Err(StepError::Failed(format!("recording {name}: {}", one_line(&error)))),
    }
}

/// Whether the work is done. A failure of this very request is one here too; one of an earlier request does not count.
fn done(context: &StepContext, view: &View, name: &str, inputs: &str) -> Result<bool, StepError> {
    let Some(status) = view.contents.get(name).map(|contents| &contents.value) else {
        return Ok(false);
    };
    let same = status.version == context.request.version;
    if status.success {
        // A Go worker records no inputs: its version says it all.
        return Ok(same && status.inputs.as_deref().is_none_or(|recorded| recorded == inputs));
    }
    let of_this_request =
        status.request.as_ref().map_or(same, |request| *request == context.request.id());
    if of_this_request && context.attempt == 1 {
        return Err(StepError::Failed(format!("{name} failed on another boot server")));
    }
    Ok(false)
}
