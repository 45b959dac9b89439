//! `session-log`: what is done in sessions on this server is kept.

use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Zoned;
use neco_http::{Url, shown};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::duration;
use crate::io::Io;
use crate::recording::parcel::{self, About};
use crate::recording::{Child, Ended, Programs, attend};

/// Where sshd puts what a person asked for.
const ASKED: &str = "SSH_ORIGINAL_COMMAND";
/// Where records lie until they are sent.
const FOLDER: &str = "tmp";
/// As much must fit on the disk for a recording to begin: a session whose record finds no room would end.
const ROOM: usize = 64 << 10;

/// Keep what is done in sessions on this server.
#[derive(Debug, Args)]
pub struct SessionLog {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run what somebody has logged in for, and keep a record of it
    ///
    /// sshd runs this in the place of every command (ForceCommand). A shell on a terminal is recorded by script(1); of
    /// a shell without one its input is kept, and of a command its text. At the end the record is sent away; it stays
    /// in /tmp if that fails. Nothing that is wrong with the record keeps anybody out. The exit code is that of the
    /// session, 255 if nothing could be run.
    Start(Start),
}

#[derive(Debug, Args)]
struct Start {
    /// Where records are sent
    #[arg(long, value_name = "URL", default_value = "http://s3gw.session-log.svc/bucket")]
    to: Url,
    /// How long sending may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    within: Duration,
    /// What records a terminal
    #[arg(long, value_name = "PROGRAM", default_value = "/usr/bin/script", hide = true)]
    script: PathBuf,
}

impl SessionLog {
    /// Attends a session.
    pub async fn run(self, root: &Path, io: &mut Io<'_>) -> Ended {
        let Verb::Start(verb) = self.verb;
        verb.run(root, io).await
    }
}

impl Start {
    async fn run(self, root: &Path, io: &mut Io<'_>) -> Ended {
        let programs = Programs { script: self.script.clone(), ..Programs::default() };
        let asked = std::env::var_os(ASKED).unwrap_or_default();
        // Bytes that are no text are no command that the original would run either; a shell complains of them.
        let asked = asked.to_string_lossy().into_owned();
        let (start, began) = (Zoned::now(), Instant::now());
        let folder = match folder(&root.join(FOLDER), &start, &asked) {
            Ok(folder) => Some(folder),
            Err(error) => {
                io.remark(format_args!("session-log: this session is not recorded: {error:#}"));
                None
            }
        };
        let terminal = std::io::stdin().is_terminal();
        let mut child = Child::of(&programs, &asked, folder.as_deref(), terminal);
        let mut ended = attend(&child, folder.as_deref()).await;
        if child.program == programs.script
            && let Some(why) = folder.as_deref().and_then(|folder| did_not_begin(folder, &ended))
        {
            io.remark(format_args!("session-log: this session is not recorded: {why}"));
            child = Child::plain(&programs);
            ended = attend(&child, None).await;
        }
        let ended = ended.unwrap_or_else(|error| {
            io.remark(format_args!("session-log: {}: {error}", child.program.display()));
            Ended::NOT_RUN
        });
        if let Some(folder) = folder {
            let about = About {
                start,
                host: host(),
                pid: std::process::id(),
                duration: began.elapsed(),
                user: user(),
            };
            self.deliver(&folder, &child, &about, io).await;
        }
        ended
    }

    /// Sends the record away, and removes it here if it has arrived.
    async fn deliver(&self, folder: &Path, child: &Child, about: &About, io: &mut Io<'_>) {
        let told = match self.send(folder, child, about).await {
            Ok(to) => match std::fs::remove_dir_all(folder) {
                Ok(()) => format!("the record of this session is at {}", shown(&to)),
                Err(error) => format!("cannot remove {}: {error}", folder.display()),
            },
            Err(error) => {
                let folder = folder.display();
                format!("the record of this session stays in {folder}: {error:#}")
            }
        };
        io.remark(format_args!("session-log: {told}"));
    }

    async fn send(&self, folder: &Path, child: &Child, about: &About) -> anyhow::Result<Url> {
        let name = about.file_name();
        // Who is in a hurry, or a server that goes down, need not wait for it; who has gone, waits for nothing.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let sent = async {
            let file = parcel::pack(folder, &child.members, &name).await?;
            parcel::send(&file, &self.to, self.within).await
        };
        tokio::select! {
            biased;
            sent = sent => sent,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("told to end"),
        }
    }
}

/// Makes the folder of a session, for its owner alone, and makes sure that a record can grow there.
fn folder(below: &Path, start: &Zoned, asked: &str) -> anyhow::Result<PathBuf> {
    let prefix = format!("{}-", parcel::stem(start));
    let private = std::fs::Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(below);
    let made = made.with_context(|| format!("making a folder in {}", below.display()))?;
    let room = || {
        let mut file = tempfile::tempfile_in(made.path())?;
        file.write_all(&[b'\n'; ROOM])?;
        file.sync_all()
    };
    room().with_context(|| format!("writing to {}", below.display()))?;
    if !asked.is_empty() {
        write_private(&made.path().join(Child::COMMAND), asked)
            .with_context(|| format!("writing to {}", below.display()))?;
    }
    Ok(made.keep())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Why a recording has not begun: its first line is written before the shell starts, so nobody had one yet.
fn did_not_begin(folder: &Path, ended: &std::io::Result<Ended>) -> Option<String> {
    let begun = std::fs::metadata(folder.join(Child::TYPESCRIPT)).is_ok_and(|data| data.len() > 0);
    match ended {
        Err(error) => Some(format!("script cannot be started: {error}")),
        Ok(Ended::Code(0)) => None,
        Ok(_) if begun => None,
        Ok(ended) => Some(format!("script did not begin ({ended})")),
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

/// Who this process is, which sshd has seen to.
fn user() -> String {
    let id = nix::unistd::Uid::current();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => user.name,
        _ => id.to_string(),
    }
}
