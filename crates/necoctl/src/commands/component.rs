//! `component`: what the installed package says about the programs on boot servers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use neco_components::{
    Component as Described, Desired, Facts, FileKind, LoadError, Phase, Recipe, Restart, Scope,
    ServerFacts, UnitRole,
};
use neco_host::{Root, address, identity};
use neco_plan::View;
use neco_process::exit::{ExitCode, Failure};
use neco_process::under;
use neco_schema::{Lrn, NecoVersion};
use serde::Serialize;

use crate::cli::duration;
use crate::failure;
use crate::images;
use crate::io::Io;
use crate::preview::ask;
use crate::session::Session;
use crate::words::{one_line, printable, table};

/// Show what the installed package says about the programs on boot servers.
#[derive(Debug, Args)]
pub struct Component {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the components, with their units and images, and the steps that stop and apply them
    List,
    /// Show what one component should look like on this server: its files as they are rendered here, and its units
    ///
    /// The servers are those of the last request, else those that are registered. Files that not everybody may
    /// read are shown with --reveal only.
    Show(Show),
    /// Tell where this server differs from what the installed package says
    ///
    /// The worker of this server looks; nothing is changed. Ends with 0 if nothing differs, 1 if something does, and 2 if
    /// the worker does not answer.
    Diff(Diff),
}

#[derive(Debug, Args)]
struct Diff {
    /// The component alone, such as serf
    name: Option<String>,
    /// How long to wait for the worker's answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
struct Show {
    /// The component, such as serf
    name: String,
    /// Show files, too, that not everybody may read
    #[arg(long)]
    reveal: bool,
}

/// A component in the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    scope: &'static str,
    restart: &'static str,
    units: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    steps: Vec<AtStep>,
}

/// Where the recipe stops or applies a component.
#[derive(Debug, Serialize)]
struct AtStep {
    number: u32,
    name: String,
    phase: Phase,
}

/// What a component should look like, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    format: u32,
    component: String,
    scope: &'static str,
    restart: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    units: Vec<ShownUnit>,
    files: Vec<ShownFile>,
}

#[derive(Debug, Serialize)]
struct ShownUnit {
    name: String,
    role: UnitRole,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ShownFile {
    path: PathBuf,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    create_only: bool,
    kind: FileKind,
    sha256: String,
    /// Missing where it is not for everybody's eyes.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl Component {
    /// Whether etcd is asked.
    pub fn needs_etcd(&self) -> bool {
        !matches!(self.verb, Verb::List)
    }

    /// Lists, where that is what is asked for.
    ///
    /// # Errors
    /// What the package says cannot be used.
    pub fn list(&self, root: &Path, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let recipe = load(root)?;
        let rows: Vec<Row> = recipe.components().map(|one| row(&recipe, one)).collect();
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "components": rows }))?;
            return Ok(ExitCode::Done);
        }
        let title = ["COMPONENT", "SCOPE", "RESTART", "UNITS", "IMAGE OR PACKAGE", "STEPS"];
        let mut cells = vec![title.map(str::to_owned).to_vec()];
        for row in rows {
            let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
            let steps: Vec<_> = row.steps.iter().map(AtStep::to_string).collect();
            cells.push(vec![
                row.name,
                row.scope.to_owned(),
                row.restart.to_owned(),
                or_none(row.units.join(", ")),
                row.image.or(row.package).unwrap_or_else(|| "-".to_owned()),
                or_none(steps.join(", ")),
            ]);
        }
        write!(io.out, "{}", table(&cells))?;
        Ok(ExitCode::Done)
    }

    /// Lists or shows.
    ///
    /// # Errors
    /// What the package says cannot be used, or not with the facts of this server; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::List => self.list(&session.root, session.io),
            Verb::Show(show) => show.run(session).await,
            Verb::Diff(diff) => diff.run(session).await,
        }
    }
}

impl Diff {
    async fn run(&self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let recipe = load(&session.root)?;
        if let Some(name) = &self.name {
            named(&recipe, name)?;
        }
        let version = installed(&session.root)?;
        let lrn = identity::lrn(&Root::new(&session.root)?)?;
        let (_, view) = session.look().await?;
        // Files name all servers, though one of them is asked for.
        let mut members: BTreeSet<Lrn> = members(&view).into_iter().collect();
        members.insert(lrn);
        let awaited = BTreeSet::from([lrn]);
        let mut answers = ask(session, &view, &version, &members, &awaited, self.wait).await?;
        let Some(answer) = answers.given.remove(&lrn) else {
            let why = answers.missing.remove(&lrn).unwrap_or_default();
            let error = anyhow!("the worker of this server does not tell: {}", one_line(&why));
            return Err(Failure::new(ExitCode::Unknown, error));
        };
        if !answer.error.is_empty() {
            let error = anyhow!("the worker of this server: {}", one_line(&answer.error));
            return Err(Failure::new(ExitCode::No, error));
        }
        let changes = answer.steps.into_iter().flat_map(|step| step.changes);
        let wanted = |name: &str| match &self.name {
            Some(wanted) => name == wanted,
            // An action is no component.
            None => !name.is_empty(),
        };
        let changes: Vec<_> = changes.filter(|change| wanted(&change.component)).collect();
        let io = &mut *session.io;
        if io.is_json() {
            io.json(
                &serde_json::json!({ "format": 1, "version": version, "differences": changes }),
            )?;
        } else if changes.is_empty() {
            io.line("Nothing differs.")?;
        } else {
            for change in &changes {
                let what = format!("{}: {} {}", change.component, change.subject, change.what);
                io.line(one_line(&what))?;
                for line in change.diff.lines() {
                    io.line(format_args!("    {}", printable(line)))?;
                }
            }
        }
        Ok(if changes.is_empty() { ExitCode::Done } else { ExitCode::No })
    }
}

/// The servers of the last request, else those that are registered.
fn members(view: &View) -> Vec<Lrn> {
    let requested = view.request.value().map(|request| request.servers.clone());
    requested.unwrap_or_else(|| view.registered.iter().copied().collect())
}

/// The version that is installed here.
fn installed(root: &Path) -> anyhow::Result<NecoVersion> {
    Ok(neco_process::daemon::installed_version(root)?)
}

/// The component of that name.
fn named<'r>(recipe: &'r Recipe, name: &str) -> Result<&'r Described, Failure> {
    recipe.component(name).ok_or_else(|| {
        let names: Vec<_> = recipe.components().map(|one| one.name.to_string()).collect();
        let names = names.join(", ");
        failure::nothing_yet(format_args!(
            "no component is called {name:?} here; there are {names}"
        ))
    })
}

impl std::fmt::Display for AtStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stop = if self.phase == Phase::Stop { " (stop)" } else { "" };
        write!(f, "{} {}{stop}", self.number, self.name)
    }
}

fn load(root: &Path) -> Result<Recipe, Failure> {
    Recipe::load(under(root, Path::new(Recipe::FOLDER))).map_err(|error| {
        let missing = matches!(&error, LoadError::Read { source, .. } if source.kind() == ErrorKind::NotFound);
        let failure = Failure::from(error);
        if missing { failure.with_hint("it comes with the package neco: install it, or name another --root") } else { failure }
    })
}

fn row(recipe: &Recipe, component: &Described) -> Row {
    let mut steps = Vec::new();
    for (number, step) in recipe.steps() {
        for phase in [Phase::Stop, Phase::Apply] {
            if step.components(phase).any(|name| *name == component.name) {
                steps.push(AtStep { number, name: step.name.to_string(), phase });
            }
        }
    }
    Row {
        name: component.name.to_string(),
        scope: scope(component.scope),
        restart: restart(component.restart),
        units: component.units.iter().map(|unit| unit.name.clone()).collect(),
        image: component.image.as_ref().map(|image| image.reference()),
        package: package(component),
        steps,
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::All => "all",
        Scope::OneAtATime => "one-at-a-time",
        Scope::OncePerCluster => "once-per-cluster",
    }
}

fn restart(restart: Restart) -> &'static str {
    match restart {
        Restart::WhenChanged => "when-changed",
        Restart::Reload => "reload",
        Restart::Always => "always",
        Restart::Never => "never",
    }
}

fn package(component: &Described) -> Option<String> {
    component.package.as_ref().map(|deb| format!("{} {}", deb.name, deb.release))
}

impl Show {
    async fn run(&self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let recipe = load(&session.root)?;
        let component = named(&recipe, &self.name)?;
        let (_, view) = session.look().await?;
        let servers = members(&view);
        let facts = facts(&session.root, component, &servers).await?;
        let desired = Desired::render(component, &facts)?;
        let shown = self.shown(component, desired);
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&shown)?;
        } else {
            shown.write(io)?;
        }
        Ok(ExitCode::Done)
    }

    fn shown(&self, component: &Described, desired: Desired) -> Shown {
        let units = desired.units.into_iter();
        let units =
            units.map(|unit| ShownUnit { name: unit.name, role: unit.role, needs: unit.needs });
        let files = desired.files.into_iter().map(|file| ShownFile {
            path: file.path,
            mode: format!("{:04o}", file.mode),
            owner: file.owner,
            group: file.group,
            create_only: file.create_only,
            kind: file.kind,
            sha256: file.digest.to_string(),
            content: (self.reveal || file.mode & 0o004 != 0).then_some(file.content),
        });
        Shown {
            format: 1,
            component: component.name.to_string(),
            scope: scope(component.scope),
            restart: restart(component.restart),
            image: desired.image,
            package: package(component),
            units: units.collect(),
            files: files.collect(),
        }
    }
}

impl Shown {
    fn write(&self, io: &mut Io<'_>) -> std::io::Result<()> {
        let mut rows = vec![
            vec!["Component".to_owned(), self.component.clone()],
            vec!["Scope".to_owned(), self.scope.to_owned()],
            vec!["Restart".to_owned(), self.restart.to_owned()],
        ];
        let optional = [("Image", &self.image), ("Package", &self.package)];
        rows.extend(optional.into_iter().filter_map(|(title, value)| {
            value.as_ref().map(|value| vec![title.to_owned(), value.clone()])
        }));
        for unit in &self.units {
            let role = match unit.role {
                UnitRole::Running => "kept running",
                UnitRole::Triggered => "started by something else",
            };
            let needs: Vec<_> = unit.needs.iter().map(|path| path.display().to_string()).collect();
            let where_ = if needs.is_empty() {
                String::new()
            } else {
                format!(", where there is {}", needs.join(" and "))
            };
            rows.push(vec!["Unit".to_owned(), format!("{}: {role}{where_}", unit.name)]);
        }
        write!(io.out, "{}", table(&rows))?;
        for file in &self.files {
            let owner = match (&file.owner, &file.group) {
                (None, None) => String::new(),
                (owner, group) => {
                    let name = |name: &Option<String>| name.clone().unwrap_or_default();
                    format!(" {}:{}", name(owner), name(group))
                }
            };
            let once = if file.create_only { ", only where there is none" } else { "" };
            io.line(format_args!("\n==> {} ({}{owner}{once})", file.path.display(), file.mode))?;
            match &file.content {
                Some(content) => io.line(content.trim_end_matches('\n'))?,
                None => io.line("(not for everybody's eyes: --reveal shows it)")?,
            }
        }
        Ok(())
    }
}

/// What templates may ask about this server.
async fn facts(root: &Path, component: &Described, servers: &[Lrn]) -> anyhow::Result<Facts> {
    let host = Root::new(root).with_context(|| format!("reading {}", root.display()))?;
    let lrn = identity::lrn(&host)?;
    let version = installed(root)?;
    let server =
        |lrn: Lrn| Ok::<_, anyhow::Error>(ServerFacts { lrn, node0: address::node0(lrn)? });
    let os = identity::os_release(&host).ok();
    let field = |name: &str| os.as_ref().and_then(|os| os.get(name)).unwrap_or_default().to_owned();
    let serial = std::fs::read_to_string(host.join("/sys/class/dmi/id/product_serial"));
    let mut variants = BTreeSet::new();
    if let Some(image) = &component.image
        && images::reference(root, image).await?.as_str() != image.reference()
    {
        variants.insert(image.name.clone());
    }
    Ok(Facts {
        version,
        cluster: identity::cluster(&host).unwrap_or_default(),
        lrn,
        node0: server(lrn)?.node0,
        servers: servers.iter().map(|lrn| server(*lrn)).collect::<Result<_, _>>()?,
        os_name: field("NAME"),
        os_version: field("VERSION_ID"),
        // The kernel shows it to root alone; a template that needs it says so.
        serial: serial.map(|text| text.trim().to_owned()).unwrap_or_default(),
        variants,
    })
}
