//! `fetch-images`: brings the images of the recipe to this server, one after another.

use neco_components::Image;
use neco_runtime::ImageRef;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;

/// The name in recipes.
pub(crate) const NAME: &str = "fetch-images";

/// Pulls every image that is not here. Between two images is a safe point, and a pull that is cut off leaves no image.
///
/// # Errors
/// Cancelled at a safe point, or an image cannot be had.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    images: impl Iterator<Item = &Image>,
) -> Result<(), StepError> {
    for image in images {
        let reference = image.reference();
        let parsed: ImageRef =
            reference.parse().map_err(|error| StepError::Failed(format!("{error}")))?;
        let view = context.fence().await?;
        context.doing(format!("pulling {reference}"));
        let what = format!("pull {reference}");
        context.effect_begins(&what, &view)?;
        let progress =
            |pulled: neco_runtime::PullProgress| context.bytes(pulled.done, pulled.total);
        let pulled = tokio::select! {
            biased;
            () = context.cancel().cancelled() => Err(StepError::Cancelled(format!("while pulling {reference}"))),
            pulled = host.runtime.pull(&parsed, &progress) => {
                pulled.map(|_| ()).map_err(|error| StepError::failed(format!("pulling {reference}"), &error))
            }
        };
        context.effect_ends(&what, &view)?;
        pulled?;
    }
    Ok(())
}
