//! `fetch-images`: brings the images of the recipe to this server, one after another.

use neco_runtime::{ImageRef, PullProgress};

use crate::context::{StepContext, StepError};
use crate::steps::host::{StepHost, image_ref};
use crate::steps::tries::{Trouble, endlessly};

/// The name in recipes.
pub(crate) const NAME: &str = "fetch-images";

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
    let (pulling, what) = (format!("pulling {reference}"), format!("pull {reference}"));
    let (pulling, what) = (pulling.as_str(), what.as_str());
    let pull = |view| async move {
        context.effect_begins(what, &view)?;
        let progress = |now: PullProgress| context.bytes(now.done, now.total);
        let pulled = async { Ok(host.runtime.pull(image, &progress).await) };
        let pulled = context.unless_cancelled(pulling, pulled).await;
        context.effect_ends(what, &view, matches!(pulled, Ok(Ok(_))))?;
        Ok(pulled?.map(drop).map_err(Trouble::from))
    };
    endlessly(context, pulling, pull).await
}
