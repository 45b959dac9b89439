//! Asks registries for tags and images.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use neco_http::{next_page, shown};
use oci_spec::image::ImageManifest;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::archive::{Archive, Parts};
use crate::blob::{Blob, BlobStream, Wanted};
use crate::body;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::host::Host;
use crate::manifest::{
    ACCEPTED, Configuration, LIMIT, Layer, Manifest, Unreadable, configuration_of, digest_of,
    layers_of,
};
use crate::name::{ImageName, Repository};
use crate::options::Options;
use crate::platform;

/// A client of registries. Cheap to share by reference; one serves a process until its settings change.
pub struct Registries {
    options: Arc<Options>,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

/// An image as a registry has it now: by digests, so that it stays the same, whatever happens to its tag.
#[derive(Clone)]
pub struct Image {
    host: Arc<Host>,
    name: ImageName,
    manifest: Digest,
    id: Digest,
    configuration: Bytes,
    layers: Vec<Layer>,
}

impl Registries {
    /// A client with these settings; nothing is sent yet.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let client = Self { options: Arc::new(options), hosts: Mutex::default() };
        // Settings are tried out here rather than at the first question.
        let example: Repository = "registry.example/neco".parse().expect("a constant that parses");
        Host::new(&example, Arc::clone(&client.options))?;
        Ok(client)
    }

    /// The tags of a repository, in the order of their bytes. Registries have no common one: Debian's docker-registry 2.8.2
    /// gives all tags at once, however many are asked for, and each time in another order.
    ///
    /// # Errors
    /// There is no such repository, or it may not be read, or the registry does not answer.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        /// Registries write `null` for none.
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let host = self.host(repository)?;
        let mut url = host.url(repository, &["tags", "list"]);
        url.query_pairs_mut().append_pair("n", &self.options.tags_per_page.to_string());
        let mut tags = BTreeSet::new();
        for _ in 0..self.options.max_pages {
            let headers = HeaderMap::new();
            let (answer, text) = small(&host, repository, &url, &headers, "list of tags")
                .await
                .map_err(|error| match error {
                    RegistryError::Status { status: 404, .. } => {
                        RegistryError::NoRepository { repository: repository.clone() }
                    }
                    other => other,
                })?;
            let page: Page = serde_json::from_slice(&text).map_err(|source| {
                RegistryError::Malformed { url: shown(&url), expected: "list of tags", source }
            })?;
            tags.extend(page.tags.into_iter().flatten());
            let refuse = |problem: String| RegistryError::Redirect { url: shown(&url), problem };
            let Some(target) = next_page(&answer) else { return Ok(tags.into_iter().collect()) };
            let next = url.join(target);
            let next = next.map_err(|_| refuse("to a next page that is no URL".to_owned()))?;
            if !host.is_home(&next) {
                return Err(refuse(format!("to a next page on another host ({})", shown(&next))));
            }
            if next == url {
                return Err(refuse("to the same page as the next one".to_owned()));
            }
            url = next;
        }
        let problem = format!("to more than {} pages of tags", self.options.max_pages);
        Err(RegistryError::Redirect { url: shown(&url), problem })
    }

    /// The image for linux/amd64 that has this name now.
    ///
    /// # Errors
    /// There is none, or it may not be read, or nothing can be done with it, or the registry does not answer.
    pub async fn image(&self, name: &ImageName) -> Result<Image, RegistryError> {
        let host = self.host(name.repository())?;
        let (manifest, digest) = self.manifest(&host, name).await?;
        let unsupported =
            |problem: String| RegistryError::Unsupported { image: name.clone(), problem };
        let (manifest, digest) = match manifest {
            Manifest::Image(manifest) => (manifest, digest),
            Manifest::Index(index) => {
                let entry = platform::ours(&index)
                    .map_err(|found| RegistryError::OtherPlatform { image: name.clone(), found })?;
                let digest = digest_of(entry).map_err(unsupported)?;
                match self.manifest(&host, &name.repository().with_digest(digest)).await? {
                    (Manifest::Image(manifest), digest) => (manifest, digest),
                    (Manifest::Index(_), _) => {
                        let problem = "leads from one index to another; choose another one";
                        return Err(unsupported(problem.to_owned()));
                    }
                }
            }
        };
        self.open(host, name, &manifest, digest).await
    }

    /// The bytes of a blob of `size` bytes. A connection that breaks is resumed; a digest that is wrong is the last item.
    ///
    /// # Errors
    /// The repository names no registry that can be asked. What else can go wrong is told by the stream.
    pub fn blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
    ) -> Result<BlobStream, RegistryError> {
        let host = self.host(repository)?;
        Ok(Wanted { host, repository: repository.clone(), digest, size }.stream())
    }

    /// A manifest and its digest.
    async fn manifest(
        &self,
        host: &Host,
        name: &ImageName,
    ) -> Result<(Manifest, Digest), RegistryError> {
        let url = host.url(name.repository(), &["manifests", &name.reference()]);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let (answer, text) = small(host, name.repository(), &url, &headers, "manifest")
            .await
            .map_err(|error| match error {
                RegistryError::Status { status: 404, .. } => {
                    RegistryError::NoImage { image: name.clone() }
                }
                other => other,
            })?;
        let found = Digest::of(&text);
        let header = |name: &str| answer.get(name).and_then(|value| value.to_str().ok());
        let told = header("docker-content-digest").and_then(|told| told.parse().ok());
        if let Some(expected) = name.digest().or(told).filter(|expected| *expected != found) {
            return Err(RegistryError::WrongDigest { url: shown(&url), expected, found });
        }
        let kind = header("content-type").and_then(|kind| kind.split(';').next()).map(str::trim);
        let manifest = Manifest::read(&text, kind).map_err(|error| match error {
            Unreadable::Json(source) => {
                RegistryError::Malformed { url: shown(&url), expected: "manifest", source }
            }
            Unreadable::Kind(kind) => {
                let problem = format!("has {kind}; push it anew, or choose another one");
                RegistryError::Unsupported { image: name.clone(), problem }
            }
        })?;
        Ok((manifest, found))
    }

    /// Reads the configuration of an image, and refuses what no archive can be made of before anything is begun.
    async fn open(
        &self,
        host: Arc<Host>,
        name: &ImageName,
        manifest: &ImageManifest,
        digest: Digest,
    ) -> Result<Image, RegistryError> {
        let unsupported =
            |problem: String| RegistryError::Unsupported { image: name.clone(), problem };
        let layers = layers_of(manifest).map_err(unsupported)?;
        let id = configuration_of(manifest).map_err(unsupported)?;
        let size = manifest.config().size();
        let repository = name.repository().clone();
        let url = shown(&host.url(&repository, &["blobs", &id.to_string()]));
        if size > LIMIT {
            return Err(RegistryError::TooLarge { url, what: "configuration", limit: LIMIT });
        }
        let wanted = Wanted { host: Arc::clone(&host), repository, digest: id, size };
        let after = self.options.request_timeout.saturating_mul(self.options.attempts);
        let text = tokio::time::timeout(after, Blob::new(wanted).read()).await;
        let text = text.map_err(|_| RegistryError::Silent { url: url.clone(), after })??;
        let configuration: Configuration = serde_json::from_slice(&text).map_err(|source| {
            RegistryError::Malformed { url, expected: "configuration", source }
        })?;
        if !configuration.is_ours() {
            let found = configuration.to_string();
            return Err(RegistryError::OtherPlatform { image: name.clone(), found });
        }
        if configuration.layers() != layers.len() {
            let (told, there) = (configuration.layers(), layers.len());
            let problem =
                format!("has a configuration for {told} layers, but {there}; push it again");
            return Err(unsupported(problem));
        }
        Ok(Image { host, name: name.clone(), manifest: digest, id, configuration: text, layers })
    }

    fn host(&self, repository: &Repository) -> Result<Arc<Host>, RegistryError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(repository.registry()) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(Host::new(repository, Arc::clone(&self.options))?);
        hosts.insert(repository.registry().to_owned(), Arc::clone(&host));
        Ok(host)
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Image {
    /// The name by which it was asked for.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The digest of its manifest: of that for linux/amd64, where the name leads to several.
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// What Docker calls the id of the image: the digest of its configuration.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The image as an archive that `docker load` takes, and that is called `named` once it was loaded. It can be made again
    /// and again, and has the same bytes each time; nothing is sent yet.
    ///
    /// # Errors
    /// The sizes of its layers cannot be right.
    pub fn archive(&self, named: &ImageName) -> Result<Archive, RegistryError> {
        let parts = Parts {
            image: &self.name,
            named,
            id: self.id,
            configuration: &self.configuration,
            layers: &self.layers,
            total: self.host.options().total,
        };
        Archive::new(&parts, |layer| Wanted {
            host: Arc::clone(&self.host),
            repository: self.name.repository().clone(),
            digest: layer.digest,
            size: layer.size,
        })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.manifest)
    }
}

/// Asks for something small, as often as it may help: the headers of the answer and its body.
async fn small(
    host: &Host,
    repository: &Repository,
    url: &Url,
    headers: &HeaderMap,
    what: &'static str,
) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
    let options = host.options();
    let after = options.request_timeout;
    let mut retry = options.backoff.retry();
    loop {
        let once = async {
            // Every answer on the way there has its own time: whoever is silent is named.
            let response = host.get(url, repository, headers, after).await?;
            let headers = response.headers().clone();
            let body = body::read(url, response, what, LIMIT);
            match tokio::time::timeout(after, body).await {
                Ok(body) => Ok((headers, body?)),
                Err(_) => Err(RegistryError::Silent { url: shown(url), after }),
            }
        };
        let error = match once.await {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let Some(wait) = error
            .passes_soon(options.longest_wait)
            .filter(|_| retry.failures() + 1 < options.attempts)
        else {
            return Err(error);
        };
        tracing::debug!(url = shown(url), %error, "asking again");
        tokio::time::sleep(wait.max(retry.pause())).await;
    }
}
