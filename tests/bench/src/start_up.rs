//! How long necoctl takes from its start to its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use neco_process::exit::Failure;

use crate::figure::{Budget, Figure, Unit};
use crate::workbench::Bench;

/// How often each is started, after once that does not count.
const RUNS: usize = 40;

/// The design's budgets, in ms.
const HELP: f64 = 10.0;
const STATUS: f64 = 50.0;

/// A program that does nothing: what starting any costs.
const NOTHING: &str = "true";

/// Measures the necoctl that a server has installed, on that server.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (necoctl, root) = (bench.necoctl(), bench.site.server(0).root().to_owned());
    let work = move || started(&necoctl, &root);
    let [nothing, help, status] = tokio::task::spawn_blocking(work).await??;
    let ms = Unit::Milliseconds;
    let denominator = format!("`{NOTHING}`");
    Ok(vec![
        Figure::beside("`necoctl --help`", ms, &help, denominator.clone(), &nothing)?
            .judged(Budget::AtMost(HELP)),
        Figure::beside("`necoctl status`", ms, &status, denominator, &nothing)?
            .judged(Budget::AtMost(STATUS)),
    ])
}

/// Starts one after another, so that all meet the same weather; in ms.
fn started(necoctl: &Path, root: &Path) -> anyhow::Result<[Vec<f64>; 3]> {
    let words = |words: &[&str]| words.iter().map(PathBuf::from).collect::<Vec<_>>();
    let status = vec!["--root".into(), root.to_owned(), "status".into()];
    let commands =
        [(Path::new(NOTHING), words(&[])), (necoctl, words(&["--help"])), (necoctl, status)];
    let mut times: [Vec<f64>; 3] = Default::default();
    for run in 0..=RUNS {
        for ((program, arguments), times) in commands.iter().zip(&mut times) {
            let took = once(program, arguments)?;
            if run > 0 {
                times.push(took);
            }
        }
    }
    Ok(times)
}

fn once(program: &Path, arguments: &[PathBuf]) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().with_context(|| format!("starting {}", program.display()))?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(status.success(), "{} {arguments:?}: {status}", program.display());
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_has_no_time() {
        assert!(once(Path::new("true"), &[]).expect("it starts") > 0.0);
        assert!(once(Path::new("false"), &[]).is_err());
        assert!(once(Path::new("/nonexistent/program"), &[]).is_err());
    }
}
