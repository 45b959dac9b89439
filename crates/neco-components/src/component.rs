//! What a program needs: `components/<name>.toml`.

use std::collections::BTreeMap;
use std::path::{Component as PathPart, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neco_artifacts::Image;
use neco_toml::{Document, Fields, Name, Report};
use serde::Serialize;

use crate::templates::Templates;

/// What a program needs on a boot server.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// Its name, that of its file too.
    pub name: Name,
    /// The image it runs, if it runs one.
    pub image: Option<Image>,
    /// On how many servers it may be changed at a time.
    pub scope: Scope,
    /// When its unit is restarted.
    pub restart: Restart,
    /// Its files.
    pub files: Vec<FileSpec>,
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

/// When the unit of a component is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// When it runs with something else than what is desired now.
    WhenChanged,
    /// Each time the component is applied.
    Always,
    /// Never; it reads its files by itself.
    Never,
}

/// A file of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSpec {
    /// Where it lies.
    pub path: PathBuf,
    /// The template of its content.
    pub template: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, by name or number; whoever runs the worker if unset.
    pub owner: Option<String>,
    /// Its group, by name or number; that of whoever runs the worker if unset.
    pub group: Option<String>,
}

/// A unit of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitSpec {
    /// Its full name, such as `serf.service`.
    pub name: String,
    /// The template of its file; a unit without one comes with a package.
    pub template: Option<String>,
    /// What is to become of it.
    pub role: UnitRole,
}

impl UnitSpec {
    /// Where files of units are written.
    pub const FOLDER: &str = "/etc/systemd/system";

    /// Where the file of this unit is written.
    pub fn path(&self) -> PathBuf {
        Path::new(Self::FOLDER).join(&self.name)
    }
}

/// What is to become of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitRole {
    /// It is enabled and kept running.
    Running,
    /// It is started by another unit, such as a timer; only its file matters.
    Triggered,
}

/// What must hold before a component counts as applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// All of these.
    pub probes: Vec<Probe>,
    /// Within this time.
    pub within: Duration,
}

/// Something that can be asked about a running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Probe {
    /// Whether this unit is active.
    UnitActive(String),
}

impl Component {
    /// The unit that is kept running, if there is one.
    pub fn running_unit(&self) -> Option<&UnitSpec> {
        self.units.iter().find(|unit| unit.role == UnitRole::Running)
    }

    /// Reads `components/<stem>.toml`.
    pub(crate) fn read(
        stem: &str,
        document: Document<'_>,
        images: &BTreeMap<Name, Image>,
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
        let image = fields.parsed::<Name>("image").and_then(|image| {
            let known = images.get(&image.value).cloned();
            if known.is_none() {
                let what = format!("there is no image {}", image.value);
                fields.problem("image", &what, "add an [[image]] of that name to artifacts.toml");
            }
            known
        });
        let scope = fields.choice("scope", &Scope::WORDS).unwrap_or(Scope::All);
        let restart = fields
            .choice(
                "restart",
                &[
                    ("when-changed", Restart::WhenChanged),
                    ("always", Restart::Always),
                    ("never", Restart::Never),
                ],
            )
            .unwrap_or(Restart::WhenChanged);
        let files = fields
            .tables("file")
            .into_iter()
            .filter_map(|file| {
                let read = FileSpec::read(&file, templates);
                file.finish();
                read
            })
            .collect();
        let units = read_units(&fields, stem, templates);
        let running = units.iter().find(|unit| unit.role == UnitRole::Running);
        let ready = fields.table("ready").and_then(|ready| {
            let read = Ready::read(&ready, running);
            ready.finish();
            read
        });
        fields.finish();
        let templates = Arc::clone(templates);
        Some(Self { name: name?.value, image, scope, restart, files, units, ready, templates })
    }
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

fn read_units(fields: &Fields<'_>, component: &str, templates: &Templates) -> Vec<UnitSpec> {
    let read = |table: Fields<'_>, kind: &str, role: UnitRole| {
        let name = match table.text("name") {
            Some(found) => {
                let stem = found.value.strip_suffix(kind).and_then(|stem| stem.strip_suffix('.'));
                let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
                if !stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(plain)) {
                    let what = format!("{:?} is not the name of a {kind}", found.value);
                    table.problem("name", &what, &format!("write one such as {component}.{kind}"));
                }
                found.value.to_owned()
            }
            None => format!("{component}.{kind}"),
        };
        let unit = UnitSpec { name, template: template(&table, templates), role };
        table.finish();
        unit
    };
    let timer = fields.table("timer");
    let role = if timer.is_some() { UnitRole::Triggered } else { UnitRole::Running };
    let unit = fields.table("unit").map(|table| read(table, "service", role));
    if let (Some(timer), None) = (&timer, &unit) {
        timer.problem("", "a timer starts a unit, and there is none", "add [unit]");
    }
    let timer = timer.map(|table| read(table, "timer", UnitRole::Running));
    unit.into_iter().chain(timer).collect()
}

impl FileSpec {
    const MODE: u32 = 0o644;

    fn read(fields: &Fields<'_>, templates: &Templates) -> Option<Self> {
        let path = fields.required("path", "write the absolute path of the file").map(|found| {
            if !is_plain_absolute(found.value) {
                let what = format!("{:?} is not a plain absolute path", found.value);
                fields.problem("path", &what, "write one such as \"/etc/serf/serf.json\"");
            }
            PathBuf::from(found.value)
        });
        if !fields.has("template") {
            fields.problem("template", "is missing", "name a template of templates/");
        }
        let template = template(fields, templates);
        let mode = fields.text("mode").map_or(Some(Self::MODE), |found| {
            let digits = found.value.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let mode = u32::from_str_radix(found.value, 8).ok();
            let mode = mode.filter(|mode| digits && found.value.len() >= 3 && *mode <= 0o7777);
            if mode.is_none() {
                let what = format!("{:?} is not a file mode", found.value);
                fields.problem("mode", &what, "write octal digits, such as \"0644\"");
            }
            mode
        });
        let account = |field| {
            let found = fields.text(field)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if found.value.is_empty() || !found.value.chars().all(plain) {
                let what = format!("{:?} is no account", found.value);
                fields.problem(field, &what, "write a name or a number");
            }
            Some(found.value.to_owned())
        };
        let (owner, group) = (account("owner"), account("group"));
        Some(Self { path: path?, template: template?, mode: mode?, owner, group })
    }
}

/// Whether the path is absolute and says plainly where it leads.
fn is_plain_absolute(text: &str) -> bool {
    let path = Path::new(text);
    let parts = path.components().collect::<PathBuf>();
    path.is_absolute()
        && path.file_name().is_some()
        && parts.as_os_str() == path.as_os_str()
        && !path.components().any(|part| part == PathPart::ParentDir)
        && !text.chars().any(char::is_control)
}

impl Ready {
    fn read(fields: &Fields<'_>, running: Option<&UnitSpec>) -> Option<Self> {
        if !fields.has("unit") {
            fields.problem("unit", "is missing", "write unit = \"active\"");
        }
        let active = fields.choice("unit", &[("active", ())]);
        if running.is_none() {
            fields.problem("unit", "this component has no unit", "add [unit] or remove [ready]");
        }
        if !fields.has("within") {
            fields.problem("within", "is missing", "say how long to wait, such as \"30s\"");
        }
        let within = fields.duration("within");
        active?;
        Some(Self { probes: vec![Probe::UnitActive(running?.name.clone())], within: within? })
    }
}
