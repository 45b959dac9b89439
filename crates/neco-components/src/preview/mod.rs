//! What a step would change, in a form for people.

mod mask;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neco_schema::{ChangeKind, PreviewedChange};

use crate::{Desired, DesiredFile, Difference, Effect, FileChange, Observed, diff, effects};

/// Files that not everybody may read hold secrets.
const READ_BY_OTHERS: u32 = 0o004;

/// What would be done to bring `observed` to `desired`, in order.
///
/// `before` has the content of files as they are, by path; one that is missing or no text is not shown. Neither is the
/// content of a file that not everybody may read, before or after; in what is shown, the values of passwords, tokens and
/// secrets are masked.
pub fn preview(
    desired: &Desired,
    observed: &Observed,
    before: &BTreeMap<PathBuf, String>,
) -> Vec<PreviewedChange> {
    let differences = diff(desired, observed);
    let change = |kind, subject: String, what: &str, diff: String| PreviewedChange {
        component: desired.component.to_string(),
        diff,
        ..PreviewedChange::new(kind, subject, what)
    };
    let of_unit = |unit: String, what: &str| change(ChangeKind::Unit, unit, what, String::new());
    let mut changes = Vec::new();
    for effect in effects(desired, &differences) {
        changes.push(match effect {
            Effect::Pull(image) => change(ChangeKind::Image, image, "is fetched", String::new()),
            Effect::InstallTools(image) => {
                let what = "installs its client programs";
                change(ChangeKind::Tools, image, what, String::new())
            }
            Effect::InstallPackage(name) => {
                let what = differences.iter().find_map(|difference| match difference {
                    Difference::Package { from: Some(from), to, .. } => {
                        Some(format!("{from} becomes {to}"))
                    }
                    Difference::Package { from: None, to, .. } => {
                        Some(format!("{to} is installed"))
                    }
                    _ => None,
                });
                let what = what.unwrap_or_default();
                change(ChangeKind::Package, name.to_string(), &what, String::new())
            }
            Effect::Write(path) => {
                let Some(file) = desired.file(&path) else { continue };
                let what = what_changes(&path, &differences);
                let shown = is_shown(file, observed).then(|| {
                    let old = before.get(&path).map_or("", String::as_str);
                    text::unified(&mask::secrets(old), &mask::secrets(&file.content))
                });
                let known = before.contains_key(&path) || !observed.files.contains_key(&path);
                let diff = shown.filter(|_| known).unwrap_or_default();
                change(ChangeKind::File, path.display().to_string(), &what, diff)
            }
            Effect::Restrict(path) => {
                let what = what_changes(&path, &differences);
                change(ChangeKind::File, path.display().to_string(), &what, String::new())
            }
            // Part of what is done about the files before.
            Effect::Reload => continue,
            Effect::Enable(unit) => of_unit(unit, "is made to start at boot"),
            Effect::Start(unit) => of_unit(unit, "is started"),
            Effect::Restart(unit) => of_unit(unit, "is restarted"),
            Effect::ReloadUnit(unit) => of_unit(unit, "reads its files again"),
        });
    }
    changes
}

/// What becomes of a file, in words.
fn what_changes(path: &Path, differences: &[Difference]) -> String {
    let words: Vec<String> = differences
        .iter()
        .filter_map(|difference| match difference {
            Difference::File { path: other, change } if other == path => Some(match change {
                FileChange::Missing => "is created".to_owned(),
                other => other.to_string(),
            }),
            _ => None,
        })
        .collect();
    words.join(", ")
}

/// Whether everybody may read the file, as it is and as it will be.
fn is_shown(file: &DesiredFile, observed: &Observed) -> bool {
    let before = observed.files.get(&file.path).is_none_or(|old| old.mode & READ_BY_OTHERS != 0);
    file.mode & READ_BY_OTHERS != 0 && before
}

#[cfg(test)]
mod tests {
    use neco_toml::Name;

    use super::*;
    use crate::{ContentDigest, FileKind, ObservedFile, Restart};

    fn file(path: &str, content: &str, mode: u32) -> DesiredFile {
        DesiredFile {
            path: path.into(),
            content: content.to_owned(),
            digest: ContentDigest::of(content),
            mode,
            owner: None,
            group: None,
            create_only: false,
            validate: Vec::new(),
            kind: FileKind::Plain,
        }
    }

    fn desired(files: Vec<DesiredFile>) -> Desired {
        Desired {
            only_where: Vec::new(),
            secrets: Vec::new(),
            component: "one".parse::<Name>().expect("a name"),
            restart: Restart::WhenChanged,
            image: None,
            tools: None,
            package: None,
            files,
            units: Vec::new(),
            watched: BTreeMap::new(),
        }
    }

    fn observed(files: &[DesiredFile]) -> Observed {
        let seen = |file: &DesiredFile| {
            let digest = file.digest.clone();
            let found = ObservedFile { digest, mode: file.mode, owner: None, group: None };
            (file.path.clone(), found)
        };
        Observed { files: files.iter().map(seen).collect(), ..Observed::default() }
    }

    fn shown(before: &[DesiredFile], after: DesiredFile) -> (String, String) {
        let texts = before.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
        let mut changes = preview(&desired(vec![after]), &observed(before), &texts);
        let change = changes.pop().expect("a change");
        assert!(changes.is_empty(), "{changes:?}");
        (change.what, change.diff)
    }

    #[test]
    fn a_file_tells_what_changes_in_it() {
        let after = || file("/etc/one.conf", "a: 2\npassword: new\n", 0o644);
        let before = file("/etc/one.conf", "a: 1\npassword: old\n", 0o640);
        let (what, diff) = shown(&[], after());
        assert_eq!((what.as_str(), diff.contains("+a: 2\n+password: ***\n")), ("is created", true));
        let readable = DesiredFile { mode: 0o644, ..before.clone() };
        let (what, diff) = shown(&[readable], after());
        assert_eq!(what, "content changes");
        assert_eq!(diff, "@@ -1,2 +1,2 @@\n-a: 1\n+a: 2\n password: ***\n");
        // What not everybody may read, or might not before, is not shown to somebody who asks etcd.
        let (what, diff) = shown(&[before], after());
        assert_eq!(what, "content changes, mode 0640 becomes 0644");
        assert_eq!(diff, "");
        assert_eq!(shown(&[], DesiredFile { mode: 0o600, ..after() }).1, "");
    }

    #[test]
    fn a_file_that_is_no_text_is_not_shown_as_new() {
        let before = file("/etc/one.conf", "a", 0o644);
        let after = file("/etc/one.conf", "b", 0o644);
        let changes = preview(&desired(vec![after]), &observed(&[before]), &BTreeMap::new());
        assert_eq!(changes[0].diff, "");
    }

    #[test]
    fn nothing_to_do_is_nothing_to_show() {
        let file = file("/etc/one.conf", "a", 0o644);
        let (texts, observed) = (BTreeMap::new(), observed(std::slice::from_ref(&file)));
        assert!(preview(&desired(vec![file]), &observed, &texts).is_empty());
    }
}
