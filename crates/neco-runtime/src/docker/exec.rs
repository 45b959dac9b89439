//! Runs commands in containers that run.

use std::convert::Infallible;
use std::pin::Pin;

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Docker;
use super::answer::Trouble;
use super::capture::{Capture, MOST_STDOUT};
use super::containers::{SOON, is_a_name};
use crate::{ExecSpec, Output, RuntimeError};

pub(super) async fn exec(docker: &Docker, spec: &ExecSpec) -> Result<Output, RuntimeError> {
    let call = format!("exec {}", spec.container);
    let within = docker.limits.command;
    let ended = match tokio::time::timeout(within, attended(docker, spec)).await {
        Err(_) => return Err(RuntimeError::TimedOut { call, after: within }),
        Ok(ended) => ended,
    };
    match ended {
        // It is not there, or it is there and does not run.
        Err(trouble) if trouble.is(404) || trouble.is(409) => {
            Err(RuntimeError::NotRunning { name: spec.container.clone() })
        }
        Err(trouble) => Err(docker.connection.error(trouble, &call, &spec.command)),
        Ok((capture, Some(0))) if capture.overflown => {
            Err(RuntimeError::TooMuchOutput { call, limit: MOST_STDOUT })
        }
        Ok((capture, Some(0))) => Ok(capture.output()),
        Ok((capture, status)) => Err(RuntimeError::Failed {
            call,
            command: spec.command.clone(),
            status: status.and_then(|status| i32::try_from(status).ok()),
            stderr: capture.complaint(),
        }),
    }
}

/// Runs it to its end; gives its status, where Docker knows it.
async fn attended(docker: &Docker, spec: &ExecSpec) -> Result<(Capture, Option<i64>), Trouble> {
    let name = spec.container.as_str();
    if !is_a_name(name) {
        return Err(Trouble::Refused { status: Some(404), message: String::new() });
    }
    let config = ExecConfig {
        attach_stdin: Some(spec.input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(spec.command.clone()),
        privileged: Some(spec.privileged),
        ..ExecConfig::default()
    };
    let made = docker
        .connection
        .ask(|docker| async move { docker.create_exec(name, config).await })
        .await?;
    let id = made.id.as_str();
    let started = docker
        .connection
        .ask(|docker| async move { docker.start_exec(id, None::<StartExecOptions>).await })
        .await?;
    let capture = match started {
        StartExecResults::Detached => Capture::default(),
        StartExecResults::Attached { output, input } => {
            let words = spec.input.as_ref().map_or(&[][..], |input| input.reveal());
            let capture = tokio::select! {
                biased;
                capture = Capture::all(output) => capture,
                never = feed(input, words) => match never {},
            };
            capture.map_err(|error| docker.connection.trouble(error))?
        }
    };
    // The output may end a moment before the command has.
    let mut retry = SOON.retry();
    loop {
        let told =
            docker.connection.ask(|docker| async move { docker.inspect_exec(id).await }).await?;
        if told.running != Some(true) {
            return Ok((capture, told.exit_code));
        }
        tokio::time::sleep(retry.pause()).await;
    }
}

/// Writes all and closes, and then leaves it to the output to end. A command need not read all: where it does not, this never
/// gets to the end.
async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, words: &[u8]) -> Infallible {
    if input.write_all(words).await.is_ok() {
        let _ = input.shutdown().await;
    }
    std::future::pending().await
}
