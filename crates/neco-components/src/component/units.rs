//! The units of a component.

use std::path::{Path, PathBuf};

use neco_toml::Fields;
use serde::Serialize;

use super::{paths, template};
use crate::templates::Templates;

/// A unit of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitSpec {
    /// Its full name, such as `serf.service`.
    pub name: String,
    /// The template of its file; a unit without one comes with a package.
    pub template: Option<String>,
    /// What is to become of it.
    pub role: UnitRole,
    /// Files without which it does not run, as its conditions say: where one is missing, it is enabled and left alone.
    pub needs: Vec<PathBuf>,
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
    /// Something else starts it, such as a timer or an action of a recipe; only its file matters.
    Triggered,
}

/// Reads `[unit]` and `[timer]`.
pub(super) fn read(fields: &Fields<'_>, component: &str, templates: &Templates) -> Vec<UnitSpec> {
    let name = |table: &Fields<'_>, kind: &str| match table.text("name") {
        Some(found) => {
            if !(is_unit_name(found.value) && found.value.ends_with(&format!(".{kind}"))) {
                let what = format!("{:?} is not the name of a {kind}", found.value);
                table.problem("name", &what, &format!("write one such as {component}.{kind}"));
            }
            found.value.to_owned()
        }
        None => format!("{component}.{kind}"),
    };
    let timer = fields.table("timer");
    let unit = fields.table("unit").map(|table| {
        let name = name(&table, "service");
        let by_action = table.choice("started-by", &[("action", ())]).is_some();
        if by_action && timer.is_some() {
            table.problem("started-by", "the timer starts it", "remove one of the two");
        }
        let waits = by_action || timer.is_some();
        let role = if waits { UnitRole::Triggered } else { UnitRole::Running };
        let needs = paths(&table, "needs");
        if waits && !needs.is_empty() {
            table.problem("needs", "it is not Neco that starts it", "remove them");
        }
        let unit = UnitSpec { name, template: template(&table, templates), role, needs };
        table.finish();
        unit
    });
    if let (Some(timer), None) = (&timer, &unit) {
        timer.problem("", "a timer starts a unit, and there is none", "add [unit]");
    }
    let timer = timer.map(|table| {
        let (name, template) = (name(&table, "timer"), template(&table, templates));
        table.finish();
        UnitSpec { name, template, role: UnitRole::Running, needs: Vec::new() }
    });
    unit.into_iter().chain(timer).collect()
}

/// Whether systemd would know a unit of this name: a service or a timer.
pub(super) fn is_unit_name(text: &str) -> bool {
    let stem = text.strip_suffix(".service").or_else(|| text.strip_suffix(".timer"));
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
    stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(plain))
}
