//! The real client.

mod exchange;
mod graphql;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_http::Url;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::image::OS;
use crate::sabakan::OnProgress;
use crate::{
    AssetMeta, AssetName, AssetUpload, Content, ContentDigest, DhcpConfig, Health, IgnitionId,
    IgnitionTemplate, ImageId, IpamConfig, KernelParams, Machine, MachineParams, MachineQuery,
    MachineState, MachineStatus, OsImage, Role, Sabakan, SabakanError, Serial, UploadedAsset, tar,
};
pub(crate) use exchange::chain;
use exchange::{Answer, Exchange, Repeat, Target};
use upload::Body;

/// How long things may take, and how often they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a question may take, each try.
    pub answer: Duration,
    /// How often a question is asked that may be repeated, in all; uploads are not.
    pub tries: u32,
    /// How long to wait between the tries.
    pub between: Backoff,
    /// How long an upload may stand still, and how long its answer may take.
    pub silence: Duration,
    /// How long an upload may take in all.
    pub upload: Duration,
}

impl Default for Limits {
    /// As much time as the original takes where it sets a limit (external-apis §1.10).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            tries: 3,
            between: Backoff::new(Duration::from_millis(200), Duration::from_secs(2)),
            silence: Duration::from_secs(120),
            upload: Duration::from_secs(600),
        }
    }
}

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where sabakan listens for HTTP, such as `http://127.0.0.1:10080`.
    pub url: Url,
    /// Where it listens for HTTPS, and who vouches for it; needed for disk keys alone.
    pub https: Option<HttpsOptions>,
    /// Who asks, for sabakan's audit log (external-apis §1.1).
    pub user: String,
    /// How long things may take.
    pub limits: Limits,
}

/// How sabakan is reached by HTTPS (external-apis §1.1).
#[derive(Clone, Debug)]
pub struct HttpsOptions {
    /// Where it listens, such as `https://127.0.0.1:10443`.
    pub url: Url,
    /// The certificates of the authorities that may have issued its own, as PEM. No other is trusted.
    pub ca: Vec<u8>,
}

impl Options {
    /// Asks the sabakan at `url` by HTTP, as `user`.
    pub fn new(url: Url, user: impl Into<String>) -> Self {
        Self { url, https: None, user: user.into(), limits: Limits::default() }
    }

    /// The same, which can also delete disk keys.
    #[must_use]
    pub fn https(mut self, url: Url, ca: impl Into<Vec<u8>>) -> Self {
        self.https = Some(HttpsOptions { url, ca: ca.into() });
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// Speaks to a real sabakan, never through a proxy: it is a program of this data centre.
#[derive(Debug)]
pub struct SabakanClient {
    http: Exchange,
    https: Option<Exchange>,
}

impl SabakanClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// An option cannot be used.
    pub fn new(options: &Options) -> Result<Self, SabakanError> {
        let https = options.https.as_ref();
        Ok(Self {
            http: Exchange::new("sabakan.url", &options.url, None, options)?,
            https: https
                .map(|https| Exchange::new("sabakan.https", &https.url, Some(&https.ca), options))
                .transpose()?,
        })
    }

    async fn get(&self, path: &[&str]) -> Result<Answer, SabakanError> {
        self.http.ask(Method::GET, path, Repeat::Safe, |request| request).await
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, SabakanError> {
        self.get(path).await?.json()
    }

    /// `null` is an empty list.
    async fn get_list<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>, SabakanError> {
        Ok(self.get_json::<Option<Vec<T>>>(path).await?.unwrap_or_default())
    }

    /// 404 is nothing.
    async fn find<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, SabakanError> {
        found(self.get_json(path).await)
    }

    async fn put_json(
        &self,
        path: &[&str],
        body: &(impl serde::Serialize + Sync),
        repeat: Repeat,
    ) -> Result<Answer, SabakanError> {
        self.http.ask(Method::PUT, path, repeat, |request| request.json(body)).await
    }
}

fn found<T>(result: Result<T, SabakanError>) -> Result<Option<T>, SabakanError> {
    match result {
        Err(SabakanError::NotFound { .. }) => Ok(None),
        other => other.map(Some),
    }
}

#[async_trait]
impl Sabakan for SabakanClient {
    async fn answers(&self) -> Result<(), SabakanError> {
        self.http.send_once(Method::GET, &[] as &[&str], |request| request).await.map(drop)
    }

    async fn health(&self) -> Result<Health, SabakanError> {
        #[derive(Deserialize)]
        struct Said {
            health: String,
        }
        let answer = self.http.send_once(Method::GET, &["health"], |request| request).await?;
        match answer.json::<Said>() {
            Ok(said) if answer.is_success() && said.health == "healthy" => Ok(Health::Healthy),
            Ok(said) if said.health == "unhealthy" => Ok(Health::Unhealthy),
            other => Err(answer.refusal().err().or(other.err()).unwrap_or_else(|| {
                SabakanError::Malformed {
                    call: answer.call().to_owned(),
                    source: serde::de::Error::custom("an unknown health"),
                }
            })),
        }
    }

    async fn version(&self) -> Result<String, SabakanError> {
        #[derive(Deserialize)]
        struct Said {
            version: String,
        }
        Ok(self.get_json::<Said>(&["version"]).await?.version)
    }

    async fn machines(&self, query: &MachineQuery) -> Result<Vec<Machine>, SabakanError> {
        if let Some(key) = query.contradiction() {
            return Err(SabakanError::Contradiction { key });
        }
        let pairs = query.pairs();
        let target = Target { path: &["api", "v1", "machines"], query: &pairs };
        let asked = self
            .http
            .ask(Method::GET, target, Repeat::Safe, |request| request)
            .await
            .and_then(|answer| answer.json::<Option<Vec<Machine>>>());
        Ok(found(asked)?.flatten().unwrap_or_default())
    }

    async fn search_machines(
        &self,
        having: &MachineParams,
        not_having: &MachineParams,
    ) -> Result<Vec<Machine>, SabakanError> {
        graphql::search_machines(&self.http, having, not_having).await
    }

    async fn set_machine_state(
        &self,
        serial: &Serial,
        state: MachineState,
    ) -> Result<MachineStatus, SabakanError> {
        graphql::set_machine_state(&self.http, serial, state).await
    }

    async fn delete_crypts(&self, serial: &Serial) -> Result<Vec<String>, SabakanError> {
        let https = self.https.as_ref().ok_or_else(|| SabakanError::Option {
            option: "sabakan.https",
            problem: "disk keys are deleted over HTTPS alone; set its address and its CA"
                .to_owned(),
        })?;
        let path = ["api", "v1", "crypts", serial.as_str()];
        let answer = https.ask(Method::DELETE, &path, Repeat::Safe, |request| request).await?;
        Ok(answer.json::<Option<_>>()?.unwrap_or_default())
    }

    async fn ipam(&self) -> Result<Option<IpamConfig>, SabakanError> {
        self.find(&["api", "v1", "config", "ipam"]).await
    }

    async fn set_ipam(&self, config: &IpamConfig) -> Result<(), SabakanError> {
        self.put_json(&["api", "v1", "config", "ipam"], config, Repeat::Safe).await.map(drop)
    }

    async fn dhcp(&self) -> Result<Option<DhcpConfig>, SabakanError> {
        self.find(&["api", "v1", "config", "dhcp"]).await
    }

    async fn set_dhcp(&self, config: &DhcpConfig) -> Result<(), SabakanError> {
        self.put_json(&["api", "v1", "config", "dhcp"], config, Repeat::Safe).await.map(drop)
    }

    async fn kernel_params(&self) -> Result<Option<KernelParams>, SabakanError> {
        let Some(answer) = found(self.get(&["api", "v1", "kernel_params", OS]).await)? else {
            return Ok(None);
        };
        let named = |source| SabakanError::Name { call: answer.call().to_owned(), source };
        KernelParams::new(answer.text()).map(Some).map_err(named)
    }

    async fn set_kernel_params(&self, params: &KernelParams) -> Result<(), SabakanError> {
        let path = ["api", "v1", "kernel_params", OS];
        let put = self.http.ask(Method::PUT, &path, Repeat::Safe, |request| {
            request.header(CONTENT_TYPE, "text/plain").body(params.as_str().to_owned())
        });
        put.await.map(drop)
    }

    async fn images(&self) -> Result<Vec<OsImage>, SabakanError> {
        self.get_list(&["api", "v1", "images", OS]).await
    }

    async fn upload_image(
        &self,
        id: &ImageId,
        kernel: &Content,
        initrd: &Content,
        progress: OnProgress<'_>,
    ) -> Result<(), SabakanError> {
        let members = [("kernel", kernel), ("initrd.gz", initrd)];
        let path = ["api", "v1", "images", OS, id.as_str()];
        let too_long = |error: tar::TooLong| SabakanError::Content {
            call: self.http.call(&Method::PUT, &path),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
        };
        let (length, bytes) = tar::archive(members).map_err(too_long)?;
        let body = Body { length, bytes, hash: false };
        let with =
            |request: reqwest::RequestBuilder| request.header(CONTENT_TYPE, "application/tar");
        self.http.upload(&path, body, progress, with).await.map(drop)
    }

    async fn assets(&self) -> Result<Vec<AssetName>, SabakanError> {
        self.get_list(&["api", "v1", "assets"]).await
    }

    async fn asset(&self, name: &AssetName) -> Result<Option<AssetMeta>, SabakanError> {
        self.find(&["api", "v1", "assets", name.as_str(), "meta"]).await
    }

    async fn upload_asset(
        &self,
        name: &AssetName,
        upload: &AssetUpload,
        progress: OnProgress<'_>,
    ) -> Result<UploadedAsset, SabakanError> {
        #[derive(Deserialize)]
        struct Put {
            #[serde(default)]
            id: String,
        }
        let content = &upload.content;
        if content.length() > AssetUpload::MAX {
            return Err(SabakanError::Oversized {
                what: format!("asset {name}"),
                size: content.length(),
                limit: AssetUpload::MAX,
            });
        }
        let known = content.sha256();
        let body =
            Body { length: content.length(), bytes: content.stream(), hash: known.is_none() };
        let path = ["api", "v1", "assets", name.as_str()];
        let (answer, hashed) = self
            .http
            .upload(&path, body, progress, |request| {
                let mut request = request.header(CONTENT_TYPE, &upload.content_type);
                if let Some(sha256) = known {
                    request = request.header("X-Sabakan-Asset-SHA256", sha256.as_str());
                }
                upload.options.iter().fold(request, |request, (key, value)| {
                    request.header(format!("X-Sabakan-Asset-Options-{key}"), value)
                })
            })
            .await?;
        let put: Put = answer.json()?;
        let replaced = answer.status() == 200;
        let sha256 = match (known, hashed) {
            // Sabakan has compared it with what came.
            (Some(known), _) => known.clone(),
            (None, Some(sent)) => {
                self.prove(name, &put.id, &sent, answer.call()).await?;
                sent
            }
            (None, None) => {
                return Err(SabakanError::Content {
                    call: answer.call().to_owned(),
                    source: std::io::Error::other("it was answered before all of it was sent"),
                });
            }
        };
        Ok(UploadedAsset { id: put.id, replaced, sha256 })
    }

    async fn ignitions(&self, role: &Role) -> Result<Vec<IgnitionId>, SabakanError> {
        self.get_list(&["api", "v1", "ignitions", role.as_str()]).await
    }

    async fn ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
    ) -> Result<Option<IgnitionTemplate>, SabakanError> {
        self.find(&["api", "v1", "ignitions", role.as_str(), id.as_str()]).await
    }

    async fn upload_ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
        template: &IgnitionTemplate,
    ) -> Result<(), SabakanError> {
        let path = ["api", "v1", "ignitions", role.as_str(), id.as_str()];
        let size = serde_json::to_vec(template)
            .map_err(|source| SabakanError::Malformed {
                call: self.http.call(&Method::PUT, &path),
                source,
            })?
            .len();
        if size > IgnitionTemplate::MAX {
            return Err(SabakanError::Oversized {
                what: format!("ignition template {id} of role {role}"),
                size: size as u64,
                limit: IgnitionTemplate::MAX as u64,
            });
        }
        // A second one with the same id is a conflict, so an answer that was lost must not be asked for again.
        self.put_json(&path, template, Repeat::Never).await.map(drop)
    }
}

impl SabakanClient {
    /// Compares what was sent with what is there, and deletes it where that is something else: under its name it would pass
    /// for what was sent. A later upload of somebody else's is no concern of this one.
    async fn prove(
        &self,
        name: &AssetName,
        id: &str,
        sent: &ContentDigest,
        call: &str,
    ) -> Result<(), SabakanError> {
        match self.asset(name).await? {
            Some(meta) if meta.id == id && meta.sha256 != *sent => {
                let path = ["api", "v1", "assets", name.as_str()];
                let deleted =
                    self.http.ask(Method::DELETE, &path, Repeat::Safe, |request| request).await;
                if let Err(error) = deleted {
                    let error = chain(&error);
                    tracing::warn!(asset = %name, error, "a damaged asset could not be deleted");
                }
                Err(SabakanError::WrongDigest {
                    call: call.to_owned(),
                    expected: sent.to_string(),
                    found: meta.sha256.to_string(),
                })
            }
            _ => Ok(()),
        }
    }
}
