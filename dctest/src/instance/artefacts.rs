//! What is kept of a data centre that failed, so that somebody can find out why.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::dirs::{Dirs, Top};

/// Copies what the data centre, its routers and its machines have said; gives the folder.
///
/// # Errors
/// The folder cannot be written to.
pub fn keep(top: &Top, dirs: &Dirs) -> Result<PathBuf> {
    let to = top.artefacts(&dirs.name);
    match fs::remove_dir_all(&to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", to.display()));
        }
        _ => {}
    }
    copy(&dirs.log(), &to.join("keeper.log"))?;
    copy(&dirs.description(), &to.join("cluster.yml"))?;
    for file in files(&dirs.routers()) {
        copy(&file, &to.join("routers").join(file.file_name().unwrap_or_default()))?;
    }
    for machine in folders(&dirs.dir.join("machines")) {
        let name = machine.file_name().unwrap_or_default();
        let from = dirs.machine(&name.to_string_lossy());
        copy(&from.console(), &to.join(name).join("console.log"))?;
        for journal in folders(&from.journal()).iter().flat_map(|dir| files(dir)) {
            let file = journal.file_name().unwrap_or_default();
            copy(&journal, &to.join(name).join("journal").join(file))?;
        }
    }
    Ok(to)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    // Sockets are none.
    entries(dir).into_iter().filter(|path| path.is_file()).collect()
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    entries(dir).into_iter().filter(|path| path.is_dir()).collect()
}

/// Copies a file that may not be there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_journals_and_routers_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let top = Top(dir.path().to_owned());
        let dirs = top.instance("dc0");
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(dirs.log(), "why");
        write(dirs.routers().join("core.log"), "sessions");
        write(dirs.machine("boot-0").console(), "last words");
        write(dirs.machine("boot-0").journal().join("0123/system.journal"), "lines");
        let kept = keep(&top, &dirs).unwrap();
        let read = |path: &str| fs::read_to_string(kept.join(path)).unwrap();
        assert_eq!(read("keeper.log"), "why");
        assert_eq!(read("routers/core.log"), "sessions");
        assert_eq!(read("boot-0/console.log"), "last words");
        assert_eq!(read("boot-0/journal/system.journal"), "lines");
    }
}
