//! Asks what versions there are: of images in their registries, of packages on GitHub, of the OS image at its channel.

mod channel;
mod github;
mod logins;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neco_artifacts::{Deb, Image, OsImage};
use neco_base::{Secret, one_line};
use neco_http::Url;
use neco_registry::{Credentials as _, ImageName, Registries, Repository};

use crate::decide::Offer;
use logins::LoginsOfDocker;

/// Where and how to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where GitHub's API is.
    pub github_api: Url,
    /// Who asks there.
    pub github_token: Option<Secret>,
    /// Below which address the lists of the channels of the OS image lie.
    pub os_image_feed: Url,
    /// The file that `docker login` writes; `None` to come to all registries without a login.
    pub docker_config: Option<PathBuf>,
    /// How long to wait for everything about one thing, tries and pauses included.
    pub timeout: Duration,
    /// How often a request is tried that fails in a way that passes.
    pub attempts: u32,
}

/// What there is of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The versions.
    pub offers: Vec<Offer>,
    /// Of packages: what the file of each release must be, where the release claims it.
    pub sha256: BTreeMap<String, Option<String>>,
}

/// Something that can be asked for.
#[derive(Clone, Debug)]
pub enum Question {
    /// The tags of an image.
    Image(Image),
    /// The releases of a package.
    Deb(Deb),
    /// The versions of a channel.
    OsImage(OsImage),
}

/// Whoever knows versions.
#[derive(Debug)]
pub struct Sources {
    options: Options,
    registries: Registries,
    logins: Option<Arc<LoginsOfDocker>>,
}

impl Sources {
    /// Sources with these settings; nothing is sent yet.
    ///
    /// # Errors
    /// A setting cannot be used, in words.
    pub fn new(options: Options) -> Result<Self, String> {
        let mut registry =
            neco_registry::Options { attempts: options.attempts, ..Default::default() };
        let logins = options.docker_config.as_deref().map(LoginsOfDocker::new).map(Arc::new);
        if let Some(logins) = &logins {
            registry.credentials = Arc::<LoginsOfDocker>::clone(logins);
        }
        let registries = Registries::new(registry).map_err(|error| one_line(&error))?;
        Ok(Self { options, registries, logins })
    }

    /// What there is.
    ///
    /// # Errors
    /// Why that cannot be told, in one line.
    pub async fn ask(&self, question: &Question) -> Result<Found, String> {
        let after = self.options.timeout;
        let asked = async {
            match question {
                Question::Image(image) => self.tags(image).await,
                Question::Deb(deb) => github::releases(deb, &self.options).await,
                Question::OsImage(os_image) => channel::versions(os_image, &self.options).await,
            }
        };
        let asked = tokio::time::timeout(after, asked).await;
        asked.unwrap_or_else(|_| {
            Err(format!(
                "no answer within {after:?}; is the network or the proxy down? --timeout waits longer"
            ))
        })
    }

    async fn tags(&self, image: &Image) -> Result<Found, String> {
        let repository: Repository = image.repository.parse().map_err(|error| one_line(&error))?;
        let tags = self.registries.tags(&repository).await.map_err(|error| one_line(&error))?;
        let private = self.private_tags(image, &repository).await?;
        let unfit = |tag: &String| {
            let absent = private.as_ref().is_some_and(|private| !private.contains(tag));
            absent.then(|| "is not there in the private variant".to_owned())
        };
        let offers =
            tags.into_iter().map(|tag| Offer { unfit: unfit(&tag), text: tag, prerelease: false });
        Ok(Found { offers: offers.collect(), ..Found::default() })
    }

    /// The tags of the private variant, where there is one and whoever asks has a login for its registry: servers with one run
    /// that variant, and by the same tag.
    async fn private_tags(
        &self,
        image: &Image,
        repository: &Repository,
    ) -> Result<Option<BTreeSet<String>>, String> {
        let (true, Some(logins)) = (image.private, &self.logins) else { return Ok(None) };
        if logins.login(repository.registry()).await?.is_none() {
            return Ok(None);
        }
        let reference: ImageName =
            image.private_reference().parse().map_err(|error| one_line(&error))?;
        let tags = self.registries.tags(reference.repository()).await;
        Ok(Some(tags.map_err(|error| one_line(&error))?.into_iter().collect()))
    }
}
