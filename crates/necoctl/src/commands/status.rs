//! `status`: how the update stands.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use neco_process::exit::{ExitCode, Failure};
use neco_store::Follower;

use crate::cli::Style;
use crate::session::Session;
use crate::status::live::{Screen, Trail};
use crate::status::stale::{StaleReport, leader_word};
use crate::status::{Report, StepNames, human, original};

/// How often a watched status is drawn anew although nothing changed: times go on.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Show how the update stands, server by server.
///
/// One consistent look at everything in etcd. Ends with 1 if a stored value cannot be read, and with 2 if etcd does not
/// answer; then it shows what the daemons on this server last knew.
#[derive(Debug, Args)]
pub struct Status {
    /// Go on and show every change: as a picture on a terminal, line by line elsewhere
    #[arg(long)]
    pub watch: bool,
}

impl Status {
    /// Shows it, or what is known here if etcd does not answer.
    ///
    /// # Errors
    /// etcd does not answer; the output is closed.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        if self.watch {
            let interrupted = async {
                // Without a handler the signal ends the process, which is as good.
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            return watch(session, interrupted).await;
        }
        match show(session).await {
            Err(failure) => Err(StaleReport::tell(session, failure).await?),
            shown => shown,
        }
    }
}

async fn show(session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
    let (snapshot, view) = session.look().await?;
    let io = &mut *session.io;
    if io.style == Style::Original && !io.is_json() {
        let text = original::text(&view)?;
        write!(io.out, "{text}")?;
        for problem in &view.problems {
            io.remark(format_args!("warning: {problem}"));
        }
        return Ok(ExitCode::Done);
    }
    let mut report = Report::new(&view, &snapshot, StepNames::read(&session.root).as_ref());
    let word = leader_word(&session.root).await.map(|word| word.release_trouble);
    report.release_trouble = word.filter(|trouble| !trouble.is_empty());
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&report)?;
    } else {
        write!(io.out, "{}", human::text(&report, (session.now)()))?;
    }
    Ok(if report.is_malformed() { ExitCode::No } else { ExitCode::Done })
}

/// Shows every change until `until`.
///
/// # Errors
/// The output is closed. That etcd does not answer is told, and waited for.
pub async fn watch(
    session: &mut Session<'_, '_>,
    until: impl Future<Output = ()>,
) -> Result<ExitCode, Failure> {
    let ranges = neco_plan::operator_ranges();
    let mut follower = Follower::new(session.store.clone(), ranges);
    let names = StepNames::read(&session.root);
    let mut screen = Screen::default();
    let mut trail = Trail::default();
    let mut last: Option<Report> = None;
    let mut silent = false;
    tokio::pin!(until);
    loop {
        let draws = session.io.output_is_terminal && !session.io.is_json();
        let changed = tokio::select! {
            biased;
            () = &mut until => return Ok(ExitCode::Done),
            () = follower.changed() => true,
            () = tokio::time::sleep(REDRAW_EVERY), if draws && last.is_some() => false,
        };
        if changed {
            match session.look().await {
                Ok((snapshot, view)) => {
                    silent = false;
                    let report = Report::new(&view, &snapshot, names.as_ref());
                    if session.io.is_json() {
                        // Another revision alone is no news.
                        let news = last.as_ref().is_none_or(|last| {
                            Report { revision: report.revision, ..last.clone() } != report
                        });
                        if news {
                            session.io.json(&report)?;
                        }
                    }
                    last = Some(report);
                }
                Err(failure) => {
                    if !silent {
                        session.io.remark(format_args!("{failure}"));
                        silent = true;
                    }
                    continue;
                }
            }
        }
        let Some(report) = &last else { continue };
        let now = (session.now)();
        if draws {
            write!(session.io.out, "{}", screen.redraw(report, now))?;
        } else if !session.io.is_json() {
            for line in trail.news(report, now) {
                session.io.line(line)?;
            }
        }
        session.io.out.flush()?;
    }
}
