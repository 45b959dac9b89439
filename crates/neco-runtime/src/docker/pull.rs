//! Brings images to this machine.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt as _;
use neco_base::Backoff;
use neco_schema::Severity;
use tokio::time::{Instant, timeout_at};

use super::Docker;
use super::answer::Trouble;
use super::progress::Progress;
use crate::refusal::{self, Refusal};
use crate::{ImageRef, Login, PullProgress, Pulled, RuntimeError};

/// How often a transfer is tried before the caller hears of it.
const TRIES: u32 = 3;

/// The waits between.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// Why one try failed.
enum Failed {
    /// The network or the registry is in trouble, which may pass.
    Passing(String),
    /// There is no use in trying again at once.
    Final(RuntimeError),
}

type Report<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

pub(super) async fn pull(
    docker: &Docker,
    image: &ImageRef,
    report: Report<'_>,
) -> Result<Pulled, RuntimeError> {
    if is_here(docker, image).await? {
        return Ok(Pulled::Present);
    }
    let mut progress = Progress::default();
    let mut retry = AGAIN.retry();
    loop {
        let why = match attempt(docker, image, &mut progress, report).await {
            Ok(()) => return Ok(Pulled::Fetched),
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::Passing(why)) => why,
        };
        let pause = retry.pause();
        if retry.failures() == TRIES {
            return Err(passing(image, why));
        }
        tracing::warn!(%image, %why, "a pull failed, trying again");
        progress.again();
        tokio::time::sleep(pause).await;
    }
}

/// Whether the image is on this machine under this very name.
pub(super) async fn is_here(docker: &Docker, image: &ImageRef) -> Result<bool, RuntimeError> {
    let name = image.as_str();
    let asked = docker.connection.ask(|docker| async move { docker.inspect_image(name).await });
    match asked.await {
        Ok(_) => Ok(true),
        Err(trouble) if trouble.is(404) => Ok(false),
        Err(trouble) => Err(docker.connection.error(trouble, &format!("pull {image}"), &[])),
    }
}

async fn attempt(
    docker: &Docker,
    image: &ImageRef,
    progress: &mut Progress,
    report: Report<'_>,
) -> Result<(), Failed> {
    let login = login(docker, image).await.map_err(Failed::Final)?;
    let came_with = login.as_ref().map(|login| login.user.clone());
    match transfer(docker, image, login, progress, report).await {
        Ok(()) if is_here(docker, image).await.map_err(Failed::Final)? => {
            report(progress.end());
            Ok(())
        }
        Ok(()) => Err(Failed::Passing("the transfer ended, but the image is not here".to_owned())),
        Err(trouble) => Err(judge(docker, image, came_with.as_deref(), trouble)),
    }
}

/// The login for the registry of `image`, and for no other.
async fn login(docker: &Docker, image: &ImageRef) -> Result<Option<Login>, RuntimeError> {
    let registry = image.registry();
    let login = docker.logins.login(registry).await;
    let login = login.map_err(|why| RuntimeError::Login { why })?;
    Ok(login.filter(|login| login.registry == registry))
}

/// Lets Docker transfer the image, until it gets nowhere for too long.
async fn transfer(
    docker: &Docker,
    image: &ImageRef,
    login: Option<Login>,
    progress: &mut Progress,
    report: Report<'_>,
) -> Result<(), Trouble> {
    let credentials = login.map(|login| DockerCredentials {
        username: Some(login.user),
        password: Some(login.password.reveal().clone()),
        serveraddress: Some(login.registry),
        ..DockerCredentials::default()
    });
    let options = CreateImageOptions {
        from_image: Some(image.repository().to_owned()),
        tag: Some(image.tag().to_owned()),
        ..CreateImageOptions::default()
    };
    let engine = docker.connection.docker().await?;
    let mut messages = engine.create_image(Some(options), None, credentials);
    let stalled = docker.limits.stalled;
    let mut until = Instant::now() + stalled;
    let mut told = None;
    loop {
        let message = match timeout_at(until, messages.next()).await {
            Err(_) => return Err(Trouble::Silent(stalled)),
            Ok(None) => return Ok(()),
            Ok(Some(message)) => message.map_err(|error| docker.connection.trouble(error))?,
        };
        if progress.note(&message) {
            until = Instant::now() + stalled;
        }
        let so_far = progress.so_far();
        if told != Some(so_far) {
            report(so_far);
            told = Some(so_far);
        }
    }
}

fn judge(docker: &Docker, image: &ImageRef, came_with: Option<&str>, trouble: Trouble) -> Failed {
    let (status, message) = match trouble {
        Trouble::Refused { status, message } => (status, message),
        Trouble::Silent(after) => {
            let why = format!("it got nowhere for {after:?}");
            return Failed::Final(passing(image, why));
        }
        other => {
            return Failed::Final(docker.connection.error(other, &format!("pull {image}"), &[]));
        }
    };
    match refusal::of(image, status, &message) {
        Refusal::Passing => Failed::Passing(message),
        refusal => {
            Failed::Final(refusal::error(image, refusal, message, came_with, &*docker.logins))
        }
    }
}

fn passing(image: &ImageRef, reason: String) -> RuntimeError {
    RuntimeError::Pull { image: image.clone(), reason, severity: Severity::TryAgain }
}
