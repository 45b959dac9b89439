//! The container images that the installed package pins.

use std::path::Path;

use anyhow::{Context, anyhow};
use neco_components::{Artifacts, Image, read_text};
use neco_process::under;
use neco_runtime::{ContainerRuntime, Docker, DockerConfig, ImageRef, Logins as _, Recorder};

/// Where they are pinned.
const ARTIFACTS: &str = "/usr/share/neco/artifacts.toml";

/// The image called `name`.
///
/// # Errors
/// There is none, or what is pinned cannot be read.
pub fn pinned(root: &Path, name: &str) -> anyhow::Result<Image> {
    let path = under(root, Path::new(ARTIFACTS));
    let text = read_text(&path)
        .with_context(|| format!("reading {}, which comes with the package", path.display()))?;
    let artifacts = Artifacts::parse(&text)
        .map_err(|problems| anyhow!("{} cannot be used:\n{problems}", path.display()))?;
    let mut images = artifacts.images;
    images.remove(name).ok_or_else(|| {
        let names: Vec<_> = images.keys().map(ToString::to_string).collect();
        anyhow!("no image is called {name:?} here; there are {}", names.join(", "))
    })
}

/// The full name of an image as this server runs it: its private variant where it has one and the server has a login for
/// its registry, as the worker decides.
///
/// # Errors
/// The logins of this server cannot be read.
pub async fn reference(root: &Path, image: &Image) -> anyhow::Result<ImageRef> {
    let public: ImageRef = image.reference().parse()?;
    if !image.private {
        return Ok(public);
    }
    let logins = DockerConfig::new(under(root, Path::new(DockerConfig::OF_ROOT)));
    match logins.login(public.registry()).await {
        Ok(None) => Ok(public),
        Ok(Some(_)) => Ok(image.private_reference().parse()?),
        Err(why) => Err(anyhow!(
            "whether this server runs the private variant of {} is not known: {why}",
            image.name
        )),
    }
}

/// The containers of the system below `root`: Docker's, or those that a sandbox has recorded.
pub fn runtime(root: &Path) -> Box<dyn ContainerRuntime> {
    if root == Path::new("/") { Box::new(Docker::default()) } else { Box::new(Recorder::new(root)) }
}
