//! `fetch-images`: brings the images of the recipe to this server, one after another.

use std::time::Duration;

use neco_base::Backoff;
use neco_connect::one_line;
use neco_runtime::ImageRef;
use neco_schema::Severity;

use crate::context::{StepContext, StepError};
use crate::steps::host::{StepHost, image_ref};

/// The name in recipes.
pub(crate) const NAME: &str = "fetch-images";

/// Delays while a registry is away.
const PULL_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Pulls every image that is not here. Between two images is a safe point, and a pull that is cut off leaves no image. An
/// image that is here costs nothing but the question.
///
/// # Errors
/// Cancelled at a safe point, or an image cannot be had.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    images: impl Iterator<Item = String>,
) -> Result<(), StepError> {
    for reference in images {
        let parsed = image_ref(&reference)?;
        // Where that cannot be told, the pull says why. A Docker that is away is waited for, as long as the step goes on.
        let asked = async { Ok(host.runtime.has(&parsed).await.unwrap_or(false)) };
        if context.unless_cancelled(&format!("asking for {reference}"), asked).await? {
            continue;
        }
        pull(context, host, &reference, &parsed).await?;
    }
    Ok(())
}

/// Pulls an image, again and again while its registry is away.
async fn pull(
    context: &StepContext,
    host: &StepHost,
    reference: &str,
    image: &ImageRef,
) -> Result<(), StepError> {
    let what = format!("pull {reference}");
    let mut retry = PULL_AGAIN.retry();
    loop {
        let view = context.fence().await?;
        context.doing(format!("pulling {reference}"));
        context.effect_begins(&what, &view)?;
        let progress =
            |pulled: neco_runtime::PullProgress| context.bytes(pulled.done, pulled.total);
        let pulled = tokio::select! {
            biased;
            () = context.cancel().cancelled() => None,
            pulled = host.runtime.pull(image, &progress) => Some(pulled),
        };
        context.effect_ends(&what, &view, matches!(pulled, Some(Ok(_))))?;
        match pulled {
            None => return Err(StepError::Cancelled(format!("while pulling {reference}"))),
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) if error.severity() == Severity::TryAgain => {
                let why = one_line(&error);
                tracing::warn!(image = reference, %why, "pulling failed, trying again");
                context.doing(format!("waiting to pull {reference} again: {why}"));
                tokio::select! {
                    biased;
                    () = context.cancel().cancelled() => {}
                    () = tokio::time::sleep(retry.pause()) => {}
                }
            }
            Some(Err(error)) => {
                return Err(StepError::failed(format!("pulling {reference}"), &error));
            }
        }
    }
}
