//! What a site lays over the package, and where each file goes.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use neco_components::{Artifacts, Recipe};

use super::programs;

/// Where the data of the package lies.
pub const DATA: &str = "usr/share/neco";
/// Where units of programs go.
const UNITS: &str = "lib/systemd/system";
/// The folders of data.
const DATA_FOLDERS: [&str; 3] = ["components", "templates", "release-keys"];
/// The folder of the sources of ignition templates: what a site has takes the place of all that the package has.
pub const IGNITIONS: &str = Recipe::IGNITIONS;
/// Where files of the site's own may go, with what lies there already left as it is.
const PLACES: [&str; 6] =
    ["usr/bin", "usr/sbin", "usr/lib", "usr/libexec", "usr/share", "lib/systemd/system"];
/// What belongs to Neco alone.
const OURS: [&str; 10] = [
    "usr/bin/neco",
    "usr/bin/necoctl",
    "usr/bin/sabakan-state-setter",
    "usr/sbin/neco-updater",
    "usr/sbin/neco-worker",
    "usr/share/doc/neco",
    "usr/share/neco",
    "lib/systemd/system/neco-updater.service",
    "lib/systemd/system/neco-worker.service",
    "lib/systemd/system/sabakan-state-setter.service",
];

/// A file of the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laid {
    /// Where it comes from.
    pub from: PathBuf,
    /// Its permission bits: 0755 for what its owner may execute, else 0644; for machines, those that it has.
    pub mode: u32,
    /// Whether it may stand in the place of a file of the package.
    pub replaces: bool,
}

/// What a site lays over the package.
#[derive(Debug, Default)]
pub struct Overlay {
    /// Its files, by path on a server without the slash at the beginning.
    pub files: BTreeMap<String, Laid>,
    /// The site's own `artifacts.toml`, if it has one.
    pub artifacts: Option<Artifacts>,
}

impl Overlay {
    /// Reads the folder of a site. Nothing but what has a place is accepted.
    ///
    /// # Errors
    /// A file that has no place, is no file, or has the place of another.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut overlay = Self::default();
        let mut units = BTreeMap::new();
        for (name, path) in entries(dir)? {
            match (name.as_str(), path.is_dir()) {
                ("files", true) => overlay.files(&path, "")?,
                ("units", true) => {
                    for (name, path) in entries(&path)? {
                        units.insert(name, path);
                    }
                }
                (folder, true) if DATA_FOLDERS.contains(&folder) => {
                    for (name, path) in entries(&path)? {
                        overlay.lay(format!("{DATA}/{folder}/{name}"), &path, true)?;
                    }
                }
                (IGNITIONS, true) => overlay.tree(&path, &format!("{DATA}/{IGNITIONS}"))?,
                (_, true) => bail!(
                    "{} has no place in the package: folders are {}, {IGNITIONS}, units, and files for all others",
                    path.display(),
                    DATA_FOLDERS.join(", ")
                ),
                ("VERSION", _) => {
                    bail!("{} is written by 'site build': give --version", path.display())
                }
                (name, false) => overlay.lay(format!("{DATA}/{name}"), &path, true)?,
            }
        }
        let file = dir.join(Artifacts::FILE);
        if file.exists() {
            overlay.artifacts = Some(programs::read(&file)?);
        }
        overlay.units(units)?;
        Ok(overlay)
    }

    /// The units of the site's programs; nobody would start another.
    fn units(&mut self, units: BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
        let programs = self.artifacts.iter().flat_map(|artifacts| artifacts.programs.values());
        let named: Vec<String> = programs.filter_map(|program| program.unit.clone()).collect();
        for (name, path) in units {
            if !named.contains(&name) {
                bail!("{}: no program of {} names this unit", path.display(), Artifacts::FILE);
            }
            self.lay(format!("{UNITS}/{name}"), &path, true)?;
        }
        Ok(())
    }

    /// The files below `files/`, a mirror of the file system of a server.
    fn files(&mut self, dir: &Path, at: &str) -> anyhow::Result<()> {
        for (name, path) in entries(dir)? {
            let to = if at.is_empty() { name } else { format!("{at}/{name}") };
            if path.symlink_metadata().is_ok_and(|data| data.is_dir()) {
                self.files(&path, &to)?;
                continue;
            }
            let below = |place: &&str| is_at_or_below(&to, place);
            if let Some(ours) = OURS.iter().find(|ours| below(ours)) {
                bail!("{}: /{ours} belongs to Neco itself", path.display());
            }
            if !PLACES.iter().any(|place| below(place) && to != *place) {
                bail!(
                    "{}: a package of Neco brings nothing to /{to}; what it brings goes below {}; \
                     files elsewhere are written by components",
                    path.display(),
                    PLACES.map(|place| format!("/{place}")).join(", ")
                );
            }
            self.lay(to, &path, false)?;
        }
        Ok(())
    }

    /// A folder with all that is in it, hidden files and their modes included: machines get them so.
    fn tree(&mut self, dir: &Path, at: &str) -> anyhow::Result<()> {
        for (name, path) in all_entries(dir)? {
            let to = format!("{at}/{name}");
            match path.symlink_metadata().is_ok_and(|data| data.is_dir()) {
                true => self.tree(&path, &to)?,
                false => {
                    let mode = plain(&path)?.permissions().mode() & 0o777;
                    self.add(to, Laid { from: path, mode, replaces: true })?;
                }
            }
        }
        Ok(())
    }

    /// The files that lie beside the recipe, by name.
    pub fn data(&self) -> impl Iterator<Item = &str> {
        let names = self.files.keys().filter_map(|path| path.strip_prefix(DATA)?.strip_prefix('/'));
        names.filter(|name| !name.contains('/'))
    }

    /// Whether it brings sources of ignition templates.
    pub fn has_ignitions(&self) -> bool {
        let folder = format!("{DATA}/{IGNITIONS}");
        self.files.keys().any(|path| is_at_or_below(path, &folder))
    }

    fn lay(&mut self, to: String, from: &Path, replaces: bool) -> anyhow::Result<()> {
        let mode = if plain(from)?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        self.add(to, Laid { from: from.to_owned(), mode, replaces })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// There is one for the same place.
    pub fn add(&mut self, to: String, laid: Laid) -> anyhow::Result<()> {
        let from = laid.from.clone();
        match self.files.insert(to.clone(), laid) {
            None => Ok(()),
            Some(other) => Err(anyhow!(
                "{} and {} both go to /{to}; remove one",
                other.from.display(),
                from.display()
            )),
        }
    }
}

/// What is known of a file, which must be one.
fn plain(path: &Path) -> anyhow::Result<Metadata> {
    let data = path.symlink_metadata().with_context(|| format!("reading {}", path.display()))?;
    if !data.is_file() {
        bail!("{} is no plain file; put the file itself there", path.display());
    }
    Ok(data)
}

/// Whether a path belongs to Neco alone.
pub fn is_ours(path: &str) -> bool {
    OURS.iter().any(|ours| is_at_or_below(path, ours))
}

fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What lies in a folder, by name; hidden files do not count.
fn entries(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = all_entries(dir)?;
    found.retain(|(name, _)| !name.starts_with('.'));
    Ok(found)
}

/// What lies in a folder, by name.
fn all_entries(dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let reading = || format!("reading {}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| anyhow!("{} is not named in UTF-8", entry.path().display()))?;
        if name.chars().any(|c| c.is_control() || c == '\\') {
            bail!("{:?} has a name that no package can carry", entry.path());
        }
        found.push((name, entry.path()));
    }
    found.sort();
    Ok(found)
}
