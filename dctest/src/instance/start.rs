//! Starting a data centre from outside, up to where it is ready.

use std::fs;
use std::path::Path;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::dirs::{Dirs, Top};
use super::orders::Phase;
use super::record::Record;
use super::{artefacts, client, warden};
use crate::description;

/// Three boot servers: what is started unless somebody says otherwise.
pub const THREE: &str = include_str!("../../clusters/three.yml");

/// Three boot servers and what stories run on them.
pub const FOR_STORIES: &str = include_str!("../../clusters/stories.yml");

/// Three boot servers and a fourth to come, and everything that boot servers run.
pub const FULL: &str = include_str!("../../clusters/full.yml");

/// A started warden has its record by then.
const START: Duration = Duration::from_secs(20);

/// Starts the data centre that `text` describes as `program`, and waits until it is ready; `told` hears of each phase. Gives what
/// ends it when it is dropped, if it is to be `tied` to this program.
///
/// # Errors
/// One of this name runs already, or it does not come up; then nothing of it runs, and what it said is kept.
pub async fn until_ready(
    top: &Top,
    program: &Path,
    dirs: &Dirs,
    text: &str,
    tied: bool,
    told: impl FnMut(&Phase),
) -> Result<Option<ChildStdin>> {
    let limits = description::parse(&dirs.description(), text)?.limits;
    let held = start(top, program, dirs, text, tied).await?;
    let limit = limits.boot + limits.converge * 3 + Duration::from_secs(30);
    if let Err(error) = client::follow(dirs, limit, told).await {
        let kept = artefacts::keep(top, dirs);
        warden::down(top, &dirs.name).await?;
        let kept = kept?;
        return Err(
            error.context(format!("it is down again, what it said is in {}", kept.display()))
        );
    }
    Ok(held)
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
