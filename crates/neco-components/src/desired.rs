//! What a component should look like on one server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neco_artifacts::Deb;
use neco_toml::Name;
use serde::Serialize;

use crate::digest::Parts;
use crate::{
    Component, ContentDigest, Facts, FileSpec, InstallTools, Restart, SecretSpec, UnitRole,
    UnitSpec,
};

/// What a component should look like on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which component.
    pub component: Name,
    /// Files without which nothing is desired here.
    pub only_where: Vec<PathBuf>,
    /// When its unit is restarted.
    pub restart: Restart,
    /// The full name of its image, if it runs one.
    pub image: Option<String>,
    /// How the image installs its client programs on the server.
    pub tools: Option<InstallTools>,
    /// The Debian package that brings it.
    pub package: Option<Deb>,
    /// Its files, those of units last.
    pub files: Vec<DesiredFile>,
    /// Files of others that it keeps from everybody else, where they are.
    pub secrets: Vec<SecretSpec>,
    /// Its units.
    pub units: Vec<DesiredUnit>,
    /// The files of a package that its units are [started with](Self::watching) too: their digests, `None` for one that is
    /// missing.
    pub watched: BTreeMap<PathBuf, Option<ContentDigest>>,
}

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds.
    pub content: String,
    /// The digest of what it holds.
    pub digest: ContentDigest,
    /// Its permission bits.
    pub mode: u32,
    /// The number of its owner; whoever runs the worker if unset.
    pub owner: Option<String>,
    /// The number of its group; that of whoever runs the worker if unset.
    pub group: Option<String>,
    /// Whether one that exists is left alone, whatever it holds.
    pub create_only: bool,
    /// A command that must accept the file before it gets its name; the word `{}` stands for it. Empty: none.
    pub validate: Vec<String>,
    /// What it is for.
    pub kind: FileKind,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// The program reads it.
    Plain,
    /// It defines a unit: systemd has to be told when it changes.
    Unit,
}

/// A unit as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredUnit {
    /// Its full name.
    pub name: String,
    /// What is to become of it.
    pub role: UnitRole,
    /// Whether its file is written here; the one of another comes with a program or a package.
    pub is_written: bool,
    /// Files without which it does not run.
    pub needs: Vec<PathBuf>,
    /// The digest of everything it is started with: its file, the component's files, the image, the package, and what it
    /// [watches](Desired::watching). Written to the journal when it is started.
    pub digest: ContentDigest,
}

/// A template that cannot be rendered with the facts of this server.
#[derive(Debug, thiserror::Error)]
#[error("rendering templates/{template} for component {component}")]
pub struct RenderError {
    /// The component.
    pub component: Name,
    /// Its template.
    pub template: String,
    /// What is wrong, and on which line.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Desired {
    /// Renders `component` for the server that `facts` are about.
    ///
    /// # Errors
    /// A template asks for something that this server does not have.
    pub fn render(component: &Component, facts: &Facts) -> Result<Self, RenderError> {
        let image = component.image.as_ref().map(|image| facts.reference(image));
        let context = facts.context(component.name.as_str(), image.clone());
        let render = |template: &str| {
            component.templates.render(template, &context).map_err(|source| RenderError {
                component: component.name.clone(),
                template: template.to_owned(),
                source: Box::new(source),
            })
        };
        let mut files = Vec::new();
        for file in &component.files {
            files.push(DesiredFile::new(file, render(&file.template)?));
        }
        let mut everything = Parts::new("neco unit").part(image.as_deref().unwrap_or_default());
        // One that is only created is whatever the site has made of it.
        for file in files.iter().filter(|file| !file.create_only) {
            let path = file.path.as_os_str().as_encoded_bytes();
            everything = everything.part(path).part(file.digest.as_str());
        }
        if let Some(package) = &component.package {
            everything =
                everything.part("package").part(package.name.as_str()).part(&package.release);
        }
        let mut units = Vec::new();
        for unit in &component.units {
            let content = unit.template.as_deref().map(render).transpose()?;
            let parts = if is_timer(unit) { Parts::new("neco timer") } else { everything.clone() };
            let digest = parts.part(&unit.name).part(content.as_deref().unwrap_or_default());
            units.push(DesiredUnit {
                name: unit.name.clone(),
                role: unit.role,
                is_written: content.is_some(),
                needs: unit.needs.clone(),
                digest: digest.digest(),
            });
            files.extend(content.map(|content| DesiredFile::of_unit(unit, content)));
        }
        // Stable: files of units come last, in their order.
        files.sort_by_key(|file| file.kind == FileKind::Unit);
        Ok(Self {
            component: component.name.clone(),
            only_where: component.only_where.clone(),
            restart: component.restart,
            image,
            tools: component.tools.clone(),
            package: component.package.clone(),
            files,
            secrets: component.secrets.clone(),
            units,
            watched: BTreeMap::new(),
        })
    }

    /// The same, where units are also started with files that come with a package: their digests by path, `None` for one
    /// that is missing. Without any of them nothing changes.
    #[must_use]
    pub fn watching(mut self, files: &BTreeMap<PathBuf, Option<ContentDigest>>) -> Self {
        if files.is_empty() {
            return self;
        }
        self.watched.clone_from(files);
        for unit in self.units.iter_mut().filter(|unit| !unit.name.ends_with(".timer")) {
            let mut parts = Parts::new("neco unit that watches").part(unit.digest.as_str());
            for (path, digest) in files {
                let digest = digest.as_ref().map_or("missing", ContentDigest::as_str);
                parts = parts.part(path.as_os_str().as_encoded_bytes()).part(digest);
            }
            unit.digest = parts.digest();
        }
        self
    }

    /// The unit that is kept running, if there is one.
    pub fn running_unit(&self) -> Option<&DesiredUnit> {
        self.units.iter().find(|unit| unit.role == UnitRole::Running)
    }

    /// The file at `path`.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&DesiredFile> {
        self.files.iter().find(|file| file.path == path.as_ref())
    }
}

impl DesiredFile {
    fn new(file: &FileSpec, content: String) -> Self {
        Self {
            path: file.path.clone(),
            digest: ContentDigest::of(&content),
            content,
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
            create_only: file.create_only,
            validate: file.validate.clone(),
            kind: file.kind,
        }
    }

    fn of_unit(unit: &UnitSpec, content: String) -> Self {
        Self {
            path: unit.path(),
            digest: ContentDigest::of(&content),
            content,
            mode: 0o644,
            owner: None,
            group: None,
            create_only: false,
            validate: Vec::new(),
            kind: FileKind::Unit,
        }
    }
}

/// A timer reads nothing but its own file: what it starts reads the rest anew each time.
fn is_timer(unit: &UnitSpec) -> bool {
    unit.name.ends_with(".timer")
}
