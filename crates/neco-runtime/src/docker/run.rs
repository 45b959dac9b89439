//! Runs containers.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig,
    Mount as Bind, MountType,
};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use futures::StreamExt as _;
use tokio::sync::oneshot;

use super::Docker;
use super::answer::Trouble;
use super::capture::{Capture, MOST_STDOUT};
use super::containers::{inspect, remove, runs};
use super::owner::{self, Owner};
use crate::{Output, RunSpec, RuntimeError};

/// How often a name is freed of containers that do not run any more.
const FREED_AT_MOST: u32 = 3;

/// Runs a container in a task of its own, which cleans up behind itself also when nobody waits for it any more.
pub(super) async fn run(docker: &Docker, spec: &RunSpec) -> Result<Output, RuntimeError> {
    let (waits, gone) = oneshot::channel::<()>();
    let call =
        Call { docker: docker.clone(), spec: spec.clone(), name: format!("run {}", spec.image) };
    let result = tokio::spawn(async move { call.run(gone).await }).await;
    drop(waits);
    result?
}

/// A call that is under way.
struct Call {
    docker: Docker,
    spec: RunSpec,
    name: String,
}

impl Call {
    async fn run(self, gone: oneshot::Receiver<()>) -> Result<Output, RuntimeError> {
        let owner = Owner::new();
        self.remove_what_the_dead_left().await?;
        let id = self.create(&owner).await?;
        let result = tokio::select! {
            biased;
            _ = gone => Err(self.too_late()),
            result = self.go(&id) => result,
        };
        let ended = self.spec.name.is_none() || result.is_err();
        if ended && let Err(trouble) = remove(&self.docker, &id).await {
            let error = self.error(trouble);
            tracing::warn!(call = %self.name, %error, "a container was left behind");
        }
        result
    }

    fn error(&self, trouble: Trouble) -> RuntimeError {
        self.docker.connection.error(trouble, &self.name, &self.spec.command)
    }

    fn too_late(&self) -> RuntimeError {
        RuntimeError::TimedOut { call: self.name.clone(), after: self.docker.limits.command }
    }

    /// Removes the containers that the same call made and could not remove, because its process or Docker ended.
    async fn remove_what_the_dead_left(&self) -> Result<(), RuntimeError> {
        if self.spec.name.is_some() {
            return Ok(());
        }
        let label = format!("{}={}", owner::CALL, owner::call(&self.spec));
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let list =
            |docker: bollard::Docker| async move { docker.list_containers(Some(options)).await };
        let found =
            self.docker.connection.ask(list).await.map_err(|trouble| self.error(trouble))?;
        for container in found {
            let (Some(id), Some(labels)) = (container.id, container.labels) else { continue };
            if owner::is_under_way(&labels) == Some(false) {
                tracing::info!(call = %self.name, container = id, "removing what a dead call left");
                remove(&self.docker, &id).await.map_err(|trouble| self.error(trouble))?;
            }
        }
        Ok(())
    }

    /// Makes the container; gives its id.
    async fn create(&self, owner: &Owner) -> Result<String, RuntimeError> {
        let mut freed = 0;
        loop {
            let options =
                CreateContainerOptions { name: self.spec.name.clone(), ..Default::default() };
            let body = body(&self.spec, owner);
            let create = |docker: bollard::Docker| async move {
                docker.create_container(Some(options), body).await
            };
            let trouble = match self.docker.connection.ask(create).await {
                Ok(created) => return Ok(created.id),
                Err(trouble) => trouble,
            };
            match &self.spec.name {
                _ if trouble.is(404) => {
                    return Err(RuntimeError::ImageMissing { image: self.spec.image.clone() });
                }
                Some(name) if trouble.is(409) && freed < FREED_AT_MOST => {
                    self.free(name).await?;
                    freed += 1;
                }
                _ => return Err(self.error(trouble)),
            }
        }
    }

    /// Removes the container that has the name, unless it runs or is about to.
    async fn free(&self, name: &str) -> Result<(), RuntimeError> {
        let found = inspect(&self.docker, name).await.map_err(|trouble| self.error(trouble))?;
        let Some(found) = found else { return Ok(()) };
        if runs(&found) || is_about_to_run(&found) {
            let image = found.config.and_then(|config| config.image).unwrap_or_default();
            return Err(RuntimeError::NameTaken { name: name.to_owned(), image });
        }
        let id = found.id.unwrap_or_default();
        tracing::info!(name, container = id, "removing a container that does not run any more");
        // Without force: it must not be started in between.
        let options = RemoveContainerOptions { v: true, ..RemoveContainerOptions::default() };
        let asked = self
            .docker
            .connection
            .ask(|docker| async move { docker.remove_container(&id, Some(options)).await })
            .await;
        match asked {
            Err(trouble) if trouble.is(404) || trouble.is(409) => Ok(()),
            other => other.map_err(|trouble| self.error(trouble)),
        }
    }

    /// Starts the container and, unless it has a name, waits for its end.
    async fn go(&self, id: &str) -> Result<Output, RuntimeError> {
        let named = self.spec.name.is_some();
        let attach = |docker: bollard::Docker| async move {
            let all = AttachContainerOptions {
                stream: true,
                stdout: true,
                stderr: true,
                ..AttachContainerOptions::default()
            };
            docker.attach_container(id, Some(all)).await
        };
        // Before the start, so that nothing is missed.
        let attached = match named {
            true => None,
            false => Some(self.ask(attach).await?),
        };
        self.ask(|docker| async move {
            docker.start_container(id, None::<StartContainerOptions>).await
        })
        .await?;
        let Some(attached) = attached else { return Ok(Output::default()) };
        let ended = async {
            let capture = Capture::all(attached.output).await?;
            if capture.overflown {
                return Ok((capture, 0));
            }
            let docker = self.docker.connection.docker().await?;
            let status = docker.wait_container(id, None::<WaitContainerOptions>).next().await;
            Ok::<_, Trouble>((capture, status_of(status)?))
        };
        let ended = tokio::time::timeout(self.docker.limits.command, ended).await;
        let (capture, status) =
            ended.map_err(|_| self.too_late())?.map_err(|trouble| self.error(trouble))?;
        if status != 0 {
            return Err(RuntimeError::Failed {
                call: self.name.clone(),
                command: self.spec.command.clone(),
                status: i32::try_from(status).ok(),
                stderr: capture.complaint(),
            });
        }
        if capture.overflown {
            return Err(RuntimeError::TooMuchOutput {
                call: self.name.clone(),
                limit: MOST_STDOUT,
            });
        }
        Ok(capture.output())
    }

    async fn ask<T, F>(&self, work: impl FnOnce(bollard::Docker) -> F) -> Result<T, RuntimeError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.docker.connection.ask(work).await.map_err(|trouble| self.error(trouble))
    }
}

/// The client gives a status other than 0 as an error.
fn status_of(
    waited: Option<Result<bollard::models::ContainerWaitResponse, Error>>,
) -> Result<i64, Trouble> {
    match waited {
        Some(Ok(ended)) => Ok(ended.status_code),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(Trouble::from(error)),
        None => Err(Trouble::Away("it went away while a container ran".to_owned())),
    }
}

/// Whether a call that is under way has made it and is going to start it.
fn is_about_to_run(container: &ContainerInspectResponse) -> bool {
    let status = container.state.as_ref().and_then(|state| state.status);
    let labels = container.config.as_ref().and_then(|config| config.labels.clone());
    status == Some(ContainerStateStatusEnum::CREATED)
        && labels.and_then(|labels| owner::is_under_way(&labels)) == Some(true)
}

fn body(spec: &RunSpec, owner: &Owner) -> ContainerCreateBody {
    let mounts = spec.mounts.iter().map(|mount| Bind {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.to_string_lossy().into_owned()),
        read_only: Some(mount.read_only),
        ..Bind::default()
    });
    let own = spec.command.is_empty();
    ContainerCreateBody {
        image: Some(spec.image.to_string()),
        // One empty word takes the image's entry point away.
        entrypoint: (!own).then(|| vec![String::new()]),
        cmd: (!own).then(|| spec.command.clone()),
        // By number, since an image of few files knows no names.
        user: spec.name.is_none().then(|| "0:0".to_owned()),
        labels: Some(owner.labels(spec)),
        host_config: Some(HostConfig {
            network_mode: Some("host".to_owned()),
            mounts: Some(mounts.collect()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}
