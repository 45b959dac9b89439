//! `dc up`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use neco_dctest::description::{self, DataCentre};
use neco_dctest::host::base;
use neco_dctest::instance::dirs::Top;
use neco_dctest::instance::orders::Phase;
use neco_dctest::instance::{start, warden};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CANNOT_RUN, Output, lacks};

/// The description that is meant: its text, and what it says.
pub(super) fn description(file: Option<&Path>) -> Result<(String, DataCentre)> {
    let (path, text) = match file {
        Some(path) => {
            (path, fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)
        }
        None => (Path::new("three.yml"), start::THREE.to_owned()),
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
    let held = start::until_ready(top, program, &dirs, &text, wanted.tied, &mut told).await?;
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
