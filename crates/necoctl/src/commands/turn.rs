//! `turn`: who may do what only one may do.

use clap::{Args, Subcommand};
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::Change;
use crate::order;
use crate::session::Session;
use crate::status::{TurnReport, turns};
use crate::words::{since, table};

/// Show or release the turns by which servers take their time one after another.
#[derive(Debug, Args)]
pub struct Turn {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the turns that are taken
    List,
    /// Release the turn of a server that will not come back
    ///
    /// Refused while the holder is alive: it gives the turn back itself.
    Release(Release),
}

#[derive(Debug, Args)]
struct Release {
    /// The name of the turn, such as etcd
    name: String,
    /// Release it although its holder is alive
    #[arg(long)]
    force: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks [default: the user who runs this, before sudo]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// The turns, as JSON.
#[derive(Debug, serde::Serialize)]
struct List {
    format: u32,
    turns: Vec<TurnReport>,
}

impl Turn {
    /// Shows or releases.
    ///
    /// # Errors
    /// A safety rule forbids it; nobody holds the turn; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List => list(session).await,
            Verb::Release(release) => release.run(session).await,
        }
    }
}

async fn list(session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
    let (_, view) = session.look().await?;
    let turns = turns(&view);
    let now = (session.now)();
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&List { format: 1, turns })?;
        return Ok(ExitCode::Done);
    }
    if turns.is_empty() {
        io.line("No turn is taken.")?;
        return Ok(ExitCode::Done);
    }
    let title = ["TURN", "SERVER", "ALIVE", "REQUEST", "SINCE"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    for turn in turns {
        rows.push(vec![
            turn.name,
            turn.lrn.to_string(),
            if turn.alive { "yes" } else { "no" }.to_owned(),
            turn.request,
            since(turn.since, now),
        ]);
    }
    write!(io.out, "{}", table(&rows))?;
    Ok(ExitCode::Done)
}

impl Release {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let change = Change { dry_run: self.dry_run, reason: self.reason, by: self.by };
        let (name, force) = (&self.name, self.force);
        order::carry_out(
            session,
            &change,
            &|view, _, order| operator::release_turn(view, name, force, order),
            &|view| match view.turns.get(name) {
                Some(turn) => {
                    format!("the turn {name} is released; boot server {} held it", turn.value.lrn)
                }
                None => format!("the turn {name} is released"),
            },
        )
        .await
    }
}
