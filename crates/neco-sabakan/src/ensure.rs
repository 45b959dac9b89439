//! Brings things into sabakan that may be there already: nothing is sent twice (external-apis §1.10, §9.3, §9.4).

use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_schema::Severity;

use crate::sabakan::OnProgress;
use crate::{
    AssetMeta, AssetName, AssetUpload, Content, IgnitionId, IgnitionTemplate, ImageId, Role,
    Sabakan, SabakanError,
};

/// What became of something that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was there; nothing was sent.
    Present,
    /// It was sent.
    Uploaded,
}

/// Brings things into sabakan that may be there already, with so many tries for each.
///
/// A try that failed is repeated only where that may help, and where the content can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ensure {
    /// How many tries there are, the first among them.
    pub tries: u32,
    /// How long to wait between them.
    pub between: Backoff,
}

impl Default for Ensure {
    /// Five tries, one to thirty seconds apart.
    fn default() -> Self {
        Self { tries: 5, between: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)) }
    }
}

impl Ensure {
    /// Sees to it that an OS image is in the index, at whatever place: also one that is not the newest was uploaded whole
    /// (neco-bootstrap-cli §5.7).
    pub async fn image(
        &self,
        sabakan: &dyn Sabakan,
        id: &ImageId,
        kernel: &Content,
        initrd: &Content,
        progress: OnProgress<'_>,
    ) -> Result<Ensured, SabakanError> {
        let repeatable = kernel.is_repeatable() && initrd.is_repeatable();
        let mut tries = self.begin(repeatable);
        loop {
            let tried = async {
                if sabakan.images().await?.iter().any(|image| image.id == *id) {
                    return Ok::<_, SabakanError>(Ensured::Present);
                }
                sabakan.upload_image(id, kernel, initrd, progress).await?;
                Ok(Ensured::Uploaded)
            };
            match tried.await {
                Ok(ensured) => return Ok(ensured),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    /// Sees to it that an asset has this content: it is there if its digest is the content's. Content whose digest is not
    /// known before it is read is always sent (external-apis §9.4).
    pub async fn asset(
        &self,
        sabakan: &dyn Sabakan,
        name: &AssetName,
        upload: &AssetUpload,
        progress: OnProgress<'_>,
    ) -> Result<Ensured, SabakanError> {
        let has = |meta: AssetMeta| upload.content.sha256() == Some(&meta.sha256);
        let mut tries = self.begin(upload.content.is_repeatable());
        loop {
            let tried = async {
                if sabakan.asset(name).await?.is_some_and(has) {
                    return Ok::<_, SabakanError>(Ensured::Present);
                }
                sabakan.upload_asset(name, upload, progress).await?;
                Ok(Ensured::Uploaded)
            };
            match tried.await {
                Ok(ensured) => return Ok(ensured),
                // Somebody else uploads it too: when both are done, it is there or it is our turn.
                Err(error) if error.is_conflict() => tries.wait(error).await?,
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    /// Sees to it that a role has a template with this id (neco-bootstrap-cli §5.7).
    pub async fn ignition(
        &self,
        sabakan: &dyn Sabakan,
        role: &Role,
        id: &IgnitionId,
        template: &IgnitionTemplate,
    ) -> Result<Ensured, SabakanError> {
        let mut tries = self.begin(true);
        loop {
            let tried = async {
                if sabakan.ignitions(role).await?.contains(id) {
                    return Ok::<_, SabakanError>(Ensured::Present);
                }
                match sabakan.upload_ignition(role, id, template).await {
                    Ok(()) => Ok(Ensured::Uploaded),
                    // The answer to an upload of ours was lost, or somebody else was quicker.
                    Err(error) if error.is_conflict() => Ok(Ensured::Present),
                    Err(error) => Err(error),
                }
            };
            match tried.await {
                Ok(ensured) => return Ok(ensured),
                Err(error) => tries.failed(error).await?,
            }
        }
    }

    fn begin(&self, repeatable: bool) -> Tries {
        let left = if repeatable { self.tries.saturating_sub(1) } else { 0 };
        Tries { left, retry: self.between.retry() }
    }
}

struct Tries {
    left: u32,
    retry: Retry,
}

impl Tries {
    /// Waits for the next try, or gives up.
    async fn failed(&mut self, error: SabakanError) -> Result<(), SabakanError> {
        if error.severity() == Severity::TryAgain { self.wait(error).await } else { Err(error) }
    }

    async fn wait(&mut self, error: SabakanError) -> Result<(), SabakanError> {
        if self.left == 0 {
            return Err(error);
        }
        self.left -= 1;
        let (pause, why) = (self.retry.pause(), crate::client::chain(&error));
        tracing::warn!(error = why, "an upload to sabakan failed; it is tried again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
