//! `image`: what an image is called in full.

use std::path::Path;

use clap::Args;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::Style;
use crate::images;
use crate::io::Io;

/// Print the full name of an image, as this server runs it.
///
/// Where an image has a private variant and this server has a login for its registry, that is what is printed, and what
/// boot servers run.
#[derive(Debug, Args)]
pub struct Image {
    /// What the installed package calls it, such as serf
    name: String,
}

impl Image {
    /// Prints it.
    ///
    /// # Errors
    /// The installed package pins no such image, or the logins of this server cannot be read.
    pub async fn run(self, root: &Path, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let image = images::pinned(root, &self.name)?;
        let public = image.reference();
        // The original always prints the public one.
        let shown = match io.style {
            Style::Original => public.clone(),
            Style::Ours => images::reference(root, &image).await?.as_str().to_owned(),
        };
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1, "name": image.name, "image": shown, "public": public,
            }))?;
        } else {
            io.line(shown)?;
        }
        Ok(ExitCode::Done)
    }
}
