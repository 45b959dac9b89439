//! A machine with a real Docker and a registry of its own.

use std::fs;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use neco_runtime::contract::{Bench, NAME, Refused, TAGS};
use neco_runtime::{ContainerRuntime, Docker, ImageRef, Limits, Login, Logins};

use crate::image::{ballast, image, programs};
use crate::registry::Registry;
use crate::tools::{output, succeeds};

/// Where the images lie in each registry.
const REPOSITORY: &str = "neco-contract/serf";

/// An image whose transfer takes a moment.
pub(crate) const BIG: &str = "big";

/// A registry with all images.
pub(crate) struct Site {
    pub(crate) registry: Mutex<Registry>,
    programs: Vec<u8>,
    dir: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let registry = Registry::open();
        let programs = programs(dir.path());
        for tag in TAGS {
            let image = image(std::slice::from_ref(&programs), tag);
            registry.push(&image, REPOSITORY, tag, dir.path());
        }
        Self { registry: Mutex::new(registry), programs, dir }
    }

    /// One that also has the image [`BIG`].
    pub(crate) fn with_big() -> Self {
        let site = Self::new();
        let layers = [site.programs.clone(), ballast(site.dir.path(), 64 << 20)];
        let registry = site.registry.lock().expect("no panic");
        registry.push(&image(&layers, BIG), REPOSITORY, BIG, site.dir.path());
        drop(registry);
        site
    }

    /// The machine, without images of this registry and without the suite's container.
    pub(crate) fn machine(&self) -> Machine<'_> {
        let limits = Limits {
            answer: Duration::from_secs(20),
            command: Duration::from_secs(60),
            stalled: Duration::from_secs(20),
            grace: Duration::from_secs(5),
        };
        let repository = format!("{}/{REPOSITORY}", self.registry.lock().expect("no panic").host());
        let docker = Docker::default().with_limits(limits);
        let machine = Machine { site: self, repository, docker, closed: OnceLock::new() };
        machine.clear();
        machine
    }
}

/// This machine, until it is dropped.
pub(crate) struct Machine<'a> {
    site: &'a Site,
    repository: String,
    pub(crate) docker: Docker,
    /// A registry that gives nothing without a login, once it was asked for.
    closed: OnceLock<Registry>,
}

impl Machine<'_> {
    pub(crate) fn image(&self, tag: &str) -> ImageRef {
        format!("{}:{tag}", self.repository).parse().expect("a name")
    }

    pub(crate) async fn pull(&self, tag: &str) -> ImageRef {
        let image = self.image(tag);
        self.docker.pull(&image, &|_| {}).await.expect("pulled");
        image
    }

    /// Gives an image no file at all, under the same name.
    fn hollow(&self, image: &str) {
        let empty = self.site.dir.path().join("empty.tar");
        fs::write(&empty, [0; 1024]).expect("written");
        output("docker", &["tag", image, &kept(image)]);
        output("docker", &["import", &empty.display().to_string(), image]);
    }

    /// Removes its containers and images.
    fn clear(&self) {
        let _ = succeeds("docker", &["rm", "-f", NAME]);
        remove_images(&self.repository);
    }
}

/// Removes all images of a repository with all their names.
pub(crate) fn remove_images(repository: &str) {
    for image in output("docker", &["images", "--all", "--quiet", repository]).lines() {
        let _ = succeeds("docker", &["rmi", "-f", image]);
    }
}

fn kept(image: &str) -> String {
    format!("{image}-kept")
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Bench for Machine<'_> {
    fn runtime(&self) -> &dyn ContainerRuntime {
        &self.docker
    }

    fn repository(&self) -> String {
        self.repository.clone()
    }

    fn fail(&self, call: &str, message: Option<&str>) {
        let mut registry = self.site.registry.lock().expect("no panic");
        match (call.split_once(' ').expect("a call"), message) {
            (("pull", _), Some(_)) => registry.stop(),
            (("pull", _), None) => registry.start(),
            (("run", image), Some(_)) => self.hollow(image),
            (("run", image), None) => {
                output("docker", &["rmi", image]);
                output("docker", &["tag", &kept(image), image]);
                output("docker", &["rmi", &kept(image)]);
            }
            (other, _) => panic!("{other:?} cannot be made to fail"),
        }
    }

    fn refused(&self, why: Refused) -> ImageRef {
        let open = self.site.registry.lock().expect("no panic");
        match why {
            Refused::NoTag => self.image("9.9"),
            Refused::NoRepository => {
                format!("{}-secret:1", self.repository).parse().expect("a name")
            }
            Refused::NoLogin => {
                let host = self.closed.get_or_init(|| Registry::closed(&open)).host();
                format!("{host}/{REPOSITORY}:1").parse().expect("a name")
            }
        }
    }

    fn say(&self, line: &str) {
        let script = "echo \"$1\" > /proc/1/fd/1";
        output("docker", &["exec", NAME, "sh", "-c", script, "say", line]);
    }
}

/// Logins that can be changed.
#[derive(Clone, Default)]
pub(crate) struct Changing(Arc<Mutex<Option<Login>>>);

impl Changing {
    pub(crate) fn set(&self, login: Option<Login>) {
        *self.0.lock().expect("no panic") = login;
    }
}

#[async_trait]
impl Logins for Changing {
    async fn login(&self, _registry: &str) -> Result<Option<Login>, String> {
        Ok(self.0.lock().expect("no panic").clone())
    }

    fn remedy(&self, registry: &str) -> String {
        format!("telling the test the login for {registry}")
    }
}
