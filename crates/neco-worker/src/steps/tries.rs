//! Doing something in which others have a part: sabakan, registries, the web. What may pass is tried again, for a bounded
//! time; what only a person can mend is told at once.

use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_connect::one_line;
use neco_host::disk_trouble;
use neco_plan::View;
use neco_runtime::RuntimeError;
use neco_sabakan::SabakanError;
use neco_schema::Severity;

use crate::context::{StepContext, StepError};
use crate::debs::DebError;
use crate::outside::OutsideError;

/// How often such a thing is tried, how far apart, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often in all.
    pub tries: u32,
    /// How long to wait in between.
    pub between: Backoff,
    /// How long after the first try another one is begun; the second is in any case.
    pub within: Duration,
}

impl Default for Patience {
    /// Twenty tries, one to thirty seconds apart, within ten minutes: longer than the original tries, and shorter than a step
    /// may take.
    fn default() -> Self {
        Self {
            tries: 20,
            between: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            within: Duration::from_secs(600),
        }
    }
}

impl Patience {
    /// Whether there is another try after so many, which took so long together.
    fn lasts(&self, tried: u32, took: Duration) -> bool {
        tried < self.tries && (tried < 2 || took < self.within)
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

impl From<DebError> for Trouble {
    fn from(error: DebError) -> Self {
        Self { passes: error.severity() == Severity::TryAgain, error: error.into() }
    }
}

impl From<RuntimeError> for Trouble {
    fn from(error: RuntimeError) -> Self {
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
    let clock = &context.shared.clock;
    let (began, mut tried) = (clock.monotonic(), 0);
    loop {
        context.doing(what);
        let done = context.unless_cancelled(what, async { Ok(work().await) }).await?;
        let Trouble { error, passes } = match done {
            Ok(done) => return Ok(done),
            Err(trouble) => trouble,
        };
        tried += 1;
        let lasts = patience.lasts(tried, clock.monotonic().saturating_sub(began));
        if !passes || !lasts || disk_trouble(&*error).is_some() {
            return Err(StepError::failed(what, &*error));
        }
        again(context, what, &*error, &mut retry).await;
        context.fence().await?;
    }
}

/// Delays while what others have is not to be had.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// As [`patiently`], but without end: what is fetched before anything is touched may take as long as its source is away.
/// Before each try is a safe point, whose view `work` is given; it says itself where it may be cut off.
///
/// # Errors
/// Cancelled, or it failed for good: `what` with its cause.
pub(crate) async fn endlessly<T, F>(
    context: &StepContext,
    what: &str,
    work: impl Fn(View) -> F,
) -> Result<T, StepError>
where
    F: Future<Output = Result<Result<T, Trouble>, StepError>>,
{
    let mut retry = AGAIN.retry();
    loop {
        let view = context.fence().await?;
        context.doing(what);
        let Trouble { error, passes } = match work(view).await? {
            Ok(done) => return Ok(done),
            Err(trouble) => trouble,
        };
        if !passes || disk_trouble(&*error).is_some() {
            return Err(StepError::failed(what, &*error));
        }
        again(context, what, &*error, &mut retry).await;
    }
}

/// Says why there is another try, and waits for its time.
async fn again(
    context: &StepContext,
    what: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
    retry: &mut Retry,
) {
    let why = one_line(error);
    tracing::warn!(what, %why, "it is tried again");
    context.doing(format!("{what}: waiting to try again: {why}"));
    tokio::select! {
        biased;
        () = context.cancel().cancelled() => {}
        () = tokio::time::sleep(retry.pause()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_its_tries_or_its_time_and_tries_twice_in_any_case() {
        let patience = Patience::default();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert!(patience.lasts(1, minutes(0)) && patience.lasts(19, minutes(9)));
        assert!(!patience.lasts(20, minutes(1)), "no try is left");
        assert!(!patience.lasts(2, minutes(10)), "no time is left");
        assert!(patience.lasts(1, minutes(55)), "an upload that broke late is begun once more");
    }
}
