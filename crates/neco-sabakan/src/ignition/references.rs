//! Sources that name what is not there, and files that nobody names (neco-cd-core §12.5, neco-daemons §7.3).

use std::collections::{BTreeMap, BTreeSet};

use neco_toml::{Problem, Problems, Report};

use super::Tree;
use super::build::sources;
use super::path::{join, parent};
use super::source::Source;

/// Looks at the site files of all roles, those of single clusters among them, and at everything that they include.
///
/// All that is named must be there, but units that are enabled or masked: machines may have them already. All that lies in
/// `files`, `systemd` and `networkd` beside a source must be named by a source in that folder, and the `networkd` of each such
/// source must be the folder exactly.
///
/// # Errors
/// All problems, with file and line.
pub fn check_references(tree: &Tree) -> Result<(), Problems> {
    let report = Report::default();
    // By path, so that what several roles include is looked at once.
    let mut all = BTreeMap::<String, Source>::new();
    for site in site_files(tree) {
        let again = Report::default();
        for source in sources(tree, &site, &again) {
            all.entry(source.path.clone()).or_insert(source);
        }
        if let Err(problems) = again.conclude(()) {
            report.add_all(problems);
        }
    }
    let folders: BTreeSet<&str> = all.keys().map(|path| parent(path)).collect();
    for folder in folders {
        let here: Vec<&Source> =
            all.values().filter(|source| parent(&source.path) == folder).collect();
        let files = here.iter().flat_map(|source| &source.files).map(|file| file.content.as_str());
        unnamed(tree, folder, "files", &files.collect(), &report);
        // A masked unit may have a content that is kept for other clusters.
        let units = here.iter().flat_map(|source| &source.systemd);
        let units: BTreeSet<_> =
            units.map(|unit| join(folder, &format!("systemd/{}", unit.name))).collect();
        unnamed(tree, folder, "systemd", &units.iter().map(String::as_str).collect(), &report);
        for source in &here {
            networkd_is_whole(tree, folder, source, &all, &report);
        }
    }
    // Several roles meet the same problem in what they include.
    let told: Vec<Problem> = match report.conclude(()) {
        Ok(()) => return Ok(()),
        Err(problems) => problems.iter().cloned().collect(),
    };
    let report = Report::default();
    let mut once: Vec<Problem> = Vec::new();
    for problem in told {
        if !once.contains(&problem) {
            once.push(problem.clone());
            report.add(problem);
        }
    }
    report.conclude(())
}

/// `roles/<role>/site.yml` and `roles/<role>/site-<cluster>.yml` of every role.
fn site_files(tree: &Tree) -> Vec<String> {
    let is_site =
        |name: &str| name == "site.yml" || name.starts_with("site-") && name.ends_with(".yml");
    let sites = tree.below("roles").filter(|path| {
        path.split_once('/').is_some_and(|(_, name)| is_site(name) && !name.contains('/'))
    });
    sites.map(|path| format!("roles/{path}")).collect()
}

fn unnamed(tree: &Tree, folder: &str, list: &str, named: &BTreeSet<&str>, report: &Report) {
    let place = join(folder, list);
    for name in tree.below(&place) {
        let path = join(&place, name);
        if !named.contains(path.as_str()) {
            report.add(Problem {
                file: path,
                line: None,
                field: String::new(),
                what: format!("no source in {folder} that a role uses names it"),
                remedy: format!("add it to `{list}` of one, or delete it"),
            });
        }
    }
}

/// Whether a source, with what it includes from its own folder, names all that lies in `networkd`.
fn networkd_is_whole(
    tree: &Tree,
    folder: &str,
    source: &Source,
    all: &BTreeMap<String, Source>,
    report: &Report,
) {
    let mut named = BTreeSet::new();
    let mut inner = Some(source);
    let mut seen = BTreeSet::new();
    while let Some(source) = inner.filter(|source| parent(&source.path) == folder) {
        if !seen.insert(&source.path) {
            break;
        }
        named.extend(source.networkd.iter().map(|unit| unit.name.as_str()));
        inner = source.include.as_ref().and_then(|include| all.get(&include.path));
    }
    let place = join(folder, "networkd");
    let missing: Vec<_> = tree.below(&place).filter(|name| !named.contains(name)).collect();
    if !missing.is_empty() {
        report.add(Problem {
            file: source.path.clone(),
            line: None,
            field: "networkd".to_owned(),
            what: format!("{} is in {place} and not on the list", missing.join(", ")),
            remedy: "the list names the folder exactly: add it, or delete it".to_owned(),
        });
    }
}
