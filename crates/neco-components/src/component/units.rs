//! The units of a component.

use std::path::{Path, PathBuf};

use neco_toml::Fields;
use serde::Serialize;

use super::{Place, paths, template};
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
    /// Where its component speaks of it.
    #[serde(skip)]
    pub(crate) place: Place,
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
        if role == UnitRole::Running && name.ends_with("@.service") {
            let what = format!("{name} is a pattern of units, and none itself");
            table.problem("name", &what, "name one of them, such as \"agent@1.service\"");
        }
        let place = place(&table, "unit");
        let unit = UnitSpec { name, template: template(&table, templates), role, needs, place };
        table.finish();
        unit
    });
    if let (Some(timer), None) = (&timer, &unit) {
        timer.problem("", "a timer starts a unit, and there is none", "add [unit]");
    }
    let timer = timer.map(|table| {
        let (name, place) = (name(&table, "timer"), place(&table, "timer"));
        let template = template(&table, templates);
        table.finish();
        UnitSpec { name, template, role: UnitRole::Running, needs: Vec::new(), place }
    });
    unit.into_iter().chain(timer).collect()
}

/// Where a component speaks of the file of a unit, or of the unit where it writes none.
fn place(fields: &Fields<'_>, table: &str) -> Place {
    match fields.text("template") {
        Some(found) => Place { line: found.line, field: format!("{table}.template") },
        None => Place { line: fields.line(), field: table.to_owned() },
    }
}

/// Whether systemd would know a unit of this name: a service or a timer.
pub(super) fn is_unit_name(text: &str) -> bool {
    let stem = text.strip_suffix(".service").or_else(|| text.strip_suffix(".timer"));
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
    stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(plain))
}

/// Whether the file of a unit says what systemd needs to enable it. `Also=` alone is about other units.
pub(crate) fn starts_at_boot(text: &str) -> bool {
    const WORDS: [&str; 3] = ["WantedBy", "RequiredBy", "Alias"];
    let (mut installs, mut continued) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let begins = !std::mem::replace(&mut continued, line.ends_with('\\'));
        if begins && line.starts_with('[') {
            installs = line == "[Install]";
        }
        let setting = line.split_once('=').filter(|_| begins && installs);
        if setting
            .is_some_and(|(word, value)| WORDS.contains(&word.trim()) && !value.trim().is_empty())
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_starts_at_boot_where_its_install_section_says_so() {
        for good in [
            "[Install]\nWantedBy=multi-user.target\n",
            "[Service]\nExecStart=/x \\\n# a comment\n  [Unit]\n\n  [Install]  \n RequiredBy = a.target",
            "[Install]\nAlso=b.service\nAlias=c.service\n",
            "[Install]\n[Unit]\n[Install]\nWantedBy=\\\n  multi-user.target\n",
        ] {
            assert!(starts_at_boot(good), "{good}");
        }
        for bad in [
            "",
            "[Install]\n",
            "[Install]\nWantedBy=\n",
            "[Install]\nAlso=b.service\n",
            "[Install]\n#WantedBy=multi-user.target\n",
            "[Install]\n[Service]\nWantedBy=multi-user.target\n",
            "[Service]\nExecStart=/x \\\n[Install]\nWantedBy=multi-user.target\n",
            "[install]\nWantedBy=multi-user.target\n",
            "#[Install]\nWantedBy=multi-user.target\n",
        ] {
            assert!(!starts_at_boot(bad), "{bad}");
        }
    }
}
