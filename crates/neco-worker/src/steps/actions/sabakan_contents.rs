//! `sabakan-contents`: brings what worker servers boot into sabakan: the OS image, container images, programs, and then the
//! ignition templates that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use neco_base::Tree;
use neco_components::{ContentDigest, Facts, Image, OsImage, Recipe};
use neco_sabakan::{Content, ImageId, Sabakan, boot_servers};
use neco_schema::{ConfigKey, Key, Lrn};
use serde::Serialize;

use crate::context::{StepContext, StepError};
use crate::steps::actions::cke_contents;
use crate::steps::host::StepHost;
use crate::steps::sabakan::assets::{self, Variant, WantedImage};
use crate::steps::sabakan::ignitions::{self, Meant};
use crate::steps::tries::{Trouble, patiently};
use crate::steps::{contents, set_up, stored};

/// The name in recipes.
pub(crate) const NAME: &str = "sabakan-contents";

/// The programs that worker servers fetch.
const PROGRAMS: &str = "/usr/libexec/neco";

/// What the package says.
pub(crate) struct Package<'a> {
    /// What the version pins.
    pub(crate) recipe: &'a Recipe,
    /// The images that are brought.
    pub(crate) images: &'a [&'a Image],
    /// The sources of ignition templates.
    pub(crate) ignitions: &'a Tree,
}

/// What is brought. Everything that it depends on stands in its [digest](Self::inputs).
struct Wanted<'a> {
    os_image: Option<OsImage>,
    images: Vec<WantedImage>,
    programs: BTreeMap<String, Content>,
    ignitions: &'a Tree,
    meant: Meant,
    servers: Vec<Lrn>,
    cluster: String,
}

/// Brings everything, once for the cluster, and again when anything changes that it is made of: what the version pins, programs,
/// sources of templates, the boot servers, settings.
///
/// # Errors
/// Cancelled at a safe point, the package holds what cannot be used, or something cannot be brought.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    contents: &str,
    package: &Package<'_>,
    facts: &Facts,
) -> Result<(), StepError> {
    if !set_up::sabakan(context, host)? {
        return Ok(());
    }
    let wanted = wanted(context, host, package, facts).await?;
    let inputs = wanted.inputs()?;
    contents::once(context, contents, inputs.as_str(), || bring(context, host, &wanted)).await
}

async fn wanted<'a>(
    context: &StepContext,
    host: &StepHost,
    package: &Package<'a>,
    facts: &Facts,
) -> Result<Wanted<'a>, StepError> {
    let artifacts = package.recipe.artifacts();
    let keys = [
        Key::Config(ConfigKey::NodeProxy),
        Key::Config(ConfigKey::ExternalIpAddressBlock),
        Key::SshPublicKey,
    ];
    let mut stored = stored::texts(context, &keys).await?.into_iter();
    let mut next = || stored.next().flatten();
    let (proxy_url, external_ip_address_block, authorized_key) = (next(), next(), next());
    let wanted_image = |image: &Image| WantedImage {
        name: image.name.to_string(),
        asset: image.asset_name(),
        reference: facts.reference(image),
        variant: image.private.then(|| match facts.variants.contains(&image.name) {
            true => Variant::Private,
            false => Variant::Public,
        }),
    };
    let mut servers = context.request.servers.clone();
    servers.sort_unstable();
    Ok(Wanted {
        os_image: artifacts.os_image.clone(),
        images: package.images.iter().map(|image| wanted_image(image)).collect(),
        programs: programs(host).await?,
        ignitions: package.ignitions,
        meant: Meant {
            version: context.request.version.clone(),
            images: artifacts.images.values().map(wanted_image).collect(),
            cke_images: cke_contents::images(context, host).await?,
            authorized_key,
            proxy_url,
            external_ip_address_block,
        },
        servers,
        cluster: host.cluster()?,
    })
}

impl Wanted<'_> {
    fn inputs(&self) -> Result<ContentDigest, StepError> {
        #[derive(Serialize)]
        struct Canonical<'a> {
            os_image: &'a Option<OsImage>,
            images: &'a [WantedImage],
            programs: BTreeMap<&'a str, Option<&'a str>>,
            ignitions: Vec<(&'a str, u32, String)>,
            meant: &'a Meant,
            servers: &'a [Lrn],
            cluster: &'a str,
        }
        let files = self.ignitions.paths().filter_map(|path| {
            let file = self.ignitions.get(path)?;
            Some((path, file.mode, ContentDigest::of(&file.content).to_string()))
        });
        let programs = self.programs.iter();
        let canonical = Canonical {
            os_image: &self.os_image,
            images: &self.images,
            programs: programs
                .map(|(name, content)| (name.as_str(), content.sha256().map(|sha| sha.as_str())))
                .collect(),
            ignitions: files.collect(),
            meant: &self.meant,
            servers: &self.servers,
            cluster: &self.cluster,
        };
        let text = serde_json::to_vec(&canonical);
        text.map(ContentDigest::of).map_err(|error| StepError::Failed(error.to_string()))
    }
}

/// What templates name comes before them.
async fn bring(
    context: &StepContext,
    host: &StepHost,
    wanted: &Wanted<'_>,
) -> Result<(), StepError> {
    if let Some(os_image) = &wanted.os_image {
        self::os_image(context, host, os_image).await?;
    }
    assets::images(context, host, &wanted.images).await?;
    for (name, content) in &wanted.programs {
        assets::file(context, host, name, content).await?;
    }
    if wanted.ignitions.is_empty() {
        set_up::is_not_brought(context, "ignition templates");
        return Ok(());
    }
    let look = || async { Ok(boot_servers(&*host.sabakan, &wanted.servers).await?) };
    let what = "asking sabakan for the boot servers";
    let addresses = patiently(context, host.patience, what, look).await?;
    ignitions::upload(context, host, wanted.ignitions, &wanted.meant, &addresses).await
}

/// Brings the OS image, unless it is the newest already: that is the one that machines boot.
async fn os_image(
    context: &StepContext,
    host: &StepHost,
    image: &OsImage,
) -> Result<(), StepError> {
    let id = ImageId::new(&image.version)
        .map_err(|error| StepError::Failed(format!("the OS image of artifacts.toml: {error}")))?;
    context.fence().await?;
    let what = format!("uploading OS image {} to sabakan", image.version);
    patiently(context, host.patience, &what, || async {
        if is_newest(&*host.sabakan, &id).await? {
            return Ok(());
        }
        let kernel = host.outside.file(&image.kernel_url()).await?;
        let initrd = host.outside.file(&image.initrd_url()).await?;
        let progress = assets::progress(context);
        Ok(host.sabakan.upload_image(&id, &kernel, &initrd, &progress).await?)
    })
    .await
}

async fn is_newest(sabakan: &dyn Sabakan, id: &ImageId) -> Result<bool, Trouble> {
    Ok(sabakan.images().await?.last().is_some_and(|newest| newest.id == *id))
}

/// The plain files of the folder of programs, with their digests.
async fn programs(host: &StepHost) -> Result<BTreeMap<String, Content>, StepError> {
    let folder = host.root.join(PROGRAMS);
    let failed = |path: &Path, error: std::io::Error| {
        StepError::Failed(format!("reading {}: {error}", path.display()))
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(&folder, error)),
    };
    let mut paths = BTreeSet::new();
    for entry in entries {
        paths.insert(entry.map_err(|error| failed(&folder, error))?.path());
    }
    let mut programs = BTreeMap::new();
    for path in paths {
        // Symlinks are followed; what is neither file nor folder would never end.
        if !std::fs::metadata(&path).map_err(|error| failed(&path, error))?.is_file() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            StepError::Failed(format!("{} has a name that is not UTF-8", path.display()))
        })?;
        let content = Content::file(&path).await.map_err(|error| failed(&path, error))?;
        programs.insert(name.to_owned(), content);
    }
    Ok(programs)
}
