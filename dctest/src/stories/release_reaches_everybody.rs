//! A release published on the mirror reaches all three servers in lock-step through real dpkg, one server first.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;

use crate::site::{Machine, Running, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "release-reaches-everybody",
    "a release on the mirror is installed by dpkg on one server first, then on the others, by daemons that replace themselves; one that changes nothing starts nothing else anew",
    |site| Box::pin(run(site)),
).in_core();

async fn run(site: &mut Site) -> Result<()> {
    let mut before = Vec::new();
    for machine in &site.machines {
        before.push(site.unit(machine, "neco-worker.service", "MainPID").await?);
    }
    site.update(UPDATE).await?;
    for (machine, pid) in site.machines.iter().zip(before) {
        let now = site.unit(machine, "neco-worker.service", "MainPID").await?;
        ensure!(now != pid, "{}: process {pid} is the worker still", machine.name);
    }
    let first = installation(site, site.machine(0)).await?;
    for lrn in [1, 2] {
        let other = installation(site, site.machine(lrn)).await?;
        ensure!(
            other.begun > first.ended,
            "boot-{lrn} began to install at {} before boot-0 had ended at {} (microseconds)",
            other.begun,
            first.ended
        );
    }
    changes_nothing(site).await
}

/// A second release, which has nothing new but its version: how long that takes is measured, and nothing but Neco is
/// started anew for it.
async fn changes_nothing(site: &mut Site) -> Result<()> {
    let before = running(site).await?;
    site.update(UPDATE).await?;
    let after = running(site).await?;
    site.note_what_nothing_took("an update that changes nothing").await?;
    for (machine, (before, after)) in site.machines.iter().zip(before.iter().zip(&after)) {
        ensure!(before.contains_key("serf.service"), "{}: Serf is not looked at", machine.name);
        for (unit, run) in before {
            let now = after.get(unit);
            let name = &machine.name;
            ensure!(now == Some(run), "{name}: {unit} was {run}, and is {now:?} now");
        }
    }
    Ok(())
}

/// What runs on each machine.
async fn running(site: &Site) -> Result<Vec<Running>> {
    try_join_all(site.machines.iter().map(|machine| site.running(machine))).await
}

/// When the unit that installs said its first and its last word, in microseconds.
struct Installation {
    begun: u64,
    ended: u64,
}

async fn installation(site: &Site, machine: &Machine) -> Result<Installation> {
    let words = [
        "journalctl",
        "--unit=neco-install.service",
        "--unit=neco-install-at-boot.service",
        "--output=json",
        "--boot",
        "--no-pager",
    ];
    let told = site.ask(machine, &words).await?;
    // Of several installations the last: systemd gives each start of a unit an id of its own.
    let mut times = Vec::new();
    let mut last = String::new();
    for line in told.lines() {
        let line: serde_json::Value = serde_json::from_str(line).context("reading the journal")?;
        let Some(id) = line["_SYSTEMD_INVOCATION_ID"].as_str() else { continue };
        if id != last {
            last = id.to_owned();
            times.clear();
        }
        let time = line["__REALTIME_TIMESTAMP"].as_str().and_then(|time| time.parse().ok());
        times.push(time.context("a line of the journal has no time")?);
    }
    let begun =
        *times.first().with_context(|| format!("{}: nothing was installed", machine.name))?;
    let ended = *times.last().context("there is one")?;
    Ok(Installation { begun, ended })
}
