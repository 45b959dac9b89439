//! The pages of the manual that a command line tells about itself.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

/// The section of the manual for what administrators run.
const SECTION: &str = "8";

/// Writes a page for the program and one for each of its verbs into `dir`, which exists.
///
/// What no command line knows (version, files, exit codes, the environment) is added when the package is made.
///
/// # Errors
/// A page cannot be written.
pub fn write(program: Command, dir: &Path) -> io::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    write_built(&program, dir)
}

fn write_built(command: &Command, dir: &Path) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        write_built(verb, dir)?;
    }
    Man::new(command.clone()).section(SECTION).generate_to(dir).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_verb_that_is_not_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let verb = |name| Command::new(name).about("Does it");
        let program = Command::new("prog")
            .about("Does all")
            .subcommand(verb("run").subcommand(verb("now")))
            .subcommand(verb("secretly").hide(true));
        write(program, dir.path()).unwrap();
        let mut pages: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|page| page.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        assert_eq!(pages, ["prog-run-now.8", "prog-run.8", "prog.8"]);
        let page = std::fs::read_to_string(dir.path().join("prog.8")).unwrap();
        assert!(page.contains(".TH prog 8") && page.contains("Does all"), "{page}");
        assert!(page.contains(r"prog\-run(8)") && !page.contains("secretly"), "{page}");
    }
}
