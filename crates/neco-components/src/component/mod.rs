//! What a program needs: `components/<name>.toml`.

mod files;
mod ready;
mod secrets;
mod tools;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use neco_artifacts::{Artifacts, Deb, Image};
use neco_toml::{Document, Fields, Name, Report};
use serde::Serialize;

use crate::templates::Templates;

pub use files::FileSpec;
pub use ready::{Probe, Ready};
pub use secrets::{Access, SecretSpec};
pub use tools::{InstallTools, ToolOutput};
pub(crate) use units::starts_at_boot;
pub use units::{UnitRole, UnitSpec};

/// What a program needs on a boot server.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// Its name, that of its file too.
    pub name: Name,
    /// The image it runs, if it runs one.
    pub image: Option<Image>,
    /// How that image installs its client programs on the server, if it has some.
    pub tools: Option<InstallTools>,
    /// The Debian package that brings it, if one does beside Neco's own.
    pub package: Option<Deb>,
    /// Files that come with a package and that its unit is started with.
    pub watch: Vec<PathBuf>,
    /// Files without which this is none of a server's components: where one is missing, nothing is done. Empty: everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_where: Vec<PathBuf>,
    /// On how many servers it may be changed at a time.
    pub scope: Scope,
    /// When its unit is restarted.
    pub restart: Restart,
    /// Its files, and what it adds to units of others.
    pub files: Vec<FileSpec>,
    /// Files of others that its program reads, and nobody else is to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// Its units; at most one of them is kept running.
    pub units: Vec<UnitSpec>,
    /// What must hold before it counts as applied.
    pub ready: Option<Ready>,
    #[serde(skip)]
    pub(crate) templates: Arc<Templates>,
}

/// On how many servers something may be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// On all at once.
    All,
    /// On one after another.
    OneAtATime,
    /// On any one, for all.
    OncePerCluster,
}

impl Scope {
    pub(crate) const WORDS: [(&'static str, Self); 3] = [
        ("all", Self::All),
        ("one-at-a-time", Self::OneAtATime),
        ("once-per-cluster", Self::OncePerCluster),
    ];
}

/// Where the file of a component speaks of something. It decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The field, such as `file[2].path`.
    pub(crate) field: String,
}

/// When the unit of a component is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// When it runs with something else than what is desired now.
    WhenChanged,
    /// When it runs with something else: it is told to read its files again, and goes on running.
    Reload,
    /// Each time the component is applied.
    Always,
    /// Never; it reads its files by itself.
    Never,
}

impl Component {
    /// The unit that is kept running, if there is one.
    pub fn running_unit(&self) -> Option<&UnitSpec> {
        self.units.iter().find(|unit| unit.role == UnitRole::Running)
    }

    /// Its file, as reports call it.
    pub(crate) fn file(&self) -> String {
        format!("components/{}.toml", self.name)
    }

    /// Every path that it writes, drives or keeps from others, with the place that says so.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (PathBuf, &Place)> {
        let files = self.files.iter().map(|file| (file.path.clone(), &file.place));
        let units = self.units.iter().map(|unit| (unit.path(), &unit.place));
        let outputs = self.tools.iter().flat_map(|tools| &tools.outputs);
        let outputs = outputs.map(|output| (output.path.clone(), &output.place));
        let secrets = self.secrets.iter().map(|secret| (secret.path.clone(), &secret.place));
        files.chain(units).chain(outputs).chain(secrets)
    }

    /// Reads `components/<stem>.toml`.
    pub(crate) fn read(
        stem: &str,
        document: Document<'_>,
        artifacts: &Artifacts,
        templates: &Arc<Templates>,
        report: &Report,
    ) -> Option<Self> {
        let table = document.parse(report)?;
        let fields = Fields::of(document, &table, report);
        let name = fields.required_parsed::<Name>("name", "name the component as its file");
        if let Some(name) = name.as_ref().filter(|name| name.value != stem) {
            let what = format!("component {} stands in a file named {stem}.toml", name.value);
            fields.problem("name", &what, "give both the same name");
        }
        let image = pinned(&fields, "image", "image", &artifacts.images);
        let tools = fields.table("install-tools").and_then(|table| {
            if !fields.has("image") {
                table.problem("", "there is no image that could", "name the image");
            }
            let read = InstallTools::read(&table);
            table.finish();
            read
        });
        let package = pinned(&fields, "package", "deb", &artifacts.debs);
        let watch = paths(&fields, "watch");
        let only_where = paths(&fields, "only-where");
        let scope = fields.choice("scope", &Scope::WORDS).unwrap_or(Scope::All);
        let restart = fields
            .choice(
                "restart",
                &[
                    ("when-changed", Restart::WhenChanged),
                    ("reload", Restart::Reload),
                    ("always", Restart::Always),
                    ("never", Restart::Never),
                ],
            )
            .unwrap_or(Restart::WhenChanged);
        let mut files = Vec::new();
        for (number, file) in (1..).zip(fields.tables("file")) {
            files.extend(FileSpec::read(&file, number, templates));
            file.finish();
        }
        for (number, drop_in) in (1..).zip(fields.tables("drop-in")) {
            files.extend(FileSpec::read_drop_in(&drop_in, number, templates));
            drop_in.finish();
        }
        let mut secrets = Vec::new();
        for (number, secret) in (1..).zip(fields.tables("secret")) {
            secrets.extend(SecretSpec::read(&secret, number));
            secret.finish();
        }
        let units = units::read(&fields, stem, templates);
        let running = units.iter().find(|unit| unit.role == UnitRole::Running);
        let ready = fields.table("ready").and_then(|ready| {
            let read = Ready::read(&ready, running);
            ready.finish();
            read
        });
        fields.finish();
        let templates = Arc::clone(templates);
        Some(Self {
            name: name?.value,
            image,
            tools,
            package,
            watch,
            only_where,
            scope,
            restart,
            files,
            secrets,
            units,
            ready,
            templates,
        })
    }
}

/// What `artifacts.toml` pins under the name that stands in `field`; an unknown one is reported.
fn pinned<T: Clone>(
    fields: &Fields<'_>,
    field: &'static str,
    list: &str,
    all: &BTreeMap<Name, T>,
) -> Option<T> {
    let found = fields.parsed::<Name>(field)?;
    let known = all.get(&found.value).cloned();
    if known.is_none() {
        let what = format!("there is no {list} {}", found.value);
        let remedy = format!("add a [[{list}]] of that name to artifacts.toml");
        fields.problem(field, &what, &remedy);
    }
    known
}

/// The words of a command, or none.
fn words(fields: &Fields<'_>, field: &'static str) -> Vec<String> {
    let mut words = Vec::new();
    for found in fields.texts(field) {
        if found.value.is_empty() || found.value.contains('\0') {
            fields.problem_at(found.line, field, "has an empty word", "remove it");
        }
        words.push(found.value.to_owned());
    }
    words
}

/// Absolute paths.
fn paths(fields: &Fields<'_>, field: &'static str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for found in fields.texts(field) {
        if !files::is_plain_absolute(found.value) {
            let what = format!("{:?} is not a plain absolute path", found.value);
            let remedy = "write some such as [\"/etc/cke/etcd.crt\"]";
            fields.problem_at(found.line, field, &what, remedy);
        }
        paths.push(PathBuf::from(found.value));
    }
    paths
}

/// The name of a template that exists; one that does not is reported.
fn template(fields: &Fields<'_>, templates: &Templates) -> Option<String> {
    let found = fields.text("template")?;
    if !templates.has(found.value) {
        let what = format!("there is no template {:?}", found.value);
        fields.problem("template", &what, "add it to templates/, or correct its name");
    }
    Some(found.value.to_owned())
}
