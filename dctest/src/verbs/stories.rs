//! `cargo xtask dctest`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use neco_dctest::instance::dirs::Top;
use neco_dctest::instance::orders::Phase;
use neco_dctest::site::Tools;
use neco_dctest::stories::STORIES;
use neco_dctest::suite::{self, Outcome, Results, Suite};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use super::{CANNOT_RUN, Output, lacks};

/// How many boot servers stories need.
const MACHINES: u32 = 3;

/// Which stories shall be told, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Stories {
    /// The stories; `core` is the short suite [default: core]
    stories: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "stories")]
    all: bool,
    /// Only names them
    #[arg(long)]
    list: bool,
    /// How to tell of the results
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// A folder with a package of Neco; given by `cargo xtask dctest`
    #[arg(long, env = "NECO_PACKAGES", hide = true)]
    packages: Option<PathBuf>,
    /// The folder of the shipped programs; given by `cargo xtask dctest`
    #[arg(long, env = "NECO_BIN_DIR", hide = true)]
    programs: Option<PathBuf>,
    /// The folder of the contract suites; given by `cargo xtask dctest`
    #[arg(long, env = "NECO_SUITES", hide = true)]
    suites: Option<PathBuf>,
}

/// Tells stories and says what came of it.
pub(crate) async fn stories(top: &Top, program: &Path, name: &str, wanted: &Stories) -> Result<u8> {
    if wanted.list {
        let width = STORIES.iter().map(|story| story.name.len()).max().unwrap_or_default();
        for story in STORIES {
            println!("{:<width$}  {:<4}  {}", story.name, story.mark(), story.about);
        }
        return Ok(0);
    }
    let chosen = match suite::choose(STORIES, wanted.all, &wanted.stories) {
        Ok(chosen) => chosen,
        Err(error) => {
            eprintln!("dctest: {error}");
            return Ok(super::USAGE);
        }
    };
    let lacking = lacks(top, MACHINES).await?;
    if !lacking.is_empty() {
        if wanted.output == Output::Json {
            println!("{}", json!({ "outcome": "cannot-run", "reason": lacking.join("\n") }));
        }
        return Ok(CANNOT_RUN);
    }
    let given = |path: &Option<PathBuf>| {
        path.clone().context("start it as `cargo xtask dctest`, which builds what is installed")
    };
    let dir = top.0.join("results").join(name);
    let _alone = alone(&dir, name)?;
    let tools = Tools {
        top: top.clone(),
        program: program.to_owned(),
        package: package_in(&given(&wanted.packages)?)?,
        necoctl: given(&wanted.programs)?.join("necoctl"),
        suites: given(&wanted.suites)?,
    };
    let tell = |line: String| match wanted.output {
        Output::Json => eprintln!("{line}"),
        Output::Human => println!("{line}"),
    };
    let mut told = |phase: &Phase| tell(format!("{:<40} {:>6.2} s", phase.phase, phase.seconds));
    let results = Suite { tools: &tools, name, told: &mut told }.run(&chosen).await;
    results.write(&dir)?;
    for line in summary(&results) {
        tell(line);
    }
    let (passed, failed) = results.count();
    match wanted.output {
        Output::Json => println!("{}", results.json()),
        Output::Human => {
            println!("{passed} passed, {failed} failed in {:.0} s", results.seconds);
        }
    }
    Ok(u8::from(failed > 0))
}

/// Empties the folder for results, which those of an earlier run are not to be taken for. As long as what this gives is held,
/// nobody else tells stories under this name, who would end the data centres of this run and take its folders.
fn alone(dir: &Path, name: &str) -> Result<Flock<File>> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let opened = File::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    let held = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(held) => held,
        Err((_, Errno::EWOULDBLOCK)) => {
            bail!("stories are being told as {name} already; --name names others")
        }
        Err((_, error)) => return Err(error).with_context(|| format!("locking {}", dir.display())),
    };
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(held)
}

/// The package of a folder.
fn package_in(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    found.sort();
    match &found[..] {
        [package] => Ok(package.clone()),
        [] => bail!("there is no package in {}", dir.display()),
        // One of them is an old one, and nobody can tell which.
        several => bail!("{} has several packages: {several:?}; remove the folder", dir.display()),
    }
}

/// The stories, a line each, with what went wrong.
fn summary(results: &Results) -> Vec<String> {
    let mut lines = vec![String::new()];
    for told in &results.stories {
        let (mark, said) = match &told.outcome {
            Outcome::Passed { verdict } => ("✓", verdict.clone().unwrap_or_default()),
            Outcome::Failed { why, artefacts } => {
                ("✗", format!("{why}\n    see {}", artefacts.display()))
            }
        };
        lines.push(format!("  {mark} {:<38} {:>6.1} s  {said}", told.name, told.seconds));
        let figures = told.figures.iter();
        lines.extend(figures.map(|(figure, value)| format!("      {figure}: {value:.1}")));
    }
    let memory: Vec<String> = results
        .memory
        .iter()
        .map(|(machine, memory)| {
            let mb = |bytes: u64| bytes / 1_000_000;
            format!("{machine} {} MB ({} with files)", mb(memory.anonymous), mb(memory.all))
        })
        .collect();
    if !memory.is_empty() {
        lines.push(format!("  memory: {}", memory.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_tells_stories_under_a_name_and_begins_with_no_results() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("results/stories");
        let first = alone(&results, "stories").unwrap();
        std::fs::write(results.join("results.json"), "{}").unwrap();
        let error = alone(&results, "stories").unwrap_err().to_string();
        assert_eq!(error, "stories are being told as stories already; --name names others");
        assert!(results.join("results.json").exists(), "the second run removes nothing");
        alone(&results.with_file_name("others"), "others").unwrap();
        drop(first);
        let _second = alone(&results, "stories").unwrap();
        assert!(!results.join("results.json").exists());
    }

    #[test]
    fn of_two_packages_none_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let error = || package_in(dir.path()).unwrap_err().to_string();
        assert!(error().starts_with("there is no package in "), "{}", error());
        std::fs::write(dir.path().join("neco_1_amd64.deb"), "").unwrap();
        std::fs::write(dir.path().join(".lock"), "").unwrap();
        assert_eq!(package_in(dir.path()).unwrap(), dir.path().join("neco_1_amd64.deb"));
        std::fs::write(dir.path().join("neco_2_amd64.deb"), "").unwrap();
        assert!(error().contains(" has several packages: "), "{}", error());
    }
}
