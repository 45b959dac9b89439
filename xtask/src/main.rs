//! The developer's verbs: one file per verb under `verbs/`, each usable by itself and all of them
//! what CI runs. Depends on nothing heavy, so that it builds on a machine with only a Rust toolchain;
//! it brings what else is needed, builds the heavy programs and starts them.

#[cfg(not(test))]
#[macro_use]
mod pipes;

mod args;
mod build;
mod exit;
mod folder;
mod git;
mod layers;
mod lock;
mod package;
mod run;
mod scratch;
mod texts;
mod tools;
mod verbs;
mod workspace;

use std::process::ExitCode;

use crate::exit::Failure;
use crate::verbs::Verb;

/// Who speaks where no verb does.
const SELF: &str = "xtask";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err((by, failure)) => {
            eprintln!("{by}: {}", failure.message);
            failure.exit.into()
        }
    }
}

/// Runs the verb that the command line names; a failure comes with the name of the verb whose it is.
fn dispatch() -> Result<(), (&'static str, Failure)> {
    let mut words = Vec::new();
    for word in std::env::args_os().skip(1) {
        words.push(word.into_string().map_err(|word| {
            let message = format!("the argument {} is not valid UTF-8", word.display());
            (SELF, Failure::usage(message))
        })?);
    }
    match words.split_first() {
        None => Err((SELF, Failure::usage(format!("which verb?\n{}", verbs::overview())))),
        Some((word, _)) if matches!(word.as_str(), "help" | "-h" | "--help") => {
            println!("{}", verbs::overview());
            Ok(())
        }
        Some((word, rest)) => match Verb::named(word) {
            Some(verb) => verb.run(rest.to_vec()).map_err(|failure| (verb.name(), failure)),
            None => {
                let message = format!("there is no verb `{word}`\n{}", verbs::overview());
                Err((SELF, Failure::usage(message)))
            }
        },
    }
}
