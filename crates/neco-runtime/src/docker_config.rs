//! The logins that `docker login` writes.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use neco_base::Secret;
use serde::Deserialize;

use crate::{Login, Logins};

/// Takes logins from the file that `docker login` writes, read anew each time.
///
/// Programs that keep passwords for Docker (`credHelpers`, `credsStore`) are not asked.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
}

impl DockerConfig {
    /// Where `docker login` of root writes.
    pub const OF_ROOT: &str = "/root/.docker/config.json";

    /// Docker's public registry, as images name it.
    const HUB: &str = "docker.io";

    /// Reads `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn find(&self, text: &str, registry: &str) -> Result<Option<Login>, String> {
        let wrong = |what: &str| {
            format!("{} {what}; {} writes it anew", self.path.display(), self.remedy(registry))
        };
        // The cause is left out: it may quote the file.
        let config: Config =
            serde_json::from_str(text).map_err(|_| wrong("is not what docker login writes"))?;
        let named = |key: &str| host_of(key) == registry;
        let auth = config.auths.iter().find(|(key, _)| named(key)).map(|(_, auth)| auth);
        let kept_elsewhere = config.helpers.keys().any(|key| named(key))
            || auth.is_some_and(|auth| auth.auth.is_empty()) && !config.store.is_empty();
        if kept_elsewhere {
            return Err(format!(
                "{} gives the login for {registry} to a credential helper, which is not asked; take credHelpers and \
                 credsStore out of it, then {}",
                self.path.display(),
                self.remedy(registry)
            ));
        }
        let Some(auth) = auth.filter(|auth| !auth.auth.is_empty()) else { return Ok(None) };
        let plain =
            STANDARD.decode(&auth.auth).ok().and_then(|plain| String::from_utf8(plain).ok());
        let plain = plain.map(Secret::new).ok_or_else(|| wrong("holds a damaged login"))?;
        let (user, password) =
            plain.reveal().split_once(':').ok_or_else(|| wrong("holds a damaged login"))?;
        Ok(Some(Login {
            registry: registry.to_owned(),
            user: user.to_owned(),
            // Some versions of docker login pad with zeros.
            password: password.trim_end_matches('\0').into(),
        }))
    }
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self::new(Self::OF_ROOT)
    }
}

#[async_trait]
impl Logins for DockerConfig {
    async fn login(&self, registry: &str) -> Result<Option<Login>, String> {
        match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => self.find(Secret::new(text).reveal(), registry),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    fn remedy(&self, registry: &str) -> String {
        let folder = self.path.parent().unwrap_or(&self.path);
        format!("`docker --config {} login {registry}`", folder.display())
    }
}

/// The registry that a key of `auths` is for: a host, or an address such as `https://index.docker.io/v1/`.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => DockerConfig::HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, registry: &str) -> Result<Option<Login>, String> {
        DockerConfig::new("/x/config.json").find(text, registry)
    }

    fn config(key: &str, plain: &str) -> String {
        format!("{{\"auths\": {{\"{key}\": {{\"auth\": \"{}\"}}}}}}", STANDARD.encode(plain))
    }

    #[test]
    fn a_login_is_found_by_the_host_of_its_registry() {
        let login = find(&config("ghcr.io", "neco:a:b?"), "ghcr.io").expect("fine").expect("one");
        assert_eq!((login.user.as_str(), login.password.reveal().as_str()), ("neco", "a:b?"));
        assert_eq!(find(&config("ghcr.io", "neco:p"), "ghcr.io.example"), Ok(None));
        assert_eq!(find(&config("127.0.0.1:5000", "neco:p"), "127.0.0.1:5001"), Ok(None));
        assert!(find(&config("https://quay.io/v2/", "neco:p"), "quay.io").expect("fine").is_some());
        let hub = config("https://index.docker.io/v1/", "neco:p");
        assert!(find(&hub, "docker.io").expect("fine").is_some());
        assert_eq!(find("{}", "ghcr.io"), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_content() {
        let damaged = "{\"auths\": {\"ghcr.io\": {\"auth\": \"hunter2!\"}}}";
        for text in ["hunter2", damaged, &config("ghcr.io", "hunter2")] {
            let error = find(text, "ghcr.io").expect_err(text);
            assert!(error.contains("/x/config.json") && error.contains("login ghcr.io"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_login_that_a_helper_keeps_is_told() {
        let stored = "{\"auths\": {\"ghcr.io\": {}}, \"credsStore\": \"pass\"}";
        for text in ["{\"credHelpers\": {\"ghcr.io\": \"pass\"}}", stored] {
            let error = find(text, "ghcr.io").expect_err(text);
            assert!(error.contains("credential helper"), "{error}");
            assert_eq!(find(text, "quay.io"), Ok(None));
        }
    }

    #[tokio::test]
    async fn no_file_is_no_login_and_a_changed_file_counts_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.json");
        let logins = DockerConfig::new(&path);
        assert_eq!(logins.login("ghcr.io").await, Ok(None));
        for password in ["old", "new"] {
            std::fs::write(&path, config("ghcr.io", &format!("neco:{password}"))).expect("written");
            let login = logins.login("ghcr.io").await.expect("fine").expect("one");
            assert_eq!(login.password.reveal(), password);
            assert!(!format!("{login:?}").contains(password), "{login:?}");
        }
    }
}
