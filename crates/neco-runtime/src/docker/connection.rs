//! The way to Docker: its socket, the version of its API, and a deadline for every request.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest};

use super::answer::Trouble;
use crate::RuntimeError;

/// The client's own limit in seconds. It must not come before those of this crate, which say what was waited for.
const BEYOND_ALL: u64 = 7 * 24 * 3600;

/// The header with a login.
const AUTH: &str = "x-registry-auth";

/// Asks Docker. Every request opens the socket anew, so only the agreed version can become stale.
pub(super) struct Connection {
    socket: PathBuf,
    within: Duration,
    agreed: Mutex<Option<bollard::Docker>>,
}

impl Connection {
    pub(super) fn new(socket: PathBuf, within: Duration) -> Self {
        Self { socket, within, agreed: Mutex::new(None) }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A question or small change.
    pub(super) async fn ask<T, F>(
        &self,
        work: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.ask_within(self.within, work).await
    }

    /// One that may take longer.
    pub(super) async fn ask_within<T, F>(
        &self,
        within: Duration,
        work: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let docker = self.docker().await?;
        match tokio::time::timeout(within, work(docker)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.trouble(error)),
            Err(_) => Err(Trouble::Silent(within)),
        }
    }

    /// The client, after a version was agreed on.
    pub(super) async fn docker(&self) -> Result<bollard::Docker, Trouble> {
        if let Some(docker) = self.agreed().clone() {
            return Ok(docker);
        }
        let agreeing = agree(&self.socket);
        let docker = tokio::time::timeout(self.within, agreeing)
            .await
            .map_err(|_| Trouble::Silent(self.within))??;
        *self.agreed() = Some(docker.clone());
        Ok(docker)
    }

    /// What an error of the client means. After one that Docker did not answer with, the version is agreed on anew.
    pub(super) fn trouble(&self, error: Error) -> Trouble {
        let trouble = Trouble::from(error);
        if matches!(trouble, Trouble::Away(_)) {
            *self.agreed() = None;
        }
        trouble
    }

    /// What to tell of a call that was not done.
    pub(super) fn error(&self, trouble: Trouble, call: &str, command: &[String]) -> RuntimeError {
        trouble.of(&self.socket, call, command)
    }

    fn agreed(&self) -> std::sync::MutexGuard<'_, Option<bollard::Docker>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that says in each request which version of the API it speaks: the newest that both know.
async fn agree(socket: &Path) -> Result<bollard::Docker, Error> {
    let version = Arc::new(OnceLock::<String>::new());
    let said = Arc::clone(&version);
    let docker = bollard::Docker::connect_with_unix(
        &socket.to_string_lossy(),
        BEYOND_ALL,
        API_DEFAULT_VERSION,
    )?
    .with_request_modifier(move |request| amended(request, said.get()))
    .negotiate_version()
    .await?;
    let _ = version.set(docker.client_version().to_string());
    Ok(docker)
}

/// The request as Docker wants it. The client agrees on a version and then does not say it, and it writes logins with `+` and
/// `/`, where Docker reads `-` and `_` and takes what it cannot read for no login at all.
fn amended(mut request: BollardRequest, version: Option<&String>) -> BollardRequest {
    let versioned = version.and_then(|version| with_version(&request.uri().to_string(), version));
    if let Some(uri) = versioned.and_then(|uri| uri.parse().ok()) {
        *request.uri_mut() = uri;
    }
    if let Some(login) = request.headers_mut().get_mut(AUTH) {
        let readable = login.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(mut readable) = readable.ok().and_then(|text| text.try_into().ok()) {
            std::mem::swap(login, &mut readable);
        }
        login.set_sensitive(true);
    }
    request
}

/// `unix://SOCKET/containers/json` with a version in front of the path, unless there is one.
fn with_version(uri: &str, version: &str) -> Option<String> {
    let host = uri.find("://")? + 3;
    let path = host + uri[host..].find('/')?;
    let rest = uri[path..].strip_prefix("/v").unwrap_or_default();
    let (begin, path) = uri.split_at(path);
    match rest.starts_with(|c: char| c.is_ascii_digit()) {
        true => None,
        false => Some(format!("{begin}/v{version}{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_put_in_front_of_a_path_that_has_none() {
        let said = |uri| with_version(uri, "1.41");
        assert_eq!(said("unix://2f/version?a=/b"), Some("unix://2f/v1.41/version?a=/b".into()));
        assert_eq!(said("unix://2f/v1.53/info"), None);
    }
}
