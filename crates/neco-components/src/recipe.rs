//! The recipe: everything that one version does to a boot server, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neco_artifacts::{Artifacts, Image};
use neco_schema::{GroupShape, RecipeDigest, RecipeShape};
use neco_toml::{Document, Fields, Name, Problem, Problems, Report};
use serde::Serialize;

use crate::component::{Place, starts_at_boot};
use crate::digest::Parts;
use crate::templates::Templates;
use crate::{
    Component, ContentDigest, Facts, Group, LoadError, Part, Phase, Probe, Sources, Step,
    StepScope, UnitRole, UnitSpec, Work,
};

/// Everything that one version does to a boot server: the steps in order, with the components, templates, images and data
/// they use. A recipe that exists is consistent.
#[derive(Clone, Debug)]
pub struct Recipe {
    steps: Vec<Step>,
    groups: Vec<Group>,
    components: BTreeMap<Name, Component>,
    artifacts: Artifacts,
    data: BTreeMap<String, String>,
    digest: RecipeDigest,
}

impl Recipe {
    /// Where the package has it, below the root of the file system.
    pub const FOLDER: &str = "/usr/share/neco";
    /// The folder of the sources of ignition templates, within that one.
    pub const IGNITIONS: &str = "ignitions";
    /// The file that lists the steps.
    pub const FILE: &str = "recipe.toml";

    /// Reads and checks a folder such as [`FOLDER`](Self::FOLDER).
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, LoadError> {
        let folder = folder.as_ref();
        Self::parse(&Sources::read(folder)?)
            .map_err(|problems| LoadError::Invalid { folder: folder.to_owned(), problems })
    }

    /// Checks what was read; all problems are in one report.
    pub fn parse(sources: &Sources) -> Result<Self, Problems> {
        let report = Report::default();
        for stray in &sources.strays {
            let (what, remedy) = if is_of_dpkg(stray) {
                ("dpkg is unpacking a package, or was cut off", "wait for its end, or run it again")
            } else {
                let remedy = "name components *.toml and templates *.j2, and remove other files";
                ("this file would not be read", remedy)
            };
            report.add(Problem {
                file: stray.clone(),
                line: None,
                field: String::new(),
                what: what.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
        let artifacts = Document { file: Artifacts::FILE, text: &sources.artifacts };
        let artifacts = Artifacts::read(artifacts, &report);
        let images = &artifacts.images;
        let templates = Arc::new(Templates::parse(&sources.templates, &report));
        let mut components = BTreeMap::new();
        for (stem, text) in &sources.components {
            let file = format!("components/{stem}.toml");
            let document = Document { file: &file, text };
            if let Some(component) =
                Component::read(stem, document, &artifacts, &templates, &report)
            {
                components.insert(component.name.clone(), component);
            }
        }
        check_paths(&components, &report);
        if report.is_empty() {
            rehearse(&components, &templates, &report);
        }
        let document = Document { file: Self::FILE, text: &sources.recipe };
        let (steps, groups) =
            read_steps(document, &components, images, sources, &report).unwrap_or_default();
        let mut recipe = Self {
            steps,
            groups,
            components,
            artifacts,
            data: sources.data.clone(),
            digest: RecipeDigest(String::new()),
        };
        recipe.digest = recipe.compute_digest(&templates);
        report.conclude(recipe)
    }

    /// How many steps there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a recipe has at least one step")]
    pub fn len(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Step `number`, counted from 1.
    pub fn step(&self, number: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// All steps with their numbers, in order.
    pub fn steps(&self) -> impl Iterator<Item = (u32, &Step)> {
        (1..).zip(&self.steps)
    }

    /// The outage groups, ascending; they do not overlap.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group that step `number` stops, lies within or applies.
    pub fn group_of(&self, number: u32) -> Option<&Group> {
        self.groups.iter().find(|group| (group.stop..=group.apply).contains(&number))
    }

    /// The component `name`.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.get(name)
    }

    /// All components by name, those of no step included.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.components.values()
    }

    /// What the version pins.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// The image `name`.
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.artifacts.images.get(name)
    }

    /// The images that a part of a step is about, in the order in which it names them.
    pub fn images_of<'r>(&'r self, part: &'r Part) -> impl Iterator<Item = &'r Image> {
        part.images.iter().filter_map(|name| self.artifacts.images.get(name))
    }

    /// The content of a data file that some step names; of one that a site brings, if it has.
    pub fn data(&self, name: &str) -> Option<&str> {
        self.data.get(name).map(String::as_str)
    }

    /// The data files of a part of a step that are there, with their contents: those of the package, then those of the site.
    pub fn data_of<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = (&'a str, &'a str)> {
        part.files().filter_map(|name| Some((name, self.data(name)?)))
    }

    /// Whether a part of a step gives only what is a site's own, and the package has nothing of that.
    pub fn has_nothing_for(&self, part: &Part) -> bool {
        !part.site_data.is_empty() && part.images.is_empty() && self.data_of(part).next().is_none()
    }

    /// Whether some step reads this file beside the recipe.
    pub fn reads(&self, file: &str) -> bool {
        let parts = self.steps.iter().flat_map(|step| &step.parts);
        parts.flat_map(Part::files).any(|name| name == file)
    }

    /// The digest of everything a part of a step reads here: its data and its images. What was done once for the cluster
    /// is done again when this changes.
    pub fn inputs_of(&self, part: &Part) -> ContentDigest {
        let parts =
            self.data_of(part).fold(Parts::new("neco step inputs"), |parts, (name, text)| {
                parts.part("data").part(name).part(text)
            });
        let images = self.images_of(part);
        images.fold(parts, |parts, image| parts.part("image").part(image.reference())).digest()
    }

    /// The actions that the steps name; all of them must be known to whoever follows the recipe.
    pub fn actions(&self) -> impl Iterator<Item = &Name> {
        self.steps.iter().flat_map(|step| &step.parts).filter_map(|part| match &part.work {
            Work::Action { action } => Some(action),
            Work::Component { .. } | Work::None { .. } => None,
        })
    }

    /// Reports every action of a step that is not among `actions`, and every check of a component that is not among
    /// `checks`, so that no effect begins before all of them are known.
    ///
    /// # Errors
    /// There is at least one.
    pub fn check_actions(&self, actions: &[&str], checks: &[&str]) -> Result<(), Problems> {
        let report = Report::default();
        let unknown = |kind: &str, name: &Name, known: &[&str], file, line, field| {
            if !known.contains(&name.as_str()) {
                let what = format!("this version has no {kind} {name}");
                let remedy = match known {
                    [] => format!("remove the {kind}"),
                    known => format!("write one of: {}", known.join(", ")),
                };
                report.add(Problem { file, line, field, what, remedy });
            }
        };
        for (number, step) in self.steps() {
            for part in &step.parts {
                if let Work::Action { action } = &part.work {
                    let file = Self::FILE.to_owned();
                    let field = format!("step[{number}].action");
                    unknown("action", action, actions, file, Some(step.line), field);
                }
            }
        }
        for component in self.components() {
            for probe in component.ready.iter().flat_map(|ready| &ready.probes) {
                if let Probe::Check { check } = probe {
                    let (file, field) = (component.file(), "ready.check".to_owned());
                    unknown("check", check, checks, file, None, field);
                }
            }
        }
        report.conclude(())
    }

    /// The digest of everything that decides what a step does. Comments and layout of the TOML files do not count.
    pub fn digest(&self) -> &RecipeDigest {
        &self.digest
    }

    /// What of it matters beyond the server that follows it.
    pub fn shape(&self) -> RecipeShape {
        let groups = self.groups.iter().map(|group| GroupShape {
            name: group.name.to_string(),
            stop: group.stop,
            apply: group.apply,
        });
        let (steps, groups) = (self.len(), groups.collect());
        RecipeShape { steps, groups, digest: self.digest.clone() }
    }

    fn compute_digest(&self, templates: &Templates) -> RecipeDigest {
        #[derive(Serialize)]
        struct Canonical<'a> {
            steps: &'a [Step],
            groups: &'a [Group],
            components: &'a BTreeMap<Name, Component>,
            artifacts: &'a Artifacts,
            templates: &'a BTreeMap<String, String>,
            data: &'a BTreeMap<String, String>,
        }
        let canonical = serde_json::to_vec(&Canonical {
            steps: &self.steps,
            groups: &self.groups,
            components: &self.components,
            artifacts: &self.artifacts,
            templates: templates.texts(),
            data: &self.data,
        })
        .expect("texts and numbers under text keys are JSON");
        RecipeDigest(Parts::new("neco recipe 1").part(canonical).digest().to_string())
    }
}

/// Whether a file has a name that dpkg gives to what is not in its place yet, or not any more.
fn is_of_dpkg(name: &str) -> bool {
    name.ends_with(".dpkg-new") || name.ends_with(".dpkg-tmp")
}

/// Two components must not write the same file or drive the same unit, and what one writes is no folder of another.
fn check_paths(components: &BTreeMap<Name, Component>, report: &Report) {
    let problem = |component: &Component, place: &Place, what: String, remedy: &str| {
        report.add(Problem {
            file: component.file(),
            line: Some(place.line),
            field: place.field.clone(),
            what,
            remedy: remedy.to_owned(),
        });
    };
    let mut owners: BTreeMap<PathBuf, (&Component, &Place)> = BTreeMap::new();
    for component in components.values() {
        for (path, place) in component.paths() {
            let Some((other, first)) = owners.get(&path) else {
                owners.insert(path, (component, place));
                continue;
            };
            let (path, other, line) = (path.display(), other.file(), first.line);
            let what = format!("{path} stands in {other}:{line} already");
            problem(component, place, what, "let one component own it, once");
        }
    }
    for (path, &(component, place)) in &owners {
        for folder in path.ancestors().skip(1) {
            if let Some((other, first)) = owners.get(folder) {
                let (folder, other, line) = (folder.display(), other.file(), first.line);
                let what = format!("{folder} would be a folder, and is a file in {other}:{line}");
                problem(component, place, what, "give one of them another path");
            }
        }
    }
}

/// Renders everything once, so that nothing that loads fails later.
fn rehearse(components: &BTreeMap<Name, Component>, templates: &Templates, report: &Report) {
    let Some(facts) = Facts::rehearsal() else { return };
    // What is wrong with a template that others extend or include is told once.
    let mut told: Vec<Problem> = Vec::new();
    for component in components.values() {
        let image = component.image.as_ref().map(|image| facts.reference(image));
        let context = facts.context(component.name.as_str(), image);
        let files = component.files.iter().map(|file| (&file.template, None));
        let units =
            component.units.iter().filter_map(|unit| Some((unit.template.as_ref()?, Some(unit))));
        for (template, unit) in files.chain(units) {
            let problem = match templates.rehearse(template, &context) {
                Ok(text) => unit.and_then(|unit| never_starts(component, unit, template, &text)),
                Err(problem) => Some(problem),
            };
            told.extend(problem.filter(|problem| !told.contains(problem)));
        }
    }
    told.into_iter().for_each(|problem| report.add(problem));
}

/// A unit that is to be kept running starts at boot, too: systemd cannot enable one that says nothing about that, and it
/// would never be as desired.
fn never_starts(
    component: &Component,
    unit: &UnitSpec,
    template: &str,
    text: &str,
) -> Option<Problem> {
    if unit.role != UnitRole::Running || starts_at_boot(text) {
        return None;
    }
    Some(Problem {
        file: component.file(),
        line: Some(unit.place.line),
        field: unit.place.field.clone(),
        what: format!(
            "nothing starts {} at boot: what templates/{template} makes has no [Install] section with WantedBy=",
            unit.name
        ),
        remedy: "end the template with [Install] and WantedBy=multi-user.target".to_owned(),
    })
}

fn read_steps(
    document: Document<'_>,
    components: &BTreeMap<Name, Component>,
    images: &BTreeMap<Name, Image>,
    sources: &Sources,
    report: &Report,
) -> Option<(Vec<Step>, Vec<Group>)> {
    let table = document.parse(report)?;
    let fields = Fields::of(document, &table, report);
    let mut steps: Vec<Step> = Vec::new();
    let tables = fields.tables("step");
    if tables.is_empty() {
        fields.problem("step", "there is no step", "write at least one [[step]]");
    }
    let mut whole = true;
    for table in tables {
        let step = Step::read(&table, |name| components.get(name));
        whole &= step.is_some();
        if let Some(step) = step {
            check_step(&table, &step, &steps, images, sources);
            steps.push(step);
        }
        table.finish();
    }
    let mut groups: Vec<Group> = Vec::new();
    // Numbers are counted from whole lists only.
    let counted = whole;
    for table in fields.tables("group") {
        let group = if counted { read_group(&table, &steps) } else { None };
        if !counted {
            let _ = (table.text("name"), table.text("stop"), table.text("apply"));
        }
        whole &= group.is_some();
        if let Some(group) = group {
            check_group(&table, &group, &steps, &groups);
            groups.push(group);
        }
        table.finish();
    }
    fields.finish();
    if whole {
        check_stops(document, &steps, &groups, report);
    }
    groups.sort_by_key(|group| group.stop);
    Some((steps, groups))
}

fn check_step(
    table: &Fields<'_>,
    step: &Step,
    earlier: &[Step],
    images: &BTreeMap<Name, Image>,
    sources: &Sources,
) {
    if let Some(other) = earlier.iter().find(|other| other.name == step.name) {
        let what = format!("step {} stands on line {} already", step.name, other.line);
        table.problem("name", &what, "give every step a name of its own");
    }
    let recorded = |part: &Part| match &part.scope {
        StepScope::OncePerCluster { contents } => Some(contents.clone()),
        _ => None,
    };
    for (index, part) in step.parts.iter().enumerate() {
        let Some(contents) = recorded(part) else { continue };
        let others = earlier.iter().flat_map(|step| &step.parts).chain(&step.parts[..index]);
        if others.filter_map(recorded).any(|other| other == contents) {
            let what = format!("{contents} is what another once-per-cluster part is recorded as");
            table.problem(
                "contents",
                &what,
                "give each a name of its own, or one would not be done",
            );
        }
    }
    for image in
        step.parts.iter().flat_map(|part| &part.images).filter(|image| !images.contains_key(*image))
    {
        let what = format!("there is no image {image}");
        table.problem("images", &what, "add an [[image]] of that name to artifacts.toml");
    }
    for data in step
        .parts
        .iter()
        .flat_map(|part| &part.data)
        .filter(|data| !sources.data.contains_key(*data))
    {
        table.problem("data", &format!("there is no file {data}"), "put it beside the recipe");
    }
}

fn read_group(table: &Fields<'_>, steps: &[Step]) -> Option<Group> {
    let name = table.required_parsed::<Name>("name", "name the group, such as \"vault\"");
    let step = |field, phase, remedy: &str| {
        let found = table.required(field, remedy)?;
        let position = steps.iter().position(|step| step.name == found.value);
        let Some(position) = position else {
            table.problem(field, &format!("there is no step {}", found.value), remedy);
            return None;
        };
        let components: Vec<&Name> = steps[position].components(phase).collect();
        if components.is_empty() {
            let what = format!("step {} does not do that", found.value);
            table.problem(field, &what, remedy);
            return None;
        }
        Some((u32::try_from(position + 1).ok()?, components))
    };
    let stop = step("stop", Phase::Stop, "name a step with phase = \"stop\"");
    let apply = step("apply", Phase::Apply, "name a step with phase = \"apply\"");
    let (name, (stop, stopped), (apply, applied)) = (name?.value, stop?, apply?);
    let sorted = |names: &[&Name]| names.iter().map(|&name| name.clone()).collect::<BTreeSet<_>>();
    if sorted(&stopped) != sorted(&applied) {
        let listed = |names: &[&Name]| {
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" and ")
        };
        let what = format!("the group stops {} and applies {}", listed(&stopped), listed(&applied));
        table.problem("apply", &what, "name steps of the same components");
        return None;
    }
    if stop >= apply {
        table.problem("apply", "comes before the stop", "order the steps: stop, then apply");
        return None;
    }
    let components = applied.into_iter().cloned().collect();
    Some(Group { name, components, stop, apply })
}

fn check_group(table: &Fields<'_>, group: &Group, steps: &[Step], earlier: &[Group]) {
    let applied = steps.iter().zip(1..).filter(|(_, number)| *number == group.apply);
    for part in applied.flat_map(|(step, _)| &step.parts) {
        if let Work::Component { component, .. } = &part.work
            && part.scope != StepScope::All
        {
            let what = format!("component {component} is not for all servers at once");
            let remedy = "a group is stopped and started on all: give it scope = \"all\"";
            table.problem("apply", &what, remedy);
        }
    }
    for other in earlier {
        if other.name == group.name {
            let what = format!("group {} stands here twice", group.name);
            table.problem("name", &what, "give every group a name of its own");
        }
        if group.stop <= other.apply && other.stop <= group.apply {
            let what = format!("the group overlaps group {}", other.name);
            table.problem("", &what, "end one group before the next begins");
        }
    }
}

/// What is stopped must be started again by somebody.
fn check_stops(document: Document<'_>, steps: &[Step], groups: &[Group], report: &Report) {
    for (number, step) in (1..).zip(steps) {
        let stops = step.components(Phase::Stop).next().is_some();
        if stops && !groups.iter().any(|group| group.stop == number) {
            report.add(Problem {
                file: document.file.to_owned(),
                line: Some(step.line),
                field: format!("step[{number}].phase"),
                what: format!("nothing starts again what step {} stops", step.name),
                remedy: "add a [[group]] with this step as its stop".to_owned(),
            });
        }
    }
}
