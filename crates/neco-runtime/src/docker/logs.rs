//! What containers write, as Docker keeps it.

use std::collections::VecDeque;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;

use super::Docker;
use super::answer::Trouble;
use super::containers::{SOON, inspect, runs};
use super::lines::Lines;
use crate::{LogLine, LogLines, LogSpec, RuntimeError};

/// How long a container may seem to run after its log has ended.
const ENDING: Duration = Duration::from_secs(2);

pub(super) async fn logs(
    docker: &Docker,
    name: &str,
    spec: LogSpec,
) -> Result<LogLines, RuntimeError> {
    let call = format!("logs {name}");
    let error = |trouble| docker.connection.error(trouble, &call, &[]);
    let found = inspect(docker, name).await.map_err(error)?;
    let Some(id) = found.and_then(|found| found.id) else {
        return Err(RuntimeError::NotRunning { name: name.to_owned() });
    };
    let options = LogsOptions {
        follow: spec.follow,
        stdout: true,
        stderr: true,
        tail: spec.tail.to_string(),
        ..LogsOptions::default()
    };
    let pieces = docker.connection.docker().await.map_err(error)?.logs(&id, Some(options)).boxed();
    let reader = Reader {
        docker: docker.clone(),
        call,
        id,
        follow: spec.follow,
        pieces: Some(pieces),
        lines: Lines::default(),
        ready: VecDeque::new(),
        last: None,
    };
    Ok(stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await?;
        Some((line, reader))
    })
    .boxed())
}

/// A log that is being read.
struct Reader {
    docker: Docker,
    call: String,
    id: String,
    follow: bool,
    /// `None` after its end.
    pieces: Option<BoxStream<'static, Result<LogOutput, Error>>>,
    lines: Lines,
    ready: VecDeque<LogLine>,
    /// What is told after all lines.
    last: Option<RuntimeError>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            let Some(pieces) = &mut self.pieces else { return self.last.take().map(Err) };
            let within = self.docker.limits.answer;
            let piece = match self.follow {
                true => Ok(pieces.next().await),
                false => tokio::time::timeout(within, pieces.next()).await,
            };
            let trouble = match piece {
                Ok(Some(Ok(piece))) => {
                    self.ready.extend(self.lines.add(&piece));
                    continue;
                }
                Ok(None) if self.follow => Self::broken_off(&self.docker, &self.id).await.err(),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some(self.docker.connection.trouble(error)),
                Err(_) => Some(Trouble::Silent(within)),
            };
            self.pieces = None;
            self.ready.extend(std::mem::take(&mut self.lines).rest());
            self.last =
                trouble.map(|trouble| self.docker.connection.error(trouble, &self.call, &[]));
        }
    }

    /// Finds out whether a log ended with its container, or with Docker.
    async fn broken_off(docker: &Docker, id: &str) -> Result<(), Trouble> {
        let deadline = Instant::now() + ENDING;
        let mut retry = SOON.retry();
        while inspect(docker, id).await?.is_some_and(|container| runs(&container)) {
            if Instant::now() >= deadline {
                return Err(Trouble::Away("a log that was followed broke off".to_owned()));
            }
            tokio::time::sleep(retry.pause()).await;
        }
        Ok(())
    }
}
