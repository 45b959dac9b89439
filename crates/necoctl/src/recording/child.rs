//! What is run for a session.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What OpenSSH calls its server of files.
const SFTP: &str = "/usr/lib/openssh/sftp-server";

/// The programs that sessions begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Records a terminal.
    pub script: PathBuf,
    /// The shell of people.
    pub bash: PathBuf,
    /// The shell of transfers.
    pub sh: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            script: "/usr/bin/script".into(),
            bash: "/usr/bin/bash".into(),
            sh: "/bin/sh".into(),
        }
    }
}

/// What is run for a session, and which files of its folder make the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The files of the record; none where nothing is recorded.
    pub members: Vec<&'static str>,
    /// Whether a copy of what it reads is kept as [`Child::INPUT`].
    pub copies_input: bool,
}

impl Child {
    /// What a recorded terminal showed.
    pub const TYPESCRIPT: &str = "typescript";
    /// When it showed it.
    pub const TIMING: &str = "timingfile";
    /// The command that was asked for.
    pub const COMMAND: &str = "SSH_ORIGINAL_COMMAND";
    /// What a shell without a terminal was told.
    pub const INPUT: &str = "stdin";

    /// What is run for somebody who asked for `command` (a shell if empty), with the record in `folder`.
    ///
    /// `terminal` says whether there is one to be recorded: on anything else `script` may wait for ever. Commands are not
    /// run under it for the same reason; their record is the command itself.
    pub fn of(programs: &Programs, command: &str, folder: Option<&Path>, terminal: bool) -> Self {
        if command.is_empty() {
            return match folder {
                Some(folder) if terminal => Self::recorded(programs, folder),
                Some(_) => {
                    Self { members: vec![Self::INPUT], copies_input: true, ..Self::plain(programs) }
                }
                None => Self::plain(programs),
            };
        }
        let transfer = match command {
            "internal-sftp" | SFTP => Some(SFTP),
            command => command.starts_with("scp -t").then_some(command),
        };
        let (program, line) = match transfer {
            Some(line) => (&programs.sh, line),
            None => (&programs.bash, command),
        };
        Self {
            program: program.clone(),
            arguments: vec!["-c".into(), line.into()],
            members: folder.map(|_| Self::COMMAND).into_iter().collect(),
            copies_input: false,
        }
    }

    /// A shell of which nothing is recorded.
    pub fn plain(programs: &Programs) -> Self {
        Self {
            program: programs.bash.clone(),
            arguments: Vec::new(),
            members: Vec::new(),
            copies_input: false,
        }
    }

    fn recorded(programs: &Programs, folder: &Path) -> Self {
        let mut timing = OsString::from("-t");
        timing.push(folder.join(Self::TIMING));
        Self {
            program: programs.script.clone(),
            arguments: vec![
                "-q".into(),
                timing,
                // The exit code is that of the shell.
                "-e".into(),
                folder.join(Self::TYPESCRIPT).into(),
            ],
            members: vec![Self::TYPESCRIPT, Self::TIMING],
            copies_input: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Program and arguments on one line.
    fn line(child: &Child) -> String {
        let words = child.arguments.iter().map(|word| word.to_string_lossy().into_owned());
        let program = child.program.display().to_string();
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_run_is_what_the_original_runs() {
        let script = "/usr/bin/script -q -t/tmp/s/timingfile -e /tmp/s/typescript";
        let sftp = "/bin/sh -c /usr/lib/openssh/sftp-server";
        let both = &["typescript", "timingfile"][..];
        let command = &["SSH_ORIGINAL_COMMAND"][..];
        for (asked, folder, runs, members) in [
            ("", true, script, both),
            ("ls", true, "/usr/bin/bash -c ls", command),
            ("internal-sftp", true, sftp, command),
            ("/usr/lib/openssh/sftp-server", true, sftp, command),
            ("scp -t .", true, "/bin/sh -c scp -t .", command),
            ("scp -f x", true, "/usr/bin/bash -c scp -f x", command),
            ("", false, "/usr/bin/bash", &[]),
            ("ls", false, "/usr/bin/bash -c ls", &[]),
            ("internal-sftp", false, sftp, &[]),
            ("scp -t .", false, "/bin/sh -c scp -t .", &[]),
        ] {
            let folder = folder.then_some(Path::new("/tmp/s"));
            let child = Child::of(&Programs::default(), asked, folder, true);
            assert_eq!(line(&child), runs, "{asked:?} {folder:?}");
            assert_eq!(child.members, members, "{asked:?} {folder:?}");
        }
    }

    #[test]
    fn a_shell_without_a_terminal_runs_plainly_and_what_it_is_told_is_kept() {
        let child = Child::of(&Programs::default(), "", Some(Path::new("/tmp/s")), false);
        assert_eq!(line(&child), "/usr/bin/bash");
        assert!(child.copies_input && child.members == ["stdin"]);
        let child = Child::of(&Programs::default(), "", None, false);
        assert!(!child.copies_input && child.members.is_empty());
    }
}
