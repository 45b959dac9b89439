//! `cargo xtask dctest`.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::ci::is_root;
use crate::args::Args;
use crate::build::{self, DCTEST, Profile, Programs, STAND_IN};
use crate::exit::{Doing, Done, Exit, Failure};
use crate::package::{self, Compression, Quality, Version};
use crate::run;
use crate::tools::Tools;
use crate::workspace::{self, Workspace};
use crate::{folder, lock};

pub(super) const HELP: &str = "\
Tells stories in a virtual data centre: real boot servers, the real package, real faults.

usage: cargo xtask dctest [core | --all | STORY...] [--release] [--name N] [--output human|json]
       cargo xtask dctest --list

  core            the short suite; what is told if nothing is named
  --all           all stories
  --list          only names them, each with what is seen in it
  --release       with the package as it is released, for figures: it is optimized, and built for long
  --name N        names data centre and results, for two runs side by side; default: stories
  --output json   one JSON object on the last line of standard output, with passed, failed, seconds
                  and phases, and with outcome and reason if nothing was told; all else goes to
                  standard error

The exit code is 0 if all passed, 1 if something failed, 64 for words that make no sense, and 77 where
this machine cannot run a virtual data centre. The last two are told before packages are made.";

/// Of the package that the packages of stories are made from; stories give them versions of their own.
const VERSION: &str = "2026.11.21-40000";

/// The word for the short suite, which is no story.
const CORE: &str = "core";

/// By which the list marks stories in which boot servers run everything.
const FULL: &str = "full";

/// The word for the package as it is released, which is of no concern to whoever tells stories.
const RELEASE: &str = "--release";

/// The forms of output.
const OUTPUTS: [&str; 2] = ["human", JSON];
const JSON: &str = "json";

pub(super) fn run(args: Vec<String>) -> Done {
    let as_json = asks_for_json(&args);
    let mut preparation = Preparation { begun: Instant::now(), phases: Vec::new() };
    // The program that is started for it never comes back here.
    let Err(failure) = start(args, &mut preparation);
    if as_json {
        println!("{}", preparation.untold(&failure));
    }
    Err(failure)
}

/// Whether a program reads the answer: that holds for wrong words, too.
fn asks_for_json(args: &[String]) -> bool {
    let joined = format!("--output={JSON}");
    args.contains(&joined) || args.windows(2).any(|pair| pair[0] == "--output" && pair[1] == JSON)
}

/// What is done before stories are told.
struct Preparation {
    begun: Instant,
    phases: Vec<Value>,
}

impl Preparation {
    fn phase<T>(&mut self, name: &str, work: impl FnOnce() -> Done<T>) -> Done<T> {
        let begun = Instant::now();
        let done = work()?;
        self.phases.push(json!({ "phase": name, "seconds": begun.elapsed().as_secs_f64() }));
        Ok(done)
    }

    /// The object that neco-dctest writes, for what fails before it is started. That a machine cannot run it is no verdict;
    /// anything else counts as one failure.
    fn untold(&self, failure: &Failure) -> Value {
        let outcome = match failure.exit {
            Exit::CannotRun => "cannot-run",
            Exit::Usage => "usage",
            Exit::Failed => "failed",
        };
        json!({
            "passed": 0,
            "failed": u8::from(failure.exit != Exit::CannotRun),
            "seconds": self.begun.elapsed().as_secs_f64(),
            "phases": self.phases,
            "stories": [],
            "memory": {},
            "outcome": outcome,
            "reason": failure.message,
        })
    }
}

/// What can be answered is answered first: wrong words, the list, and that this machine cannot run it.
fn start(args: Vec<String>, preparation: &mut Preparation) -> Done<Infallible> {
    let wanted = Wanted::parse(args.clone())?;
    if !wanted.list {
        package::needs()?;
        if !is_root() {
            return Err(Failure::cannot_run("boot servers that boot need root; run it as root"));
        }
    }
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    let programs =
        preparation.phase("build neco-dctest", || Programs::dctest(&workspace, &tools))?;
    let program = programs.program(DCTEST);
    let dir = workspace.target.join("dctest");
    let dctest = || {
        let mut command = Command::new(&program);
        workspace::without_cargo_run(&mut command);
        tools.lend(&mut command);
        command.env("NECO_DCTEST_DIR", &dir);
        command
    };
    if !wanted.list {
        let list = run::capture(dctest().args(["stories", "--list"]))?;
        wanted.names_stories_of(&list)?;
        tools.for_data_centres()?;
        if wanted.has_marked(&list, FULL) {
            preparation.phase("stand-ins", || lay_programs(&tools, &programs, &dir))?;
        }
        let mut check = dctest();
        if let Some(name) = &wanted.name {
            check.args(["--name", name]);
        }
        preparation.phase("check", || able(check.arg("check")))?;
    }
    let mut stories = dctest();
    stories.arg("stories").args(args.iter().filter(|word| *word != RELEASE));
    if !wanted.list {
        let (packages, suites) = (dir.join("packages"), dir.join("suites"));
        // Of two runs at once one would take away what the other has just made.
        let _lock = lock::hold(&dir.join("preparation.lock"))?;
        let profile = if wanted.release { Profile::Release } else { Profile::Dev };
        let shipped =
            preparation.phase("build", || Programs::shipped(&workspace, &tools, profile))?;
        preparation.phase("package", || pack(&workspace, &shipped, &packages))?;
        preparation.phase("suites", || build::suites(&workspace, &tools, &suites))?;
        stories.env("NECO_BIN_DIR", &shipped.dir);
        stories.env("NECO_PACKAGES", packages).env("NECO_SUITES", suites);
    }
    let error = stories.exec();
    Err(Failure::failed(format!("cannot start {}: {error}", program.display())))
}

/// Lays the programs that images are made of where data centres look for them.
fn lay_programs(tools: &Tools, programs: &Programs, dir: &Path) -> Done {
    let dir = dir.join("programs");
    build::lay(&tools.openbao()?, &dir.join("openbao"))?;
    build::lay(&programs.stripped(STAND_IN)?, &dir.join("stand-in"))
}

/// Packs the package that stories are told with; it is the only one in `dir` then.
fn pack(workspace: &Workspace, programs: &Programs, dir: &Path) -> Done {
    let (version, zstd) = (Version::parse(VERSION)?, Compression::Zstd);
    let file = package::pack(workspace, programs, &version, zstd, Quality::Sound, dir)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    folder::keep_only(dir, &[&name, package::LOCK])
}

/// Fails with what neco-dctest says this machine lacks.
fn able(check: &mut Command) -> Done {
    let output = check
        .stdin(Stdio::null())
        .output()
        .doing(|| format!("cannot start `{}`", run::shown(check)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let (exit, told) = match output.status.code() {
        Some(code) if code == Exit::CannotRun as i32 => (Exit::CannotRun, said.trim_end()),
        // What follows the first line is about a command line that nobody has typed.
        Some(code) if code == Exit::Usage as i32 => {
            (Exit::Usage, said.lines().next().unwrap_or_default())
        }
        _ => (Exit::Failed, said.trim_end()),
    };
    let told = told.lines().map(|line| {
        ["dc: ", "error: "].iter().find_map(|by| line.strip_prefix(by)).unwrap_or(line)
    });
    Err(Failure { exit, message: told.collect::<Vec<_>>().join("\n") })
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    list: bool,
    all: bool,
    release: bool,
    name: Option<String>,
    stories: Vec<String>,
}

impl Wanted {
    fn parse(args: Vec<String>) -> Done<Self> {
        let mut args = Args::new("dctest", args);
        let output = args.value("--output")?.unwrap_or_else(|| OUTPUTS[0].to_owned());
        if !OUTPUTS.contains(&output.as_str()) {
            let outputs = OUTPUTS.join(" or ");
            return Err(Failure::usage(format!("--output is {outputs}, not `{output}`")));
        }
        let name = args.value("--name")?;
        let (all, list, release) = (args.flag("--all"), args.flag("--list"), args.flag(RELEASE));
        let stories = args.words();
        args.end()?;
        if list && (all || release || output == JSON || !stories.is_empty()) {
            return Err(Failure::usage("--list stands alone: it names all stories, for people"));
        }
        if let (true, Some(story)) = (all, stories.first()) {
            return Err(Failure::usage(format!("with --all, `{story}` is told anyway; say one")));
        }
        Ok(Self { list, all, release, name, stories })
    }

    /// Whether one of the stories that are meant has a mark in the list, after its name.
    fn has_marked(&self, list: &str, mark: &str) -> bool {
        list.lines().any(|line| {
            let mut words = line.split_whitespace();
            let meant = words
                .next()
                .is_some_and(|name| self.all || self.stories.iter().any(|story| story == name));
            meant && words.next() == Some(mark)
        })
    }

    /// Fails for the first word that is not in the list of stories, in which each line begins with a name.
    fn names_stories_of(&self, list: &str) -> Done {
        let known = list.lines().filter_map(|line| line.split_whitespace().next());
        let known: Vec<&str> = std::iter::once(CORE).chain(known).collect();
        match self.stories.iter().find(|story| !known.contains(&story.as_str())) {
            None => Ok(()),
            Some(story) => Err(Failure::usage(format!(
                "there is no story `{story}`, there are {}",
                known.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn parse(args: &[&str]) -> Done<Wanted> {
        Wanted::parse(words(args))
    }

    #[test]
    fn stories_are_told_from_values_of_options() {
        let args = ["--name", "core", "--release", "--output=json", "postinst-fails"];
        let wanted = parse(&args).unwrap();
        let name = Some("core".to_owned());
        let stories = words(&["postinst-fails"]);
        assert_eq!(wanted, Wanted { list: false, all: false, release: true, name, stories });
    }

    #[test]
    fn wrong_words_are_named_before_anything_is_built() {
        for (words, told) in [
            (&["--output", "xml"][..], "--output is human or json, not `xml`"),
            (&["--name"], "--name wants a value"),
            (&["--al"], "`--al` is not understood; see `cargo xtask dctest --help`"),
            (&["--all", "core"], "with --all, `core` is told anyway"),
            (&["--list", "core"], "--list stands alone"),
            (&["--list", "--output", "json"], "--list stands alone"),
            (&["--list", "--release"], "--list stands alone"),
        ] {
            let failure = parse(words).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(told), "{}", failure.message);
        }
    }

    #[test]
    fn a_word_that_is_no_story_is_told_with_those_that_are() {
        let list =
            "one-dies        core  what is seen\nother-comes-back      core values are kept\n";
        let wanted = |story: &str| parse(&["core", story]).unwrap().names_stories_of(list);
        wanted("other-comes-back").unwrap();
        let failure = wanted("values").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let told = "there is no story `values`, there are core, one-dies, other-comes-back";
        assert_eq!(failure.message, told);
    }

    #[test]
    fn what_full_stories_need_is_brought_for_them_alone() {
        let list = "one-dies  core  what is seen\nall-runs  full  everything\n";
        let brings = |args: &[&str]| parse(args).unwrap().has_marked(list, FULL);
        assert!(brings(&["all-runs"]) && brings(&["core", "all-runs"]) && brings(&["--all"]));
        assert!(!brings(&[]) && !brings(&["core"]) && !brings(&["one-dies"]));
    }

    #[test]
    fn what_a_machine_lacks_is_told_in_the_name_of_this_verb() {
        let check = |script: &str| able(Command::new("sh").args(["-c", script])).unwrap_err();
        let lacks = check("printf 'dc: no ip\\ndc: no ssh\\n' >&2; exit 77");
        assert_eq!((lacks.exit, lacks.message.as_str()), (Exit::CannotRun, "no ip\nno ssh"));
        let usage = check("printf 'error: bad name\\n\\nUsage: dc check\\n' >&2; exit 64");
        assert_eq!((usage.exit, usage.message.as_str()), (Exit::Usage, "bad name"));
        let other = check("echo 'dc: disk full' >&2; exit 1");
        assert_eq!((other.exit, other.message.as_str()), (Exit::Failed, "disk full"));
    }

    #[test]
    fn what_was_not_told_has_the_form_of_what_was() {
        let mut preparation = Preparation { begun: Instant::now(), phases: Vec::new() };
        preparation.phase("check", || Ok(())).unwrap();
        let object = preparation.untold(&Failure::failed("no\ndisk"));
        assert_eq!((&object["passed"], &object["failed"]), (&json!(0), &json!(1)));
        assert_eq!(object["phases"][0]["phase"], "check");
        assert!(object["seconds"].is_number() && object["phases"][0]["seconds"].is_number());
        assert_eq!((&object["outcome"], &object["reason"]), (&json!("failed"), &json!("no\ndisk")));
        assert!(!object.to_string().contains('\n'));
        let results = include_str!("../../../dctest/src/suite/results.rs");
        for key in ["passed", "failed", "seconds", "phases", "stories", "memory"] {
            assert!(results.contains(&format!("            \"{key}\": ")), "{key}");
        }
        let cannot = preparation.untold(&Failure::cannot_run("no root"));
        assert_eq!((&cannot["failed"], &cannot["outcome"]), (&json!(0), &json!("cannot-run")));
    }
}
