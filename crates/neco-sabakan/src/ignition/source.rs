//! One source file (neco-daemons §7.2).

use neco_toml::{Problem, Report};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::Tree;
use super::path::{join, parent, resolve};
use crate::IgnitionVersion;

/// A source file, with every path resolved. What it says wrong is not in it any more.
#[derive(Debug)]
pub(super) struct Source {
    /// Its own path.
    pub(super) path: String,
    pub(super) version: IgnitionVersion,
    pub(super) include: Option<Place>,
    pub(super) passwd: Option<Place>,
    pub(super) files: Vec<Entry>,
    pub(super) remote_files: Vec<RemoteFile>,
    pub(super) systemd: Vec<Unit>,
    pub(super) networkd: Vec<Entry>,
}

/// A path in the tree, and where it is named.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) line: Option<usize>,
}

/// Something that machines get under a name, and where its content lies.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) content: String,
}

#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) mode: u32,
    pub(super) line: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) mask: bool,
    /// `None` for what machines have already, and for what is masked.
    pub(super) content: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Option<Spanned<String>>,
    include: Option<Spanned<String>>,
    passwd: Option<Spanned<String>>,
    files: Option<Vec<Spanned<String>>>,
    remote_files: Option<Vec<Spanned<RawRemoteFile>>>,
    systemd: Option<Vec<Spanned<RawUnit>>>,
    networkd: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRemoteFile {
    name: String,
    url: String,
    mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnit {
    name: String,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    mask: bool,
}

/// Reads a source file, reporting what is wrong with it; `None` if nothing of it can be used.
pub(super) fn read(tree: &Tree, path: &str, report: &Report) -> Option<Source> {
    let raw = yaml::<Raw>(tree, path, report)?;
    let reader = Reader { tree, path, folder: parent(path), report };
    let version = raw.version.map_or(Some(IgnitionVersion::default()), |version| {
        let parsed = version.value.parse();
        let wrong = |error: crate::IgnitionVersionError| {
            reader.problem(line(&version), "version", &error.to_string(), "write one of them");
        };
        parsed.map_err(wrong).ok()
    });
    let include = raw.include.and_then(|include| reader.place("include", &include));
    let passwd = raw.passwd.and_then(|passwd| reader.place("passwd", &passwd));
    let files = reader.files(raw.files.unwrap_or_default());
    let remote_files = reader.remote_files(raw.remote_files.unwrap_or_default());
    let systemd = reader.units(raw.systemd.unwrap_or_default());
    let networkd = reader.networkd(raw.networkd.unwrap_or_default());
    let path = path.to_owned();
    let version = version.unwrap_or_default();
    Some(Source { path, version, include, passwd, files, remote_files, systemd, networkd })
}

/// Reads a passwd object.
pub(super) fn read_passwd(tree: &Tree, path: &str, report: &Report) -> Option<Map<String, Value>> {
    yaml(tree, path, report)
}

/// Reads a file of YAML; an empty one is an empty mapping.
fn yaml<T: for<'de> Deserialize<'de>>(tree: &Tree, path: &str, report: &Report) -> Option<T> {
    let problem = |line, what: String, remedy: &str| {
        report.add(Problem {
            file: path.to_owned(),
            line,
            field: String::new(),
            what,
            remedy: remedy.to_owned(),
        });
        None
    };
    let Some(file) = tree.get(path) else {
        return problem(None, "there is no such file".to_owned(), "write it");
    };
    let Ok(text) = std::str::from_utf8(&file.content) else {
        return problem(None, "it is not UTF-8".to_owned(), "write YAML");
    };
    let has_content = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    };
    let text = if text.lines().any(has_content) { text } else { "{}" };
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_str_with_options::<T>(text, options) {
        Ok(value) => Some(value),
        Err(error) => {
            let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
            let text = error.to_string();
            let what = text.lines().next().unwrap_or_default();
            let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what);
            let remedy = "write it as the reference of templates has it";
            problem(line.filter(|line| *line > 0), what.to_owned(), remedy)
        }
    }
}

fn line<T>(spanned: &Spanned<T>) -> Option<usize> {
    usize::try_from(spanned.referenced.line()).ok().filter(|line| *line > 0)
}

struct Reader<'a> {
    tree: &'a Tree,
    path: &'a str,
    folder: &'a str,
    report: &'a Report,
}

impl Reader<'_> {
    fn problem(&self, line: Option<usize>, field: &str, what: &str, remedy: &str) {
        self.report.add(Problem {
            file: self.path.to_owned(),
            line,
            field: field.to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn place(&self, field: &str, path: &Spanned<String>) -> Option<Place> {
        let line = line(path);
        let Some(resolved) = resolve(self.folder, &path.value) else {
            let what = format!("{:?} does not lead to a file of this tree", path.value);
            self.problem(line, field, &what, "name a file relative to this one");
            return None;
        };
        if self.tree.get(&resolved).is_none() {
            let what = format!("{resolved} does not exist");
            self.problem(line, field, &what, "write it, or name another file");
            return None;
        }
        Some(Place { path: resolved, line })
    }

    fn files(&self, raw: Vec<Spanned<String>>) -> Vec<Entry> {
        let mut seen = Seen::default();
        let mut files = Vec::new();
        for (index, name) in raw.into_iter().enumerate() {
            let (line, field) = (line(&name), format!("files[{index}]"));
            let name = name.value;
            let is_plain = |part: &str| !matches!(part, "" | "." | "..");
            if !name.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain)) {
                let what = format!("{name:?} is not an absolute path without `.` and `..`");
                self.problem(line, &field, &what, "write where the file lies on machines");
                continue;
            }
            if self.is_double(&mut seen, &name, line, &field) {
                continue;
            }
            let content = join(self.folder, &format!("files{name}"));
            if self.exists(&content, line, &field) {
                files.push(Entry { name, content });
            }
        }
        files
    }

    fn remote_files(&self, raw: Vec<Spanned<RawRemoteFile>>) -> Vec<RemoteFile> {
        let mut seen = Seen::default();
        let mut files = Vec::new();
        for (index, file) in raw.into_iter().enumerate() {
            let (line, field) = (line(&file), format!("remote_files[{index}]"));
            let RawRemoteFile { name, url, mode } = file.value;
            if !name.starts_with('/') {
                let what = format!("{name:?} is not an absolute path");
                self.problem(line, &field, &what, "write where the file lies on machines");
                continue;
            }
            if !self.is_double(&mut seen, &name, line, &field) {
                files.push(RemoteFile { name, url, mode: mode.unwrap_or(0o644), line });
            }
        }
        files
    }

    fn units(&self, raw: Vec<Spanned<RawUnit>>) -> Vec<Unit> {
        let mut seen = Seen::default();
        let mut units = Vec::new();
        for (index, unit) in raw.into_iter().enumerate() {
            let (line, field) = (line(&unit), format!("systemd[{index}]"));
            let RawUnit { name, enabled, mask } = unit.value;
            if !self.is_file_name(&name, line, &field)
                || self.is_double(&mut seen, &name, line, &field)
            {
                continue;
            }
            let content = join(self.folder, &format!("systemd/{name}"));
            let has_content = self.tree.get(&content).is_some();
            if mask && enabled {
                let what = format!("{name} is enabled and masked");
                self.problem(line, &field, &what, "choose one");
            } else if !has_content && !mask && !enabled {
                let what =
                    format!("{content} does not exist, and {name} is neither enabled nor masked");
                self.problem(line, &field, &what, "write it, or say what becomes of the unit");
            } else {
                let content = (has_content && !mask).then_some(content);
                units.push(Unit { name, enabled, mask, content });
            }
        }
        units
    }

    fn networkd(&self, raw: Vec<Spanned<String>>) -> Vec<Entry> {
        let mut seen = Seen::default();
        let mut units = Vec::new();
        for (index, name) in raw.into_iter().enumerate() {
            let (line, field) = (line(&name), format!("networkd[{index}]"));
            let name = name.value;
            let content = join(self.folder, &format!("networkd/{name}"));
            if self.is_file_name(&name, line, &field)
                && !self.is_double(&mut seen, &name, line, &field)
                && self.exists(&content, line, &field)
            {
                units.push(Entry { name, content });
            }
        }
        units
    }

    fn exists(&self, content: &str, line: Option<usize>, field: &str) -> bool {
        let exists = self.tree.get(content).is_some();
        if !exists {
            let what = format!("{content} does not exist");
            self.problem(line, field, &what, "write it, or take it off the list");
        }
        exists
    }

    fn is_file_name(&self, name: &str, line: Option<usize>, field: &str) -> bool {
        let fits = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !fits {
            let what = format!("{name:?} is no name of a unit");
            self.problem(line, field, &what, "write a name such as chronyd.service");
        }
        fits
    }

    fn is_double(&self, seen: &mut Seen, name: &str, line: Option<usize>, field: &str) -> bool {
        let double = !seen.0.insert(name.to_owned());
        if double {
            self.problem(line, field, &format!("{name} is there twice"), "write it once");
        }
        double
    }
}

/// The names of a list so far.
#[derive(Default)]
struct Seen(std::collections::BTreeSet<String>);
