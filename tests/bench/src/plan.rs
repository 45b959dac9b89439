//! How long `necoctl plan` takes on a site that runs what it plans: every server looks at everything of the default recipe.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use neco_process::exit::Failure;

use crate::figure::{Budget, Figure, Unit};
use crate::workbench::Bench;

/// How often each is asked, after once that does not count.
const RUNS: usize = 10;

/// The budget, in ms.
const PLAN: f64 = 1000.0;

/// Asks for the plan of the version that runs; beside the same program asking etcd alone.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (necoctl, root) = (bench.necoctl(), bench.site.server(0).root().to_owned());
    let version = bench.version.to_string();
    let work = move || {
        let once = |words: &[&str]| {
            let mut command = Command::new(&necoctl);
            command.arg("--root").arg(&root).args(words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let began = Instant::now();
            let status = command.status().with_context(|| format!("starting {words:?}"))?;
            anyhow::ensure!(status.success(), "necoctl {words:?}: {status}");
            anyhow::Ok(began.elapsed().as_secs_f64() * 1e3)
        };
        let (mut plans, mut others) = (Vec::new(), Vec::new());
        for run in 0..=RUNS {
            let (plan, other) = (once(&["plan", "--to", &version])?, once(&["status"])?);
            if run > 0 {
                plans.push(plan);
                others.push(other);
            }
        }
        anyhow::Ok((plans, others))
    };
    let (plans, others) = tokio::task::spawn_blocking(work).await??;
    let what = "`necoctl plan` over the default recipe, three servers";
    let figure = Figure::beside(what, Unit::Milliseconds, &plans, "`necoctl status`", &others)?;
    Ok(vec![figure.judged(Budget::AtMost(PLAN))])
}
