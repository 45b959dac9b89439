//! A model of a container engine: what a call changes, without doing anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ImageRef, Pulled, RunSpec, RuntimeError};

/// A call that reached the engine, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// An image was asked for.
    Pull {
        /// Which.
        image: ImageRef,
        /// Whether it had to be transferred.
        fetched: bool,
    },
    /// A container was run.
    Run {
        /// How.
        #[serde(flatten)]
        spec: RunSpec,
    },
    /// A command was run in a container.
    Exec {
        /// In which.
        name: String,
        /// The command.
        command: Vec<String>,
    },
    /// A container was ended.
    Stop {
        /// Which.
        name: String,
    },
    /// A call failed.
    Failed {
        /// What was asked, such as `pull ghcr.io/cybozu/serf:0.10.1.7`.
        what: String,
        /// Why.
        message: String,
    },
}

/// The images and containers of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Containers {
    images: BTreeSet<ImageRef>,
    running: BTreeMap<String, ImageRef>,
}

/// Notes a call down.
pub(crate) type Note<'a> = &'a mut dyn FnMut(Call);

impl Containers {
    pub(crate) fn has(&self, image: &ImageRef) -> bool {
        self.images.contains(image)
    }

    pub(crate) fn pull(&mut self, image: &ImageRef, note: Note<'_>) -> Pulled {
        let fetched = self.images.insert(image.clone());
        note(Call::Pull { image: image.clone(), fetched });
        if fetched { Pulled::Fetched } else { Pulled::Present }
    }

    pub(crate) fn run(&mut self, spec: &RunSpec, note: Note<'_>) -> Result<(), RuntimeError> {
        if !self.has(&spec.image) {
            return Err(RuntimeError::ImageMissing { image: spec.image.clone() });
        }
        if let Some(name) = &spec.name {
            if let Some(image) = self.running.get(name) {
                return Err(RuntimeError::NameTaken { name: name.clone(), image: image.clone() });
            }
            self.running.insert(name.clone(), spec.image.clone());
        }
        note(Call::Run { spec: spec.clone() });
        Ok(())
    }

    pub(crate) fn exec(
        &mut self,
        name: &str,
        command: &[String],
        note: Note<'_>,
    ) -> Result<(), RuntimeError> {
        if !self.running.contains_key(name) {
            return Err(RuntimeError::NotRunning { name: name.to_owned() });
        }
        note(Call::Exec { name: name.to_owned(), command: command.to_vec() });
        Ok(())
    }

    pub(crate) fn stop(&mut self, name: &str, note: Note<'_>) {
        if self.running.remove(name).is_some() {
            note(Call::Stop { name: name.to_owned() });
        }
    }

    pub(crate) fn is_running(&self, image: &ImageRef) -> bool {
        self.running.values().any(|running| running == image)
    }
}
