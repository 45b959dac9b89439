//! What a component looks like on one server now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::{Access, ContentDigest, Desired, DesiredUnit};

/// What a component looks like on one server now. What does not exist is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Files by path.
    pub files: BTreeMap<PathBuf, ObservedFile>,
    /// Who may do what with the [secrets](Desired::secrets), by path.
    pub secrets: BTreeMap<PathBuf, Access>,
    /// Units by full name.
    pub units: BTreeMap<String, ObservedUnit>,
    /// The files without which a component is none of this server's, or a unit does not run, as far as they exist.
    pub needs: BTreeSet<PathBuf>,
    /// Whether the image is there.
    pub image: bool,
    /// The image whose client programs were installed last.
    pub tools: Option<String>,
    /// The release whose package was installed last; `None` also where the package is not installed whole any more.
    pub package: Option<String>,
}

/// A file as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedFile {
    /// The digest of what it holds.
    pub digest: ContentDigest,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, in the form the component uses; `None` where nobody looked, as in a sandbox.
    pub owner: Option<String>,
    /// Its group, in the form the component uses; `None` where nobody looked.
    pub group: Option<String>,
}

/// A unit as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedUnit {
    /// Whether nothing is left to do for it to start at boot: it is enabled, or it comes with something else and systemd cannot
    /// enable it, because its file says nothing about boot, or is another's name or product.
    pub enabled: bool,
    /// Whether it runs.
    pub active: bool,
    /// The digest it was last started with: from the journal, or, where somebody else started it, that of what lies on the
    /// disk since before that. `None` where nobody knows.
    pub started_with: Option<ContentDigest>,
    /// Whether systemd still goes by an older file than the one on the disk (its `NeedDaemonReload`): a worker that died
    /// between writing the file and telling systemd leaves this behind.
    pub needs_reload: bool,
}

impl Observed {
    /// Whether everything is there that `unit` needs to run.
    pub fn lets_run(&self, unit: &DesiredUnit) -> bool {
        unit.needs.iter().all(|path| self.needs.contains(path))
    }

    /// Whether `desired` is one of this server's components.
    pub fn concerns(&self, desired: &Desired) -> bool {
        desired.only_where.iter().all(|path| self.needs.contains(path))
    }

    /// What would be observed if everything were as `desired` and freshly started.
    pub fn fulfilling(desired: &Desired) -> Self {
        let files = desired.files.iter().map(|file| {
            let observed = ObservedFile {
                digest: file.digest.clone(),
                mode: file.mode,
                owner: file.owner.clone(),
                group: file.group.clone(),
            };
            (file.path.clone(), observed)
        });
        let units = desired.units.iter().map(|unit| {
            let digest = Some(unit.digest.clone());
            let observed = ObservedUnit {
                enabled: true,
                active: true,
                started_with: digest,
                needs_reload: false,
            };
            (unit.name.clone(), observed)
        });
        let secrets = desired.secrets.iter();
        let secrets = secrets.map(|secret| (secret.path.clone(), secret.access.clone()));
        Self {
            files: files.collect(),
            secrets: secrets.collect(),
            units: units.collect(),
            needs: desired
                .units
                .iter()
                .flat_map(|unit| &unit.needs)
                .chain(&desired.only_where)
                .cloned()
                .collect(),
            image: desired.image.is_some(),
            tools: desired.tools.as_ref().and(desired.image.clone()),
            package: desired.package.as_ref().map(|package| package.release.clone()),
        }
    }
}
