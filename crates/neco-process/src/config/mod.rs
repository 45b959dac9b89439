//! The configuration file of a boot server, in three stages: files, merged, validated.
//!
//! `/etc/neco/config.yml` tells how etcd is reached, in the format of etcdutil that the original
//! uses, and what else is local to this server. Files of `/etc/neco/config.d/` whose name ends in
//! `.yml` are laid over it in the order of their names, key by key. A key that is empty counts as
//! unset. Everything that is wrong is found in one go; an unknown key is a warning, so that a file
//! serves an older and a newer version alike.

mod contradict;
mod privacy;
mod report;
mod validate;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_base::{Secret, Zeroize};

use crate::root::under;
use crate::yaml::{self, Node, Place};
pub use report::{Problem, Report};

/// The main file.
pub const FILE: &str = "/etc/neco/config.yml";

/// The directory of the files that are laid over it.
pub const DROP_INS: &str = "/etc/neco/config.d";

/// A configuration file is some lines; a larger one is something else.
const LARGEST: u64 = 1 << 20;

/// A validated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How etcd is reached.
    pub etcd: EtcdConfig,
    /// Where releases come from.
    pub release: ReleaseConfig,
    /// Where the daemons of this server listen.
    pub listen: Listen,
    /// Where downloads are kept; below the root.
    pub cache: PathBuf,
}

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// At least one: `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Starts and ends in `/`.
    pub prefix: String,
    /// The bound of one request.
    pub timeout: Duration,
    /// Who logs in, if anybody.
    pub login: Option<Login>,
    /// What TLS needs beyond the system's trust store.
    pub tls: Option<Tls>,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// TLS towards etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority to trust; the system's trust store if unset.
    pub ca: Option<Pem>,
    /// The client's certificate and key.
    pub identity: Option<Identity>,
}

/// A client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert: Pem,
    /// The key.
    pub key: Secret<Pem>,
}

/// PEM text, in the configuration or in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file, below the root.
    File(PathBuf),
    /// In the configuration.
    Inline(String),
}

impl Zeroize for Pem {
    fn zeroize(&mut self) {
        if let Self::Inline(text) = self {
            text.zeroize();
        }
    }
}

impl Pem {
    /// The text. Files are read anew each time, as certificates are replaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<String, ConfigError> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => {
                read(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })
            }
        }
    }
}

/// Where releases come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseConfig {
    /// The owner of the repository.
    pub owner: String,
    /// The repository.
    pub repository: String,
    /// The Debian package.
    pub package: String,
    /// The base of the API, without a slash at its end.
    pub api_url: String,
    /// Whether packages without a trusted signature may be installed on this server.
    pub unsigned: Unsigned,
    /// How long the API, or a download, may be silent.
    pub timeout: Duration,
}

/// What to do with a package that no trusted key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unsigned {
    /// Install it.
    Allow,
    /// Do not.
    #[default]
    Refuse,
}

/// Where daemons listen: `HOST:PORT`, one for all or one for each; any free port of the loopback device unless it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    all: Option<String>,
    each: Vec<(String, Option<String>)>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { all: Some("127.0.0.1:0".to_owned()), each: Vec::new() }
    }
}

impl Listen {
    /// The address for one daemon; `None` if it is not to listen.
    pub fn of(&self, daemon: &str) -> Option<&str> {
        let own = self.each.iter().find(|(name, _)| name == daemon).map(|(_, address)| address);
        own.unwrap_or(&self.all).as_deref()
    }
}

/// A configuration and what was noticed while it was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What somebody should look at; the caller logs it.
    pub warnings: Vec<Problem>,
    /// The files it was made of, in order.
    pub files: Vec<PathBuf>,
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The main file does not exist.
    #[error(
        "{} does not exist; write at least `endpoints: [\"https://HOST:2379\"]` into it",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory exists and cannot be read.
    #[error("reading {}, which must be a text file that this user may read", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{0}")]
    Invalid(Report),
}

impl ConfigError {
    /// Everything that is wrong, one line each.
    pub fn report(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

/// Reads the configuration of the system below `root`.
///
/// # Errors
/// The main file is missing, a file is unreadable, or the content has problems: then all of them.
pub fn load(root: &Path) -> Result<Loaded, ConfigError> {
    let mut report = Report::default();
    let main = under(root, Path::new(FILE));
    let mut files = vec![main.clone()];
    files.extend(drop_ins(&under(root, Path::new(DROP_INS)), &mut report)?);

    let mut merged: Option<Node> = None;
    for file in &files {
        let text = match read(file) {
            Ok(text) => text,
            Err(source) if *file == main && source.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::Missing { path: main });
            }
            Err(source) => return Err(ConfigError::Unreadable { path: file.clone(), source }),
        };
        let parsed = yaml::parse(file, &text);
        if let Ok(node) = &parsed {
            privacy::check(file, node, &mut report);
        }
        match parsed {
            Ok(node) if matches!(node.value, yaml::Value::Map(_)) => match &mut merged {
                Some(merged) => {
                    contradict::check(merged, &node, &main, &mut report);
                    merged.overlay(node);
                }
                None => merged = Some(node),
            },
            Ok(node) => {
                let what = format!("holds {} instead of keys", node.value.kind());
                report.problem(node.place(), "", what, "write KEY: VALUE lines");
            }
            Err(error) => {
                let place = Place { file, line: error.line };
                report.problem(place, "", error.what, "correct the YAML");
            }
        }
    }
    let config = merged.map(|merged| validate::validate(&merged, &main, root, &mut report));
    match config {
        Some(config) if report.problems.is_empty() => {
            Ok(Loaded { config, warnings: report.warnings, files })
        }
        _ => Err(ConfigError::Invalid(report)),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let data = fs::metadata(file)?;
    // A pipe or a device would be read for ever.
    if !data.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    if data.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    fs::read_to_string(file)
}

fn drop_ins(dir: &Path, report: &mut Report) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if hidden || path.is_dir() => {}
            Some("yml") => files.push(path),
            Some("yaml") => {
                let place = Place { file: &path, line: None };
                report.warning(place, "", "is not read", "end its name in .yml");
            }
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}
