//! What the programs tell about themselves: the pages of their manual, and completions for shells.
//!
//! Beside the programs, and made once for any number of packages, as the copies without symbols are.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Programs, SHIPPED, same_age, take_age};
use crate::exit::{Doing, Done, Failure};
use crate::run;

/// The command line, and the name of the original by which it is called, too.
const COMMAND_LINE: &str = "necoctl";
/// The name of the original.
pub(crate) const ALIAS: &str = "neco";

/// The shells, each with the folder where it looks for completions of packages, and what goes around the name there.
const SHELLS: [(&str, &str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions", "", ""),
    ("zsh", "usr/share/zsh/vendor-completions", "_", ""),
    ("fish", "usr/share/fish/vendor_completions.d", "", ".fish"),
];

/// The texts of some programs, on disk.
#[derive(Debug)]
pub(crate) struct Texts {
    /// A folder for each program, with `man/` and, of the command line, a mirror of where completions go.
    dir: PathBuf,
}

impl Texts {
    /// Asks the programs that have changed since they were asked last.
    pub(crate) fn of(programs: &Programs) -> Done<Self> {
        let dir = programs.dir.join("texts");
        for name in SHIPPED {
            let program = programs.program(name);
            let (stamp, of_it) = (dir.join(format!("{name}.asked")), dir.join(name));
            if same_age(&program, &stamp) {
                continue;
            }
            if of_it.exists() {
                fs::remove_dir_all(&of_it)
                    .doing(|| format!("cannot remove {}", of_it.display()))?;
            }
            let manual = of_it.join("man");
            create(&manual)?;
            run::capture(Command::new(&program).arg("--man").arg(&manual))?;
            if name == COMMAND_LINE {
                completions(&program, &of_it)?;
            }
            File::create(&stamp).doing(|| format!("cannot write {}", stamp.display()))?;
            take_age(&program, &stamp)?;
        }
        Ok(Self { dir })
    }

    /// The pages of the manual, sorted; there is at least one for each program.
    pub(crate) fn pages(&self) -> Done<Vec<PathBuf>> {
        let mut pages = Vec::new();
        for name in SHIPPED {
            let manual = self.dir.join(name).join("man");
            let before = pages.len();
            for page in
                fs::read_dir(&manual).doing(|| format!("cannot list {}", manual.display()))?
            {
                pages.push(page.doing(|| format!("cannot list {}", manual.display()))?.path());
            }
            if pages.len() == before {
                return Err(Failure::failed(format!("{name} --man has written no page")));
            }
        }
        pages.sort();
        Ok(pages)
    }

    /// The completions: where each goes in the target, and where it is.
    pub(crate) fn completions(&self) -> Vec<(String, PathBuf)> {
        places()
            .map(|(_, _, place)| (place.clone(), self.dir.join(COMMAND_LINE).join(place)))
            .collect()
    }
}

/// Shell, name, and place in the target of every completion.
fn places() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    SHELLS.into_iter().flat_map(|(shell, folder, before, after)| {
        [COMMAND_LINE, ALIAS].map(|name| (shell, name, format!("{folder}/{before}{name}{after}")))
    })
}

fn completions(program: &Path, to: &Path) -> Done {
    for (shell, name, place) in places() {
        let script = run::capture(Command::new(program).arg0(name).args(["completion", shell]))?;
        if !script.contains(name) {
            return Err(Failure::failed(format!(
                "the completions of {name} for {shell} do not name it"
            )));
        }
        let file = to.join(place);
        if let Some(folder) = file.parent() {
            create(folder)?;
        }
        fs::write(&file, script).doing(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn create(dir: &Path) -> Done {
    fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A program that tells about itself, and notes how often it was asked.
    const TALKER: &str = "#!/bin/sh\n\
        echo asked >>\"$(dirname \"$0\")/asked\"\n\
        case $1 in\n\
        --man) echo page >\"$2/${0##*/}.8\" ;;\n\
        completion) echo \"complete $2 neco necoctl\" ;;\n\
        esac\n";

    /// Texts for programs that cannot tell any, as if they had been asked.
    pub(crate) fn lay(programs: &Programs) {
        for name in SHIPPED {
            let manual = programs.dir.join("texts").join(name).join("man");
            fs::create_dir_all(&manual).unwrap();
            let page = format!(
                ".ie \\n(.g .ds Aq \\(aq\n.TH {name} 8  \"\" \n.SH NAME\n{name} \\- works\n"
            );
            fs::write(manual.join(format!("{name}.8")), page).unwrap();
            let stamp = programs.dir.join("texts").join(format!("{name}.asked"));
            File::create(&stamp).unwrap();
            take_age(&programs.program(name), &stamp).unwrap();
        }
        for (shell, name, place) in places() {
            let file = programs.dir.join("texts").join(COMMAND_LINE).join(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{name} for {shell}\n")).unwrap();
        }
    }

    /// Puts a program there. By another process: one that this process writes cannot be started while some other test
    /// forks.
    fn install(dir: &Path, name: &str, script: &str) {
        let text = dir.join("script");
        fs::write(&text, script).unwrap();
        run::capture(Command::new("install").arg("-m755").arg(&text).arg(dir.join(name))).unwrap();
    }

    #[test]
    fn programs_are_asked_once_and_again_after_a_change() {
        let dir = std::env::temp_dir().join(format!("xtask-texts-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let programs = Programs { dir: dir.clone() };
        for name in SHIPPED {
            install(&dir, name, TALKER);
        }
        let asked = || fs::read_to_string(dir.join("asked")).unwrap().lines().count();
        let texts = Texts::of(&programs).unwrap();
        let pages: Vec<_> = texts.pages().unwrap();
        let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap()).collect();
        assert_eq!(
            names,
            ["neco-updater.8", "neco-worker.8", "necoctl.8", "sabakan-state-setter.8",]
        );
        let completions = texts.completions();
        assert_eq!(completions.len(), 6);
        let zsh = completions.iter().find(|(place, _)| place.ends_with("/_neco")).unwrap();
        assert_eq!(fs::read_to_string(&zsh.1).unwrap(), "complete zsh neco necoctl\n");
        assert_eq!(asked(), 4 + 6);

        Texts::of(&programs).unwrap();
        assert_eq!(asked(), 4 + 6);
        install(&dir, "neco-worker", TALKER);
        Texts::of(&programs).unwrap();
        assert_eq!(asked(), 4 + 6 + 1);

        install(&dir, "neco-worker", "#!/bin/sh\n");
        let failure = Texts::of(&programs).unwrap().pages().unwrap_err();
        assert!(failure.message.starts_with("neco-worker --man has written no page"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
