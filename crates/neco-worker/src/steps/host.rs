//! What steps use of this server: its files, units, containers and facts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use neco_components::{
    ContentDigest, Desired, DesiredFile, Facts, Observed, ObservedFile, ObservedUnit, ServerFacts,
};
use neco_connect::one_line;
use neco_host::fs::{FileSystem, Owner};
use neco_host::{Root, address, replace};
use neco_runtime::ContainerRuntime;
use neco_schema::journal::Entry;
use neco_schema::{Lrn, UpdateRequest};
use neco_systemd::{UnitName, Units};
use serde::{Deserialize, Serialize};

use crate::context::StepError;
use crate::shared::Shared;

/// Where the facts of an open group wait for its end.
const GROUPS: &str = "/var/lib/neco/groups";

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
    /// The worker's shared state.
    pub shared: Arc<Shared>,
    /// What templates may ask about it.
    pub about: About,
}

/// What templates may ask about a server, beside the request.
#[derive(Clone, Debug)]
pub struct About {
    /// The cluster's name.
    pub cluster: String,
    /// This server.
    pub lrn: Lrn,
    /// The operating system's name.
    pub os_name: String,
    /// Its version.
    pub os_version: String,
    /// The machine's serial number.
    pub serial: String,
}

/// What of a request the facts of a group need, beside the server itself.
#[derive(Serialize, Deserialize)]
struct GroupFacts {
    version: neco_schema::NecoVersion,
    servers: Vec<Lrn>,
}

impl StepHost {
    /// What templates may ask while `request` runs.
    ///
    /// # Errors
    /// A server of the request has no address in the plan.
    pub fn facts(&self, request: &UpdateRequest) -> Result<Facts, StepError> {
        self.facts_for(&request.version, &request.servers)
    }

    fn facts_for(
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
            cluster: self.about.cluster.clone(),
            lrn: self.about.lrn,
            node0: server(self.about.lrn)?.node0,
            servers: servers.iter().map(|lrn| server(*lrn)).collect::<Result<_, _>>()?,
            os_name: self.about.os_name.clone(),
            os_version: self.about.os_version.clone(),
            serial: self.about.serial.clone(),
        })
    }

    /// Keeps what the apply step of a group needs, so that the group can be ended without its request.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_group_facts(&self, group: &str, request: &UpdateRequest) -> Result<(), StepError> {
        let facts =
            GroupFacts { version: request.version.clone(), servers: request.servers.clone() };
        let text =
            serde_json::to_vec(&facts).map_err(|error| StepError::Failed(error.to_string()))?;
        self.write_bytes(&Path::new(GROUPS).join(format!("{group}.json")), &text, 0o644)
    }

    /// What templates may ask while an open group is brought forward.
    ///
    /// # Errors
    /// Nothing was kept.
    pub fn facts_of_group(&self, group: &str) -> Result<Facts, StepError> {
        let path = self.root.join(Path::new(GROUPS).join(format!("{group}.json")));
        let text = self
            .fs
            .read(&path)
            .map_err(|error| StepError::Failed(format!("reading {}: {error}", path.display())))?;
        let facts: GroupFacts = serde_json::from_slice(&text).map_err(|error| {
            StepError::Failed(format!("{} is malformed: {error}", path.display()))
        })?;
        self.facts_for(&facts.version, &facts.servers)
    }

    /// What `desired` is compared with.
    ///
    /// # Errors
    /// Files or units cannot be looked at.
    pub async fn observe_now(&self, desired: &Desired) -> Result<Observed, StepError> {
        let mut files = BTreeMap::new();
        for file in &desired.files {
            if let Some(found) = self.observe_file(file)? {
                files.insert(file.path.clone(), found);
            }
        }
        let started_with = self.shared.local().journal.started_with;
        let mut units = BTreeMap::new();
        for unit in &desired.units {
            let name = unit_name(&unit.name)?;
            let state = self
                .units
                .state(&name)
                .await
                .map_err(|error| StepError::failed(format!("state of {name}"), &error))?;
            if state.exists() {
                let started_with = started_with.get(&unit.name).map(ContentDigest::claimed);
                let observed = ObservedUnit {
                    enabled: state.is_enabled(),
                    active: state.is_active(),
                    started_with,
                    needs_reload: state.needs_reload,
                };
                units.insert(unit.name.clone(), observed);
            }
        }
        Ok(Observed { files, units })
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

    /// Writes a file as desired, in one piece.
    ///
    /// # Errors
    /// The disk refuses; the old file is still there.
    pub fn write(&self, file: &DesiredFile) -> Result<(), StepError> {
        let owner = if self.root.is_system() { owner_of(file)? } else { None };
        replace(&*self.fs, &self.root, &file.path, file.content.as_bytes(), file.mode, owner)
            .map(|_| ())
            .map_err(|error| StepError::failed(format!("writing {}", file.path.display()), &error))
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

/// A unit by its full name.
pub(crate) fn unit_name(name: &str) -> Result<UnitName, StepError> {
    name.parse().map_err(|error| StepError::Failed(format!("{name}: {error}")))
}

/// Owners are numbers here: names belong to a container's world, not to this server's.
fn owner_of(file: &DesiredFile) -> Result<Option<Owner>, StepError> {
    let number = |who: &Option<String>, own: u32| match who {
        None => Ok(own),
        Some(text) => text.parse::<u32>().map_err(|_| {
            StepError::Failed(format!(
                "{}: owner and group must be numbers, not {text:?}",
                file.path.display()
            ))
        }),
    };
    if file.owner.is_none() && file.group.is_none() {
        return Ok(None);
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Ok(Some(Owner { uid: number(&file.owner, uid)?, gid: number(&file.group, gid)? }))
}
