//! `cargo xtask bench`.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::Args;
use crate::build::{BENCH, Programs};
use crate::exit::{Done, Failure};
use crate::package::{self, Compression, Quality, Version};
use crate::scratch::{self, Scratch};
use crate::tools::{Tools, need};
use crate::workspace::{self, Workspace};

pub(super) const HELP: &str = "\
Measures what the design sets budgets for, on release programs.

usage: cargo xtask bench [--output human|json] [NAME...]

  barrier    how long 3 and 5 servers wait for one another in an update of empty steps
  memory     what the daemons hold in memory a minute after an update
  download   how fast a package of 1 GiB comes, verified and durable
  start-up   how long necoctl takes to start
  plan       how long a plan over the default recipe takes
  image      how fast an image of 1 GiB comes from a registry into sabakan

  --output json   one JSON object on the last line of standard output; the table goes to standard error

Without a name, everything. What is written meanwhile lies in TMPDIR, else in target/bench; curl is
needed for the download and the image. Each figure stands beside a denominator of the same run and beside its
budget. A missed budget is shown, and is no failure: the exit code is 0 if everything was measured,
1 if something was not, and 77 if this machine lacks something.";

/// What can be named; neco-bench has the list that counts, and a test that compares.
const NAMES: [&str; 6] = ["barrier", "memory", DOWNLOAD, "start-up", "plan", IMAGE];

/// The forms of output.
const OUTPUTS: [&str; 2] = ["human", JSON];
const JSON: &str = "json";

/// What is installed, and what it is updated to.
const VERSIONS: [&str; 2] = ["2026.11.20-40151", "2026.11.21-40152"];

/// The measurements that need curl.
const DOWNLOAD: &str = "download";
const IMAGE: &str = "image";

pub(super) fn run(args: Vec<String>) -> Done {
    let wanted = Wanted::parse(args)?;
    let output = wanted.output.clone();
    // The program that is started for it never comes back here.
    let Err(failure) = start(wanted);
    if output == JSON {
        println!("{}", failed(&failure));
    }
    Err(failure)
}

/// What neco-bench writes when it fails, for what fails before it is started.
fn failed(failure: &Failure) -> Value {
    json!({ "format": 1, "outcome": "failed", "reason": failure.message })
}

fn start(wanted: Wanted) -> Done<Infallible> {
    // What cannot be done is told before anything is built.
    package::needs()?;
    if wanted.names.is_empty()
        || wanted.names.iter().any(|name| [DOWNLOAD, IMAGE].contains(&name.as_str()))
    {
        need("curl", "curl")?;
    }
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    let programs = Programs::with_bench(&workspace, &tools)?;
    let dir = workspace.target.join("bench");
    // The update has something to do, and brings newer images for it.
    let newer = workspace.root.join("crates/neco-playground/newer-images");
    let packages = dir.join("packages");
    pack(&workspace, &programs, [None, Some(&newer)], &packages)?;
    let recipe = workspace.root.join("tests/bench/empty-steps");
    let empty_steps = dir.join("empty-steps");
    pack(&workspace, &programs, [Some(&recipe), Some(&recipe)], &empty_steps)?;
    // On the disk of the tree, whatever the system keeps temporary files on, unless a person has chosen another.
    let scratch = Scratch::unless(scratch::chosen(), &dir.join("scratch"))?;

    let program = programs.program(BENCH);
    let mut command = Command::new(&program);
    workspace::without_cargo_run(&mut command);
    tools.lend(&mut command);
    if let Some(scratch) = scratch {
        scratch.lend(&mut command);
    }
    command.arg("--packages").arg(packages).arg("--empty-steps").arg(empty_steps);
    command.args(["--output", &wanted.output]).args(wanted.names);
    let error = command.exec();
    Err(Failure::failed(format!("cannot start {}: {error}", program.display())))
}

/// What the command line asks for; wrong words are told before anything is built.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    output: String,
    names: Vec<String>,
}

impl Wanted {
    fn parse(args: Vec<String>) -> Done<Self> {
        let mut args = Args::new("bench", args);
        let output = args.value("--output")?.unwrap_or_else(|| OUTPUTS[0].to_owned());
        if !OUTPUTS.contains(&output.as_str()) {
            return Err(Failure::usage(format!(
                "--output is {}, not `{output}`",
                OUTPUTS.join(" or ")
            )));
        }
        let names = args.words();
        if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(Failure::usage(format!(
                "there is no measurement `{unknown}`, there are {}",
                NAMES.join(", ")
            )));
        }
        args.end()?;
        Ok(Self { output, names })
    }
}

/// Packs both versions, each with what is laid over it.
fn pack(
    workspace: &Workspace,
    programs: &Programs,
    overlays: [Option<&Path>; 2],
    out: &Path,
) -> Done {
    for (version, overlay) in VERSIONS.into_iter().zip(overlays) {
        let (version, zstd) = (Version::parse(version)?, Compression::Zstd);
        package::pack_with(workspace, programs, &version, zstd, Quality::Sound, overlay, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn parse(words: &[&str]) -> Done<Wanted> {
        Wanted::parse(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn everything_for_people_is_what_no_words_mean() {
        let wanted = parse(&[]).unwrap();
        assert_eq!(wanted, Wanted { output: "human".into(), names: Vec::new() });
        let wanted = parse(&["start-up", "--output", "json", "memory"]).unwrap();
        let names = vec!["start-up".into(), "memory".into()];
        assert_eq!(wanted, Wanted { output: "json".into(), names });
    }

    #[test]
    fn wrong_words_are_named_before_anything_is_built() {
        for (words, told) in [
            (&["barier"][..], "there is no measurement `barier`, there are barrier, memory,"),
            (&["--output", "xml"], "--output is human or json, not `xml`"),
            (&["--output"], "--output wants a value"),
            (&["--fast"], "`--fast` is not understood; see `cargo xtask bench --help`"),
        ] {
            let failure = parse(words).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(told), "{}", failure.message);
        }
    }

    #[test]
    fn a_failure_is_one_object_of_the_form_that_the_program_has() {
        let suite = include_str!("../../../tests/bench/src/suite.rs");
        let written = failed(&Failure::cannot_run("there is no strip\non this machine"));
        let text =
            r#"{"format":1,"outcome":"failed","reason":"there is no strip\non this machine"}"#;
        assert_eq!(written.to_string(), text);
        assert!(suite.contains(r#"json!({ "format": 1, "outcome": "failed", "reason": reason })"#));
    }

    #[test]
    fn the_help_tells_of_every_measurement() {
        for name in NAMES {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(name)), "{name}");
        }
    }
}
