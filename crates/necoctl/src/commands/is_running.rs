//! `is-running`: whether a container of an image runs here.

use std::path::Path;

use clap::Args;
use neco_process::exit::{ExitCode, Failure};

use crate::images;
use crate::io::Io;

/// Tell whether a container of an image runs on this server.
///
/// It counts only with the tag that the installed package pins. Ends with 0 if one runs, 1 if none does, and 2 if that
/// is not known.
#[derive(Debug, Args)]
pub struct IsRunning {
    /// What the installed package calls it, such as serf
    image: String,
}

/// Whether it runs cannot be told, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotKnown(String);

impl NotKnown {
    fn failure(error: impl Into<anyhow::Error>) -> Failure {
        Failure::new(ExitCode::Unknown, Self(format!("{:#}", error.into())))
    }
}

impl IsRunning {
    /// Tells it.
    ///
    /// # Errors
    /// It is not known.
    pub async fn run(self, root: &Path, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let image = images::pinned(root, &self.image).map_err(NotKnown::failure)?;
        let reference = images::reference(root, &image).await.map_err(NotKnown::failure)?;
        let asked = images::runtime(root).is_running(&reference).await;
        let running = asked.map_err(NotKnown::failure)?;
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1, "name": image.name, "image": reference, "running": running,
            }))?;
        } else {
            io.line(if running { "running" } else { "not running" })?;
        }
        Ok(if running { ExitCode::Done } else { ExitCode::No })
    }
}
