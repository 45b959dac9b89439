//! What steps use of this server: its files, units, containers and facts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neco_components::{
    Access, Component, ContentDigest, Deb, Desired, DesiredFile, Facts, FileSpec, Image, Name,
    Observed, ObservedFile, ObservedUnit, SecretSpec, ServerFacts, UnitSpec,
};
use neco_connect::one_line;
use neco_host::fs::{FileSystem, Kind, Owner};
use neco_host::{Root, address, identity, replace};
use neco_runtime::{ContainerRuntime, ImageRef, Logins};
use neco_sabakan::Sabakan;
use neco_schema::journal::Entry;
use neco_schema::{Lrn, UpdateRequest};
use neco_store::Members;
use neco_systemd::{UnitName, Units};
use serde::{Deserialize, Serialize};

use crate::cke::Cke;
use crate::context::StepError;
use crate::debs::Debs;
use crate::outside::Outside;
use crate::shared::Shared;
use crate::steps::started::Began;
use crate::steps::tries::Patience;

/// Where the facts of an open group wait for its end.
const GROUPS: &str = "/var/lib/neco/groups";

/// Where a file lies while a command looks at it.
const CANDIDATES: &str = "/var/lib/neco/candidates";
/// How long that may take, or a program to say something about itself.
pub(super) const VALIDATED_WITHIN: Duration = Duration::from_secs(30);
/// Where it is noted what was installed.
const INSTALLED: &str = "/var/lib/neco/installed";

/// The note about the client programs of a component's image: the image.
pub(super) fn tools_note(component: &Name) -> PathBuf {
    Path::new(INSTALLED).join("tools").join(component.as_str())
}

/// The note about a Debian package: its release.
pub(super) fn package_note(package: &Name) -> PathBuf {
    Path::new(INSTALLED).join("packages").join(package.as_str())
}

/// The drivers and facts of this server.
pub struct StepHost {
    /// The root of its file system.
    pub root: Root,
    /// Its files.
    pub fs: Arc<dyn FileSystem>,
    /// Its units.
    pub units: Arc<dyn Units>,
    /// Its containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Who it is to registries of images.
    pub logins: Arc<dyn Logins>,
    /// Its Debian packages beside Neco's own.
    pub debs: Arc<dyn Debs>,
    /// Who belongs to etcd.
    pub members: Arc<dyn Members>,
    /// Its sabakan.
    pub sabakan: Arc<dyn Sabakan>,
    /// Its CKE.
    pub cke: Arc<dyn Cke>,
    /// What lies outside of the data centre.
    pub outside: Arc<dyn Outside>,
    /// How long it tries things in which others have a part.
    pub patience: Patience,
    /// The worker's shared state.
    pub shared: Arc<Shared>,
    /// What templates may ask about it.
    pub about: About,
}

/// What templates may ask about a server, beside the request.
#[derive(Clone, Debug)]
pub struct About {
    /// This server.
    pub lrn: Lrn,
    /// The operating system's name; empty where it does not tell.
    pub os_name: String,
    /// Its version, the same way.
    pub os_version: String,
    /// The machine's serial number; empty where it has none.
    pub serial: String,
}

/// What is kept about an open group: what of a request its facts need, beside the server itself, and what it has stopped.
#[derive(Serialize, Deserialize)]
struct GroupFacts {
    version: neco_schema::NecoVersion,
    servers: Vec<Lrn>,
    /// Its units, as they are started. Versions before this was kept have left it out.
    #[serde(default)]
    units: Vec<String>,
}

impl StepHost {
    /// The cluster's name, as it stands on the disk now.
    ///
    /// # Errors
    /// It does not stand there.
    pub(crate) fn cluster(&self) -> Result<String, StepError> {
        let cluster = identity::cluster(&self.root);
        cluster.map_err(|error| StepError::failed("the name of the cluster", &error))
    }

    /// What templates may ask while `request` runs.
    ///
    /// # Errors
    /// This server does not know its cluster, or a server of the request has no address in the plan.
    pub fn facts(&self, request: &UpdateRequest) -> Result<Facts, StepError> {
        self.facts_for(&request.version, &request.servers)
    }

    /// The same for a request of this version by these servers.
    pub(crate) fn facts_for(
        &self,
        version: &neco_schema::NecoVersion,
        servers: &[Lrn],
    ) -> Result<Facts, StepError> {
        let server = |lrn: Lrn| {
            let node0 = address::node0(lrn).map_err(|error| StepError::Failed(one_line(&error)))?;
            Ok::<_, StepError>(ServerFacts { lrn, node0 })
        };
        Ok(Facts {
            version: version.clone(),
            cluster: self.cluster()?,
            lrn: self.about.lrn,
            node0: server(self.about.lrn)?.node0,
            servers: servers.iter().map(|lrn| server(*lrn)).collect::<Result<_, _>>()?,
            os_name: self.about.os_name.clone(),
            os_version: self.about.os_version.clone(),
            serial: self.about.serial.clone(),
            variants: BTreeSet::new(),
        })
    }

    /// Keeps what the apply step of a group needs, so that the group can be ended without its request, and its `units`, so
    /// that they can be started by a version that does not know the group.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_group_facts(
        &self,
        group: &str,
        request: &UpdateRequest,
        units: Vec<String>,
    ) -> Result<(), StepError> {
        let (version, servers) = (request.version.clone(), request.servers.clone());
        let facts = GroupFacts { version, servers, units };
        let text =
            serde_json::to_vec(&facts).map_err(|error| StepError::Failed(error.to_string()))?;
        self.write_bytes(&Path::new(GROUPS).join(format!("{group}.json")), &text, 0o644)
    }

    /// What templates may ask while an open group is brought forward.
    ///
    /// # Errors
    /// Nothing was kept.
    pub fn facts_of_group(&self, group: &str) -> Result<Facts, StepError> {
        let facts = self.kept_of_group(group)?;
        self.facts_for(&facts.version, &facts.servers)
    }

    /// The units that an open group has stopped; none where that was not kept.
    pub(crate) fn units_of_group(&self, group: &str) -> Vec<String> {
        self.kept_of_group(group).map(|facts| facts.units).unwrap_or_default()
    }

    fn kept_of_group(&self, group: &str) -> Result<GroupFacts, StepError> {
        let path = self.root.join(Path::new(GROUPS).join(format!("{group}.json")));
        let text = self
            .fs
            .read(&path)
            .map_err(|error| StepError::Failed(format!("reading {}: {error}", path.display())))?;
        serde_json::from_slice(&text)
            .map_err(|error| StepError::Failed(format!("{} is malformed: {error}", path.display())))
    }

    /// What a component should look like here.
    ///
    /// # Errors
    /// A template asks for something that this server does not have, or a file that it watches cannot be read.
    pub fn desired(&self, component: &Component, facts: &Facts) -> Result<Desired, StepError> {
        self.desired_of(component, facts, None)
    }

    /// What a component should look like here once the package unpacked in the folder `package` is installed.
    pub(crate) fn desired_of(
        &self,
        component: &Component,
        facts: &Facts,
        package: Option<&Path>,
    ) -> Result<Desired, StepError> {
        let desired = Desired::render(component, facts)
            .map_err(|error| StepError::Failed(one_line(&error)))?;
        let mut watched = BTreeMap::new();
        for path in &component.watch {
            let of_package = package.and_then(|package| {
                Some(package.join(path.strip_prefix("/").ok()?)).filter(|path| path.is_file())
            });
            let at = of_package.unwrap_or_else(|| self.root.join(path));
            watched.insert(path.clone(), read_digest(&*self.fs, &at)?);
        }
        Ok(desired.watching(&watched))
    }

    /// The images among `images` of which this server runs the private variant: it can log in where they lie.
    ///
    /// # Errors
    /// The file of logins cannot be used.
    pub async fn variants(
        &self,
        images: impl Iterator<Item = &Image>,
    ) -> Result<BTreeSet<Name>, StepError> {
        let mut variants = BTreeSet::new();
        for image in images {
            let reference = image_ref(&image.reference())?;
            let login = self.logins.login(reference.registry()).await;
            if login.map_err(StepError::Failed)?.is_some() {
                variants.insert(image.name.clone());
            }
        }
        Ok(variants)
    }

    /// Whether a component is one of this server's.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn concerns(&self, component: &Component) -> Result<bool, StepError> {
        for path in &component.only_where {
            if !self.exists(path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether everything is there that a unit needs to run.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn lets_run(&self, unit: &UnitSpec) -> Result<bool, StepError> {
        for path in &unit.needs {
            if !self.exists(path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the units of a component are on this server that come with something else than Neco and its own package.
    pub(crate) async fn has_units_of(&self, component: &Component) -> Result<bool, StepError> {
        if component.package.is_some() {
            return Ok(true);
        }
        for unit in component.units.iter().filter(|unit| unit.template.is_none()) {
            let name = unit_name(&unit.name)?;
            let state = self.units.state(&name).await;
            let state =
                state.map_err(|error| StepError::failed(format!("state of {name}"), &error))?;
            if !state.exists() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is something at `path`.
    pub(crate) fn exists(&self, path: &Path) -> Result<bool, StepError> {
        let path = self.root.join(path);
        let found = self.fs.metadata(&path);
        let failed = |error| StepError::Failed(format!("looking at {}: {error}", path.display()));
        found.map(|found| found.is_some()).map_err(failed)
    }

    /// What `desired` is compared with.
    ///
    /// # Errors
    /// Files, units or images cannot be looked at.
    pub async fn observe_now(&self, desired: &Desired) -> Result<Observed, StepError> {
        self.observe_beside(self.has_image(desired).await?, desired).await
    }

    /// Whether the image that `desired` names is here.
    ///
    /// # Errors
    /// Docker cannot tell.
    pub(crate) async fn has_image(&self, desired: &Desired) -> Result<bool, StepError> {
        let Some(image) = &desired.image else { return Ok(false) };
        let has = self.runtime.has(&image_ref(image)?).await;
        has.map_err(|error| StepError::failed(format!("looking for {image}"), &error))
    }

    /// What `desired` is compared with, where it is known already whether its image is here.
    ///
    /// # Errors
    /// Files or units cannot be looked at.
    pub(crate) async fn observe_beside(
        &self,
        image: bool,
        desired: &Desired,
    ) -> Result<Observed, StepError> {
        let mut files = BTreeMap::new();
        for file in &desired.files {
            if let Some(found) = self.observe_file(file)? {
                files.insert(file.path.clone(), found);
            }
        }
        let mut secrets = BTreeMap::new();
        for secret in &desired.secrets {
            if let Some(found) = self.observe_access(&secret.path)? {
                secrets.insert(secret.path.clone(), found);
            }
        }
        let mut units = BTreeMap::new();
        for unit in &desired.units {
            let name = unit_name(&unit.name)?;
            let state = self
                .units
                .state(&name)
                .await
                .map_err(|error| StepError::failed(format!("state of {name}"), &error))?;
            if state.exists() {
                let started_with = Began::digest_of(self, desired, unit, &state)?;
                let observed = ObservedUnit {
                    enabled: state.is_enabled() || (!unit.is_written && !state.wants_enabling()),
                    active: state.is_active(),
                    started_with,
                    needs_reload: state.needs_reload,
                };
                units.insert(unit.name.clone(), observed);
            }
        }
        let mut needs = BTreeSet::new();
        let of_units = desired.units.iter().flat_map(|unit| &unit.needs);
        for path in of_units.chain(&desired.only_where) {
            if self.exists(path)? {
                needs.insert(path.clone());
            }
        }
        let tools = match &desired.tools {
            Some(_) => self.noted(&tools_note(&desired.component))?,
            None => None,
        };
        let package = match &desired.package {
            Some(package) => match self.debs.is_installed(package.name.as_str()).await {
                Ok(true) => self.noted(&package_note(&package.name))?,
                Ok(false) => None,
                Err(error) => {
                    return Err(StepError::failed(
                        format!("state of package {}", package.name),
                        &error,
                    ));
                }
            },
            None => None,
        };
        Ok(Observed { files, secrets, units, needs, image, tools, package })
    }

    /// Notes of which release a Debian package was installed.
    pub(crate) fn note_package(&self, package: &Deb) -> Result<(), StepError> {
        self.write_bytes(&package_note(&package.name), package.release.as_bytes(), 0o644)
    }

    /// What was noted when something was installed. A note is written after success, never before.
    fn noted(&self, note: &Path) -> Result<Option<String>, StepError> {
        let path = self.root.join(note);
        match self.fs.read(&path) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StepError::Failed(format!("reading {}: {error}", path.display()))),
        }
    }

    /// Whether the files and the package of a component, and what it watches, are on the disk as desired; modes and owners
    /// are not looked at.
    ///
    /// # Errors
    /// The disk cannot be looked at.
    pub(super) fn holds(&self, desired: &Desired) -> Result<bool, StepError> {
        // One that is only created may have become anything since then.
        let own = desired.files.iter().filter(|file| !file.create_only);
        let own = own.map(|file| (&file.path, Some(&file.digest)));
        let watched = desired.watched.iter().map(|(path, digest)| (path, digest.as_ref()));
        for (path, digest) in own.chain(watched) {
            if self.digest_at(path)?.as_ref() != digest {
                return Ok(false);
            }
        }
        Ok(match &desired.package {
            Some(package) => {
                self.noted(&package_note(&package.name))? == Some(package.release.clone())
            }
            None => true,
        })
    }

    /// The digest of what a file holds, if there is one.
    fn digest_at(&self, path: &Path) -> Result<Option<ContentDigest>, StepError> {
        read_digest(&*self.fs, &self.root.join(path))
    }

    fn observe_file(&self, file: &DesiredFile) -> Result<Option<ObservedFile>, StepError> {
        let path = self.root.join(&file.path);
        let failed = |error: std::io::Error| {
            StepError::Failed(format!("looking at {}: {error}", path.display()))
        };
        let Some(found) = self.fs.metadata(&path).map_err(failed)? else { return Ok(None) };
        let content = self.fs.read(&path).map_err(failed)?;
        let looked_at_owner = self.root.is_system();
        let id = |number: u32| looked_at_owner.then(|| number.to_string());
        Ok(Some(ObservedFile {
            digest: ContentDigest::of(content),
            mode: found.mode,
            owner: file.owner.as_ref().and_then(|_| id(found.owner.uid)),
            group: file.group.as_ref().and_then(|_| id(found.owner.gid)),
        }))
    }

    /// Who may do what with a file, if there is one; who owns it is told of a system only. What is no plain file is left to
    /// whoever made it so.
    fn observe_access(&self, path: &Path) -> Result<Option<Access>, StepError> {
        let path = self.root.join(path);
        let found = self.fs.metadata(&path).map_err(|error| {
            StepError::Failed(format!("looking at {}: {error}", path.display()))
        })?;
        let found = match found {
            Some(found) if found.kind != Kind::File => {
                tracing::warn!(path = %path.display(), "no plain file: who may read it is not seen to");
                None
            }
            found => found,
        };
        let id = |number: u32| self.root.is_system().then(|| number.to_string());
        Ok(found.map(|found| Access {
            mode: found.mode,
            owner: id(found.owner.uid),
            group: id(found.owner.gid),
        }))
    }

    /// Gives a file of others the owner and the mode that a secret has, and leaves what it holds. Whoever may read it before
    /// and after may do so in between.
    ///
    /// # Errors
    /// It is no plain file, or the disk refuses.
    pub fn restrict(&self, secret: &SecretSpec) -> Result<(), StepError> {
        let path = self.root.join(&secret.path);
        let failed = |error: std::io::Error| {
            StepError::failed(format!("giving {} its owner and mode", path.display()), &error)
        };
        let found = match self.fs.metadata(&path).map_err(failed)? {
            // It was taken away meanwhile.
            None => return Ok(()),
            Some(found) if found.kind == Kind::File => found,
            Some(_) => {
                return Err(StepError::Failed(format!(
                    "{} is to be a file that nobody else reads, and is no plain file: put the file itself there",
                    path.display()
                )));
            }
        };
        let Access { mode, owner, group } = &secret.access;
        let owner = match self.root.is_system() {
            true => owner_of(&secret.path, owner.as_deref(), group.as_deref(), found.owner)?,
            false => None,
        };
        let file = self.fs.open_append(&path).map_err(failed)?;
        if let Some(owner) = owner {
            self.fs.set_owner(&file, owner).map_err(failed)?;
        }
        self.fs.set_mode(&file, *mode).map_err(failed)?;
        self.fs.sync(&file).map_err(failed)
    }

    /// Writes a file as desired, in one piece, if the command that validates it accepts it.
    ///
    /// # Errors
    /// The command or the disk refuses; the old file is still there.
    pub async fn write(&self, file: &DesiredFile) -> Result<(), StepError> {
        self.validate(file).await?;
        let owner = if self.root.is_system() {
            let own = Owner {
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
            };
            owner_of(&file.path, file.owner.as_deref(), file.group.as_deref(), own)?
        } else {
            None
        };
        replace(&*self.fs, &self.root, &file.path, file.content.as_bytes(), file.mode, owner)
            .map(|_| ())
            .map_err(|error| StepError::failed(format!("writing {}", file.path.display()), &error))
    }

    /// Has the command of a file look at what is about to become it. In a sandbox there is no such command.
    async fn validate(&self, file: &DesiredFile) -> Result<(), StepError> {
        if file.validate.is_empty() || !self.root.is_system() {
            return Ok(());
        }
        let name = file.path.file_name().unwrap_or_default();
        let path = Path::new(CANDIDATES).join(name);
        self.write_bytes(&path, file.content.as_bytes(), 0o600)?;
        let place = self.root.join(&path).display().to_string();
        let words = file.validate.iter().map(|word| match word.as_str() {
            FileSpec::PLACE => place.as_str(),
            word => word,
        });
        let words: Vec<&str> = words.collect();
        let output = neco_host::run_command(&words, VALIDATED_WITHIN).await;
        let _ = self.fs.remove(&self.root.join(&path));
        let output = output.map_err(|error| {
            StepError::failed(format!("validating {}", file.path.display()), &error)
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(StepError::Failed(format!("{} is not accepted: {output}", file.path.display())))
    }

    /// Writes a file of the worker's own, in one piece.
    ///
    /// # Errors
    /// The disk refuses; the old file is still there.
    pub fn write_bytes(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), StepError> {
        replace(&*self.fs, &self.root, path, content, mode, None)
            .map(|_| ())
            .map_err(|error| StepError::failed(format!("writing {}", path.display()), &error))
    }

    /// Writes entries into the journal.
    ///
    /// # Errors
    /// They are not durable.
    pub fn record(&self, entries: &[Entry]) -> Result<(), StepError> {
        Ok(self.shared.record(entries)?)
    }
}

/// The digest of what the file at a real path holds, if there is one.
fn read_digest(fs: &dyn FileSystem, path: &Path) -> Result<Option<ContentDigest>, StepError> {
    match fs.read(path) {
        Ok(content) => Ok(Some(ContentDigest::of(content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StepError::Failed(format!("reading {}: {error}", path.display()))),
    }
}

/// A unit by its full name.
pub(crate) fn unit_name(name: &str) -> Result<UnitName, StepError> {
    name.parse().map_err(|error| StepError::Failed(format!("{name}: {error}")))
}

/// An image by its full name.
pub(crate) fn image_ref(reference: &str) -> Result<ImageRef, StepError> {
    reference.parse().map_err(|error| StepError::Failed(format!("{error}")))
}

/// Owners are numbers here: names belong to a container's world, not to this server's. What is not said is as in `unsaid`.
fn owner_of(
    path: &Path,
    owner: Option<&str>,
    group: Option<&str>,
    unsaid: Owner,
) -> Result<Option<Owner>, StepError> {
    let number = |who: Option<&str>, own: u32| match who {
        None => Ok(own),
        Some(text) => text.parse::<u32>().map_err(|_| {
            StepError::Failed(format!(
                "{}: owner and group must be numbers, not {text:?}",
                path.display()
            ))
        }),
    };
    if owner.is_none() && group.is_none() {
        return Ok(None);
    }
    Ok(Some(Owner { uid: number(owner, unsaid.uid)?, gid: number(group, unsaid.gid)? }))
}
