//! Packages that are those of the site, with other data.

use std::path::Path;
use std::process::{Command, Stdio};

use neco_playground::Package;
use neco_schema::NecoVersion;

use crate::Scenario;

/// Makes the first package of a site anew as `version`, with these files in the place of what it has, or beside it. Nobody has
/// signed it yet. Blocks.
///
/// # Panics
/// dpkg-deb(1) refuses, or the disk is full.
#[must_use]
pub fn refitted(scenario: &Scenario, version: &NecoVersion, files: &[(&str, &str)]) -> Package {
    let first = scenario.packages().first();
    let base = scenario.packages().of(first).unwrap_or_else(|error| panic!("{error}"));
    let place = scenario.path().join(format!("refitted-{version}"));
    let tree = place.join("tree");
    std::fs::create_dir(&place).expect("room");
    dpkg_deb(&["--raw-extract"], &[&base.path, &tree]);
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("a control file");
    let field = |version: &NecoVersion| format!("\nVersion: {version}\n");
    assert_eq!(text.matches(&field(first)).count(), 1, "{text}");
    std::fs::write(&control, text.replace(&field(first), &field(version))).expect("room");
    // The sums are those of another package now.
    std::fs::remove_file(tree.join("DEBIAN/md5sums")).expect("sums");
    let of_version = [("usr/share/neco/VERSION", &*format!("{version}\n"))];
    for (path, text) in of_version.iter().chain(files) {
        std::fs::write(tree.join(path), text).expect("room");
    }
    let path = place.join(format!("neco_{version}_amd64.deb"));
    dpkg_deb(&["--root-owner-group", "-Zzstd", "-z1", "--build"], &[&tree, &path]);
    std::fs::remove_dir_all(&tree).expect("removed");
    Package { version: version.clone(), path }
}

fn dpkg_deb(words: &[&str], paths: &[&Path]) {
    let mut command = Command::new("dpkg-deb");
    let output = command.args(words).args(paths).stdin(Stdio::null()).output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
