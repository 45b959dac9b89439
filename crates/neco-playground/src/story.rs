//! The playground: build a site, publish a newer release, watch, prove, sum up.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use neco_process::exit::{ExitCode, Failure};
use neco_process::signals::Shutdown;
use tokio::time::{Instant, timeout};

use crate::cli::{Cli, Output};
use crate::faults::Act;
use crate::proof::{Summary, prove};
use crate::show::{Show, say};
use crate::{Packages, Site, SiteError, SiteOptions};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(300);

/// How long necoctl may take to explain.
const EXPLAIN_WITHIN: Duration = Duration::from_secs(15);

/// Plays, and says how it went.
///
/// # Errors
/// Something is missing on this machine (77), or the update did not complete (1).
pub async fn play(cli: &Cli) -> Result<ExitCode, Failure> {
    let played = run(cli).await;
    let reason = match &played {
        Ok(ExitCode::Done) => return played,
        Ok(_) => "interrupted".to_owned(),
        Err(failure) => format!("{:#}", failure.error),
    };
    if cli.output == Output::Json {
        let line = serde_json::json!({ "outcome": "failed", "reason": reason });
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    played
}

async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::listen()?;
    let stop = shutdown.token();
    let packages = Packages::read(&cli.packages).map_err(failure)?;
    let parent = cli.keep.then(keeping_place);
    let options = SiteOptions { parent, ..SiteOptions::new(packages, cli.servers) };
    say(&format!("\nNeco playground: {} boot servers, all on this machine\n\n", cli.servers));
    let deadline = Instant::now() + WITHIN;
    let began = Instant::now();
    let site = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(interrupted()),
        site = Site::start(options) => site.map_err(failure)?,
    };
    let before = site.packages().first().clone();
    let mut show = Show::new(site.server(0).root().to_owned(), before);
    let what = format!("a mirror, 3 members of etcd and {} boot servers are up", cli.servers);
    show.done(&what, began.elapsed());
    let played = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        played = update(cli, &site, &mut show, deadline) => Some(played),
    };
    let result = match played {
        None => Ok(interrupted()),
        Some(Ok(summary)) => {
            let told = sum_up(cli, &summary);
            if cli.keep && told.is_ok() {
                invite(&site);
                stop.cancelled().await;
                say("\nending everything\n");
            }
            told
        }
        Some(Err(error)) => {
            show.leave();
            say(&explanation(&site).await);
            Err(Failure::new(ExitCode::No, error))
        }
    };
    site.stop().await;
    result
}

/// The first update, which sets everything up, and the one that is shown.
async fn update(
    cli: &Cli,
    site: &Site,
    show: &mut Show,
    deadline: Instant,
) -> anyhow::Result<Summary> {
    let began = Instant::now();
    let first = site.packages().first().clone();
    let left = deadline.saturating_duration_since(began);
    site.wait_completed(&first, left, |_| {}).await?;
    show.done(&format!("they run {first}, set up by a first update"), began.elapsed());

    let began = Instant::now();
    let mut act = Act { site, show, deadline };
    let version = act.begin(cli.fault).await?;
    let left = act.left();
    site.wait_completed(&version, left, |look| act.show.draw(look)).await?;
    act.show.leave();
    act.show.done(&format!("all boot servers have completed {version}"), began.elapsed());
    let took = began.elapsed();
    let summary = prove(site, site.servers(), &first, &version, took).await?;
    show.done("their disks and their processes say so too", began.elapsed() - took);
    Ok(summary)
}

fn sum_up(cli: &Cli, summary: &Summary) -> Result<ExitCode, Failure> {
    say("\n");
    let mut out = std::io::stdout().lock();
    match cli.output {
        Output::Human => write!(out, "{}", summary.table())?,
        Output::Json => writeln!(out, "{}", serde_json::to_string(summary)?)?,
    }
    out.flush()?;
    Ok(ExitCode::Done)
}

/// Says how to look around in what was left running.
fn invite(site: &Site) {
    let root = site.server(0).root().display().to_string();
    let necoctl = necoctl(site).display().to_string();
    let verb = |words: &str| format!("  {necoctl} --root {root} {words}\n");
    say("\nEverything goes on running. Look around, for example with\n\n");
    for words in ["status", "why", "history", "pause --reason 'to see it'"] {
        say(&verb(words));
    }
    say(&format!(
        "\nlogs: {}/server-*/var/log/neco/\nCtrl-C ends everything\n",
        site.path().display()
    ));
}

/// What necoctl says about why nothing moves.
async fn explanation(site: &Site) -> String {
    let mut command = tokio::process::Command::new(necoctl(site));
    command.arg("--root").arg(site.server(0).root()).arg("why");
    command.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(EXPLAIN_WITHIN, command.output()).await {
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            format!("\nnecoctl why:\n{}", String::from_utf8_lossy(&said))
        }
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

/// The one that was built, or the one that is installed on a boot server.
fn necoctl(site: &Site) -> PathBuf {
    let built = std::env::var_os("NECO_BIN_DIR").map(|dir| PathBuf::from(dir).join("necoctl"));
    built
        .filter(|path| path.is_file())
        .unwrap_or_else(|| site.server(0).root().join("usr/bin/necoctl"))
}

/// Where a site lies that is looked around in: beside what cargo builds, or among the user's state.
fn keeping_place() -> PathBuf {
    let exe = std::env::current_exe().ok();
    let target = exe
        .as_deref()
        .and_then(|exe| exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()));
    match (target, std::env::var_os("XDG_STATE_HOME")) {
        (Some(target), _) => target.join("playground"),
        (None, Some(state)) => PathBuf::from(state).join("neco"),
        (None, None) => std::env::temp_dir(),
    }
}

fn interrupted() -> ExitCode {
    say("\ninterrupted\n");
    ExitCode::No
}

fn failure(error: SiteError) -> Failure {
    let without_etcd = error.cannot_run() && matches!(error, SiteError::Etcd(_));
    let code = if error.cannot_run() { ExitCode::CannotRun } else { ExitCode::No };
    let failure = Failure::new(code, error);
    if without_etcd {
        failure.with_hint("`cargo xtask playground` brings etcd and starts this program with it")
    } else {
        failure
    }
}
