//! `cargo xtask test`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::args::Args;
use crate::build::Programs;
use crate::exit::{Doing, Done, Failure};
use crate::package;
use crate::scratch;
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Brings what is missing, builds the shipped programs, packs them and runs all tests.

usage: cargo xtask test [--all] [-- CARGO-TEST-ARGUMENTS]

  --all   also run the tests marked as ignored
  --      what follows replaces `--workspace`, for example `-- -p neco-plan barrier`

The last line is `N passed, N failed`.";

/// How many tests of one binary run at once, and what says so to them.
const THREADS: &str = "RUST_TEST_THREADS";
/// Tests on real processes wait more than they compute.
const AT_ONCE: usize = 4;

pub(super) fn run(args: Vec<String>) -> Done {
    let mut args = Args::new("test", args);
    let chosen = args.behind_dashes();
    let all = args.flag("--all");
    args.end()?;
    let (count, outcome) = all_tests(&chosen, all);
    if let Err(failure) = &outcome {
        eprintln!("test: {}", failure.message);
    }
    println!("{count}");
    match outcome {
        Ok(()) => Ok(()),
        Err(failure) => Err(Failure { exit: failure.exit, message: "the tests failed".into() }),
    }
}

/// How many tests passed and failed; ignored ones are neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    passed: u64,
    failed: u64,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Count {
    /// Adds one line of output if it is a test binary's closing line.
    fn add(&mut self, line: &str) {
        let Some(results) = line.strip_prefix("test result: ") else { return };
        for part in results.split([';', '.']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Runs the tests with their output passed on as it comes. The count is there even if a later test
/// binary did not build or died.
pub(super) fn all_tests(chosen: &[String], ignored_too: bool) -> (Count, Done) {
    let mut count = Count::default();
    let outcome = try_tests(&mut count, chosen, ignored_too);
    (count, outcome)
}

fn try_tests(count: &mut Count, chosen: &[String], ignored_too: bool) -> Done {
    package::needs()?;
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    if ignored_too {
        tools.for_data_centres()?;
    }
    let programs = Programs::with_playground(&workspace, &tools)?;
    // The scenarios install and publish them.
    let packages = super::playground::pack(&workspace, &programs)?;
    let mut command = workspace.cargo();
    tools.lend(&mut command);
    if ignored_too {
        tools.lend_openbao(&mut command)?;
        tools.lend_serf(&mut command)?;
    }
    command.env("NECO_BIN_DIR", &programs.dir).env("NECO_PACKAGES", packages);
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, AT_ONCE.to_string());
    }
    if let Some(scratch) = scratch::in_memory() {
        command.env(scratch::VARIABLE, scratch);
    }
    command.args(["test", "--no-fail-fast"]);
    if chosen.is_empty() {
        command.arg("--workspace");
    }
    command.args(chosen);
    if ignored_too {
        if !chosen.iter().any(|word| word == "--") {
            command.arg("--");
        }
        command.arg("--include-ignored");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .doing(|| "cannot start `cargo test`".into())?;
    let output = child.stdout.take().ok_or_else(|| Failure::failed("cargo test has no output"))?;
    let read = pass_on(count, BufReader::new(output), std::io::stdout().lock());
    let status = child.wait().doing(|| "cannot wait for `cargo test`".into())?;
    read.doing(|| "cannot pass on the output of `cargo test`".into())?;
    if count.failed > 0 || !status.success() {
        return Err(Failure::failed(format!("`cargo test`: {status}; {count}")));
    }
    if count.passed == 0 {
        return Err(Failure::failed("no test ran"));
    }
    Ok(())
}

fn pass_on(count: &mut Count, mut from: impl BufRead, mut to: impl Write) -> std::io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        count.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 4 tests
the test result: ok. 9 passed; is only talked of here
test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s
";

    #[test]
    fn sums_the_closing_lines_and_passes_everything_on() {
        let mut count = Count::default();
        let mut seen = Vec::new();
        pass_on(&mut count, OUTPUT.as_bytes(), &mut seen).unwrap();
        assert_eq!(count.to_string(), "5 passed, 1 failed");
        assert_eq!(seen, OUTPUT.as_bytes());
    }

    #[test]
    fn counts_a_last_line_without_newline_and_survives_bytes_that_are_no_text() {
        let mut count = Count::default();
        let output = b"\xff\xfe\ntest result: ok. 1 passed; 0 failed".as_slice();
        pass_on(&mut count, output, std::io::sink()).unwrap();
        assert_eq!(count, Count { passed: 1, failed: 0 });
    }
}
