//! Programs inside of Neco's own package.

use neco_toml::Fields;
use serde::Serialize;

use crate::artifacts::{sha256, word};

/// A program that Neco's package carries inside itself, such as `cke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// What its file is called.
    pub name: String,
    /// Where it is fetched from when the package is made: an `https://` address, or a file of the machine that makes the
    /// package, as `file:///…`.
    pub url: String,
    /// What must be fetched from there. A package is not made with a program whose digest nobody has written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Which file of it is the program, where the address is that of an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// The folder it is installed in.
    pub folder: Folder,
    /// Its unit file beside `artifacts.toml`, below `units/`, if it is a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Where programs are installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Folder {
    /// What people call.
    #[default]
    #[serde(rename = "/usr/bin")]
    Bin,
    /// What the system calls.
    #[serde(rename = "/usr/sbin")]
    Sbin,
}

impl Folder {
    /// Its path, without the slash it begins with.
    pub fn relative(self) -> &'static str {
        match self {
            Self::Bin => "usr/bin",
            Self::Sbin => "usr/sbin",
        }
    }
}

impl Program {
    /// What archives end with.
    const ARCHIVES: [&str; 2] = [".tar.gz", ".tgz"];

    /// Whether what is fetched is an archive, of which the program is one file.
    pub fn is_archive(&self) -> bool {
        is_archive(&self.url)
    }

    /// Where it lies on a server, without the slash it begins with.
    pub fn path(&self) -> String {
        format!("{}/{}", self.folder.relative(), self.name)
    }

    pub(crate) fn read(entry: &Fields<'_>) -> Option<Self> {
        let name = word(entry, "name", "._-", "name the program, such as \"cke\"");
        let url = url(entry);
        let sha256 = sha256(entry);
        let inside = inside(entry, url.as_deref());
        let folder = match entry.text("folder") {
            None => Folder::default(),
            Some(found) => match found.value {
                "/usr/bin" => Folder::Bin,
                "/usr/sbin" => Folder::Sbin,
                other => {
                    let what = format!("{other:?} is not where programs go");
                    entry.problem("folder", &what, "write \"/usr/bin\" or \"/usr/sbin\"");
                    Folder::default()
                }
            },
        };
        let unit = entry.text("unit").and_then(|found| {
            let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
            let stem = found.value.strip_suffix(".service");
            let good = stem.is_some_and(|stem| {
                stem.starts_with(|c: char| c.is_ascii_alphanumeric()) && stem.chars().all(plain)
            });
            if !good {
                let what = format!("{:?} is not the name of a service", found.value);
                entry.problem("unit", &what, "write one such as \"cke.service\"");
            }
            good.then(|| found.value.to_owned())
        });
        Some(Self { name: name?.to_owned(), url: url?, sha256, inside, folder, unit })
    }
}

fn is_archive(url: &str) -> bool {
    Program::ARCHIVES.iter().any(|end| url.ends_with(end))
}

fn url(entry: &Fields<'_>) -> Option<String> {
    let found = entry.required("url", "write the address it is fetched from")?;
    let graphic = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    let remote = found.value.strip_prefix("https://").is_some_and(graphic);
    // Without a host: a path.
    let file = found.value.strip_prefix("file:///").is_some_and(graphic);
    if !remote && !file {
        let what = format!("{:?} cannot be fetched from", found.value);
        entry.problem("url", &what, "write an address that begins with https:// or file:///");
        return None;
    }
    Some(found.value.to_owned())
}

/// The file of an archive; one that leads out of it is none.
fn inside(entry: &Fields<'_>, url: Option<&str>) -> Option<String> {
    let found = entry.text("inside");
    let archive = url.map(is_archive);
    match (&found, archive) {
        (None, Some(true)) => {
            entry.problem("inside", "is missing", "say which file of the archive the program is");
        }
        (Some(_), Some(false)) => {
            let what = "the address is not that of a .tar.gz or .tgz";
            entry.problem("inside", what, "leave it out");
        }
        _ => {}
    }
    let found = found?;
    let part = |part: &str| !part.is_empty() && part != ".." && !part.starts_with('-');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+/".contains(c);
    let good = found.value.split('/').all(part) && found.value.chars().all(plain);
    if !good {
        let what = format!("{:?} is no file of an archive", found.value);
        entry.problem("inside", &what, "write its path, as tar -t prints it");
    }
    good.then(|| found.value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Artifacts;

    fn parsed(lines: &str) -> Result<Program, String> {
        let text = format!("format = 1\n[[program]]\nname = \"p\"\n{lines}\n");
        let artifacts = Artifacts::parse(&text).map_err(|problems| problems.to_string())?;
        Ok(artifacts.programs.into_values().next().expect("a program"))
    }

    #[test]
    fn a_program_of_an_archive_says_which_file_it_is() {
        let program = parsed("url = \"https://h/node_exporter-1.8.2.tar.gz\"\ninside = \"node_exporter-1.8.2/node_exporter\"\nfolder = \"/usr/sbin\"")
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert!(program.is_archive());
        assert_eq!(program.path(), "usr/sbin/p");
        assert_eq!(program.inside.as_deref(), Some("node_exporter-1.8.2/node_exporter"));
        let program =
            parsed("url = \"file:///srv/p\"").unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!program.is_archive());
        assert_eq!((program.path().as_str(), program.sha256), ("usr/bin/p", None));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (lines, part) in [
            ("url = \"https://h/p.tgz\"", "inside: is missing"),
            ("url = \"https://h/p\"\ninside = \"p\"", "not that of a .tar.gz"),
            ("url = \"https://h/p.tgz\"\ninside = \"../p\"", "no file of an archive"),
            ("url = \"https://h/p.tgz\"\ninside = \"/p\"", "no file of an archive"),
            ("url = \"https://h/p.tgz\"\ninside = \"a/-p\"", "no file of an archive"),
            ("url = \"http://h/p\"", "https:// or file:///"),
            ("url = \"file://h/p\"", "https:// or file:///"),
            ("url = \"https://h/p\"\nfolder = \"/opt\"", "\"/usr/bin\" or \"/usr/sbin\""),
            ("url = \"https://h/p\"\nunit = \"../p.service\"", "not the name of a service"),
        ] {
            let problems = parsed(lines).expect_err(lines);
            assert!(problems.contains(part), "{lines}: {problems}");
        }
    }
}
