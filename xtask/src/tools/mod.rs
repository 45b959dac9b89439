//! The programs that building and testing need besides Rust: etcd, etcdctl and protoc; and mmdebstrap, which virtual data
//! centres are made with, lintian, serf, and OpenBao.
//!
//! The system's are used where they work. Missing ones are fetched as Debian packages and unpacked
//! under `target/tools/`: nothing is installed, no service starts, no root is needed. Every verb
//! that builds asks for them first; once they are there, asking costs three short processes.

mod apt;
mod lintian;
mod openbao;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::{Doing, Done, Failure};
use crate::workspace::Workspace;
use crate::{lock, run};
use apt::Apt;
pub(crate) use lintian::Lintian;

/// Set to `1`, the system's programs are passed over, so that the unpacked ones can be tried on a
/// machine that has both.
const IGNORE_SYSTEM: &str = "NECO_SETUP_IGNORE_SYSTEM";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Etcd,
    Etcdctl,
    Protoc,
    Mmdebstrap,
    Serf,
}

impl Tool {
    /// What every verb that builds needs.
    const ALWAYS: [Self; 3] = [Self::Etcd, Self::Etcdctl, Self::Protoc];

    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Protoc => "protoc",
            Self::Mmdebstrap => "mmdebstrap",
            Self::Serf => "serf",
        }
    }

    /// The variable by which a person names the program to use.
    fn variable(self) -> &'static str {
        match self {
            Self::Etcd => "NECO_ETCD",
            Self::Etcdctl => "NECO_ETCDCTL",
            Self::Protoc => "PROTOC",
            Self::Mmdebstrap => "NECO_MMDEBSTRAP",
            Self::Serf => "NECO_SERF",
        }
    }

    /// The packages that a person installs where this program cannot help itself.
    fn by_hand(self) -> &'static str {
        match self {
            Self::Etcd => "etcd-server",
            Self::Etcdctl => "etcd-client",
            Self::Protoc => "protobuf-compiler libprotobuf-dev",
            Self::Mmdebstrap => "mmdebstrap",
            Self::Serf => "serf",
        }
    }

    /// The packages to unpack; protoc is linked to libraries whose names carry their ABI's number,
    /// so those are asked of apt.
    fn packages(self, apt: &Apt) -> Done<Vec<String>> {
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match self {
            Self::Etcd => Ok(named(&["etcd-server"])),
            Self::Etcdctl => Ok(named(&["etcd-client"])),
            Self::Protoc => {
                let mut packages: Vec<String> = named(&["libprotobuf-dev"]);
                packages.extend(apt.needs_beyond_apt("protobuf-compiler")?);
                Ok(packages)
            }
            // A script; what it calls is on every Debian that builds anything.
            Self::Mmdebstrap => Ok(named(&["mmdebstrap"])),
            // Linked to nothing but libc.
            Self::Serf => Ok(named(&["serf"])),
        }
    }

    /// Tries the program for real: protoc must also find the well-known types.
    fn works(self, program: &Path, tools: &Path) -> bool {
        let mut command = Command::new(program);
        match self {
            Self::Etcd | Self::Mmdebstrap => run::works(command.arg("--version")),
            Self::Etcdctl => run::works(command.arg("version").env("ETCDCTL_API", "3")),
            Self::Serf => run::works(command.arg("version")),
            Self::Protoc => {
                command.arg("-I").arg(tools);
                if let Some(include) = std::env::var_os("PROTOC_INCLUDE") {
                    command.arg("-I").arg(include);
                }
                run::works(command.arg("--descriptor_set_out=/dev/null").arg("probe.proto"))
            }
        }
    }
}

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Tools {
    /// `target/tools`: also home of cargo-deny and the private state of apt.
    pub(crate) dir: PathBuf,
    etcd: PathBuf,
    etcdctl: PathBuf,
    protoc: PathBuf,
}

impl Tools {
    /// Finds the programs; fetches those that are missing.
    pub(crate) fn bring(workspace: &Workspace) -> Done<Self> {
        let dir = workspace.target.join("tools");
        fs::create_dir_all(&dir).doing(|| format!("cannot create {}", dir.display()))?;
        write_if_different(&dir.join("probe.proto"), PROBE)?;
        let found = bring(&dir, &Tool::ALWAYS)?;
        let [etcd, etcdctl, protoc] = <[PathBuf; 3]>::try_from(found)
            .map_err(|found| Failure::failed(format!("three tools were asked for: {found:?}")))?;
        Ok(Self { dir, etcd, etcdctl, protoc })
    }

    /// Brings what virtual data centres are made with, too.
    pub(crate) fn for_data_centres(&self) -> Done {
        bring(&self.dir, &[Tool::Mmdebstrap]).map(drop)
    }

    /// Brings OpenBao too.
    pub(crate) fn openbao(&self) -> Done<PathBuf> {
        openbao::bring(&self.dir)
    }

    /// Brings serf too, and lets a child find it.
    pub(crate) fn lend_serf(&self, command: &mut Command) -> Done {
        for program in bring(&self.dir, &[Tool::Serf])? {
            command.env(Tool::Serf.variable(), program);
        }
        Ok(())
    }

    /// Brings OpenBao too, and lets a child find it.
    pub(crate) fn lend_openbao(&self, command: &mut Command) -> Done {
        command.env(openbao::VARIABLE, self.openbao()?);
        Ok(())
    }

    /// Lets a child find them: cargo's build scripts, the tests, the playground.
    pub(crate) fn lend(&self, command: &mut Command) {
        for (name, value) in self.variables() {
            command.env(name, value);
        }
    }

    /// The same for a shell.
    pub(crate) fn exports(&self) -> String {
        let line = |(name, value): (&str, OsString)| {
            let value = value.to_string_lossy().replace('\'', r"'\''");
            format!("export {name}='{value}'\n")
        };
        self.variables().into_iter().map(line).collect()
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![
            (Tool::Etcd.variable(), self.etcd.clone().into()),
            (Tool::Etcdctl.variable(), self.etcdctl.clone().into()),
            (Tool::Protoc.variable(), self.protoc.clone().into()),
        ];
        let bin = self.dir.join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        if bin.is_dir() && !std::env::split_paths(&path).any(|dir| dir == bin) {
            let dirs = std::iter::once(bin).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(dirs) {
                variables.push(("PATH", path));
            }
        }
        variables
    }
}

/// Finds some programs, in their order; fetches those that are missing.
fn bring(dir: &Path, tools: &[Tool]) -> Done<Vec<PathBuf>> {
    if let Ok(found) = look(dir, tools)? {
        return Ok(found);
    }
    let _lock = lock::hold(&dir.join("lock"))?;
    // Another verb may have brought them while this one waited for the lock.
    let missing = match look(dir, tools)? {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    fetch(dir, &missing)?;
    look(dir, tools)?.map_err(|missing| {
        let names: Vec<_> = missing.iter().map(|tool| tool.name()).collect();
        Failure::cannot_run(format!(
            "{} was unpacked into {} but does not run there; install it: {}",
            names.join(", "),
            dir.display(),
            by_hand(&missing)
        ))
    })
}

/// What a person runs where this program cannot help itself.
fn by_hand(missing: &[Tool]) -> String {
    let packages: Vec<_> = missing.iter().map(|tool| tool.by_hand()).collect();
    format!("sudo apt-get install {}", packages.join(" "))
}

/// The programs as they are now, or those that are missing.
fn look(dir: &Path, tools: &[Tool]) -> Done<Result<Vec<PathBuf>, Vec<Tool>>> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for &tool in tools {
        match find(tool, dir)? {
            Some(program) => found.push(program),
            None => missing.push(tool),
        }
    }
    Ok(if missing.is_empty() { Ok(found) } else { Err(missing) })
}

/// A file that needs what Debian keeps apart from the compiler, in libprotobuf-dev.
const PROBE: &str = r#"syntax = "proto3";
import "google/protobuf/descriptor.proto";
message Probe { google.protobuf.FileDescriptorSet files = 1; }
"#;

fn find(tool: Tool, dir: &Path) -> Done<Option<PathBuf>> {
    let unpacked = dir.join("bin").join(tool.name());
    let ignore_system = std::env::var_os(IGNORE_SYSTEM).is_some_and(|value| value == "1");
    if !ignore_system {
        // What this program itself has named in the shell's environment goes with `cargo clean`.
        let named = std::env::var_os(tool.variable()).map(PathBuf::from);
        if let Some(named) = named.filter(|named| !named.starts_with(dir)) {
            if tool.works(&named, dir) {
                return Ok(Some(named));
            }
            return Err(Failure::cannot_run(format!(
                "{}={} does not work; unset it, or let it name a working {}",
                tool.variable(),
                named.display(),
                tool.name()
            )));
        }
        if let Some(system) = on_path(tool.name(), &dir.join("bin"))
            && tool.works(&system, dir)
        {
            return Ok(Some(system));
        }
    }
    Ok(tool.works(&unpacked, dir).then_some(unpacked))
}

/// The first program of that name on the PATH or where Debian keeps daemons, but not our own.
pub(crate) fn on_path(name: &str, but_not_in: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .filter(|dir| dir != but_not_in)
        .map(|dir| dir.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

/// Fails unless there is a program of that name; `package` is what brings it.
pub(crate) fn need(name: &str, package: &str) -> Done {
    match on_path(name, Path::new("")) {
        Some(_) => Ok(()),
        None => Err(Failure::cannot_run(format!(
            "there is no {name} on this machine; install it, on Debian by: apt-get install {package}"
        ))),
    }
}

fn fetch(dir: &Path, missing: &[Tool]) -> Done {
    let names: Vec<_> = missing.iter().map(|tool| tool.name()).collect();
    eprintln!("xtask: bringing {} as Debian packages into {}", names.join(", "), dir.display());
    for needed in ["apt-get", "apt-cache", "dpkg-deb"] {
        if on_path(needed, OsStr::new("").as_ref()).is_none() {
            return Err(Failure::cannot_run(format!(
                "{} is missing, and so is {needed} to bring it; install it, on Debian by: {}",
                names.join(", "),
                by_hand(missing)
            )));
        }
    }
    let packages = fetch_packages(dir, missing).map_err(|failure| {
        Failure::cannot_run(format!(
            "cannot bring {}; install it by hand: {}\n{}",
            names.join(", "),
            by_hand(missing),
            failure.message
        ))
    })?;
    let root = dir.join("root");
    fs::create_dir_all(&root).doing(|| format!("cannot create {}", root.display()))?;
    for package in packages {
        run::capture(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).doing(|| format!("cannot create {}", bin.display()))?;
    for &tool in missing {
        let link = bin.join(tool.name());
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).doing(|| format!("cannot replace {}", link.display()))?;
        }
        match tool {
            Tool::Protoc => {
                write_if_different(&link, &protoc_wrapper(&library_dirs(&root)))?;
                fs::set_permissions(&link, fs::Permissions::from_mode(0o755))
                    .doing(|| format!("cannot make {} executable", link.display()))?;
            }
            Tool::Etcd | Tool::Etcdctl | Tool::Mmdebstrap | Tool::Serf => {
                symlink(format!("../root/usr/bin/{}", tool.name()), &link)
                    .doing(|| format!("cannot create {}", link.display()))?
            }
        }
    }
    Ok(())
}

fn fetch_packages(dir: &Path, missing: &[Tool]) -> Done<Vec<PathBuf>> {
    let apt = Apt::prepare(&dir.join("apt"))?;
    apt.update()?;
    let mut packages = Vec::new();
    for tool in missing {
        packages.extend(tool.packages(&apt)?);
    }
    packages.sort();
    packages.dedup();
    apt.download(&packages)
}

/// Where the unpacked libraries are, relative to the unpacked root.
fn library_dirs(root: &Path) -> Vec<String> {
    let mut dirs = vec!["usr/lib".to_owned()];
    for entry in fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.contains("-linux-")) {
            dirs.push(format!("usr/lib/{name}"));
        }
    }
    dirs.sort();
    dirs
}

/// A script that works wherever the folder is moved to; protoc itself finds `../include`.
fn protoc_wrapper(library_dirs: &[String]) -> String {
    let dirs: Vec<_> = library_dirs.iter().map(|dir| format!("$root/{dir}")).collect();
    format!(
        "#!/bin/sh\n\
         # Runs the unpacked protoc with the libraries unpacked beside it.\n\
         root=$(dirname \"$(readlink -f \"$0\")\")/../root\n\
         export LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         exec \"$root/usr/bin/protoc\" \"$@\"\n",
        dirs.join(":")
    )
}

fn write_if_different(path: &Path, text: &str) -> Done {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).doing(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_survive_a_quote_in_a_path() {
        let tools = Tools {
            dir: "/it's".into(),
            etcd: "/it's/etcd".into(),
            etcdctl: "/e".into(),
            protoc: "/p".into(),
        };
        let script = format!("{}printf %s \"$NECO_ETCD\"", tools.exports());
        let heard = run::capture(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(heard, "/it's/etcd");
    }

    #[test]
    fn the_wrapper_finds_its_libraries_from_its_own_place() {
        let dir = std::env::temp_dir().join(format!("xtask-wrapper-{}", std::process::id()));
        let real = dir.join("root/usr/bin");
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(dir.join("bin")).unwrap();
        let executable = |path: &Path, text: &str| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        executable(&real.join("protoc"), "#!/bin/sh\necho \"$LD_LIBRARY_PATH $1\"\n");
        executable(&dir.join("bin/protoc"), &protoc_wrapper(&["usr/lib".into()]));
        let heard = run::capture(
            Command::new(dir.join("bin/protoc")).arg("a b").env_remove("LD_LIBRARY_PATH"),
        );
        fs::remove_dir_all(&dir).unwrap();
        let heard = heard.unwrap();
        assert!(heard.trim_end().ends_with("/bin/../root/usr/lib a b"), "{heard}");
    }
}
