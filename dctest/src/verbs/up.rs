//! `dc up`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use neco_dctest::description::{self, DataCentre};
use neco_dctest::host::base;
use neco_dctest::instance::dirs::{Dirs, Top};
use neco_dctest::instance::orders::Phase;
use neco_dctest::instance::record::Record;
use neco_dctest::instance::{client, warden};
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

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

/// Starts a data centre and waits until it is ready.
pub(crate) async fn up(
    top: &Top,
    program: &Path,
    file: Option<&Path>,
    name: Option<&str>,
    output: Output,
) -> Result<u8> {
    let (text, centre) = description(file)?;
    let name = name.unwrap_or(&centre.name);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 16 || !name.chars().all(fits) {
        bail!("--name is 1 to 16 small letters, digits and dashes, not {name:?}");
    }
    if lacks(top, centre.addresses.racks).await? {
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
    start(top, program, &dirs, &text).await?;
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
    Ok(0)
}

/// Makes the folder and starts the warden; of two that start at once one waits.
async fn start(top: &Top, program: &Path, dirs: &Dirs, text: &str) -> Result<()> {
    let instances = top.instances();
    fs::create_dir_all(&instances).with_context(|| format!("making {}", instances.display()))?;
    let lock = top.0.join("lock");
    let file = fs::File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    let _held = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("locking {}", lock.display()))?;
    if let Some(record) = Record::read(dirs)?
        && (record.outer.lives() || record.warden.lives())
    {
        bail!("a data centre {} runs already; `dc down` ends it, --name names another", dirs.name);
    }
    // What killed ones have left would be in the way.
    warden::sweep(top).await?;
    fs::create_dir(&dirs.dir).with_context(|| format!("making {}", dirs.dir.display()))?;
    fs::write(dirs.description(), text)
        .with_context(|| format!("writing {}", dirs.description().display()))?;
    let (mut warden, _) = warden::start(program, top, &dirs.name, false)?;
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
    Ok(())
}
