//! `cargo xtask ci`: what `.ci/run` runs.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::deny::Deny;
use super::test::{self, Count};
use crate::args::Args;
use crate::build::SUITES;
use crate::exit::{Doing, Done, Exit, Failure};
use crate::run;
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Runs everything that must hold before a change lands.

usage: cargo xtask ci

Format, layers, lints, generated pages, tests, dependencies' licences and sources, the playground,
and, when root, the playground once more as an unprivileged user; in a virtual data centre, where the
machine can run one, the suites of the drivers and the stories of installation, upgrade and power cut.
Every phase runs, whatever the ones before it said. The last line is the count of tests, `N passed, N failed`.";

/// A playground that has not ended by then hangs.
const PLAYGROUND_LIMIT: &str = "15m";

/// What is told on real machines before a change lands.
const STORIES: [&str; 4] = [
    "drivers-keep-their-contracts",
    "package-installs-cleanly",
    "release-reaches-everybody",
    "power-cut-in-mid-step",
];

/// They have deadlines of their own; the tree that machines share may have to be made.
const STORIES_LIMIT: &str = "40m";

struct Phases {
    ended: Vec<(&'static str, Duration, Done)>,
}

impl Phases {
    fn run(&mut self, name: &'static str, work: impl FnOnce() -> Done) {
        println!("\n── {name}");
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        match &outcome {
            Ok(()) => println!("── {name}: ok in {}", shown(took)),
            Err(failure) if cannot_run(failure) => {
                println!("── {name}: cannot run on this machine: {}", failure.message);
            }
            Err(failure) => println!("── {name}: FAILED in {}: {}", shown(took), failure.message),
        }
        self.ended.push((name, took, outcome));
    }

    fn summary(&self) -> String {
        let width = self.ended.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let mut text = String::from("\n── summary\n");
        for (name, took, outcome) in &self.ended {
            let word = match outcome {
                Ok(()) => "ok",
                Err(failure) if cannot_run(failure) => "cannot run on this machine",
                Err(_) => "FAILED",
            };
            text.push_str(&format!("  {name:<width$}  {:>8}  {word}\n", shown(*took)));
        }
        let total = self.ended.iter().map(|(_, took, _)| *took).sum();
        text.push_str(&format!("  {:<width$}  {:>8}\n", "total", shown(total)));
        text
    }

    fn failed(&self) -> Vec<&'static str> {
        let failed = |outcome: &Done| outcome.as_ref().is_err_and(|failure| !cannot_run(failure));
        let failed = self.ended.iter().filter(|(.., outcome)| failed(outcome));
        failed.map(|(name, ..)| *name).collect()
    }
}

/// Whether it is the machine's fault: that is said and is no verdict.
fn cannot_run(failure: &Failure) -> bool {
    failure.exit == Exit::CannotRun
}

pub(super) fn run(args: Vec<String>) -> Done {
    Args::new("ci", args).end()?;
    let workspace = Workspace::find()?;
    let mut phases = Phases { ended: Vec::new() };
    let mut count = Count::default();

    phases.run("setup", || Tools::bring(&workspace).map(drop));
    phases.run("fmt", || run::succeed(workspace.cargo().args(["fmt", "--all", "--check"])));
    phases.run("layers", || super::layers::run(Vec::new()));
    phases.run("clippy", || clippy(&workspace));
    phases.run("docs", || super::docs::run(vec!["--check".into()]));
    // The tests wait more than they compute; this is done by the time it is needed.
    let deny = Deny::begin(&workspace);
    phases.run("test", || {
        let (counted, outcome) = test::all_tests(&[], false);
        count = counted;
        outcome
    });
    phases.run("deny", || deny?.check(&workspace));
    phases.run("playground", || verb(&["playground"]));
    if is_root() {
        phases.run("playground as a user", || verb(&["as-user", "playground"]));
    }

    phases.run("dctest", || stories(&STORIES));

    let failed = phases.failed();
    print!("{}", phases.summary());
    println!("{count}");
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("failed: {}", failed.join(", "))))
    }
}

pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

fn clippy(workspace: &Workspace) -> Done {
    let tools = Tools::bring(workspace)?;
    let lint = |targets: &[&str]| {
        let mut command = workspace.cargo();
        tools.lend(&mut command);
        command.arg("clippy").args(targets).args(["--", "--deny", "warnings"]);
        run::succeed(&mut command)
    };
    lint(&["--workspace", "--all-targets"])?;
    // Those that run on other machines alone are no tests to cargo.
    let suites = SUITES.iter().flat_map(|(package, suite)| ["--package", package, "--test", suite]);
    lint(&suites.collect::<Vec<_>>())
}

/// Tells stories in a virtual data centre, where this machine can run one.
fn stories(names: &[&str]) -> Done {
    let program = run::this_program()?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30s", STORIES_LIMIT]).arg(program).arg("dctest").args(names);
    let status = command.status().doing(|| format!("cannot start `{}`", run::shown(&command)))?;
    if status.code() == Some(Exit::CannotRun as i32) {
        let message = "`cargo xtask dc check` says what it lacks".to_owned();
        return Err(Failure { exit: Exit::CannotRun, message });
    }
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!("`{}` failed: {status}", run::shown(&command))))
}

/// Another verb, as a process of its own that is not waited for forever.
fn verb(words: &[&str]) -> Done {
    let program = run::this_program()?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30s", PLAYGROUND_LIMIT]).arg(program).args(words);
    run::succeed(&mut command)
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds >= 60 {
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1}s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_phase_stops_no_other_and_is_named_in_the_end() {
        let mut phases = Phases { ended: Vec::new() };
        let mut ran = 0;
        phases.run("one", || Err(Failure::failed("planted")));
        phases.run("another", || {
            ran += 1;
            Ok(())
        });
        assert_eq!(ran, 1);
        assert_eq!(phases.failed(), ["one"]);
        let summary = phases.summary();
        assert!(summary.contains("one") && summary.contains("FAILED"), "{summary}");
        assert!(summary.lines().last().is_some_and(|line| line.contains("total")), "{summary}");
    }

    #[test]
    fn what_a_machine_cannot_run_is_said_and_fails_nothing() {
        let mut phases = Phases { ended: Vec::new() };
        let message = "no namespaces".to_owned();
        phases.run("dctest", || Err(Failure { exit: Exit::CannotRun, message }));
        assert_eq!(phases.failed(), Vec::<&str>::new());
        assert!(phases.summary().contains("cannot run on this machine"), "{}", phases.summary());
    }

    #[test]
    fn shows_minutes_only_where_there_are_some() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(shown(Duration::from_secs(125)), "2m 05s");
    }
}
