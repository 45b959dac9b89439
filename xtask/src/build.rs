//! Builds the programs and keeps copies of them apart from cargo's own.
//!
//! `target/debug/neco-worker` is whatever was built last: a workspace-wide test run overwrites it
//! with one whose libraries carry the feature `testing`. The shipped programs are therefore built by
//! a command of their own and copied to `target/shipped/<profile>/`, where the packages, the
//! scenarios and the playground take them from.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::exit::{Doing, Done, Failure};
use crate::folder;
use crate::run;
use crate::tools::Tools;
use crate::workspace::Workspace;

/// The programs of the package.
pub(crate) const SHIPPED: [&str; 4] =
    ["neco-updater", "neco-worker", "necoctl", "sabakan-state-setter"];

/// Those of them that lie in `/usr/bin`, as in the original; the others lie in `/usr/sbin`.
pub(crate) const IN_BIN: [&str; 2] = ["necoctl", "sabakan-state-setter"];

/// The program that plays the whole system; never shipped.
pub(crate) const PLAYGROUND: &str = "neco-playground";

/// The program that measures; never shipped.
pub(crate) const BENCH: &str = "neco-bench";

/// The program that runs virtual data centres; never shipped.
pub(crate) const DCTEST: &str = "neco-dctest";

/// The program that finds newer versions of what is pinned; never shipped.
pub(crate) const BUMP: &str = "neco-bump";

/// The program that stands in for others there; it comes out of the same package.
pub(crate) const STAND_IN: &str = "neco-stand-in";

/// The suites of the drivers that need a real machine: packages and their tests.
pub(crate) const SUITES: [(&str, &str); 6] = [
    ("neco-systemd", "real_systemd"),
    ("neco-runtime", "real_docker"),
    ("neco-host", "real_dpkg"),
    ("neco-worker", "real_units"),
    ("neco-registry", "real_registry"),
    ("neco-components", "real_programs"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub(crate) fn named(name: &str) -> Done<Self> {
        match name {
            "dev" => Ok(Self::Dev),
            "release" => Ok(Self::Release),
            _ => Err(Failure::usage(format!("the profile is dev or release, not `{name}`"))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Programs in a folder of their own.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// Builds what is shipped.
    pub(crate) fn shipped(workspace: &Workspace, tools: &Tools, profile: Profile) -> Done<Self> {
        Self::build(workspace, tools, profile, &[&SHIPPED])
    }

    /// Builds what is shipped, and then, by a command of its own so that its features stay its own,
    /// the playground.
    pub(crate) fn with_playground(workspace: &Workspace, tools: &Tools) -> Done<Self> {
        Self::build(workspace, tools, Profile::Dev, &[&SHIPPED, &[PLAYGROUND]])
    }

    /// Builds the program that runs virtual data centres, and the one that stands in for others there.
    pub(crate) fn dctest(workspace: &Workspace, tools: &Tools) -> Done<Self> {
        Self::build(workspace, tools, Profile::Dev, &[&[DCTEST]])
    }

    /// Builds the program that finds newer versions of what is pinned.
    pub(crate) fn bump(workspace: &Workspace, tools: &Tools) -> Done<Self> {
        Self::build(workspace, tools, Profile::Dev, &[&[BUMP]])
    }

    /// Builds what is shipped, with the program that measures, all of it as it is released.
    pub(crate) fn with_bench(workspace: &Workspace, tools: &Tools) -> Done<Self> {
        Self::build(workspace, tools, Profile::Release, &[&SHIPPED, &[BENCH]])
    }

    fn build(
        workspace: &Workspace,
        tools: &Tools,
        profile: Profile,
        groups: &[&[&str]],
    ) -> Done<Self> {
        let dir = workspace.target.join("shipped").join(profile.name());
        fs::create_dir_all(&dir).doing(|| format!("cannot create {}", dir.display()))?;
        for group in groups {
            let built = cargo_build(workspace, tools, profile, group)?;
            for name in group.iter().flat_map(programs_of) {
                let from = built.get(*name).ok_or_else(|| {
                    Failure::failed(format!(
                        "no package of {} has a binary {name}",
                        group.join(", ")
                    ))
                })?;
                copy_if_changed(from, &dir.join(name))?;
            }
        }
        Ok(Self { dir })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A copy without symbols, made once for any number of packages.
    pub(crate) fn stripped(&self, name: &str) -> Done<PathBuf> {
        let from = self.program(name);
        let dir = self.dir.join("stripped");
        let to = dir.join(name);
        if same_age(&from, &to) {
            return Ok(to);
        }
        fs::create_dir_all(&dir).doing(|| format!("cannot create {}", dir.display()))?;
        run::capture(Command::new("strip").arg("-o").arg(&to).arg(&from))?;
        take_age(&from, &to)?;
        Ok(to)
    }
}

/// The programs of a package: one of its name, unless it is known for more.
fn programs_of<'p>(package: &'p &'p str) -> &'p [&'p str] {
    match *package {
        DCTEST => &[DCTEST, STAND_IN],
        _ => std::slice::from_ref(package),
    }
}

/// Copies a program to where it is looked for, unless it is there already.
pub(crate) fn lay(from: &Path, to: &Path) -> Done {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))?;
    }
    copy_if_changed(from, to)
}

/// Builds the suites that drivers keep, as programs to be run on another machine, and copies them to `dir`; nothing else is
/// there then.
pub(crate) fn suites(workspace: &Workspace, tools: &Tools, dir: &Path) -> Done {
    let mut command = workspace.cargo();
    tools.lend(&mut command);
    command.args(["test", "--no-run"]);
    for (package, suite) in SUITES {
        command.args(["--package", package, "--test", suite]);
    }
    let built = executables_of(command, "the suites of drivers")?;
    fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))?;
    for (_, suite) in SUITES {
        let from = built
            .get(suite)
            .ok_or_else(|| Failure::failed(format!("cargo has not built the suite {suite}")))?;
        copy_if_changed(from, &dir.join(suite))?;
    }
    // All that lies there is run, and one that was renamed is a suite no more.
    folder::keep_only(dir, &SUITES.map(|(_, suite)| suite))
}

/// Builds packages and returns their executables by name.
fn cargo_build(
    workspace: &Workspace,
    tools: &Tools,
    profile: Profile,
    packages: &[&str],
) -> Done<BTreeMap<String, PathBuf>> {
    let mut command = workspace.cargo();
    tools.lend(&mut command);
    command.args(["build", "--profile", profile.name()]);
    for package in packages {
        command.args(["--package", package]);
    }
    executables_of(command, &packages.join(", "))
}

/// Has cargo build `what` and returns the executables by name.
fn executables_of(mut command: Command, what: &str) -> Done<BTreeMap<String, PathBuf>> {
    command.arg("--message-format=json-render-diagnostics");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .doing(|| format!("cannot start `{}`", run::shown(&command)))?;
    if !output.status.success() {
        return Err(Failure::failed(format!("building {what} failed")));
    }
    executables(&String::from_utf8_lossy(&output.stdout))
}

fn executables(messages: &str) -> Done<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value =
            serde_json::from_str(line).doing(|| "cannot read cargo's messages".into())?;
        if let (Some(name), Some(file)) =
            (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            found.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    Ok(found)
}

fn copy_if_changed(from: &Path, to: &Path) -> Done {
    let size = |path: &Path| fs::metadata(path).map(|data| data.len()).ok();
    if same_age(from, to) && size(from) == size(to) {
        return Ok(());
    }
    // A new file under a new name: the old one may be running.
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)
        .and_then(|_| fs::rename(&fresh, to))
        .doing(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    take_age(from, to)
}

/// Whether both are there and are of the same time.
pub(crate) fn same_age(one: &Path, other: &Path) -> bool {
    let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    age(one).is_some() && age(one) == age(other)
}

/// Gives a file the time of another.
pub(crate) fn take_age(from: &Path, to: &Path) -> Done {
    fs::metadata(from)
        .and_then(|data| data.modified())
        .and_then(|age| File::open(to)?.set_times(FileTimes::new().set_modified(age)))
        .doing(|| format!("cannot set the time of {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_executables_among_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"neco_plan"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"necoctl"},"executable":"/t/debug/necoctl"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found["necoctl"], Path::new("/t/debug/necoctl"));
    }

    #[test]
    fn copies_again_only_after_a_change() {
        let dir = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        // Of the same size and age, the copy is taken for the same and left alone.
        let age = fs::metadata(&from).unwrap().modified().unwrap();
        fs::write(&from, "two").unwrap();
        File::open(&from).unwrap().set_times(FileTimes::new().set_modified(age)).unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "one");
        fs::write(&from, "three").unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "three");
        fs::remove_dir_all(&dir).unwrap();
    }
}
