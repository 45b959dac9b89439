//! What a component should look like on one server.

use std::path::PathBuf;

use neco_artifacts::Image;
use neco_toml::Name;

use crate::digest::Parts;
use crate::{Component, ContentDigest, Facts, Restart, UnitRole, UnitSpec};

/// What a component should look like on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which component.
    pub component: Name,
    /// When its unit is restarted.
    pub restart: Restart,
    /// Its files, those of units last.
    pub files: Vec<DesiredFile>,
    /// Its units.
    pub units: Vec<DesiredUnit>,
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
    /// Its owner, by name or number; whoever runs the worker if unset.
    pub owner: Option<String>,
    /// Its group, by name or number; that of whoever runs the worker if unset.
    pub group: Option<String>,
    /// What it is for.
    pub kind: FileKind,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The digest of everything it is started with: its file, the component's files, the image. Written to the journal
    /// when it is started.
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
    pub fn render(component: &Component, facts: &Facts) -> Result<Self, RenderError> {
        let image = component.image.as_ref().map(Image::reference);
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
            let content = render(&file.template)?;
            files.push(DesiredFile {
                path: file.path.clone(),
                digest: ContentDigest::of(&content),
                content,
                mode: file.mode,
                owner: file.owner.clone(),
                group: file.group.clone(),
                kind: FileKind::Plain,
            });
        }
        let everything = files.iter().fold(
            Parts::new("neco unit").part(image.unwrap_or_default()),
            |parts, file| {
                parts.part(file.path.as_os_str().as_encoded_bytes()).part(file.digest.as_str())
            },
        );
        let mut units = Vec::new();
        for unit in &component.units {
            let content = unit.template.as_deref().map(render).transpose()?;
            let parts = if is_timer(unit) { Parts::new("neco timer") } else { everything.clone() };
            let digest = parts.part(&unit.name).part(content.as_deref().unwrap_or_default());
            units.push(DesiredUnit {
                name: unit.name.clone(),
                role: unit.role,
                digest: digest.digest(),
            });
            files.extend(content.map(|content| DesiredFile {
                path: unit.path(),
                digest: ContentDigest::of(&content),
                content,
                mode: 0o644,
                owner: None,
                group: None,
                kind: FileKind::Unit,
            }));
        }
        Ok(Self { component: component.name.clone(), restart: component.restart, files, units })
    }

    /// The unit that is kept running, if there is one.
    pub fn running_unit(&self) -> Option<&DesiredUnit> {
        self.units.iter().find(|unit| unit.role == UnitRole::Running)
    }

    /// The file at `path`.
    pub fn file(&self, path: impl AsRef<std::path::Path>) -> Option<&DesiredFile> {
        self.files.iter().find(|file| file.path == path.as_ref())
    }
}

/// A timer reads nothing but its own file: what it starts reads the rest anew each time.
fn is_timer(unit: &UnitSpec) -> bool {
    unit.name.ends_with(".timer")
}
