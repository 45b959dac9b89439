//! What is asked of a container engine, and what it answers.

use std::path::PathBuf;

use neco_base::Secret;
use serde::{Deserialize, Serialize};

use crate::ImageRef;

/// What to run.
///
/// A container shares the network of this machine. One without a name belongs to `root`, whatever its image says, because
/// such containers put programs onto this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The image; it must have been pulled.
    pub image: ImageRef,
    /// The whole command, in place of the image's entry point and command; empty for the image's own.
    pub command: Vec<String>,
    /// Folders and files of this machine that the container sees.
    pub mounts: Vec<Mount>,
    /// The name of a container that goes on running; without one, the call waits for the end of the command.
    pub name: Option<String>,
}

/// A folder or file of this machine that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on this machine; it must exist.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

impl RunSpec {
    /// Runs the image's own command and waits for its end.
    pub fn new(image: ImageRef) -> Self {
        Self { image, command: Vec::new(), mounts: Vec::new(), name: None }
    }

    /// Runs `command` instead of the image's own.
    #[must_use]
    pub fn command<T: Into<String>>(mut self, command: impl IntoIterator<Item = T>) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Shows `source` to the container as `target`.
    #[must_use]
    pub fn mount(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mounts.push(Mount { source: source.into(), target: target.into(), read_only: false });
        self
    }

    /// Shows `source` to the container as `target`, which it cannot change.
    #[must_use]
    pub fn mount_read_only(
        mut self,
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
    ) -> Self {
        self.mounts.push(Mount { source: source.into(), target: target.into(), read_only: true });
        self
    }

    /// Lets the container go on running under `name`.
    #[must_use]
    pub fn detached(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// A command to be run in a running container.
///
/// It goes on in the container when the call is dropped or its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// The container's name.
    pub container: String,
    /// The command.
    pub command: Vec<String>,
    /// What the command reads from its standard input, which is empty without it.
    pub input: Option<Secret<Vec<u8>>>,
    /// Whether it may do more than the container.
    pub privileged: bool,
}

impl ExecSpec {
    /// Runs `command` in `container`.
    pub fn new<T: Into<String>>(
        container: impl Into<String>,
        command: impl IntoIterator<Item = T>,
    ) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { container: container.into(), command, input: None, privileged: false }
    }

    /// Gives the command something to read.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(Secret::new(input.into()));
        self
    }

    /// Gives the command all rights on this machine, as the original does with every command.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }
}

/// What a command wrote before it ended with success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error; where that was long, its end.
    pub stderr: Vec<u8>,
}

/// How far a pull has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all, as far as they are known yet.
    pub total: Option<u64>,
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// The image was here already; nothing was transferred.
    Present,
    /// The image was transferred.
    Fetched,
}
