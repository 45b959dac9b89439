//! What comes from outside for sabakan: archives of container images, and files of the web. Nothing of it lies on a disk of
//! this server: it is read while it is uploaded.

mod sandbox;
mod web;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use neco_connect::{Settings, one_line};
use neco_http::Url;
use neco_plan::View;
use neco_registry::{Credentials, ImageName, NameError, Options, Registries, RegistryError};
use neco_runtime::Logins;
use neco_sabakan::Content;
use neco_schema::{Range, Severity, prefixes};
use neco_store::{Store, StoreError};
use tokio_util::io::StreamReader;

pub use sandbox::SandboxOutside;
pub use web::WebError;

/// Brings what lies outside of this data centre.
#[async_trait]
pub trait Outside: Send + Sync {
    /// The archive of a container image, as `docker load` takes it: of known length, read from the registry while it is
    /// uploaded, and the same bytes each time that it is.
    ///
    /// # Errors
    /// It cannot be had.
    async fn image(&self, reference: &str) -> Result<Content, OutsideError>;

    /// The file at an address: of known length, read while it is uploaded.
    ///
    /// # Errors
    /// It cannot be had.
    async fn file(&self, url: &str) -> Result<Content, OutsideError>;
}

/// Why something cannot be had from outside.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// No registry is asked for such a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its registry does not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The web does not give it.
    #[error(transparent)]
    Web(#[from] WebError),
    /// By which proxy to go there cannot be told.
    #[error("reading the settings in etcd")]
    Settings(#[from] StoreError),
    /// A sandbox was told so.
    #[error(transparent)]
    Asked(#[from] neco_sandbox::FaultError),
}

impl OutsideError {
    /// What to do about it.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Name(_) => Severity::AskAPerson,
            Self::Registry(error) => error.severity(),
            Self::Web(error) => error.severity(),
            Self::Settings(_) | Self::Asked(_) => Severity::TryAgain,
        }
    }

    /// The same of an error that stands in the middle of what was being read, whatever lies around it.
    pub(crate) fn severity_within(error: &std::io::Error) -> Severity {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(mut error) = cause {
            // What an error of reading holds is not its source.
            if let Some(held) = error.downcast_ref().and_then(std::io::Error::get_ref) {
                error = held;
            }
            if let Some(error) = error.downcast_ref::<RegistryError>() {
                return error.severity();
            }
            if let Some(error) = error.downcast_ref::<WebError>() {
                return error.severity();
            }
            cause = error.source();
        }
        Severity::TryAgain
    }
}

/// The internet, by the proxy that is set at the moment, and the registries there, with the logins of this server.
pub struct Internet {
    store: Arc<dyn Store>,
    options: Options,
    registries: Mutex<Option<Kept>>,
}

/// One client is kept for as long as the proxy stays the same.
struct Kept {
    proxy: Option<Url>,
    registries: Arc<Registries>,
}

impl Internet {
    /// Goes by the proxy that `store` holds, and says `logins` to registries.
    pub fn new(store: Arc<dyn Store>, logins: Arc<dyn Logins>) -> Self {
        let credentials = Self::credentials(logins);
        Self::with_options(store, Options { credentials, ..Options::default() })
    }

    /// Says to registries what is said to them by the container engine.
    pub fn credentials(logins: Arc<dyn Logins>) -> Arc<dyn Credentials> {
        Arc::new(LoginsOfDocker(logins))
    }

    /// The same with other settings of the client of registries; its proxy is the one that is set.
    pub fn with_options(store: Arc<dyn Store>, options: Options) -> Self {
        Self { store, options, registries: Mutex::new(None) }
    }

    async fn proxy(&self) -> Result<Option<Url>, OutsideError> {
        let settings = self.store.read(&[Range::Prefix(prefixes::CONFIG.to_owned())], None).await?;
        Ok(Settings::read(&View::assemble(&settings).config).proxy)
    }

    fn registries(&self, proxy: Option<Url>) -> Result<Arc<Registries>, RegistryError> {
        let mut kept = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.proxy == proxy) {
            return Ok(Arc::clone(&kept.registries));
        }
        let options = Options { proxy: proxy.clone(), ..self.options.clone() };
        let registries = Arc::new(Registries::new(options)?);
        *kept = Some(Kept { proxy, registries: Arc::clone(&registries) });
        Ok(registries)
    }
}

#[async_trait]
impl Outside for Internet {
    async fn image(&self, reference: &str) -> Result<Content, OutsideError> {
        let name: ImageName = reference.parse()?;
        let registries = self.registries(self.proxy().await?)?;
        let image = registries.image(&name).await?;
        let length = image.archive(&name)?.length();
        Ok(Content::opener(length, move || {
            let archive = image.archive(&name).map_err(std::io::Error::other);
            async move {
                let stream = archive?.into_stream();
                Ok(StreamReader::new(stream.map_err(std::io::Error::other)))
            }
        }))
    }

    async fn file(&self, url: &str) -> Result<Content, OutsideError> {
        Ok(web::file(url, self.proxy().await?).await?)
    }
}

/// Who this server is to registries: the same as for its container engine.
struct LoginsOfDocker(Arc<dyn Logins>);

#[async_trait]
impl Credentials for LoginsOfDocker {
    async fn login(&self, registry: &str) -> Result<Option<neco_registry::Login>, String> {
        let login = self.0.login(registry).await?;
        Ok(login.map(|login| neco_registry::Login { user: login.user, password: login.password }))
    }

    fn remedy(&self, registry: &str) -> String {
        self.0.remedy(registry)
    }
}

impl std::fmt::Debug for Internet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Internet").field("options", &self.options).finish_non_exhaustive()
    }
}

/// An error of the web in one line, without the address, which stands beside it.
fn transport(error: reqwest::Error) -> String {
    one_line(&error.without_url())
}
