//! The files of a component, and what it adds to units of others.

use std::path::{Component as PathPart, Path, PathBuf};

use neco_toml::{Fields, Found};
use serde::Serialize;

use super::units::{UnitSpec, is_unit_name};
use super::{Place, template, words};
use crate::FileKind;
use crate::templates::Templates;

/// A file of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSpec {
    /// Where it lies.
    pub path: PathBuf,
    /// The template of its content.
    pub template: String,
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
    /// Where its component speaks of it.
    #[serde(skip)]
    pub(crate) place: Place,
}

impl FileSpec {
    const MODE: u32 = 0o644;
    /// Stands for the file in a command that validates it.
    pub const PLACE: &str = "{}";

    /// Reads `[[file]]` number `number`.
    pub(super) fn read(fields: &Fields<'_>, number: usize, templates: &Templates) -> Option<Self> {
        let path = plain_path(fields, "/etc/serf/serf.json");
        if !fields.has("template") {
            fields.problem("template", "is missing", "name a template of templates/");
        }
        let template = template(fields, templates);
        let mode = mode(fields, Self::MODE);
        let (owner, group) = (account(fields, "owner"), account(fields, "group"));
        let create_only = fields.boolean("create-only").unwrap_or(false);
        let validate = words(fields, "validate");
        if !validate.is_empty() && !validate.iter().any(|word| word == Self::PLACE) {
            let what = "the command is not told which file";
            fields.problem("validate", what, "write \"{}\" where the file is to stand");
        }
        let kind = FileKind::Plain;
        let (path, template, mode) = (path?, template?, mode?);
        let place = Place { line: path.line, field: format!("file[{number}].path") };
        let path = PathBuf::from(path.value);
        Some(Self { path, template, mode, owner, group, create_only, validate, kind, place })
    }

    /// Reads `[[drop-in]]` number `number`: a file that adds to a unit.
    pub(super) fn read_drop_in(
        fields: &Fields<'_>,
        number: usize,
        templates: &Templates,
    ) -> Option<Self> {
        let unit = fields.required("unit", "name the unit, such as \"ep-agent.service\"");
        if let Some(unit) = unit.as_ref().filter(|unit| !is_unit_name(unit.value)) {
            let what = format!("{:?} is not the name of a unit", unit.value);
            fields.problem("unit", &what, "write one such as \"ep-agent.service\"");
        }
        let name = fields.required("name", "name the file, such as \"10-limits.conf\"");
        if let Some(name) = name.as_ref().filter(|name| !is_drop_in_name(name.value)) {
            let what = format!("{:?} is not read by systemd", name.value);
            fields.problem("name", &what, "write one such as \"10-limits.conf\"");
        }
        if !fields.has("template") {
            fields.problem("template", "is missing", "name a template of templates/");
        }
        let template = template(fields, templates);
        let folder = Path::new(UnitSpec::FOLDER).join(format!("{}.d", unit?.value));
        let name = name?;
        Some(Self {
            path: folder.join(name.value),
            template: template?,
            mode: Self::MODE,
            owner: None,
            group: None,
            create_only: false,
            validate: Vec::new(),
            kind: FileKind::Unit,
            place: Place { line: name.line, field: format!("drop-in[{number}].name") },
        })
    }
}

/// The `path` of a file; one that is none is reported, with an `example`.
pub(super) fn plain_path<'f>(fields: &Fields<'f>, example: &str) -> Option<Found<&'f str>> {
    let path = fields.required("path", "write the absolute path of the file");
    if let Some(path) = path.as_ref().filter(|path| !is_plain_absolute(path.value)) {
        let what = format!("{:?} is not a plain absolute path", path.value);
        fields.problem("path", &what, &format!("write one such as {example:?}"));
    }
    path
}

/// The `mode` of a file, `unsaid` where there is none.
pub(super) fn mode(fields: &Fields<'_>, unsaid: u32) -> Option<u32> {
    fields.text("mode").map_or(Some(unsaid), |found| {
        let digits = found.value.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(found.value, 8).ok();
        let mode = mode.filter(|mode| digits && found.value.len() >= 3 && *mode <= 0o7777);
        if mode.is_none() {
            let what = format!("{:?} is not a file mode", found.value);
            fields.problem("mode", &what, &format!("write octal digits, such as \"{unsaid:04o}\""));
        }
        mode
    })
}

/// The number of the account that `field` tells, if it does.
pub(super) fn account(fields: &Fields<'_>, field: &'static str) -> Option<String> {
    let found = fields.text(field)?;
    let is_number = found.value.bytes().all(|b| b.is_ascii_digit());
    if !is_number || found.value.parse::<u32>().is_err() {
        let what = format!("{:?} is no number of an account", found.value);
        let remedy = "write one such as \"10000\": names belong to a container's world";
        fields.problem(field, &what, remedy);
    }
    Some(found.value.to_owned())
}

fn is_drop_in_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.strip_suffix(".conf").is_some_and(|stem| {
        stem.starts_with(|c: char| c.is_ascii_alphanumeric()) && stem.chars().all(plain)
    })
}

/// Whether the path is absolute and says plainly where it leads.
pub(super) fn is_plain_absolute(text: &str) -> bool {
    let path = Path::new(text);
    let parts = path.components().collect::<PathBuf>();
    path.is_absolute()
        && path.file_name().is_some()
        && parts.as_os_str() == path.as_os_str()
        && !path.components().any(|part| part == PathPart::ParentDir)
        && !text.chars().any(char::is_control)
}
