//! Containers that are there: which run, how they end.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use neco_base::Backoff;
use tokio::time::Instant;

use super::Docker;
use super::answer::Trouble;
use crate::{ImageRef, RuntimeError};

/// The waits for something that Docker is about to do.
pub(super) const SOON: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));

/// Whether a container can have this name. Docker never has one with another; asked for it, it would take some of them for
/// other questions.
pub(super) fn is_a_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// The container of this name, or with this id.
pub(super) async fn inspect(
    docker: &Docker,
    name: &str,
) -> Result<Option<ContainerInspectResponse>, Trouble> {
    if !is_a_name(name) {
        return Ok(None);
    }
    let asked =
        docker.connection.ask(|docker| async move { docker.inspect_container(name, None).await });
    match asked.await {
        Ok(container) => Ok(Some(container)),
        Err(trouble) if trouble.is(404) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

pub(super) fn runs(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

pub(super) async fn is_running(docker: &Docker, image: &ImageRef) -> Result<bool, RuntimeError> {
    let running = docker
        .connection
        .ask(|docker| async move { docker.list_containers(None::<ListContainersOptions>).await })
        .await
        .map_err(|trouble| docker.connection.error(trouble, &format!("is-running {image}"), &[]))?;
    // Docker gives the id of an image in place of its name when the name means another image by now.
    Ok(running.iter().any(|container| container.image.as_deref() == Some(image.as_str())))
}

pub(super) async fn stop(docker: &Docker, name: &str) -> Result<(), RuntimeError> {
    if !is_a_name(name) {
        return Ok(());
    }
    let stopped = async {
        let grace = docker.limits.grace;
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), signal: None };
        let asked = docker
            .connection
            .ask_within(grace + docker.limits.answer, |docker| async move {
                docker.stop_container(name, Some(options)).await
            })
            .await;
        match asked {
            Err(trouble) if trouble.is(404) => Ok(()),
            Err(trouble) => Err(trouble),
            Ok(()) => remove(docker, name).await,
        }
    };
    stopped.await.map_err(|trouble| docker.connection.error(trouble, &format!("stop {name}"), &[]))
}

/// Removes a container, whatever it does, and waits until it is gone.
pub(super) async fn remove(docker: &Docker, name: &str) -> Result<(), Trouble> {
    let deadline = Instant::now() + docker.limits.answer;
    let mut retry = SOON.retry();
    loop {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let asked = docker
            .connection
            .ask(|docker| async move { docker.remove_container(name, Some(options)).await })
            .await;
        match asked {
            Err(trouble) if trouble.is(404) => return Ok(()),
            // Somebody else removes it: Docker itself does where a container was asked for with --rm.
            Err(trouble) if trouble.is(409) && Instant::now() < deadline => {
                tokio::time::sleep(retry.pause()).await;
            }
            other => return other,
        }
    }
}
