//! A template from its sources (neco-daemons §7.3).

use std::collections::BTreeMap;

use neco_toml::{Problem, Problems, Report};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value, json};

use super::source::{self, Entry, RemoteFile, Source, Unit};
use super::{Metadata, Tree, text};
use crate::{IgnitionTemplate, IgnitionVersion};

/// What stays as it is in a data URL: what RFC 3986 reserves nothing for.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Gathers what the source file at `entry` names, and what it includes, into a template whose texts may refer to `metadata`.
///
/// An included source is where the including one begins (neco-daemons §7.2): its passwd object is replaced; a file or unit of
/// the same name is replaced where it stood, anything else is added at the end.
///
/// # Errors
/// All problems, with file and line.
pub fn build(tree: &Tree, entry: &str, metadata: Metadata) -> Result<IgnitionTemplate, Problems> {
    let report = Report::default();
    let (version, template) = gather(tree, entry, &report, &metadata);
    report.conclude(IgnitionTemplate { version, template, meta: metadata.into_map() })
}

/// The sources from `entry` on, the innermost first. Each is read once; a circle is a problem.
pub(super) fn sources(tree: &Tree, entry: &str, report: &Report) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let mut next = Some(entry.to_owned());
    while let Some(path) = next.take() {
        let Some(source) = source::read(tree, &path, report) else { break };
        if let Some(include) = &source.include {
            let is_known =
                include.path == path || sources.iter().any(|source| source.path == include.path);
            if is_known {
                report.add(Problem {
                    file: path,
                    line: include.line,
                    field: "include".to_owned(),
                    what: format!("{} includes this file again", include.path),
                    remedy: "take one of the two off".to_owned(),
                });
            } else {
                next = Some(include.path.clone());
            }
        }
        if let Some(outer) = sources.last()
            && outer.version != source.version
        {
            report.add(Problem {
                file: outer.path.clone(),
                line: outer.include.as_ref().and_then(|include| include.line),
                field: "include".to_owned(),
                what: format!(
                    "{} is written for ignition {}, and this file for {}",
                    source.path, source.version, outer.version
                ),
                remedy: "give both the same version".to_owned(),
            });
        }
        sources.push(source);
    }
    sources.reverse();
    sources
}

/// Entries by name, in the order in which they came first.
struct Named<T> {
    order: Vec<T>,
    places: BTreeMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { order: Vec::new(), places: BTreeMap::new() }
    }
}

impl<T> Named<T> {
    fn put(&mut self, name: &str, entry: T) {
        match self.places.get(name) {
            Some(&at) => self.order[at] = entry,
            None => {
                self.places.insert(name.to_owned(), self.order.len());
                self.order.push(entry);
            }
        }
    }
}

/// A file of a machine, from this tree or from elsewhere.
enum File {
    Here(Entry),
    Remote(RemoteFile, String),
}

fn gather(
    tree: &Tree,
    entry: &str,
    report: &Report,
    metadata: &Metadata,
) -> (IgnitionVersion, Map<String, Value>) {
    let mut version = IgnitionVersion::default();
    let mut passwd = None;
    let (mut files, mut systemd, mut networkd) =
        (Named::<File>::default(), Named::<Unit>::default(), Named::<Entry>::default());
    for source in sources(tree, entry, report) {
        version = source.version;
        passwd = source.passwd.or(passwd);
        for file in source.files {
            files.put(&file.name.clone(), File::Here(file));
        }
        for file in source.remote_files {
            files.put(&file.name.clone(), File::Remote(file, source.path.clone()));
        }
        for unit in source.systemd {
            systemd.put(&unit.name.clone(), unit);
        }
        for unit in source.networkd {
            networkd.put(&unit.name.clone(), unit);
        }
    }
    let writer = Writer { tree, report, metadata };
    let mut config = Map::new();
    config.insert("ignition".to_owned(), json!({ "version": format!("{version}.0") }));
    if let Some(passwd) = passwd.and_then(|place| writer.passwd(&place.path)) {
        config.insert("passwd".to_owned(), passwd);
    }
    let mut put_list = |key: &str, list: &str, values: Vec<Value>| {
        if !values.is_empty() {
            config.insert(key.to_owned(), json!({ list: values }));
        }
    };
    put_list("storage", "files", files.order.iter().map(|file| writer.file(file)).collect());
    put_list("systemd", "units", systemd.order.iter().map(|unit| writer.unit(unit)).collect());
    put_list("networkd", "units", networkd.order.iter().map(|unit| writer.network(unit)).collect());
    (version, config)
}

struct Writer<'a> {
    tree: &'a Tree,
    report: &'a Report,
    metadata: &'a Metadata,
}

impl Writer<'_> {
    fn passwd(&self, path: &str) -> Option<Value> {
        let passwd = Value::Object(source::read_passwd(self.tree, path, self.report)?);
        let mut texts = Vec::new();
        strings(&passwd, &mut texts);
        for text in texts {
            self.check(path, text.as_bytes(), Lines::Unknown);
        }
        Some(passwd)
    }

    fn file(&self, file: &File) -> Value {
        let (name, mode, source) = match file {
            File::Here(Entry { name, content }) => {
                let Some(file) = self.tree.get(content) else { return Value::Null };
                self.check(content, &file.content, Lines::Own);
                let data = percent_encode(&file.content, ESCAPED);
                (name, file.mode, format!("data:,{data}"))
            }
            File::Remote(file, named_in) => {
                self.check(named_in, file.url.as_bytes(), Lines::At(file.line));
                (&file.name, file.mode, file.url.clone())
            }
        };
        json!({ "filesystem": "root", "path": name, "mode": mode, "contents": { "source": source } })
    }

    fn unit(&self, unit: &Unit) -> Value {
        let mut value = Map::new();
        value.insert("name".to_owned(), unit.name.as_str().into());
        if unit.enabled {
            value.insert("enabled".to_owned(), true.into());
        }
        if unit.mask {
            value.insert("mask".to_owned(), true.into());
        }
        if let Some(content) = &unit.content {
            value.insert("contents".to_owned(), self.text(content));
        }
        Value::Object(value)
    }

    fn network(&self, unit: &Entry) -> Value {
        json!({ "name": unit.name, "contents": self.text(&unit.content) })
    }

    /// The content of a unit, which stands in the template as it is.
    fn text(&self, path: &str) -> Value {
        let Some(file) = self.tree.get(path) else { return Value::Null };
        self.check(path, &file.content, Lines::Own);
        match std::str::from_utf8(&file.content) {
            Ok(text) => text.into(),
            Err(_) => {
                self.report.add(Problem {
                    file: path.to_owned(),
                    line: None,
                    field: String::new(),
                    what: "it is not UTF-8".to_owned(),
                    remedy: "units are texts".to_owned(),
                });
                Value::Null
            }
        }
    }

    /// Reports what sabakan will not be able to render.
    fn check(&self, file: &str, text: &[u8], lines: Lines) {
        for mistake in
            text::check(&String::from_utf8_lossy(text), &|key| self.metadata.contains(key))
        {
            let line = match lines {
                Lines::Own => Some(mistake.line),
                Lines::At(line) => line,
                Lines::Unknown => None,
            };
            self.report.add(Problem {
                file: file.to_owned(),
                line,
                field: mistake.action,
                what: mistake.what,
                remedy: mistake.remedy.to_owned(),
            });
        }
    }
}

/// What the lines of a text are the lines of.
#[derive(Clone, Copy)]
enum Lines {
    /// The file itself.
    Own,
    /// This line of a file.
    At(Option<usize>),
    /// A file in which the text is somewhere.
    Unknown,
}

/// All texts in a value.
fn strings<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(list) => list.iter().for_each(|value| strings(value, into)),
        Value::Object(map) => map.values().for_each(|value| strings(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
