//! Versions that must not be pinned: the ignore list, in the form that the original's generator reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use neco_artifacts::Artifacts;
use neco_process::yaml::{self, Node, Value};
use neco_toml::{Problem, Problems, Report};

use crate::decide::Kind;
use crate::version::Version;

/// Which versions are passed over, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreList {
    file: String,
    entries: BTreeMap<(Kind, String), Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Where it is named first.
    line: Option<usize>,
    field: String,
    versions: BTreeSet<String>,
}

/// The lists of the file: what they are called, and by which field an entry says what it is about.
const LISTS: [(&str, Kind, &str); 3] = [
    ("images", Kind::Image, "repository"),
    ("debs", Kind::Deb, "name"),
    ("osImage", Kind::OsImage, "channel"),
];

impl IgnoreList {
    /// Reads the text of a list that is known as `file`. Several entries for the same thing add up.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let reader = Reader { file, report: Report::default() };
        let mut list = Self { file: file.to_owned(), entries: BTreeMap::new() };
        match yaml::parse(Path::new(file), text) {
            Ok(root) => reader.read(&root, &mut list),
            Err(error) => {
                let line = error.line.and_then(|line| usize::try_from(line).ok());
                reader.problem(line, "", &error.what, "write valid YAML");
            }
        }
        reader.report.conclude(list)
    }

    /// The versions of one thing that are passed over: of an image by its repository, of a package by its name, of the OS
    /// image by its channel.
    pub fn of(&self, kind: Kind, name: &str) -> BTreeSet<String> {
        let entry = self.entries.get(&(kind, name.to_owned()));
        entry.map(|entry| entry.versions.clone()).unwrap_or_default()
    }

    /// What it names although nothing of that name is pinned: perhaps a slip of the pen.
    pub fn strangers(&self, artifacts: &Artifacts) -> Vec<Problem> {
        let is_pinned = |kind: Kind, name: &str| match kind {
            Kind::Image => artifacts.images.values().any(|image| image.repository == name),
            Kind::Deb => artifacts.debs.contains_key(name),
            Kind::OsImage => artifacts.os_image.iter().any(|image| image.channel == name),
        };
        let strangers =
            self.entries.iter().filter(|((kind, name), _)| !is_pinned(*kind, name)).map(
                |((_, name), entry)| Problem {
                    file: self.file.clone(),
                    line: entry.line,
                    field: entry.field.clone(),
                    what: format!("{name} is not pinned"),
                    remedy: "correct it, or take it out".to_owned(),
                },
            );
        strangers.collect()
    }
}

struct Reader<'a> {
    file: &'a str,
    report: Report,
}

impl Reader<'_> {
    fn read(&self, root: &Node, list: &mut IgnoreList) {
        for (key, node) in self.map(root, "", "write images, debs or osImage").unwrap_or_default() {
            match LISTS.iter().find(|(known, ..)| known == key) {
                Some((_, kind, named_by)) => self.entries(node, key, *kind, named_by, list),
                None => self.unknown(node, key, "images, debs, osImage"),
            }
        }
    }

    fn entries(&self, node: &Node, key: &str, kind: Kind, named_by: &str, list: &mut IgnoreList) {
        let remedy = format!("write entries with {named_by} and versions");
        for (index, item) in self.list(node, key, &remedy).unwrap_or_default().iter().enumerate() {
            let field = format!("{key}[{}]", index + 1);
            let Some(fields) = self.map(item, &field, &remedy) else { continue };
            let (mut name, mut versions) = (None, None);
            for (key, node) in fields {
                let field = format!("{field}.{key}");
                if key == named_by {
                    name = self.text(node, &field).map(|text| (text, node, field));
                } else if key == "versions" {
                    versions = Some(self.versions(node, &field));
                } else {
                    self.unknown(node, &field, &format!("{named_by}, versions"));
                }
            }
            let missing = |name: &str| {
                let known = fields.iter().any(|(key, _)| key == name);
                if !known {
                    let field = format!("{field}.{name}");
                    self.problem(line(item), &field, "is missing", &remedy);
                }
            };
            missing(named_by);
            missing("versions");
            if let (Some((name, node, field)), Some(versions)) = (name, versions) {
                let entry = list.entries.entry((kind, name.to_owned())).or_insert_with(|| Entry {
                    line: line(node),
                    field,
                    versions: BTreeSet::new(),
                });
                entry.versions.extend(versions);
            }
        }
    }

    fn versions(&self, node: &Node, field: &str) -> Vec<String> {
        let items = self.list(node, field, "write a list of versions").unwrap_or_default();
        let named = items.iter().enumerate().map(|(index, item)| {
            let field = format!("{field}[{}]", index + 1);
            let text = self.text(item, &field)?;
            if Version::parse(text).is_none() {
                let what = format!("{text:?} is no version, and would never be taken");
                self.problem(line(item), &field, &what, "write a version as its tag has it");
            }
            Some(text.to_owned())
        });
        named.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    fn text<'n>(&self, node: &'n Node, field: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            Value::Number(_) => {
                self.problem(line(node), field, "is a number", "write it in quotes");
                None
            }
            other => self.wrong(node, field, other.kind(), "write a text"),
        }
    }

    /// The items of a list; where nothing stands there are none.
    fn list<'n>(&self, node: &'n Node, field: &str, remedy: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Null => Some(&[]),
            other => self.wrong(node, field, other.kind(), remedy),
        }
    }

    fn map<'n>(&self, node: &'n Node, field: &str, remedy: &str) -> Option<&'n [(String, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            other => self.wrong(node, field, other.kind(), remedy),
        }
    }

    fn wrong<T>(&self, node: &Node, field: &str, kind: &str, remedy: &str) -> Option<T> {
        self.problem(line(node), field, &format!("is {kind}"), remedy);
        None
    }

    fn unknown(&self, node: &Node, field: &str, words: &str) {
        let remedy = format!("remove it, or write one of: {words}");
        self.problem(line(node), field, "is not known here", &remedy);
    }

    fn problem(&self, line: Option<usize>, field: &str, what: &str, remedy: &str) {
        self.report.add(Problem {
            file: self.file.to_owned(),
            line,
            field: field.to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

fn line(node: &Node) -> Option<usize> {
    node.place().line.and_then(|line| usize::try_from(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
# What must not be pinned.
images:
- repository: ghcr.io/cybozu/cilium
  versions: [\"1.15.3.1\", 1.15.4.1]
- repository: ghcr.io/cybozu/etcd
  versions:
  - 3.5.99.1
- repository: ghcr.io/cybozu/cilium
  versions: [1.15.5.1]
debs:
- name: etcdpasswd
  versions: [v1.4.10]
osImage:
- channel: stable
  versions: [4152.2.2]
";

    fn texts(list: &BTreeSet<String>) -> Vec<&str> {
        list.iter().map(String::as_str).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = IgnoreList::parse("ignore.yaml", text).expect_err(text);
        problems.iter().map(ToString::to_string).collect()
    }

    // neco-bootstrap-cli §8.2, the ignore file.
    #[test]
    fn a_list_in_the_form_of_the_original_is_read() {
        let list = IgnoreList::parse("ignore.yaml", WHOLE).unwrap_or_else(|why| panic!("{why}"));
        let cilium = list.of(Kind::Image, "ghcr.io/cybozu/cilium");
        assert_eq!(texts(&cilium), ["1.15.3.1", "1.15.4.1", "1.15.5.1"]);
        assert_eq!(texts(&list.of(Kind::Image, "ghcr.io/cybozu/etcd")), ["3.5.99.1"]);
        assert_eq!(texts(&list.of(Kind::Deb, "etcdpasswd")), ["v1.4.10"]);
        assert_eq!(texts(&list.of(Kind::OsImage, "stable")), ["4152.2.2"]);
        assert!(list.of(Kind::Deb, "stable").is_empty());
        for empty in ["", "# nothing\n", "---\n", "images:\ndebs: []\n"] {
            let list = IgnoreList::parse("x", empty).unwrap_or_else(|why| panic!("{empty}: {why}"));
            assert!(list.entries.is_empty());
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_by_file_line_and_field() {
        let text = "\
images:
- repository: ghcr.io/cybozu/etcd
  versions: [1.15, latest]
- repositry: ghcr.io/cybozu/etcd
  versions: 3.5.1
- versions: []
debs: v1.0.0
image: []
osImage:
- stable
- channel: beta
";
        assert_eq!(
            problems(text),
            [
                "ignore.yaml:3: images[1].versions[1]: is a number; write it in quotes",
                "ignore.yaml:3: images[1].versions[2]: \"latest\" is no version, and would never be taken; write a version as its tag has it",
                "ignore.yaml:4: images[2].repositry: is not known here; remove it, or write one of: repository, versions",
                "ignore.yaml:4: images[2].repository: is missing; write entries with repository and versions",
                "ignore.yaml:5: images[2].versions: is a text; write a list of versions",
                "ignore.yaml:6: images[3].repository: is missing; write entries with repository and versions",
                "ignore.yaml:7: debs: is a text; write entries with name and versions",
                "ignore.yaml:8: image: is not known here; remove it, or write one of: images, debs, osImage",
                "ignore.yaml:10: osImage[1]: is a text; write entries with channel and versions",
                "ignore.yaml:11: osImage[2].versions: is missing; write entries with channel and versions",
            ]
        );
        assert_eq!(problems("[]"), ["ignore.yaml:1: is a list; write images, debs or osImage"]);
        let broken = problems("images:\n- repository: \"x\n");
        assert!(broken[0].starts_with("ignore.yaml:") && broken.len() == 1, "{broken:?}");
        assert!(broken[0].ends_with("; write valid YAML"), "{broken:?}");
    }

    #[test]
    fn what_is_not_pinned_is_a_stranger() {
        let pinned = "format = 1\n[[image]]\nname = \"etcd\"\nrepository = \"ghcr.io/cybozu/etcd\"\ntag = \"3.5.15.1\"\n";
        let pinned = Artifacts::parse(pinned).unwrap_or_else(|why| panic!("{why}"));
        let list = IgnoreList::parse("ignore.yaml", WHOLE).unwrap_or_else(|why| panic!("{why}"));
        let strangers: Vec<_> = list.strangers(&pinned).iter().map(ToString::to_string).collect();
        assert_eq!(
            strangers,
            [
                "ignore.yaml:3: images[1].repository: ghcr.io/cybozu/cilium is not pinned; correct it, or take it out",
                "ignore.yaml:11: debs[1].name: etcdpasswd is not pinned; correct it, or take it out",
                "ignore.yaml:14: osImage[1].channel: stable is not pinned; correct it, or take it out",
            ]
        );
    }
}
