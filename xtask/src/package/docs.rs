//! What the package has for its readers: pages of the manual, completions, changelogs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::Tree;
use super::version::Version;
use crate::build::Programs;
use crate::exit::{Doing, Done, Failure};
use crate::run;
use crate::texts::{ALIAS, Texts};
use crate::workspace::Workspace;

/// What no command line knows about itself, by page: files, exit codes, the environment.
const SECTIONS: &str = "debian/man";

/// Puts it all into the tree; `scratch` is a folder that does not exist.
pub(super) fn add(
    tree: &mut Tree,
    workspace: &Workspace,
    programs: &Programs,
    version: &Version,
    epoch: u64,
    scratch: &Path,
) -> Done {
    let texts = Texts::of(programs)?;
    for (place, file) in texts.completions() {
        tree.copy(&file, &place, 0o644)?;
    }
    let mut packed = Packed::create(scratch)?;
    for page in texts.pages()? {
        let name = name_of(&page)?;
        let text = read(&page)?;
        let text = page_of(&name, &text, version, &sections(workspace, &name)?)?;
        packed.add("usr/share/man/man8", &name, &text)?;
    }
    let log = read(&workspace.root.join("CHANGELOG.md"))?;
    packed.add("usr/share/doc/neco", "changelog", &log)?;
    packed.add("usr/share/doc/neco", "changelog.Debian", &debian_changelog(version, epoch)?)?;
    packed.into_tree(tree)?;
    tree.link(&format!("usr/share/man/man8/{ALIAS}.8.gz"), "necoctl.8.gz")
}

/// The page with the version it is of, and with the sections that are written by hand.
fn page_of(name: &str, text: &str, version: &Version, sections: &str) -> Done<String> {
    let title = name.strip_suffix(".8").unwrap_or(name);
    let (before, after) = text
        .split_once(".TH ")
        .and_then(|(before, rest)| Some((before, rest.split_once('\n')?.1)))
        .ok_or_else(|| Failure::failed(format!("the page {name} has no title")))?;
    let day = version.date();
    Ok(format!(
        "{before}.TH \"{title}\" \"8\" \"{day}\" \"neco {version}\" \"Neco\"\n{after}{}{sections}",
        if after.ends_with('\n') { "" } else { "\n" },
    ))
}

/// What is written by hand for the page; the pages of verbs lead to that of the program.
fn sections(workspace: &Workspace, name: &str) -> Done<String> {
    if name.starts_with("necoctl-") {
        return Ok(".SH \"SEE ALSO\"\n.BR necoctl (8)\n".to_owned());
    }
    read(&workspace.root.join(SECTIONS).join(name))
}

fn debian_changelog(version: &Version, epoch: u64) -> Done<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"]).arg(format!("@{epoch}")).env("LC_ALL", "C");
    Ok(format!(
        "neco ({version}) unstable; urgency=medium\n\n  \
         * What is different is told in changelog.gz.\n\n \
         -- Neco developers <{MAINTAINER}>  {}",
        run::capture(&mut date)?
    ))
}

/// As in the control file.
const MAINTAINER: &str = "neco@example.org";

/// Files on their way to being compressed, all by one process.
struct Packed {
    dir: PathBuf,
    /// Place in the tree without the suffix, and file.
    files: Vec<(String, PathBuf)>,
}

impl Drop for Packed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Packed {
    fn create(dir: &Path) -> Done<Self> {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), files: Vec::new() })
    }

    fn add(&mut self, folder: &str, name: &str, text: &str) -> Done {
        let file = self.dir.join(name);
        fs::write(&file, text).doing(|| format!("cannot write {}", file.display()))?;
        self.files.push((format!("{folder}/{name}"), file));
        Ok(())
    }

    fn into_tree(self, tree: &mut Tree) -> Done {
        // Without name and time: the same text makes the same bytes.
        let files = self.files.iter().map(|(_, file)| file);
        run::capture(Command::new("gzip").args(["-9", "--no-name", "--"]).args(files))?;
        for (place, file) in &self.files {
            let mut packed = file.clone().into_os_string();
            packed.push(".gz");
            tree.copy(Path::new(&packed), &format!("{place}.gz"), 0o644)?;
        }
        Ok(())
    }
}

fn read(file: &Path) -> Done<String> {
    fs::read_to_string(file).doing(|| format!("cannot read {}", file.display()))
}

fn name_of(path: &Path) -> Done<String> {
    let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| Failure::failed(format!("{} has no name in UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gets_its_version_and_what_is_written_by_hand() {
        let version = Version::parse("2026.11.21-40152").unwrap();
        let text = ".ie x\n.TH neco-worker 8  \"neco-worker \" \n.SH NAME\nneco\\-worker";
        let page = page_of("neco-worker.8", text, &version, ".SH FILES\n").unwrap();
        assert_eq!(
            page,
            ".ie x\n.TH \"neco-worker\" \"8\" \"2026-11-21\" \"neco 2026.11.21-40152\" \"Neco\"\n\
             .SH NAME\nneco\\-worker\n.SH FILES\n"
        );
        let failure = page_of("neco-worker.8", "nothing", &version, "").unwrap_err();
        assert_eq!(failure.message, "the page neco-worker.8 has no title");
    }

    #[test]
    fn the_changelog_is_in_the_form_that_debian_reads() {
        let version = Version::parse("2026.11.21-40152").unwrap();
        let log = debian_changelog(&version, version.day()).unwrap();
        assert!(
            log.starts_with("neco (2026.11.21-40152) unstable; urgency=medium\n\n  * "),
            "{log}"
        );
        let end = "\n -- Neco developers <neco@example.org>  Sat, 21 Nov 2026 00:00:00 +0000\n";
        assert!(log.ends_with(end), "{log}");
        let control =
            read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../debian/DEBIAN/control.in"))
                .unwrap();
        assert!(control.contains(&format!("Maintainer: Neco developers <{MAINTAINER}>\n")));
    }
}
