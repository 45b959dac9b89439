//! `cargo xtask ci`: what `.ci/run` runs.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::deny::Deny;
use super::test::{self, Count};
use crate::args::Args;
use crate::exit::{Done, Failure};
use crate::run;
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Runs everything that must hold before a change lands.

usage: cargo xtask ci

Format, layers, lints, generated pages, tests, dependencies' licences and sources, the playground,
and, when root, the playground once more as an unprivileged user. Every phase runs, whatever the ones
before it said. The last line is the count of tests, `N passed, N failed`.";

/// A playground that has not ended by then hangs.
const PLAYGROUND_LIMIT: &str = "15m";

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
            Err(failure) => println!("── {name}: FAILED in {}: {}", shown(took), failure.message),
        }
        self.ended.push((name, took, outcome));
    }

    fn summary(&self) -> String {
        let width = self.ended.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let mut text = String::from("\n── summary\n");
        for (name, took, outcome) in &self.ended {
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            text.push_str(&format!("  {name:<width$}  {:>8}  {word}\n", shown(*took)));
        }
        let total = self.ended.iter().map(|(_, took, _)| *took).sum();
        text.push_str(&format!("  {:<width$}  {:>8}\n", "total", shown(total)));
        text
    }

    fn failed(&self) -> Vec<&'static str> {
        let failed = self.ended.iter().filter(|(.., outcome)| outcome.is_err());
        failed.map(|(name, ..)| *name).collect()
    }
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
    let mut command = workspace.cargo();
    tools.lend(&mut command);
    command.args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    run::succeed(&mut command)
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
    fn shows_minutes_only_where_there_are_some() {
        assert_eq!(shown(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(shown(Duration::from_secs(125)), "2m 05s");
    }
}
