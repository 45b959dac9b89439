//! The help texts.

use clap::{Command, CommandFactory};
use necoctl::cli::Cli;

use crate::harness::golden;

#[test]
fn help_texts_look_as_expected() {
    let mut all = String::new();
    // As in a terminal of the greatest width that is used.
    collect(Cli::command().term_width(100), "necoctl", &mut all);
    golden("help.txt", &all);
}

fn collect(command: Command, path: &str, all: &mut String) {
    let mut command = command.bin_name(path);
    command.build();
    let help = command.render_long_help().to_string();
    all.push_str(&format!("$ {path} --help\n{help}\n"));
    let verbs: Vec<Command> = command.get_subcommands().cloned().collect();
    for verb in verbs {
        let path = format!("{path} {}", verb.get_name());
        collect(verb.term_width(100), &path, all);
    }
}

#[test]
fn every_option_and_verb_is_explained() {
    fn check(command: &Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
