//! Secrets come from standard input, a prompt or a file, never from the command line.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use neco_base::Secret;
use neco_process::exit::{ExitCode, Failure};

use crate::failure;
use crate::io::Io;

/// A secret is some bytes; more is something else.
const LARGEST: u64 = 64 << 10;

/// A secret was given where every user of the machine can read it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} is a secret and the command line can be read by everybody: give it on standard input ('{instead} < FILE'), or leave it out and be asked for it"
)]
pub struct OnCommandLine {
    /// What it is.
    pub what: String,
    /// The command that reads it from standard input.
    pub instead: String,
}

impl OnCommandLine {
    /// Ends the program with 64, under each of its names.
    pub fn failure(self) -> Failure {
        Failure::new(ExitCode::Usage, anyhow::Error::new(self))
    }
}

/// Reads a secret: from `file` if given, else from a prompt without echo if standard input is a terminal, else from
/// standard input to its end. Line feeds around it are not part of it.
///
/// # Errors
/// It cannot be read, or there is nothing.
pub fn read(io: &mut Io<'_>, file: Option<&Path>, what: &str) -> Result<Secret, Failure> {
    let text = match file {
        Some(path) => {
            let file = std::fs::File::open(path)
                .with_context(|| format!("reading {what} from {}", path.display()))?;
            text(file, what)?
        }
        None if io.input_is_terminal => rpassword::prompt_password(format!("{what}: "))
            .map(Secret::new)
            .with_context(|| format!("asking for {what}"))?,
        None => text(&mut *io.input, what)?,
    };
    let text = text.reveal().trim_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(failure::usage(format_args!("{what}: nothing was given")));
    }
    Ok(Secret::from(text))
}

/// As [`read`], and asked for twice on a terminal, because nobody sees what is typed.
///
/// # Errors
/// As [`read`], and the two differ.
pub fn read_new(io: &mut Io<'_>, file: Option<&Path>, what: &str) -> Result<Secret, Failure> {
    let secret = read(io, file, what)?;
    if file.is_none() && io.input_is_terminal {
        let again = read(io, None, &format!("{what}, once more"))?;
        if again != secret {
            return Err(failure::usage(format_args!("{what}: the two differ")));
        }
    }
    Ok(secret)
}

fn text(from: impl Read, what: &str) -> Result<Secret, Failure> {
    let mut limited = from.take(LARGEST + 1);
    // As large as it can get: a text that grows leaves copies behind.
    let mut text = String::with_capacity(LARGEST as usize + 2);
    limited.read_to_string(&mut text).with_context(|| format!("reading {what}"))?;
    if text.len() as u64 > LARGEST {
        return Err(failure::usage(format_args!("{what}: more than 64 KiB is no secret")));
    }
    Ok(Secret::new(text))
}
