//! The developer's verbs: one file per verb under `verbs/`, each usable by itself and all of them
//! what CI runs. Depends on nothing heavy, so that it builds on a machine with only a Rust toolchain;
//! it brings what else is needed, builds the heavy programs and starts them.

mod args;
mod build;
mod exit;
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

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {}", failure.message);
            failure.exit.into()
        }
    }
}

fn dispatch() -> exit::Done {
    let mut words = Vec::new();
    for word in std::env::args_os().skip(1) {
        words.push(word.into_string().map_err(|word| {
            Failure::usage(format!("the argument {} is not valid UTF-8", word.display()))
        })?);
    }
    match words.split_first() {
        None => Err(Failure::usage(format!("which verb?\n{}", verbs::overview()))),
        Some((word, _)) if matches!(word.as_str(), "help" | "-h" | "--help") => {
            println!("{}", verbs::overview());
            Ok(())
        }
        Some((word, rest)) => Verb::named(word)
            .ok_or_else(|| {
                Failure::usage(format!("there is no verb `{word}`\n{}", verbs::overview()))
            })?
            .run(rest.to_vec()),
    }
}
