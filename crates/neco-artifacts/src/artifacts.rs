//! The whole file.

use std::collections::BTreeMap;

use neco_toml::{Document, Fields, Name, Problems, Report};
use serde::Serialize;

use crate::{Deb, Image, OsImage, Program};

/// Everything that one version pins, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Artifacts {
    /// The container images.
    pub images: BTreeMap<Name, Image>,
    /// The Debian packages beside Neco's own.
    pub debs: BTreeMap<Name, Deb>,
    /// What worker servers boot.
    pub os_image: Option<OsImage>,
    /// The programs that Neco's package carries.
    pub programs: BTreeMap<String, Program>,
}

impl Artifacts {
    /// What the file is called.
    pub const FILE: &'static str = "artifacts.toml";

    /// Reads the content of `artifacts.toml`.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let report = Report::default();
        let artifacts = Self::read(Document { file: Self::FILE, text }, &report);
        report.conclude(artifacts)
    }

    /// The same as part of a greater report.
    pub fn read(document: Document<'_>, report: &Report) -> Self {
        let Some(table) = document.parse(report) else { return Self::default() };
        let fields = Fields::of(document, &table, report);
        let artifacts = Self {
            images: by_name(&fields, "image", Image::read, |image| &image.name),
            debs: by_name(&fields, "deb", Deb::read, |deb| &deb.name),
            os_image: fields.table("os-image").and_then(|table| {
                let read = OsImage::read(&table);
                table.finish();
                read
            }),
            programs: by_name(&fields, "program", Program::read, |program| &program.name),
        };
        fields.finish();
        artifacts
    }
}

/// Reads each table of a list; a name that stands there twice is a problem.
fn by_name<N: Clone + Ord + std::fmt::Display, T>(
    fields: &Fields<'_>,
    list: &'static str,
    read: impl Fn(&Fields<'_>) -> Option<T>,
    name: impl Fn(&T) -> &N,
) -> BTreeMap<N, T> {
    let mut all = BTreeMap::new();
    for entry in fields.tables(list) {
        if let Some(read) = read(&entry) {
            let name = name(&read).clone();
            if all.contains_key(&name) {
                let what = format!("{list} {name} stands here twice");
                entry.problem("name", &what, "remove one of them");
            }
            all.insert(name, read);
        }
        entry.finish();
    }
    all
}

/// A text of letters, digits and some `more` signs that begins with a letter or digit.
pub(crate) fn word<'a>(
    entry: &Fields<'a>,
    field: &'static str,
    more: &str,
    remedy: &str,
) -> Option<&'a str> {
    let found = entry.required(field, remedy)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    let good = found.value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && found.value.chars().all(plain);
    if !good {
        entry.problem(field, &format!("{:?} cannot be used", found.value), remedy);
    }
    good.then_some(found.value)
}

/// The SHA-256 of a file in 64 hex digits, in lower case.
pub(crate) fn sha256(entry: &Fields<'_>) -> Option<String> {
    let found = entry.text("sha256")?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let good = found.value.len() == 64 && found.value.bytes().all(digit);
    if !good {
        let what = format!("{:?} is no SHA-256", found.value);
        entry.problem("sha256", &what, "write 64 hex digits as sha256sum prints them");
    }
    good.then(|| found.value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
format = 1

[[image]]
name = "serf"
repository = "ghcr.io/cybozu/serf"
tag = "0.10.1.7"

[[image]]
name = "setup-hw"
repository = "ghcr.io/cybozu-go/setup-hw"
tag = "1.20.1"
private = true

[[deb]]
name = "etcdpasswd"
owner = "cybozu-go"
repository = "etcdpasswd"
release = "v1.4.9"

[os-image]
channel = "stable"
version = "4152.2.1"

[[program]]
name = "cke"
url = "https://github.com/cybozu-go/cke/releases/download/v1.30.6/cke"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

    #[test]
    fn a_whole_file_is_read() {
        let artifacts = Artifacts::parse(WHOLE).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(artifacts.images["serf"].reference(), "ghcr.io/cybozu/serf:0.10.1.7");
        assert!(artifacts.images["setup-hw"].private && !artifacts.images["serf"].private);
        assert_eq!(artifacts.debs["etcdpasswd"].release, "v1.4.9");
        let os_image = artifacts.os_image.expect("an OS image");
        assert_eq!((os_image.channel.as_str(), os_image.version.as_str()), ("stable", "4152.2.1"));
        assert!(artifacts.programs["cke"].sha256.is_some());
    }

    #[test]
    fn everything_that_is_wrong_is_reported_together() {
        let text = "format = 1\n[[image]]\nname = \"serf\"\nrepository = \"a b\"\n[[image]]\nname = \"x\"\nrepository = \"x\"\ntag = \"1\"\n[[image]]\nname = \"x\"\nrepository = \"x\"\ntag = \"2\"\n[[program]]\nname = \"cke\"\nurl = \"ftp://x\"\nsha256 = \"ABC\"\n[os-image]\nchannel = \"../x\"\n";
        let problems = Artifacts::parse(text).expect_err("problems");
        let lines: Vec<_> =
            problems.iter().map(|problem| (problem.line, problem.field.as_str())).collect();
        assert_eq!(
            lines,
            [
                (Some(2), "image[1].tag"),
                (Some(4), "image[1].repository"),
                (Some(10), "image[3].name"),
                (Some(15), "program[1].url"),
                (Some(16), "program[1].sha256"),
                (Some(17), "os-image.version"),
                (Some(18), "os-image.channel"),
            ]
        );
    }

    #[test]
    fn a_file_without_anything_pins_nothing() {
        assert_eq!(Artifacts::parse("format = 1\n"), Ok(Artifacts::default()));
    }
}
