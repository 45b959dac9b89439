//! The script that tells serf of this server, run by the shell of this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{facts, render};

/// What the script says, where systemd answers so.
fn told(systemctl: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let program = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        path
    };
    program("systemctl", systemctl);
    program("uptime", "echo \"$TZ $*\"");
    let said = dir.path().join("said");
    let serf = program("serf", &format!("printf '%s\\n' \"$@\" > {}", said.display()));
    let desired = render("setup-serf-tags", &facts("2026.11.21-40152", 0, &[0]));
    let script = &desired.file("/usr/local/bin/setup-serf-tags").expect("a file").content;
    let script = script.replace("/usr/local/bin/serf", &serf.display().to_string());
    let script = program("setup-serf-tags", script.trim_start_matches("#!/bin/sh\n"));
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let status = Command::new(script).env("PATH", path).status().expect("it runs");
    (status.success(), text(&said))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The units that it says have failed, where systemd names these.
fn failed(units: &[&str]) -> String {
    let lines =
        units.iter().map(|unit| format!("echo '{unit} loaded failed failed Of the site'\n"));
    let (succeeded, said) = told(&format!("{}true", lines.collect::<String>()));
    assert!(succeeded);
    let tag = said.lines().find_map(|line| line.strip_prefix("systemd-units-failed="));
    tag.expect("a tag").to_owned()
}

#[test]
fn tags_are_uptime_version_and_failed_units() {
    let (succeeded, said) = told("test \"$*\" = 'list-units --state=failed --plain --no-legend'");
    assert!(succeeded);
    let expected =
        "tags\n-set\nuptime=UTC -s\n-set\nversion=2026.11.21-40152\n-set\nsystemd-units-failed=\n";
    assert_eq!(said, expected);
}

#[test]
fn names_of_failed_units_are_separated_by_commas_and_whole() {
    assert_eq!(failed(&[]), "");
    assert_eq!(failed(&["a.service"]), "a.service");
    assert_eq!(
        failed(&["a.service", "b.mount", "c\\x2dd.timer"]),
        "a.service,b.mount,c\\x2dd.timer"
    );
    let long: Vec<String> = (0..20).map(|n| format!("{n:0>40}.service")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let six = failed(&long);
    assert_eq!(six, long[..6].join(","));
    assert!(six.len() <= 300);
    // The longest name that systemd knows is never left out: nothing would look as if nothing had failed.
    let longest = format!("{}.service", "x".repeat(247));
    assert_eq!(failed(&[&longest, "b.service"]), format!("{longest},b.service"));
}

#[test]
fn without_an_answer_of_systemd_nothing_is_published() {
    assert_eq!(told("echo 'a.service loaded'; exit 1"), (false, String::new()));
}
