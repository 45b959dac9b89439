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
