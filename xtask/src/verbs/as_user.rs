//! `cargo xtask as-user`.
//!
//! What root built is of no use to an ordinary user as it lies: the toolchain is often under root's
//! home, and the target directory is root's. So the verb runs in a mount namespace of its own, in
//! which the same paths lead to the same files, but reachable, and, in the tree, owned by that user:
//! an overlay takes what is written and is gone afterwards. Nothing is compiled twice, because for
//! cargo nothing has changed.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ci::is_root;
use crate::exit::{Doing, Done, Exit, Failure};
use crate::run;
use crate::tools::on_path;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Runs a verb as an unprivileged user with a home of its own, on what root has built.

usage: cargo xtask as-user VERB [ARGUMENTS]

Needs root, for a private mount namespace. What the verb writes is gone afterwards.";

/// `nobody` and `nogroup`: known to every Debian, owners of nothing.
const USER: u32 = 65534;

/// The word by which the part inside the namespace is told from the part outside.
const INSIDE: &str = "--inside";

/// The name of the scratch folder, up to the process id.
const SCRATCH: &str = "/tmp/neco-as-user-";

pub(super) fn run(args: Vec<String>) -> Done {
    match args.first().map(String::as_str) {
        None => Err(Failure::usage(format!("which verb?\n{HELP}"))),
        Some("-h" | "--help") => {
            println!("{HELP}");
            Ok(())
        }
        Some(INSIDE) => match &args[1..] {
            [scratch, verb @ ..] => inside(Path::new(scratch), verb),
            [] => Err(Failure::usage(format!("{INSIDE} wants a folder"))),
        },
        Some(_) => outside(&args),
    }
}

/// Makes the scratch folder, starts this program again in namespaces of its own, and cleans up.
fn outside(verb: &[String]) -> Done {
    if !is_root() {
        return Err(Failure::cannot_run(
            "as-user needs root, for a mount namespace; as an ordinary user, run the verb itself",
        ));
    }
    for needed in ["unshare", "setpriv", "mount", "chown"] {
        if on_path(needed, Path::new("")).is_none() {
            return Err(Failure::cannot_run(format!("as-user needs `{needed}`, which is missing")));
        }
    }
    if let Err(refused) = run::capture(Command::new("unshare").args(["--mount", "true"])) {
        return Err(Failure::cannot_run(format!(
            "as-user needs a mount namespace, which this machine refuses (a container without CAP_SYS_ADMIN?): {}",
            refused.message
        )));
    }
    sweep();
    let scratch = Scratch::create()?;
    let program = run::this_program()?;
    // In a process namespace of its own nothing of it outlives it.
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
        .args(["as-user", INSIDE])
        .arg(&scratch.0)
        .args(verb)
        .status()
        .doing(|| "cannot start `unshare`".into())?;
    if status.success() {
        return Ok(());
    }
    let message = format!("as an unprivileged user, `{}` failed: {status}", verb.join(" "));
    Err(match status.code() {
        Some(code) if code == Exit::Usage as i32 => Failure::usage(message),
        Some(code) if code == Exit::CannotRun as i32 => Failure::cannot_run(message),
        _ => Failure::failed(message),
    })
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Done<Self> {
        let scratch = Self(PathBuf::from(format!("{SCRATCH}{}", std::process::id())));
        DirBuilder::new()
            .mode(0o755)
            .create(&scratch.0)
            .doing(|| format!("cannot create {}", scratch.0.display()))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what runs left behind that were killed.
fn sweep() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let path = entry.path();
        let pid = path.to_str().and_then(|path| path.strip_prefix(SCRATCH));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// A path that the verb must find where root finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum View {
    /// As it is.
    Same(PathBuf),
    /// As the user's own, with room to write.
    Own(PathBuf),
}

impl View {
    fn path(&self) -> &Path {
        match self {
            Self::Same(path) | Self::Own(path) => path,
        }
    }
}

/// Arranges the mounts and becomes the verb.
fn inside(scratch: &Path, verb: &[String]) -> Done {
    let workspace = Workspace::find()?;
    let sysroot =
        PathBuf::from(run::capture(Command::new("rustc").args(["--print", "sysroot"]))?.trim_end());
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .ok_or_else(|| Failure::failed("neither CARGO_HOME nor HOME is set"))?;

    let views = views(&workspace, &sysroot, &cargo_home);
    let covers = covers(views.iter().map(View::path), is_open);
    let mut staged = Vec::new();
    for (number, view) in views.iter().enumerate() {
        staged.push(stage(scratch, number, view)?);
    }
    for cover in &covers {
        mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs"], cover)?;
    }
    make_dir_for(&cargo_home)?;
    if covers.iter().any(|cover| cargo_home.starts_with(cover)) {
        chown(&cargo_home, Some(USER), Some(USER))
            .doing(|| format!("cannot give away {}", cargo_home.display()))?;
    }
    for (view, staged) in views.iter().zip(&staged) {
        let at = view.path();
        if staged.is_dir() {
            make_dir_for(at)?;
        } else if !at.exists() {
            fs::write(at, "").doing(|| format!("cannot create {}", at.display()))?;
        }
        mount(&["--bind", &staged.to_string_lossy()], at)?;
    }

    let home = scratch.join("home");
    DirBuilder::new().mode(0o700).create(&home).doing(|| "cannot create a home".into())?;
    chown(&home, Some(USER), Some(USER)).doing(|| "cannot give away the home".into())?;
    let bin = sysroot.join("bin");
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps=-all", "--"])
        .arg(bin.join("cargo"))
        .arg("xtask")
        .args(verb)
        // The old directory lies beneath the new mount.
        .current_dir(&workspace.root)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passes)))
        .env("HOME", &home)
        .env("CARGO_HOME", &cargo_home)
        .env("CARGO_NET_OFFLINE", "true")
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()));
    let error = command.exec();
    Err(Failure::failed(format!("cannot start setpriv: {error}")))
}

fn views(workspace: &Workspace, sysroot: &Path, cargo_home: &Path) -> Vec<View> {
    let mut views = vec![View::Own(workspace.root.clone())];
    if !workspace.target.starts_with(&workspace.root) {
        views.push(View::Own(workspace.target.clone()));
    }
    views.push(View::Same(sysroot.to_owned()));
    // Sources and settings, but not the credentials. A few crates are packed with files that only
    // their owner may read.
    let sources = ["registry", "git"].map(|name| View::Own(cargo_home.join(name)));
    let settings = ["config.toml", "config"].map(|name| View::Same(cargo_home.join(name)));
    views.extend(sources.into_iter().chain(settings).filter(|view| view.path().exists()));
    views
}

/// Variables that decide what cargo builds; tokens are none of the user's business.
fn passes(name: &str) -> bool {
    let secret = ["TOKEN", "CREDENTIAL", "SECRET", "PASSWORD"].iter().any(|s| name.contains(s));
    let added = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|p| name.starts_with(p));
    let known = [
        "LANG",
        "TERM",
        "CI",
        "RUSTFLAGS",
        "RUST_BACKTRACE",
        // Some build scripts look at it: what differs here would be compiled again.
        "SOURCE_DATE_EPOCH",
        "NECO_SETUP_IGNORE_SYSTEM",
    ];
    !secret && !added && (name.starts_with("CARGO_") || known.contains(&name))
}

/// The outermost folders on the way to `paths` that others may not pass. An empty one is laid over
/// each, in which only the paths themselves appear again.
fn covers<'a>(
    paths: impl Iterator<Item = &'a Path>,
    is_open: impl Fn(&Path) -> bool,
) -> Vec<PathBuf> {
    let mut covers: Vec<PathBuf> = Vec::new();
    for path in paths {
        let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        if let Some(shut) = ancestors.into_iter().find(|dir| !is_open(dir))
            && !covers.iter().any(|cover| cover == shut)
        {
            covers.push(shut.to_owned());
        }
    }
    covers
}

fn is_open(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|data| data.permissions().mode() & 0o001 != 0)
}

/// Holds on to what a path leads to before anything is laid over it.
fn stage(scratch: &Path, number: usize, view: &View) -> Done<PathBuf> {
    let at = scratch.join(format!("view-{number}"));
    let make =
        |dir: &Path| fs::create_dir(dir).doing(|| format!("cannot create {}", dir.display()));
    match view {
        View::Same(path) => {
            if path.is_dir() {
                make(&at)?;
            } else {
                fs::write(&at, "").doing(|| format!("cannot create {}", at.display()))?;
            }
            mount(&["--bind", &path.to_string_lossy()], &at)?;
        }
        View::Own(path) => {
            let (upper, work) =
                (scratch.join(format!("upper-{number}")), scratch.join(format!("work-{number}")));
            for dir in [&at, &upper, &work] {
                make(dir)?;
            }
            let layers = format!(
                "lowerdir={},upperdir={},workdir={}",
                path.display(),
                upper.display(),
                work.display()
            );
            // With metacopy a change of owner copies no data.
            mount(&["-t", "overlay", "-o", &format!("{layers},metacopy=on"), "overlay"], &at)
                .or_else(|_| mount(&["-t", "overlay", "-o", &layers, "overlay"], &at))?;
            let owner = format!("{USER}:{USER}");
            // -h: what a link leads to may lie outside.
            run::capture(Command::new("chown").args(["-hR", &owner]).arg(&at))?;
        }
    }
    Ok(at)
}

fn mount(args: &[&str], at: &Path) -> Done {
    run::capture(Command::new("mount").args(args).arg(at)).map(drop)
}

fn make_dir_for(at: &Path) -> Done {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(at)
        .doing(|| format!("cannot create {}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_outermost_shut_folder_once() {
        let shut = ["/root", "/root/.cargo", "/srv/private"];
        let paths =
            ["/root/.rustup/toolchain", "/root/.cargo/registry", "/srv/private/a/b", "/opt/x"];
        let found = covers(paths.iter().map(Path::new), |dir| {
            !shut.iter().any(|shut| dir == Path::new(shut))
        });
        assert_eq!(found, [PathBuf::from("/root"), PathBuf::from("/srv/private")]);
    }

    #[test]
    fn hands_on_what_cargo_needs_but_no_token() {
        for name in ["CARGO_INCREMENTAL", "CARGO_TARGET_DIR", "RUSTFLAGS", "TERM"] {
            assert!(passes(name), "{name}");
        }
        for name in ["CARGO_REGISTRY_TOKEN", "CARGO_PKG_NAME", "HOME", "PATH", "GITHUB_TOKEN"] {
            assert!(!passes(name), "{name}");
        }
    }

    #[test]
    fn a_target_directory_outside_the_tree_becomes_the_users_own_too() {
        let workspace = Workspace { root: "/tree".into(), target: "/big/target".into() };
        let views = views(&workspace, Path::new("/toolchain"), Path::new("/nonexistent/cargo"));
        assert_eq!(
            views,
            [
                View::Own("/tree".into()),
                View::Own("/big/target".into()),
                View::Same("/toolchain".into())
            ]
        );
    }
}
