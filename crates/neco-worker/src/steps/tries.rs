//! Doing something in which others have a part: sabakan, registries, the web. What may pass is tried again, for a bounded
//! time; what only a person can mend is told at once.

use std::time::Duration;

use neco_base::Backoff;
use neco_connect::one_line;
use neco_host::disk_trouble;
use neco_sabakan::SabakanError;
use neco_schema::Severity;

use crate::context::{StepContext, StepError};
use crate::outside::OutsideError;

/// How often such a thing is tried, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often in all.
    pub tries: u32,
    /// How long to wait in between.
    pub between: Backoff,
}

impl Default for Patience {
    /// Twenty tries, one to thirty seconds apart: about as long as the original tries.
    fn default() -> Self {
        Self { tries: 20, between: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)) }
    }
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) struct Trouble {
    error: Box<dyn std::error::Error + Send + Sync>,
    passes: bool,
}

impl Trouble {
    /// Something that trying again does not help.
    pub(crate) fn lasting(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: error.into(), passes: false }
    }

    /// Something that may pass.
    pub(crate) fn passing(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: error.into(), passes: true }
    }
}

impl From<SabakanError> for Trouble {
    fn from(error: SabakanError) -> Self {
        let severity = match &error {
            // What was being uploaded could not be read: that says who is to blame.
            SabakanError::Content { source, .. } => OutsideError::severity_within(source),
            other => other.severity(),
        };
        Self { passes: severity == Severity::TryAgain, error: error.into() }
    }
}

impl From<OutsideError> for Trouble {
    fn from(error: OutsideError) -> Self {
        Self { passes: error.severity() == Severity::TryAgain, error: error.into() }
    }
}

/// Does `work`, again and again while that may help. Before each further try is a safe point, and `work` may be cut off
/// wherever it waits.
///
/// # Errors
/// Cancelled, or it failed for good: `what` with its cause.
pub(crate) async fn patiently<T, F>(
    context: &StepContext,
    patience: Patience,
    what: &str,
    work: impl Fn() -> F,
) -> Result<T, StepError>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let mut retry = patience.between.retry();
    let mut left = patience.tries;
    loop {
        context.doing(what);
        let tried = context.unless_cancelled(what, async { Ok(work().await) }).await?;
        let Trouble { error, passes } = match tried {
            Ok(done) => return Ok(done),
            Err(trouble) => trouble,
        };
        left = left.saturating_sub(1);
        if !passes || left == 0 || disk_trouble(&*error).is_some() {
            return Err(StepError::failed(what, &*error));
        }
        let why = one_line(&*error);
        tracing::warn!(what, %why, "it is tried again");
        context.doing(format!("{what}: waiting to try again: {why}"));
        tokio::select! {
            biased;
            () = context.cancel().cancelled() => {}
            () = tokio::time::sleep(retry.pause()) => {}
        }
        context.fence().await?;
    }
}
