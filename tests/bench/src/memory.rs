//! What the daemons hold in memory a minute after an update.

use std::time::Duration;

use anyhow::Context;
use neco_playground::{BootServer, Daemon};
use neco_process::exit::Failure;
use tokio::time::sleep;

use crate::figure::{Budget, Figure, Unit};
use crate::proc_status::{Resident, megabytes};
use crate::workbench::{Bench, LONG, failure};

/// How long the daemons are left alone after the update.
const AFTER: Duration = Duration::from_secs(60);

/// The design's budgets, in MB.
const WORKER: f64 = 4.0;
const UPDATER: f64 = 8.0;

/// Takes the site to its newer version and measures its daemons, each of which is a process of that version then.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Figure>, Failure> {
    let site = &bench.site;
    let version = site.packages().update().clone();
    let package = site.packages().of(&version).map_err(failure)?;
    site.publish(package).await.map_err(failure)?;
    site.wait_completed(&version, LONG, |_| {}).await.map_err(failure)?;
    // What is measured is what a quiet minute leaves: there is no condition to wait for.
    sleep(AFTER).await;
    let workers = site.servers().iter().map(BootServer::worker);
    let updaters = site.servers().iter().filter_map(BootServer::updater);
    let mut figures = figures("worker", workers, WORKER)?;
    figures.extend(self::figures("updater", updaters, UPDATER)?);
    bench.version = version;
    Ok(figures)
}

fn figures<'d>(
    name: &str,
    daemons: impl Iterator<Item = &'d Daemon>,
    limit: f64,
) -> anyhow::Result<Vec<Figure>> {
    let (mut own, mut all) = (Vec::new(), Vec::new());
    for daemon in daemons {
        let pid = daemon.pid().with_context(|| format!("{} does not run", daemon.name()))?;
        let resident = Resident::of(pid)?;
        own.push(megabytes(resident.anon));
        all.push(megabytes(resident.all));
    }
    let what = |field: &str| format!("{name} 60 s after an update, {field}");
    Ok(vec![
        Figure::of(what("RssAnon"), Unit::Megabytes, &own)?.judged(Budget::AtMost(limit)),
        Figure::of(what("VmRSS"), Unit::Megabytes, &all)?,
    ])
}
