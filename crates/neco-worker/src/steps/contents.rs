//! Once-per-cluster steps: one server does the work, all others see that it is done.

use std::sync::Arc;
use std::time::Duration;

use neco_connect::one_line;
use neco_plan::View;
use neco_schema::{Compare, ContentsStatus, Key, Op, Severity, Txn};
use neco_store::{CampaignError, Committed, Election, Leadership, Session, StoreError};

use crate::context::{Pauses, StepContext, StepError};

/// How long an elected server may be silent before another takes over.
const SESSION: Duration = Duration::from_secs(15);

/// Has `work` done by one server for all, unless it was done already for this version and these inputs.
pub(crate) async fn once<F>(
    context: &StepContext,
    name: &str,
    inputs: &str,
    work: impl Fn() -> F,
) -> Result<(), StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let election = Election::new(Arc::clone(context.store()), "worker");
    let mut pauses = Pauses::new();
    let mut obstacle = Obstacle::default();
    loop {
        let view = context.fence().await?;
        match standing(context, &view, name, inputs) {
            Standing::Done => return Ok(()),
            Standing::Failed => {
                // Who failed aborts, with the cause that nobody else knows; or tries again, where a crash came in between.
                context.waiting(&format!(
                    "another boot server failed at {name} and is about to say why"
                ));
                context.changed(&view).await;
                continue;
            }
            Standing::ToBeDone => {}
        }
        let session = match Session::open(Arc::clone(context.store()), SESSION).await {
            Ok(session) => session,
            Err(error) => {
                obstacle.told(context, name, &error, error.severity());
                context.pause(&mut pauses).await;
                continue;
            }
        };
        context.doing(format!("standing for election for {name}"));
        let elected = tokio::select! {
            biased;
            () = context.cancel().cancelled() => None,
            elected = election.campaign(&session, context.lrn.to_string()) => Some(elected),
        };
        let result = match elected {
            Some(Ok(leadership)) => {
                let result = lead(context, &leadership, name, inputs, &work).await;
                let _ = election.resign(&leadership).await;
                result
            }
            Some(Err(error)) => {
                obstacle.told(context, name, &error, severity(&error));
                Ok(false)
            }
            None => Ok(false),
        };
        let _ = session.close().await;
        // Whether it is done, the next look tells.
        if !result? {
            context.pause(&mut pauses).await;
        }
    }
}

/// What keeps this server from being elected. Its status says so at all times, its log once.
#[derive(Default)]
struct Obstacle {
    logged: String,
}

impl Obstacle {
    fn told(
        &mut self,
        context: &StepContext,
        name: &str,
        error: &(dyn std::error::Error + 'static),
        severity: Severity,
    ) {
        let why = one_line(error);
        context.waiting(&format!("to be elected for {name}: {why}"));
        if self.is_news(&why, severity) {
            tracing::warn!(name, %why, "nobody is elected until somebody has seen to it");
        }
    }

    /// Whether a person has to see to it who was not told yet.
    fn is_news(&mut self, why: &str, severity: Severity) -> bool {
        let is_news = severity != Severity::TryAgain && self.logged != why;
        if is_news {
            why.clone_into(&mut self.logged);
        }
        is_news
    }
}

/// How to react to a campaign that was not won.
fn severity(error: &CampaignError) -> Severity {
    match error {
        CampaignError::Store { source, .. } => StoreError::severity(source),
        CampaignError::Session { .. } | CampaignError::Removed { .. } => Severity::TryAgain,
    }
}

/// Does the work, records how it ended and says whether there is a record; if etcd did not take it, all begins anew.
async fn lead<F>(
    context: &StepContext,
    leadership: &Leadership,
    name: &str,
    inputs: &str,
    work: impl Fn() -> F,
) -> Result<bool, StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let view = context.fence().await?;
    if standing(context, &view, name, inputs) != Standing::ToBeDone {
        return Ok(true);
    }
    context.doing(format!("publishing {name}"));
    let what = format!("publish {name}");
    context.effect_begins(&what, &view)?;
    let result = work().await;
    context.effect_ends(&what, &view, result.is_ok())?;
    // Left at a safe point, or refused by the disk, it did not fail: it is begun again, by whom it may be.
    if let Err(error @ (StepError::Cancelled(_) | StepError::Disk(_) | StepError::Journal(_))) =
        result
    {
        return Err(error);
    }
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
    let recorded = match context.commit(&txn).await {
        Ok(Committed::Done(_)) => true,
        Ok(Committed::Refused) => {
            context.doing(format!("{name}: somebody else leads, or the request changed"));
            false
        }
        Err(error) => {
            context.doing(format!("waiting to record {name}: {}", one_line(&error)));
            false
        }
    };
    result.map(|()| recorded)
}

/// How a once-per-cluster work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Done,
    Failed,
    ToBeDone,
}

/// Whether the work is done: in this very request, by whomever, also one to whom other inputs were to be had; or before for the
/// same version with the same inputs. Only a failure of this very request is one; a server that comes back after a crash
/// tries again, for it may have been its own.
fn standing(context: &StepContext, view: &View, name: &str, inputs: &str) -> Standing {
    let Some(status) = view.contents.get(name).map(|contents| &contents.value) else {
        return Standing::ToBeDone;
    };
    let same = status.version == context.request.version;
    let request = context.request.id();
    if status.success {
        let now = status.request.as_ref().is_some_and(|of| *of == request);
        // A Go worker records no inputs: its version says it all.
        let equal = status.inputs.as_deref().is_none_or(|recorded| recorded == inputs);
        return if now || (same && equal) { Standing::Done } else { Standing::ToBeDone };
    }
    let of_this_request = status.request.as_ref().map_or(same, |of| *of == request);
    if of_this_request && context.attempt == 1 { Standing::Failed } else { Standing::ToBeDone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_has_to_see_to_is_logged_once_and_what_passes_never() {
        let mut obstacle = Obstacle::default();
        let mut is_news = |why, severity| obstacle.is_news(why, severity);
        assert!(!is_news("no answer", Severity::TryAgain));
        assert!(is_news("no space left", Severity::AskAPerson));
        assert!(!is_news("no answer", Severity::TryAgain));
        assert!(!is_news("no space left", Severity::AskAPerson));
        assert!(is_news("not permitted", Severity::AskAPerson));
    }
}
