//! What is brought into sabakan: archives of container images, and files of this server.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use neco_sabakan::{
    AssetMeta, AssetName, AssetUpload, Content, Ensure, SabakanError, UploadProgress,
};

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, patiently};

/// A container image that sabakan is to have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct WantedImage {
    /// What it is called.
    pub(crate) name: String,
    /// What its archive is called in sabakan.
    pub(crate) asset: String,
    /// Its full name, of the private variant where it is that.
    pub(crate) reference: String,
    /// Which variant that is, of one that has two.
    pub(crate) variant: Option<Variant>,
}

/// One of two images that are brought under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    Public,
    Private,
}

impl Variant {
    /// The option of an asset that says it.
    const OPTION: &str = "variant";

    fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

impl WantedImage {
    /// Whether sabakan has it so. Of what does not say which variant it is, nobody knows.
    fn is(&self, there: &AssetMeta) -> bool {
        let is = there.options.get(Variant::OPTION).map(String::as_str);
        self.variant.is_none_or(|wanted| is == Some(wanted.word()))
    }
}

/// One try each: how often it is tried is counted outside.
const ONCE: Ensure = Ensure {
    tries: 1,
    between: neco_base::Backoff::new(
        std::time::Duration::from_secs(1),
        std::time::Duration::from_secs(1),
    ),
};

/// Brings the archives of images that are not there yet, one after another. Their names say what they are, but for the variant,
/// so that one that is there is left alone; between two is a safe point.
///
/// # Errors
/// Cancelled, or one cannot be brought.
pub(crate) async fn images(
    context: &StepContext,
    host: &StepHost,
    wanted: &[WantedImage],
) -> Result<(), StepError> {
    for image in wanted {
        let what = format!("uploading image {} to sabakan", image.reference);
        let asset = name(&image.asset)?;
        context.fence().await?;
        // What was sent and not proven may be there under its name, and no good. From then on the archive is read for its
        // digest first: what has that is good, and sabakan takes nothing else.
        let unproven = &AtomicBool::new(false);
        patiently(context, host.patience, &what, || async {
            let there = host.sabakan.asset(&asset).await?.filter(|there| image.is(there));
            let is_proven = !unproven.load(Relaxed);
            if is_proven && there.is_some() {
                return Ok(());
            }
            let mut content = host.outside.image(&image.reference).await?;
            if !is_proven {
                content = content.hashed().await.map_err(Trouble::passing)?;
                if there.is_some_and(|there| content.sha256() == Some(&there.sha256)) {
                    return Ok(());
                }
            }
            let mut upload = AssetUpload::new(content).content_type("application/x-tar");
            let variant = image.variant.map(|variant| variant.word().to_owned());
            upload.options.extend(variant.map(|word| (Variant::OPTION.to_owned(), word)));
            let sent = host.sabakan.upload_asset(&asset, &upload, &progress(context)).await;
            // What was refused because somebody else uploads the same was not sent.
            if sent.as_ref().is_err_and(|error| !error.is_conflict()) {
                unproven.store(true, Relaxed);
            }
            sent.map(drop).map_err(unless_raced)
        })
        .await?;
    }
    Ok(())
}

/// Brings a file that differs from what is there.
///
/// # Errors
/// Cancelled, or it cannot be brought.
pub(crate) async fn file(
    context: &StepContext,
    host: &StepHost,
    file: &str,
    content: &Content,
) -> Result<(), StepError> {
    let asset = name(file)?;
    let upload = AssetUpload::new(content.clone());
    context.fence().await?;
    patiently(context, host.patience, &format!("uploading {file} to sabakan"), || async {
        let progress = progress(context);
        let sent = ONCE.asset(&*host.sabakan, &asset, &upload, &progress).await;
        sent.map(drop).map_err(unless_raced)
    })
    .await
}

/// Tells how far an upload is.
pub(crate) fn progress(context: &StepContext) -> impl Fn(UploadProgress) + Send + Sync {
    |sent: UploadProgress| context.bytes(sent.done, Some(sent.total))
}

/// Somebody who uploads the same at the same time is waited for.
fn unless_raced(error: SabakanError) -> Trouble {
    if error.is_conflict() { Trouble::passing(error) } else { error.into() }
}

fn name(text: &str) -> Result<AssetName, StepError> {
    AssetName::new(text).map_err(|error| StepError::Failed(error.to_string()))
}
