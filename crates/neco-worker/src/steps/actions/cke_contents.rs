//! `cke-contents`: brings the images that CKE runs into sabakan, from where its machines load them.

use neco_components::ContentDigest;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::sabakan::assets::{self, WantedImage};
use crate::steps::tries::{Trouble, patiently};
use crate::steps::{contents, set_up};

/// The name in recipes.
pub(crate) const NAME: &str = "cke-contents";

/// Brings every image that CKE lists, once for the cluster, and again when the list changes.
///
/// # Errors
/// Cancelled at a safe point, CKE does not tell, or an image cannot be brought.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    contents: &str,
) -> Result<(), StepError> {
    if !set_up::sabakan(context, host)? || !set_up::asks_cke(context, host) {
        return Ok(());
    }
    let images = images(context, host).await?;
    let inputs = ContentDigest::of(
        serde_json::to_vec(&images).map_err(|error| StepError::Failed(error.to_string()))?,
    );
    let bring = || assets::images(context, host, &images);
    contents::once(context, contents, inputs.as_str(), bring).await
}

/// The images that CKE runs; none where CKE is not on this server. Its command does not say whether a failure may pass, and is
/// called again.
///
/// # Errors
/// Cancelled, or it does not tell.
pub(crate) async fn images(
    context: &StepContext,
    host: &StepHost,
) -> Result<Vec<WantedImage>, StepError> {
    if !host.cke.is_here() {
        return Ok(Vec::new());
    }
    let ask = || async { host.cke.images().await.map_err(Trouble::passing) };
    let listed = patiently(context, host.patience, "asking CKE which images it runs", ask).await?;
    let wanted = listed.into_iter().map(|image| WantedImage {
        asset: image.asset_name(),
        reference: image.reference(),
        name: image.name,
        variant: None,
    });
    Ok(wanted.collect())
}
