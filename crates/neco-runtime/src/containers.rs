//! A model of a container engine: what a call changes, without doing anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{ExecSpec, ImageRef, LogLine, Output, Pulled, RunSpec, RuntimeError};

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
        /// How many bytes it was given to read; they may be secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input_bytes: Option<usize>,
        /// Whether it could do more than the container.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        privileged: bool,
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
///
/// Two commands do something: `false` fails, and `cat` writes what it reads. All others succeed and write nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Containers {
    images: BTreeSet<ImageRef>,
    running: BTreeMap<String, ImageRef>,
    #[serde(default)]
    logs: BTreeMap<String, Log>,
}

/// What a container wrote.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    /// How many lines were forgotten.
    forgotten: usize,
    lines: VecDeque<LogLine>,
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

    pub(crate) fn run(&mut self, spec: &RunSpec, note: Note<'_>) -> Result<Output, RuntimeError> {
        if !self.has(&spec.image) {
            return Err(RuntimeError::ImageMissing { image: spec.image.clone() });
        }
        if let Some(name) = &spec.name {
            if let Some(image) = self.running.get(name) {
                let image = image.to_string();
                return Err(RuntimeError::NameTaken { name: name.clone(), image });
            }
            self.running.insert(name.clone(), spec.image.clone());
        }
        note(Call::Run { spec: spec.clone() });
        match spec.name {
            Some(_) => Ok(Output::default()),
            None => outcome(&format!("run {}", spec.image), &spec.command, &[]),
        }
    }

    pub(crate) fn exec(&mut self, spec: &ExecSpec, note: Note<'_>) -> Result<Output, RuntimeError> {
        let ExecSpec { container, command, input, privileged } = spec;
        self.must_run(container)?;
        note(Call::Exec {
            name: container.clone(),
            command: command.clone(),
            input_bytes: input.as_ref().map(|input| input.reveal().len()),
            privileged: *privileged,
        });
        let input = input.as_ref().map_or(&[][..], |input| input.reveal());
        outcome(&format!("exec {container}"), command, input)
    }

    /// Lets a container write a line.
    pub(crate) fn say(&mut self, name: &str, line: LogLine) -> Result<(), RuntimeError> {
        self.must_run(name)?;
        let log = self.logs.entry(name.to_owned()).or_default();
        log.lines.push_back(line);
        if log.lines.len() > Log::MOST {
            log.lines.pop_front();
            log.forgotten += 1;
        }
        Ok(())
    }

    /// What a container wrote.
    pub(crate) fn log(&self, name: &str) -> Result<Log, RuntimeError> {
        self.must_run(name)?;
        Ok(self.logs.get(name).cloned().unwrap_or_default())
    }

    pub(crate) fn stop(&mut self, name: &str, note: Note<'_>) {
        self.logs.remove(name);
        if self.running.remove(name).is_some() {
            note(Call::Stop { name: name.to_owned() });
        }
    }

    pub(crate) fn is_running(&self, image: &ImageRef) -> bool {
        self.running.values().any(|running| running == image)
    }

    fn must_run(&self, name: &str) -> Result<(), RuntimeError> {
        match self.running.contains_key(name) {
            true => Ok(()),
            false => Err(RuntimeError::NotRunning { name: name.to_owned() }),
        }
    }
}

impl Log {
    const MOST: usize = 10_000;

    /// How many lines were written in all.
    pub(crate) fn end(&self) -> usize {
        self.forgotten + self.lines.len()
    }

    /// The lines from number `from`, counted from 0, as far as they are kept.
    pub(crate) fn since(&self, from: usize) -> impl Iterator<Item = &LogLine> {
        self.lines.iter().skip(from.saturating_sub(self.forgotten))
    }
}

fn outcome(call: &str, command: &[String], input: &[u8]) -> Result<Output, RuntimeError> {
    match command.first().map(String::as_str) {
        Some("false") => Err(RuntimeError::Failed {
            call: call.to_owned(),
            command: command.to_vec(),
            status: Some(1),
            stderr: String::new(),
        }),
        Some("cat") => Ok(Output { stdout: input.to_vec(), stderr: Vec::new() }),
        _ => Ok(Output::default()),
    }
}
