//! From what is desired and what is observed to what is to be done.

use std::path::PathBuf;

use neco_toml::Name;

use crate::{
    Access, ContentDigest, Desired, DesiredFile, DesiredUnit, FileKind, Observed, ObservedFile,
    ObservedUnit, Restart, UnitRole,
};

/// One way in which a server is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Its image is not there.
    Image {
        /// Its full name.
        reference: String,
    },
    /// The client programs of its image are not installed, or those of another.
    Tools {
        /// The image whose programs are, if any.
        from: Option<String>,
        /// The image whose programs should be.
        to: String,
    },
    /// Its Debian package is not installed, or another release of it.
    Package {
        /// Its name.
        name: Name,
        /// The release that is, if any.
        from: Option<String>,
        /// The release that should be.
        to: String,
    },
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// In what.
        change: FileChange,
    },
    /// In a unit.
    Unit {
        /// Which.
        unit: String,
        /// In what.
        change: UnitChange,
    },
}

/// In what a file is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It does not exist.
    Missing,
    /// It holds something else.
    Content {
        /// The digest of what it holds.
        from: ContentDigest,
        /// The digest of what it should hold.
        to: ContentDigest,
    },
    /// Its permission bits differ.
    Mode {
        /// What they are.
        from: u32,
        /// What they should be.
        to: u32,
    },
    /// Its owner differs.
    Owner {
        /// Who it is.
        from: String,
        /// Who it should be.
        to: String,
    },
    /// Its group differs.
    Group {
        /// What it is.
        from: String,
        /// What it should be.
        to: String,
    },
}

/// In what a unit is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitChange {
    /// systemd goes by an older file than the one on the disk.
    NotReloaded,
    /// It does not start at boot.
    NotEnabled,
    /// It does not run.
    NotActive,
    /// It runs with something else than what is desired now.
    StartedWith {
        /// With what, as far as it is known.
        from: Option<ContentDigest>,
        /// With what it should run.
        to: ContentDigest,
    },
    /// It is restarted each time, because its component says so.
    RestartsAlways,
}

/// Something to do, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fetch an image.
    Pull(String),
    /// Run an image once, so that it installs its client programs.
    InstallTools(String),
    /// Replace a file as a whole: content, mode, owner.
    Write(PathBuf),
    /// Give a file of others its owner and mode, and leave what it holds.
    Restrict(PathBuf),
    /// Tell systemd that unit files changed.
    Reload,
    /// Install a Debian package.
    InstallPackage(Name),
    /// Make a unit start at boot.
    Enable(String),
    /// Start a unit that does not run.
    Start(String),
    /// Restart a unit that runs.
    Restart(String),
    /// Tell a unit that runs to read its files again.
    ReloadUnit(String),
}

/// In what `observed` is not as `desired`: image, client programs and package, files in their order, then units. Empty when
/// there is nothing to do, and where it is none of the server's components.
///
/// A component that is [not on this server](absent_unit) is left alone.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Difference> {
    let mut differences = Vec::new();
    if !observed.concerns(desired) {
        return differences;
    }
    if absent_unit(desired, observed).is_some() {
        return differences;
    }
    if let Some(image) = desired.image.as_ref().filter(|_| !observed.image) {
        differences.push(Difference::Image { reference: image.clone() });
    }
    if let (Some(_), Some(image)) = (&desired.tools, &desired.image)
        && observed.tools.as_ref() != Some(image)
    {
        let (from, to) = (observed.tools.clone(), image.clone());
        differences.push(Difference::Tools { from, to });
    }
    if let Some(package) = &desired.package
        && observed.package.as_ref() != Some(&package.release)
    {
        let (from, to) = (observed.package.clone(), package.release.clone());
        differences.push(Difference::Package { name: package.name.clone(), from, to });
    }
    for file in &desired.files {
        let changes = file_changes(file, observed.files.get(&file.path));
        let changed = |change| Difference::File { path: file.path.clone(), change };
        differences.extend(changes.into_iter().map(changed));
    }
    for secret in &desired.secrets {
        let Some(found) = observed.secrets.get(&secret.path) else { continue };
        let changed = |change| Difference::File { path: secret.path.clone(), change };
        differences.extend(access_changes(found, &secret.access).into_iter().map(changed));
    }
    for unit in &desired.units {
        let changes = unit_changes(desired.restart, unit, observed);
        let changed = |change| Difference::Unit { unit: unit.name.clone(), change };
        differences.extend(changes.into_iter().map(changed));
    }
    differences
}

/// The unit for whose lack a component is not on this server: its file comes with a program that Neco's package may carry, or
/// with the operating system, and systemd knows none of that name. What its own Debian package brings is no such unit.
pub fn absent_unit<'d>(desired: &'d Desired, observed: &Observed) -> Option<&'d DesiredUnit> {
    let comes_by_itself = |unit: &&DesiredUnit| desired.package.is_none() && !unit.is_written;
    let is_absent = |unit: &&DesiredUnit| !observed.units.contains_key(&unit.name);
    desired.units.iter().filter(comes_by_itself).find(is_absent)
}

/// What is to be done about `differences`, in order: bring the image and its client programs, write files, keep secrets, reload, install
/// the package, enable, then start or restart.
pub fn effects(desired: &Desired, differences: &[Difference]) -> Vec<Effect> {
    let differs = |wanted: &PathBuf| {
        differences.iter().any(|d| matches!(d, Difference::File { path, .. } if path == wanted))
    };
    let written: Vec<&DesiredFile> =
        desired.files.iter().filter(|file| differs(&file.path)).collect();
    let mut effects = Vec::new();
    let first = differences.iter().filter_map(|difference| match difference {
        Difference::Image { reference } => Some(Effect::Pull(reference.clone())),
        Difference::Tools { to, .. } => Some(Effect::InstallTools(to.clone())),
        _ => None,
    });
    effects.extend(first);
    effects.extend(written.iter().map(|file| Effect::Write(file.path.clone())));
    let secrets = desired.secrets.iter().map(|secret| &secret.path);
    let open = secrets.filter(|path| differs(path));
    effects.extend(open.map(|path| Effect::Restrict(path.clone())));
    let units = |wanted: fn(&UnitChange) -> bool| {
        differences.iter().filter_map(move |difference| match difference {
            Difference::Unit { unit, change } if wanted(change) => Some(unit.clone()),
            _ => None,
        })
    };
    let unit_written = written.iter().any(|file| file.kind == FileKind::Unit);
    if unit_written || units(|c| matches!(c, UnitChange::NotReloaded)).next().is_some() {
        effects.push(Effect::Reload);
    }
    // What a package starts by itself finds its files, and what is added to its units.
    effects.extend(differences.iter().filter_map(|difference| match difference {
        Difference::Package { name, .. } => Some(Effect::InstallPackage(name.clone())),
        _ => None,
    }));
    effects.extend(units(|c| matches!(c, UnitChange::NotEnabled)).map(Effect::Enable));
    effects.extend(units(|c| matches!(c, UnitChange::NotActive)).map(Effect::Start));
    let restarts =
        |c: &UnitChange| matches!(c, UnitChange::StartedWith { .. } | UnitChange::RestartsAlways);
    let again = match desired.restart {
        Restart::Reload => Effect::ReloadUnit,
        Restart::WhenChanged | Restart::Always | Restart::Never => Effect::Restart,
    };
    effects.extend(units(restarts).map(again));
    effects
}

fn file_changes(desired: &DesiredFile, observed: Option<&ObservedFile>) -> Vec<FileChange> {
    let Some(observed) = observed else { return vec![FileChange::Missing] };
    let mut changes = Vec::new();
    if desired.create_only {
        // A file is written as a whole: to mend its mode would be to lose what the site wrote.
        return changes;
    }
    if observed.digest != desired.digest {
        let (from, to) = (observed.digest.clone(), desired.digest.clone());
        changes.push(FileChange::Content { from, to });
    }
    let access = |mode, owner: &Option<String>, group: &Option<String>| Access {
        mode,
        owner: owner.clone(),
        group: group.clone(),
    };
    let now = access(observed.mode, &observed.owner, &observed.group);
    changes.extend(access_changes(&now, &access(desired.mode, &desired.owner, &desired.group)));
    changes
}

fn access_changes(observed: &Access, desired: &Access) -> Vec<FileChange> {
    let mut changes = Vec::new();
    if observed.mode != desired.mode {
        changes.push(FileChange::Mode { from: observed.mode, to: desired.mode });
    }
    let differ = |from: &Option<String>, to: &Option<String>| {
        from.clone().zip(to.clone()).filter(|(from, to)| from != to)
    };
    if let Some((from, to)) = differ(&observed.owner, &desired.owner) {
        changes.push(FileChange::Owner { from, to });
    }
    if let Some((from, to)) = differ(&observed.group, &desired.group) {
        changes.push(FileChange::Group { from, to });
    }
    changes
}

fn unit_changes(restart: Restart, desired: &DesiredUnit, all: &Observed) -> Vec<UnitChange> {
    let absent = ObservedUnit::default();
    let observed = all.units.get(&desired.name).unwrap_or(&absent);
    let mut changes = Vec::new();
    if observed.needs_reload {
        changes.push(UnitChange::NotReloaded);
    }
    if desired.role == UnitRole::Triggered {
        return changes;
    }
    if !observed.enabled {
        changes.push(UnitChange::NotEnabled);
    }
    if !observed.active && !all.lets_run(desired) {
        return changes;
    }
    let same = observed.started_with.as_ref() == Some(&desired.digest);
    match restart {
        _ if !observed.active => changes.push(UnitChange::NotActive),
        Restart::Always => changes.push(UnitChange::RestartsAlways),
        Restart::WhenChanged | Restart::Reload if !same => {
            let (from, to) = (observed.started_with.clone(), desired.digest.clone());
            changes.push(UnitChange::StartedWith { from, to });
        }
        Restart::WhenChanged | Restart::Reload | Restart::Never => {}
    }
    changes
}

impl Difference {
    /// Whether a group has to go down for it: what is only fetched is fetched before, and for whose file it is nobody stops.
    pub fn takes_down(&self) -> bool {
        match self {
            Self::Image { .. } | Self::Tools { .. } => false,
            Self::File { change, .. } => {
                matches!(change, FileChange::Missing | FileChange::Content { .. })
            }
            Self::Package { .. } | Self::Unit { .. } => true,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image { reference } => write!(f, "image {reference} is missing"),
            Self::Tools { from: None, to } => write!(f, "client programs of {to} are missing"),
            Self::Tools { from: Some(from), to } => {
                write!(f, "client programs of {from} become those of {to}")
            }
            Self::Package { name, from: None, to } => {
                write!(f, "package {name} {to} is not installed")
            }
            Self::Package { name, from: Some(from), to } => {
                write!(f, "package {name} {from} becomes {to}")
            }
            Self::File { path, change } => write!(f, "{}: {change}", path.display()),
            Self::Unit { unit, change } => write!(f, "{unit}: {change}"),
        }
    }
}

impl std::fmt::Display for FileChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Content { .. } => f.write_str("content changes"),
            Self::Mode { from, to } => write!(f, "mode {from:04o} becomes {to:04o}"),
            Self::Owner { from, to } => write!(f, "owner {from} becomes {to}"),
            Self::Group { from, to } => write!(f, "group {from} becomes {to}"),
        }
    }
}

impl std::fmt::Display for UnitChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotReloaded => "goes by an older file",
            Self::NotEnabled => "does not start at boot",
            Self::NotActive => "does not run",
            Self::StartedWith { from: None, .. } => "runs with something unknown",
            Self::StartedWith { .. } => "runs with something older",
            Self::RestartsAlways => "restarts each time",
        })
    }
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pull(image) => write!(f, "pull {image}"),
            Self::InstallTools(image) => write!(f, "install the client programs of {image}"),
            Self::Write(path) => write!(f, "write {}", path.display()),
            Self::InstallPackage(name) => write!(f, "install package {name}"),
            Self::Restrict(path) => write!(f, "give {} its owner and mode", path.display()),
            Self::Reload => f.write_str("daemon-reload"),
            Self::Enable(unit) => write!(f, "enable {unit}"),
            Self::Start(unit) => write!(f, "start {unit}"),
            Self::Restart(unit) => write!(f, "restart {unit}"),
            Self::ReloadUnit(unit) => write!(f, "reload {unit}"),
        }
    }
}
