//! This program once more: a part of a measurement as a process of its own, so that what it takes of memory is its own.

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::proc_status::{Resident, megabytes};
use crate::workbench::LONG;

/// What a part says when it waits for its line.
const READY: &str = "ready";

/// How often the memory of a part is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A part that runs.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program with the command line of a part.
    pub(crate) fn start(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting this program once more")?;
        let input = child.stdin.take().context("no input")?;
        let said = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, input, said })
    }

    /// The next line that it says.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(LONG, self.said.next_line()).await.context("a part hangs")??;
        line.context("a part ended before it said anything")
    }

    /// Lets it do what it waits with; what came of it, and by how many MB its own memory grew.
    pub(crate) async fn run<T: DeserializeOwned>(mut self) -> anyhow::Result<(T, f64)> {
        anyhow::ensure!(self.line().await? == READY, "a part is not ready");
        let pid = self.child.id().context("it ended")?;
        let before = Resident::of(pid)?.anon;
        self.input.write_all(b"\n").await?;
        let mut most = before;
        let said = {
            let line = self.line();
            tokio::pin!(line);
            loop {
                tokio::select! {
                    biased;
                    line = &mut line => break line?,
                    () = sleep(LOOK_EVERY) => {
                        // It may have ended since.
                        most = most.max(Resident::of(pid).map_or(0, |resident| resident.anon));
                    }
                }
            }
        };
        let result = serde_json::from_str(&said).with_context(|| said.clone())?;
        self.end().await?;
        Ok((result, megabytes(most - before)))
    }

    /// Waits for its end; it is told that nobody says anything more.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { mut child, input, said } = self;
        drop(input);
        let status = timeout(LONG, child.wait()).await.context("a part stays")??;
        drop(said);
        anyhow::ensure!(status.success(), "a part of a measurement: {status}");
        Ok(())
    }
}

/// In the part: says that it is ready, and waits until it may begin.
pub(crate) fn wait_to_begin() -> std::io::Result<()> {
    say(READY)?;
    std::io::stdin().lock().read_line(&mut String::new()).map(drop)
}

/// In the part: says a line.
pub(crate) fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
