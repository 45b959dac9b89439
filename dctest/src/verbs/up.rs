//! `dc up`.

use std::fs;
use std::path::Path;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use neco_dctest::description::{self, DataCentre};
use neco_dctest::host::base;
use neco_dctest::instance::dirs::{Dirs, Top};
use neco_dctest::instance::orders::Phase;
use neco_dctest::instance::record::Record;
use neco_dctest::instance::{client, warden};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CANNOT_RUN, Output, failure, lacks};

/// What is started unless somebody says otherwise.
const THREE: &str = include_str!("../../clusters/three.yml");

/// A started warden has its record by then.
const START: Duration = Duration::from_secs(20);

/// The description that is meant: its text, and what it says.
pub(super) fn description(file: Option<&Path>) -> Result<(String, DataCentre)> {
    let (path, text) = match file {
        Some(path) => {
            (path, fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)
        }
        None => (Path::new("three.yml"), THREE.to_owned()),
    };
    let centre = description::parse(path, &text)?;
    Ok((text, centre))
}

/// What shall be started, and how.
pub(crate) struct Wanted<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) name: Option<&'a str>,
    /// It ends with this program.
    pub(crate) tied: bool,
    pub(crate) output: Output,
}

/// Starts a data centre and waits until it is ready. As JSON, every outcome is one object on the last line of standard output.
pub(crate) async fn up(top: &Top, program: &Path, wanted: &Wanted<'_>) -> Result<u8> {
    let outcome = try_up(top, program, wanted).await;
    if wanted.output == Output::Json
        && let Err(error) = &outcome
    {
        println!("{}", json!({ "outcome": "failed", "reason": format!("{error:#}") }));
    }
    outcome
}

async fn try_up(top: &Top, program: &Path, wanted: &Wanted<'_>) -> Result<u8> {
    let output = wanted.output;
    let (text, centre) = description(wanted.file)?;
    let name = wanted.name.unwrap_or(&centre.name);
    let lacks = lacks(top, centre.addresses.racks).await?;
    if !lacks.is_empty() {
        if output == Output::Json {
            println!("{}", json!({ "outcome": "cannot-run", "reason": lacks.join("\n") }));
        }
        return Ok(CANNOT_RUN);
    }
    let mut phases = Vec::new();
    let mut told = |phase: &Phase| {
        let line = format!("{:<16} {:>6.2} s", phase.phase, phase.seconds);
        if output == Output::Json {
            eprintln!("{line}")
        } else {
            println!("{line}")
        }
        phases.push(phase.clone());
    };
    let begun = Instant::now();
    base::bring(&top.base()).await?;
    told(&Phase { phase: "base".into(), seconds: begun.elapsed().as_secs_f64() });

    let ready = Instant::now();
    let dirs = top.instance(name);
    let held = start(top, program, &dirs, &text, wanted.tied).await?;
    let limits = centre.limits;
    let limit = limits.boot + limits.converge * 3 + Duration::from_secs(30);
    if let Err(error) = client::follow(&dirs, limit, &mut told).await {
        let kept = failure::keep(top, &dirs)?;
        warden::down(top, name).await?;
        return Err(
            error.context(format!("it is down again, what it said is in {}", kept.display()))
        );
    }
    told(&Phase { phase: "ready after".into(), seconds: ready.elapsed().as_secs_f64() });
    if output == Output::Json {
        println!("{}", json!({ "name": name, "outcome": "ready", "phases": phases }));
    }
    if held.is_some() {
        until_told_to_end().await?;
        drop(held);
        warden::down(top, name).await?;
    }
    Ok(0)
}

/// Makes the folder and starts the warden; of two that start at once one waits. Gives what ends it when it is dropped, if it
/// is to be tied to this program.
async fn start(
    top: &Top,
    program: &Path,
    dirs: &Dirs,
    text: &str,
    tied: bool,
) -> Result<Option<ChildStdin>> {
    let turn = warden::hold(top)?;
    if let Some(record) = Record::read(dirs)?
        && (record.outer.lives() || record.warden.lives())
    {
        bail!("a data centre {} runs already; `dc down` ends it, --name names another", dirs.name);
    }
    // What killed ones have left would be in the way.
    warden::sweep(top, &turn).await?;
    fs::create_dir(&dirs.dir).with_context(|| format!("making {}", dirs.dir.display()))?;
    fs::write(dirs.description(), text)
        .with_context(|| format!("writing {}", dirs.description().display()))?;
    let (mut warden, held) = warden::start(program, top, &dirs.name, tied)?;
    let begun = Instant::now();
    while Record::read(dirs)?.is_none() {
        if let Some(status) = warden.try_wait()? {
            let said = fs::read_to_string(dirs.log()).unwrap_or_default();
            bail!("the warden has ended ({status}): {}", said.trim());
        }
        if begun.elapsed() >= START {
            bail!("the warden does not start; see {}", dirs.log().display());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(held)
}

/// Waits for the end of standard input, or for a signal that asks for the end.
async fn until_told_to_end() -> Result<()> {
    let (told, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: nothing can make it stop reading.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = told.send(());
    });
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        biased;
        _ = ended => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
