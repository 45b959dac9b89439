//! Who asks registries: whoever has called `docker login`.

use std::path::Path;

use async_trait::async_trait;
use neco_registry::{Credentials, Login};
use neco_runtime::{DockerConfig, Logins};

/// The logins of a file that `docker login` has written.
#[derive(Debug)]
pub(super) struct LoginsOfDocker(DockerConfig);

impl LoginsOfDocker {
    pub(super) fn new(file: &Path) -> Self {
        Self(DockerConfig::new(file))
    }
}

#[async_trait]
impl Credentials for LoginsOfDocker {
    async fn login(&self, registry: &str) -> Result<Option<Login>, String> {
        let login = self.0.login(registry).await?;
        Ok(login.map(|login| Login { user: login.user, password: login.password }))
    }

    fn remedy(&self, registry: &str) -> String {
        self.0.remedy(registry)
    }
}
