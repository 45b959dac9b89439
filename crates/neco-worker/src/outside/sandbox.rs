//! The outside of a sandbox.

use async_trait::async_trait;
use neco_sabakan::Content;
use neco_sandbox::Faults;

use super::{Outside, OutsideError};

/// Nothing is fetched: an archive or a file is its own name. It can be made to fail or to hang: the call is `archive` and
/// the image's name, or `download` and the address.
pub struct SandboxOutside {
    faults: Faults,
}

impl SandboxOutside {
    /// The outside of the sandbox with these faults.
    pub fn new(faults: Faults) -> Self {
        Self { faults }
    }

    async fn named(&self, call: String) -> Result<Content, OutsideError> {
        self.faults.pass(&[&call]).await?;
        Ok(Content::bytes(call.into_bytes()))
    }
}

#[async_trait]
impl Outside for SandboxOutside {
    async fn image(&self, reference: &str) -> Result<Content, OutsideError> {
        self.named(format!("archive {reference}")).await
    }

    async fn file(&self, url: &str) -> Result<Content, OutsideError> {
        self.named(format!("download {url}")).await
    }
}
