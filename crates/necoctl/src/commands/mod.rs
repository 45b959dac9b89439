//! The verbs, one file each.

pub mod audit;
pub mod completion;
pub mod component;
pub mod config;
pub mod history;
pub mod image;
pub mod is_running;
pub mod key;
pub mod leave;
pub mod mirror;
pub mod pause;
pub mod plan;
pub mod recover;
pub mod resume;
pub mod session_log;
pub mod site;
pub mod status;
pub mod stop;
pub mod turn;
pub mod update;
pub mod vault;
pub mod why;
pub mod withdraw;

use std::future::Future;

use anyhow::Context;
use clap::{CommandFactory, Subcommand};
use neco_process::exit::{ExitCode, Failure};

use crate::cli::{Cli, Global};
use crate::connection;
use crate::io::Io;
use crate::session::{self, Session};

/// What the program can be asked for.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "what documents a verb's arguments is its help text")]
pub enum Command {
    Status(status::Status),
    Why(why::Why),
    Plan(plan::Plan),
    Update(update::Update),
    Stop(stop::Stop),
    Recover(recover::Recover),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Withdraw(withdraw::Withdraw),
    Leave(leave::Leave),
    Turn(turn::Turn),
    History(history::History),
    Audit(audit::Audit),
    Config(config::Config),
    Key(key::Key),
    Mirror(mirror::Mirror),
    Site(site::Site),
    Vault(vault::Vault),
    Component(component::Component),
    Image(image::Image),
    IsRunning(is_running::IsRunning),
    SessionLog(session_log::SessionLog),
    Completion(completion::Completion),
}

/// Runs the verb of a command line.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn dispatch(cli: Cli, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
    let Cli { global, version, man, command } = cli;
    if let Some(dir) = man {
        neco_process::man::write(Cli::command(), &dir)?;
        return Ok(ExitCode::Done);
    }
    let Some(command) = command else {
        if version {
            return print_version(&global, io);
        }
        io.remark(Cli::command().render_help());
        return Ok(ExitCode::Usage);
    };
    match command {
        // Needs nothing of this server: it must let people in whatever is broken.
        Command::SessionLog(verb) => {
            block_on(async { Ok(verb.run(&global.root, io).await) })?.end_so()
        }
        Command::Component(verb) if !verb.needs_etcd() => verb.list(&global.root, io),
        Command::Image(verb) => block_on(verb.run(&global.root, io)),
        Command::IsRunning(verb) => block_on(verb.run(&global.root, io)),
        Command::Completion(verb) => verb.run(io),
        Command::Key(verb) => verb.run(io),
        Command::Mirror(verb) => block_on(verb.run(io)),
        Command::Site(verb) => block_on(verb.run(io)),
        Command::Config(verb) => {
            // A secret on the command line is refused before anything else happens to it.
            verb.check()?;
            block_on(with_session(&global, io, async |session| verb.run(session).await))
        }
        Command::Vault(verb) => {
            if !verb.concerns(&global)? {
                return Ok(ExitCode::Done);
            }
            let global = verb.patient(&global);
            block_on(with_session(&global, io, async |session| verb.run(session).await))
        }
        command => block_on(with_session(&global, io, async |session| command.run(session).await)),
    }
}

impl Command {
    /// Runs a verb in a session.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        match self {
            Self::Status(verb) => verb.run(session).await,
            Self::Why(verb) => verb.run(session).await,
            Self::Plan(verb) => verb.run(session).await,
            Self::Update(verb) => verb.run(session).await,
            Self::Stop(verb) => verb.run(session).await,
            Self::Recover(verb) => verb.run(session).await,
            Self::Pause(verb) => verb.run(session).await,
            Self::Resume(verb) => verb.run(session).await,
            Self::Withdraw(verb) => verb.run(session).await,
            Self::Leave(verb) => verb.run(session).await,
            Self::Turn(verb) => verb.run(session).await,
            Self::History(verb) => verb.run(session).await,
            Self::Audit(verb) => verb.run(session).await,
            Self::Config(verb) => verb.run(session).await,
            Self::Key(verb) => verb.run(session.io),
            Self::Mirror(verb) => verb.run(session.io).await,
            Self::Site(verb) => verb.run(session.io).await,
            Self::Vault(verb) => verb.run(session).await,
            Self::Component(verb) => verb.run(session).await,
            Self::Image(verb) => verb.run(&session.root, session.io).await,
            Self::IsRunning(verb) => verb.run(&session.root, session.io).await,
            Self::SessionLog(verb) => verb.run(&session.root, session.io).await.end_so(),
            Self::Completion(verb) => verb.run(session.io),
        }
    }
}

/// A session with the etcd that the configuration names.
async fn with_session(
    global: &Global,
    io: &mut Io<'_>,
    verb: impl AsyncFnOnce(&mut Session<'_, '_>) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let store = connection::open(global, io).await?;
    let mut session = Session {
        store,
        root: global.root.clone(),
        user: session::user(),
        now: session::wall_clock,
        io,
    };
    verb(&mut session).await
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    let done = runtime.block_on(future);
    // Whoever is told to end is not kept by a name that is still being looked up.
    runtime.shutdown_background();
    done
}

fn print_version(global: &Global, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
    // A client without the package has the version it was built with.
    let version = neco_process::daemon::installed_version(&global.root)
        .unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned());
    if io.is_json() {
        io.json(&serde_json::json!({ "format": 1, "version": version }))?;
    } else {
        io.line(format_args!("necoctl {version}"))?;
    }
    Ok(ExitCode::Done)
}
