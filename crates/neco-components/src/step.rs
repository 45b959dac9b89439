//! The steps of an update and the outage groups among them.

use std::time::Duration;

use neco_toml::{Fields, Name};
use serde::Serialize;

use crate::{Component, Scope};

/// A step of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name, for people.
    pub name: Name,
    /// What is done, one after another; at least one.
    pub parts: Vec<Part>,
    /// Whether what it does cannot be undone by an older version.
    pub one_way: bool,
    /// How long it may take without progress, where it differs from the default.
    pub timeout: Option<Duration>,
    /// The line of the recipe on which it begins.
    #[serde(skip)]
    pub line: usize,
}

/// One of the things that a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What is done.
    pub work: Work,
    /// Who does it, and when.
    pub scope: StepScope,
    /// The images it is about, names of `artifacts.toml`.
    pub images: Vec<Name>,
    /// The files it reads, beside the recipe.
    pub data: Vec<String>,
    /// More of them, which are the site's to bring: the package may have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub site_data: Vec<String>,
}

impl Part {
    /// All files that it reads beside the recipe, also those that only a site can bring.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.data.iter().chain(&self.site_data).map(String::as_str)
    }
}

/// What a part of a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// It brings a component to what is desired, or stops it for the steps that follow.
    Component {
        /// Which.
        component: Name,
        /// Which of the two.
        phase: Phase,
    },
    /// It runs code of the worker, because data cannot express it.
    Action {
        /// The code's name.
        action: Name,
    },
    /// It does nothing.
    None {
        /// Why, for people.
        reason: String,
    },
}

/// What a step does to its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It stops the component on all servers if it changes on any.
    Stop,
    /// It brings the component to what is desired.
    Apply,
}

/// Who does a part of a step, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepScope {
    /// All servers at once.
    All,
    /// One server after another.
    OneAtATime {
        /// The turn that a server takes, at `turn/<name>`.
        turn: Name,
    },
    /// One server for all.
    OncePerCluster {
        /// Where the result is recorded, at `contents/<name>`.
        contents: String,
    },
}

/// The steps between which services are down on all servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name, at `group/<name>`.
    pub name: Name,
    /// The components that are stopped and applied, in the order in which they are applied; at least one.
    pub components: Vec<Name>,
    /// The number of the step that stops them, counted from 1.
    pub stop: u32,
    /// The number of the step that starts them again; greater than `stop`.
    pub apply: u32,
}

impl Step {
    /// Reads a `[[step]]`; `component` finds one by name.
    pub(crate) fn read<'c>(
        fields: &Fields<'_>,
        component: impl Fn(&str) -> Option<&'c Component>,
    ) -> Option<Self> {
        let name = fields.required_parsed::<Name>("name", "name the step, such as \"stop-vault\"");
        let step = name.as_ref().map(|name| &name.value);
        let mut whole = true;
        let mut parts = Vec::new();
        if fields.has("part") {
            if Part::KINDS.iter().any(|kind| fields.has(kind)) {
                let what = "a step has parts, or does one thing itself";
                fields.problem("part", what, "write everything it does as [[step.part]]");
                // Known in any case, so that the same mistake is not reported twice.
                let _ = Part::read(fields, step, &component);
            }
            for table in fields.tables("part") {
                let part = Part::read(&table, step, &component);
                whole &= part.is_some();
                if matches!(part, Some(Part { work: Work::None { .. }, .. })) {
                    table.problem("effect", "a part does something", "remove it");
                }
                parts.extend(part);
                table.finish();
            }
        } else {
            let part = Part::read(fields, step, &component);
            whole &= part.is_some();
            parts.extend(part);
        }
        let one_way = fields.boolean("one-way").unwrap_or(false);
        let timeout = fields.duration("timeout");
        let line = fields.line();
        let (name, whole) = (name?.value, whole && !parts.is_empty());
        whole.then_some(Self { name, parts, one_way, timeout, line })
    }

    /// The components that this step stops or applies, in order.
    pub fn components(&self, wanted: Phase) -> impl Iterator<Item = &Name> {
        self.parts.iter().filter_map(move |part| match &part.work {
            Work::Component { component, phase } if *phase == wanted => Some(component),
            _ => None,
        })
    }
}

impl Part {
    const KINDS: [&str; 3] = ["component", "action", "effect"];

    /// Reads what one table says is done, in the step of that name.
    fn read<'c>(
        fields: &Fields<'_>,
        step: Option<&Name>,
        component: &impl Fn(&str) -> Option<&'c Component>,
    ) -> Option<Self> {
        if Self::KINDS.iter().filter(|kind| fields.has(kind)).count() != 1 {
            fields.problem(
                "",
                "a step has exactly one of component, action and effect",
                "say what it does, or effect = \"none\" and a reason",
            );
            // Known in any case, so that the same mistake is not reported twice.
            let _ = (fields.text("component"), fields.text("action"), fields.text("effect"));
            let _ = (fields.text("phase"), fields.text("reason"));
        }
        let mut scope = Some(StepScope::All);
        let (mut images, mut data, mut site_data) = (Vec::new(), Vec::new(), Vec::new());
        let work = if fields.has("component") {
            let found = fields.parsed::<Name>("component");
            let phases = [("stop", Phase::Stop), ("apply", Phase::Apply)];
            let phase = fields.choice("phase", &phases).unwrap_or(Phase::Apply);
            let known = found.as_ref().and_then(|found| component(found.value.as_str()));
            if let (Some(found), None) = (&found, known) {
                let what = format!("there is no component {}", found.value);
                fields.problem("component", &what, "add a file of that name to components/");
            }
            if let Some(known) = known {
                if phase == Phase::Stop && known.running_unit().is_none() {
                    let what = format!("component {} has no unit to stop", known.name);
                    fields.problem("phase", &what, "give it a [unit], or remove this step");
                }
                let acting = if phase == Phase::Stop { Scope::All } else { known.scope };
                scope = read_scope(fields, acting, Some(&known.name), step);
            }
            found.map(|found| Work::Component { component: found.value, phase })
        } else if fields.has("action") {
            let acting = fields.choice("scope", &Scope::WORDS).unwrap_or(Scope::All);
            scope = read_scope(fields, acting, None, step);
            images = read_list(fields, "images", "names of images");
            data = read_data(fields, "data");
            site_data = read_data(fields, "site-data");
            fields.parsed::<Name>("action").map(|action| Work::Action { action: action.value })
        } else if fields.has("effect") {
            fields.choice("effect", &[("none", ())]);
            let reason = fields.required("reason", "say why the step does nothing").map(|found| {
                if found.value.trim().is_empty() {
                    fields.problem("reason", "is empty", "say why the step does nothing");
                }
                found.value.to_owned()
            });
            reason.map(|reason| Work::None { reason })
        } else {
            None
        };
        Some(Self { work: work?, scope: scope?, images, data, site_data })
    }
}

fn read_scope(
    fields: &Fields<'_>,
    scope: Scope,
    component: Option<&Name>,
    step: Option<&Name>,
) -> Option<StepScope> {
    match scope {
        Scope::All => Some(StepScope::All),
        Scope::OneAtATime => {
            let turn = fields.parsed::<Name>("turn").map(|found| found.value);
            let turn = turn.or_else(|| component.cloned());
            if turn.is_none() {
                fields.problem("turn", "is missing", "name the turn that a server takes");
            }
            turn.map(|turn| StepScope::OneAtATime { turn })
        }
        Scope::OncePerCluster => {
            let contents = match fields.text("contents") {
                Some(found) => {
                    if !is_file_name(found.value) {
                        let what = format!("{:?} cannot be a key", found.value);
                        fields.problem("contents", &what, "write one such as \"dhcp.json\"");
                    }
                    found.value.to_owned()
                }
                None => step?.to_string(),
            };
            Some(StepScope::OncePerCluster { contents })
        }
    }
}

fn read_list(fields: &Fields<'_>, field: &'static str, what: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for found in fields.texts(field) {
        match found.value.parse() {
            Ok(name) => names.push(name),
            Err(error) => {
                let remedy = format!("write {what}");
                fields.problem_at(found.line, field, &format!("{error}"), &remedy);
            }
        }
    }
    names
}

fn read_data(fields: &Fields<'_>, field: &'static str) -> Vec<String> {
    let mut names = Vec::new();
    for found in fields.texts(field) {
        if is_file_name(found.value) {
            names.push(found.value.to_owned());
        } else {
            let what = format!("{:?} is not the name of a file beside the recipe", found.value);
            fields.problem_at(found.line, field, &what, "write one such as \"dhcp.json\"");
        }
    }
    names
}

/// Whether the text can name a file in a folder and the last part of a key.
pub(crate) fn is_file_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
