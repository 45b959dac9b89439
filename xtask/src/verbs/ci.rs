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
and, when root, the playground once more as an unprivileged user; lintian's verdict on a package; in a
virtual data centre the suites of the drivers and the stories of installation, upgrade and power cut.
The user's playground, lintian and the data centre are left out, and that is said, where the machine
cannot run them. Every phase runs, whatever the ones before it said. The last line is the count of
tests, `N passed, N failed`.";

/// A playground that has not ended by then hangs.
const PLAYGROUND_LIMIT: &str = "15m";

/// As [`PLAYGROUND_LIMIT`], for what lintian takes half a minute for; it may have to be brought.
const LINT_LIMIT: &str = "10m";

/// Of the package that lintian looks at: one file, whatever the commit.
const LINT_VERSION: &str = "2026.11.21-40000";

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
    /// Runs what every machine must be able to run: without it nothing would be proven.
    fn run(&mut self, name: &'static str, work: impl FnOnce() -> Done) {
        self.run_where_possible(name, || {
            work().map_err(|failure| Failure { exit: Exit::Failed, ..failure })
        });
    }

    /// Runs what some machines cannot run: that is said and is no verdict.
    fn run_where_possible(&mut self, name: &'static str, work: impl FnOnce() -> Done) {
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

/// Whether it is the machine's fault.
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
    phases.run("playground", || verb(&["playground"], PLAYGROUND_LIMIT));
    if is_root() {
        phases.run_where_possible("playground as a user", || {
            verb(&["as-user", "playground"], PLAYGROUND_LIMIT)
        });
    }
    phases.run_where_possible("lintian", || lintian(&workspace));
    phases.run_where_possible("dctest", || {
        verb(&[&["dctest"], &STORIES[..]].concat(), STORIES_LIMIT)
    });

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

/// Lets lintian look at a package of the programs that the tests have run, packed quickly.
fn lintian(workspace: &Workspace) -> Done {
    let out = workspace.target.join("lint").display().to_string();
    let words = ["deb", "--lint", "--fast", "--profile", "dev", "--version", LINT_VERSION];
    verb(&[&words[..], &["--out", &out]].concat(), LINT_LIMIT)
}

/// Another verb, as a process of its own that is not waited for forever.
fn verb(words: &[&str], limit: &str) -> Done {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30s", limit]).arg(run::this_program()?).args(words);
    ended(&mut command)
}

/// Runs a verb; that the machine cannot run it, which the verb has said, is told from a failure.
fn ended(command: &mut Command) -> Done {
    let status = command.status().doing(|| format!("cannot start `{}`", run::shown(command)))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == Exit::CannotRun as i32 => {
            Err(Failure::cannot_run("what it lacks stands above"))
        }
        _ => Err(Failure::failed(format!("`{}` failed: {status}", run::shown(command)))),
    }
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
    fn what_a_machine_cannot_run_fails_nothing_but_what_every_machine_must_run() {
        let mut phases = Phases { ended: Vec::new() };
        phases.run_where_possible("dctest", || Err(Failure::cannot_run("no namespaces")));
        assert_eq!(phases.failed(), Vec::<&str>::new());
        assert!(phases.summary().contains("cannot run on this machine"), "{}", phases.summary());
        phases.run("test", || Err(Failure::cannot_run("no dpkg-deb: no test ran")));
        assert_eq!(phases.failed(), ["test"]);
    }

    #[test]
    fn a_verb_tells_that_the_machine_cannot_run_it_by_its_exit_code() {
        let ends_with = |code: &str| ended(Command::new("sh").args(["-c", "exit $0", code]));
        ends_with("0").unwrap();
        assert_eq!(ends_with("77").unwrap_err().exit, Exit::CannotRun);
        let failure = ends_with("64").unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("exit status: 64"), "{}", failure.message);
    }

    #[test]
    fn shows_minutes_only_where_there_are_some() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(shown(Duration::from_secs(125)), "2m 05s");
    }
}
