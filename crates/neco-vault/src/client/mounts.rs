//! What is mounted where, and where requests are written down.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Client;
use crate::VaultError;

/// What can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A certification authority.
    Pki {
        /// How long its certificates are good if nobody says.
        default_lease: Duration,
        /// How long at most.
        max_lease: Duration,
    },
    /// Small records, without versions.
    Kv,
}

impl Engine {
    fn kind(self) -> &'static str {
        match self {
            Self::Pki { .. } => "pki",
            Self::Kv => "kv",
        }
    }
}

/// Something that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Of what kind it is, such as `pki`.
    pub kind: String,
    /// For records, which form they have: `1` has no versions.
    pub version: Option<String>,
}

/// What Vault says and is told.
mod wire {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Mount {
        #[serde(rename = "type")]
        pub(super) kind: String,
        pub(super) options: Option<BTreeMap<String, String>>,
    }

    #[derive(Serialize)]
    pub(super) struct NewMount {
        #[serde(rename = "type")]
        pub(super) kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) config: Option<Config>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) options: Option<BTreeMap<&'static str, &'static str>>,
    }

    #[derive(Serialize)]
    pub(super) struct Config {
        pub(super) default_lease_ttl: String,
        pub(super) max_lease_ttl: String,
    }

    #[derive(Serialize)]
    pub(super) struct Audit<'o> {
        #[serde(rename = "type")]
        pub(super) kind: &'static str,
        pub(super) options: BTreeMap<&'static str, &'o str>,
    }
}

/// A time as Vault reads it.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

impl Client {
    /// What is mounted, by path without a slash at its end.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn mounts(&self) -> Result<BTreeMap<String, Mount>, VaultError> {
        let told: BTreeMap<String, wire::Mount> = self.get("sys/mounts").send().await?.data()?;
        let mounts = told.into_iter().map(|(path, mount)| {
            let version = mount.options.and_then(|mut options| options.remove("version"));
            (path.trim_end_matches('/').to_owned(), Mount { kind: mount.kind, version })
        });
        Ok(mounts.collect())
    }

    /// Mounts `engine` at `path` unless it is there; tells whether it was not.
    ///
    /// # Errors
    /// Something else is mounted there; Vault refuses, or does not answer.
    pub async fn ensure_mount(&self, path: &str, engine: Engine) -> Result<bool, VaultError> {
        let mut mounts = self.mounts().await?;
        if let Some(found) = mounts.remove(path) {
            // Records with versions have other paths.
            let versioned = found.version.as_deref().is_some_and(|version| version != "1");
            if found.kind == engine.kind() && !versioned {
                return Ok(false);
            }
            let kind = if versioned { "versioned kv".to_owned() } else { found.kind };
            return Err(self.conflict("sys/mounts", path, kind, engine.kind()));
        }
        let body = wire::NewMount {
            kind: engine.kind(),
            config: match engine {
                Engine::Pki { default_lease, max_lease } => Some(wire::Config {
                    default_lease_ttl: seconds(default_lease),
                    max_lease_ttl: seconds(max_lease),
                }),
                Engine::Kv => None,
            },
            options: (engine == Engine::Kv).then(|| BTreeMap::from([("version", "1")])),
        };
        self.act(format!("sys/mounts/{path}")).body(&body).send().await?;
        Ok(true)
    }

    /// Removes what is mounted at `path`, with everything in it; nothing happens if nothing is.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn unmount(&self, path: &str) -> Result<(), VaultError> {
        self.delete(format!("sys/mounts/{path}")).find().await.map(drop)
    }

    /// Lets Vault write every request to `file`, where `stdout` is its own output, unless a device of the name `path` is
    /// there; tells whether it was not. OpenBao refuses: it takes these devices from its configuration file.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn ensure_audit_file(&self, path: &str, file: &str) -> Result<bool, VaultError> {
        let found: BTreeMap<String, serde::de::IgnoredAny> =
            self.get("sys/audit").send().await?.data()?;
        if found.keys().any(|found| found.trim_end_matches('/') == path) {
            return Ok(false);
        }
        let options = BTreeMap::from([("file_path", file)]);
        let body = wire::Audit { kind: "file", options };
        self.act(format!("sys/audit/{path}")).body(&body).send().await?;
        Ok(true)
    }

    /// Something of another kind is at a path.
    pub(super) fn conflict(
        &self,
        below: &str,
        path: &str,
        found: String,
        wanted: &str,
    ) -> VaultError {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(below.split('/'));
        }
        let url = neco_http::shown(&url);
        VaultError::Conflict { url, path: path.to_owned(), found, wanted: wanted.to_owned() }
    }
}
