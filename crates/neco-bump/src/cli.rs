//! The command line.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, anyhow};
use clap::{Parser, ValueEnum};
use neco_artifacts::Artifacts;
use neco_base::Secret;
use neco_http::Url;
use neco_process::duration;
use neco_process::exit::{ExitCode, Failure, OrFail as _};

use crate::bump::{Outcome, Pinned, Wishes, look};
use crate::decide::Set;
use crate::edit::apply;
use crate::ignore::IgnoreList;
use crate::lookup::{Options, Question, Sources};
use crate::replace::{ReplaceError, replace};
use crate::report::{self, Ending};

/// How often a request is tried that fails in a way that passes.
const ATTEMPTS: u32 = 3;

/// Finds newer versions of what artifacts.toml pins, writes them there, and prints what has changed.
///
/// Images are looked up in their registries, with the logins of `docker login`; packages on GitHub, with the token of
/// GITHUB_TOKEN or --github-token-file if there is one; the OS image in the list of its channel. Proxies are those of the
/// environment (HTTPS_PROXY, NO_PROXY). What cannot be looked up stays as it is, with a line on standard error; the others are
/// written nevertheless.
///
/// Exit codes: 0 if all is decided; 1 if something could not be, or with --check if something newer exists; 4 if somebody else
/// has changed the file meanwhile; 64 for a wrong command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "neco-bump", disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    /// What is looked at, by name; `os-image` is the OS image [default: everything]
    names: Vec<String>,
    /// The file with the pins; `cargo xtask artifacts` names the one of the package
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Choose among what may be shipped: no pre-release, images of the same major version [default]
    #[arg(long, conflicts_with = "pre_release")]
    release: bool,
    /// Choose among what is to be tried out: pre-releases and other major versions too
    #[arg(long)]
    pre_release: bool,
    /// Take the newest version even where it is older than the pinned one
    #[arg(long)]
    allow_older: bool,
    /// A list of versions that are passed over [default: artifacts_ignore.yaml of the tree, if it is there]
    #[arg(long, value_name = "FILE")]
    ignore: Option<PathBuf>,
    /// Write nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Write nothing, and end with 1 if something newer exists
    #[arg(long)]
    check: bool,
    /// How long to wait for everything about one thing, such as 90s
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration::parse)]
    timeout: Duration,
    /// A file with a token for GitHub; without it the variable GITHUB_TOKEN is read
    #[arg(long, value_name = "FILE")]
    github_token_file: Option<PathBuf>,
    /// Where GitHub's API is
    #[arg(long, value_name = "URL", default_value = "https://api.github.com/")]
    github_api: Url,
    /// Below which address the list of a channel lies, as releases-CHANNEL.json
    #[arg(long, value_name = "URL", default_value = "https://www.flatcar.org/releases-json/")]
    os_image_feed: Url,
    /// How to tell of it
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Human,
    /// One JSON object
    Json,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// The file or the ignore list cannot be read or is wrong, or the file cannot be written.
    pub fn run(&self) -> Result<ExitCode, Failure> {
        let text = read(&self.file)?;
        let artifacts = Artifacts::parse(&text)
            .map_err(|problems| anyhow!("{} cannot be used:\n{problems}", self.file.display()))?;
        let pins = self.wanted(&artifacts)?;
        let wishes = Wishes {
            set: if self.pre_release { Set::PreRelease } else { Set::Release },
            older: self.allow_older,
            ignored: self.ignore_list(&artifacts)?,
        };
        let sources = Sources::new(self.options()?).map_err(|why| anyhow!(why))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = async |question: &Question| sources.ask(question).await;
        let outcomes = runtime.block_on(look(pins, ask, &wishes));
        for Outcome { pin, decided } in &outcomes {
            if let Err(why) = decided {
                warn(format_args!("{} {}: {why}", pin.kind, pin.name));
            }
        }
        let ending = self.write(&text, &outcomes)?;
        let programs = artifacts.programs.len();
        let told = match self.output {
            Output::Human => report::human(&outcomes, programs, from_here(&self.file), ending),
            Output::Json => report::json(&outcomes, programs, ending).to_string(),
        };
        writeln!(io::stdout(), "{told}")?;
        let failed = outcomes.iter().any(|outcome| outcome.decided.is_err());
        let newer = self.check && outcomes.iter().any(Outcome::is_bump);
        Ok(if failed || newer { ExitCode::No } else { ExitCode::Done })
    }

    /// The pins that were asked for.
    fn wanted(&self, artifacts: &Artifacts) -> Result<Vec<Pinned>, Failure> {
        let all = Pinned::all(artifacts);
        let mut names: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        let wanted = all.iter().filter(|pin| self.names.is_empty() || names.remove(pin.called()));
        let wanted: Vec<_> = wanted.cloned().collect();
        match names.first() {
            None => Ok(wanted),
            Some(name) if artifacts.programs.contains_key(*name) => {
                Err(anyhow!("{name} is a program, and programs are not looked up"))
                    .or_exit(ExitCode::Usage)
                    .or_hint("write its address and its sha256 by hand")
            }
            Some(name) => {
                let called: Vec<_> = all.iter().map(Pinned::called).collect();
                Err(anyhow!("nothing that is called {name} is pinned in {}", self.file.display()))
                    .or_exit(ExitCode::Usage)
                    .or_hint(format!("there are {}", called.join(", ")))
            }
        }
    }

    fn ignore_list(&self, artifacts: &Artifacts) -> Result<IgnoreList, Failure> {
        let Some(file) = &self.ignore else { return Ok(IgnoreList::default()) };
        let list = IgnoreList::parse(&file.display().to_string(), &read(file)?)
            .map_err(|problems| anyhow!("the ignore list cannot be used:\n{problems}"))?;
        for stranger in list.strangers(artifacts) {
            warn(format_args!("{stranger}"));
        }
        Ok(list)
    }

    fn options(&self) -> Result<Options, Failure> {
        let token = match &self.github_token_file {
            Some(file) => {
                let token = Secret::new(read(file)?);
                let empty = || anyhow!("{} has no token; write one there", file.display());
                Some(token_of(token.reveal()).ok_or_else(empty)?)
            }
            None => std::env::var("GITHUB_TOKEN").ok().as_deref().and_then(token_of),
        };
        Ok(Options {
            github_api: self.github_api.clone(),
            github_token: token,
            os_image_feed: self.os_image_feed.clone(),
            docker_config: docker_config(),
            timeout: self.timeout,
            attempts: ATTEMPTS,
        })
    }

    /// Writes what was found, unless nothing is to be written.
    fn write(&self, text: &str, outcomes: &[Outcome]) -> Result<Ending, Failure> {
        let edits: Vec<_> = outcomes.iter().flat_map(Outcome::edits).collect();
        // Also where it is not written: what could not be is told.
        let new = apply(text, &edits)?;
        if self.dry_run || self.check {
            return Ok(Ending::NotToBeWritten);
        }
        if new != text {
            replace(&self.file, text, &new).map_err(|error| match error {
                ReplaceError::Changed(_) => Failure::new(ExitCode::Conflict, error),
                ReplaceError::Io { .. } => Failure::from(error),
            })?;
        }
        Ok(Ending::Written)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    Ok(fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?)
}

/// The path from where the program was started, if the file lies below.
fn from_here(file: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file)
}

fn token_of(text: &str) -> Option<Secret> {
    Some(text.trim()).filter(|token| !token.is_empty()).map(Secret::from)
}

/// Where `docker login` of whoever calls this writes.
fn docker_config() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))?;
    Some(folder.join("config.json"))
}

/// Tells of something that ends nothing.
fn warn(what: std::fmt::Arguments<'_>) {
    // Standard error may be closed, and then nobody is there to be told.
    let _ = writeln!(io::stderr(), "neco-bump: {what}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for words in [
            &["--release", "--pre-release"][..],
            &["--dry-run", "--check"],
            &["--timeout", "0s"],
            &["--timeout", "5"],
            &["--github-api", "github"],
        ] {
            let words = ["neco-bump", "--file", "x"].iter().chain(words);
            assert!(Cli::try_parse_from(words.clone()).is_err(), "{words:?}");
        }
        assert!(Cli::try_parse_from(["neco-bump"]).is_err());
    }

    #[test]
    fn a_path_is_told_from_here() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(from_here(&here.join("a/b")), Path::new("a/b"));
        assert_eq!(from_here(Path::new("/nowhere/b")), Path::new("/nowhere/b"));
        assert_eq!(from_here(Path::new("a")), Path::new("a"));
    }

    #[test]
    fn a_token_is_trimmed_and_never_shown() {
        assert_eq!(token_of(" ghp_1\n"), Some(Secret::from("ghp_1")));
        assert_eq!(token_of(" \n"), None);
    }
}
