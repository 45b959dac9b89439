//! Reads the folder.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use neco_artifacts::Artifacts;
use neco_base::{Tree, TreeError, read_small};
use neco_toml::Problems;
use toml::de::DeTable;

use crate::Recipe;

/// The texts of a folder such as `/usr/share/neco`, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// `recipe.toml`.
    pub recipe: String,
    /// `artifacts.toml`; a folder without it has no images.
    pub artifacts: String,
    /// `components/<name>.toml` by name.
    pub components: BTreeMap<String, String>,
    /// `templates/<name>` by name, which ends in `.j2`.
    pub templates: BTreeMap<String, String>,
    /// The files beside the recipe that its steps name.
    pub data: BTreeMap<String, String>,
    /// Files in `components/` and `templates/` with other names.
    pub strays: Vec<String>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something cannot be read.
    #[error("reading {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// What stands there cannot be used.
    #[error("what {folder} says about boot servers cannot be used:\n{problems}")]
    Invalid {
        /// The folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Problems,
    },
}

impl Sources {
    /// Reads a folder; nothing is checked yet.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, LoadError> {
        let folder = folder.as_ref();
        let recipe = text(&folder.join(Recipe::FILE))?;
        let artifacts = optional(&folder.join(Artifacts::FILE))?;
        let mut strays = Vec::new();
        let components = texts(folder, "components", ".toml", &mut strays)?
            .into_iter()
            .map(|(name, text)| (name.trim_end_matches(".toml").to_owned(), text))
            .collect();
        let templates = texts(folder, "templates", ".j2", &mut strays)?;
        let mut data = BTreeMap::new();
        for name in data_names(&recipe) {
            if let Some(text) = optional(&folder.join(&name))? {
                data.insert(name, text);
            }
        }
        let artifacts = artifacts.unwrap_or_else(|| "format = 1\n".to_owned());
        Ok(Self { recipe, artifacts, components, templates, data, strays })
    }
}

/// Reads the sources of ignition templates, `ignitions/` in a folder such as `/usr/share/neco`, which may have none. Machines
/// get files with the modes that they have there, so that not everybody may be able to read all of them.
///
/// # Errors
/// Something cannot be read; see [`Tree::read`].
pub fn read_ignitions(folder: impl AsRef<Path>) -> Result<Tree, LoadError> {
    let path = folder.as_ref().join(Recipe::IGNITIONS);
    match path.try_exists() {
        Ok(true) => {
            Tree::read(path).map_err(|TreeError { path, source }| LoadError::Read { path, source })
        }
        Ok(false) => Ok(Tree::default()),
        Err(source) => Err(LoadError::Read { path, source }),
    }
}

fn text(path: &Path) -> Result<String, LoadError> {
    read_text(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// The text of a file that people write, such as an `artifacts.toml`. Nothing is waited for, and no more is read than such a
/// file can hold.
///
/// # Errors
/// It cannot be read, is a pipe or a device, is larger than 16 MiB, or not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_small(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = sound.iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(ErrorKind::InvalidData, format!("line {line} is not text in UTF-8"))
    })
}

fn optional(path: &Path) -> Result<Option<String>, LoadError> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(LoadError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a folder within `folder` by name, which may be absent; hidden files do not count.
fn texts(
    folder: &Path,
    within: &str,
    ending: &str,
    strays: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, LoadError> {
    let path = folder.join(within);
    let failed = |source| LoadError::Read { path: path.clone(), source };
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            // It would break the lines of every report.
            Ok(name) if name.chars().any(char::is_control) => {
                strays.push(format!("{within}/{}", name.escape_debug()));
            }
            Ok(name) if name.ends_with(ending) && name.len() > ending.len() => {
                let content = text(&entry.path())?;
                found.insert(name, content);
            }
            Ok(name) => strays.push(format!("{within}/{name}")),
            Err(name) => strays.push(format!("{within}/{}", name.display())),
        }
    }
    strays.sort();
    Ok(found)
}

/// The files that the steps of a recipe name, as far as it can be read; what is wrong with it is said later.
fn data_names(recipe: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(recipe);
    let steps = tables(table.get_ref(), "step");
    let parts = steps.iter().flat_map(|step| tables(step, "part"));
    let fields = ["data", "site-data"];
    let named = steps.iter().copied().chain(parts);
    named
        .flat_map(|table| fields.into_iter().filter_map(|field| table.get(field)))
        .filter_map(|data| data.get_ref().as_array())
        .flatten()
        .filter_map(|name| name.get_ref().as_str())
        .filter(|name| crate::step::is_file_name(name))
        .map(str::to_owned)
        .collect()
}

/// The tables of a list within a table.
fn tables<'t>(table: &'t DeTable<'t>, list: &str) -> Vec<&'t DeTable<'t>> {
    let list = table.get(list).and_then(|list| list.get_ref().as_array());
    list.into_iter().flatten().filter_map(|item| item.get_ref().as_table()).collect()
}
