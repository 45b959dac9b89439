//! The package takes the place of one that is shaped like the original's, and is removed again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::site::{Draft, Machine, Site, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "original-is-replaced",
    "an upgrade from the original's package is refused while it would take units away, which all run again; once they may go it is made; a purge leaves journal and identity",
    |site| Box::pin(run(site)),
).on_bare_machines();

/// A package in the shape of the original's, as dpkg-deb(1) takes it.
const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/original");
const ORIGINAL_VERSION: &str = "2021.04.19-13965";

/// How long units that nobody waits for may take to start.
const SOON: Duration = Duration::from_secs(30);

/// The units that both packages have.
const OURS: [&str; 3] =
    ["neco-updater.service", "neco-worker.service", "sabakan-state-setter.service"];

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let ours = site.workshop.make(&Draft::sound(version.clone())).await?;
    let original = site.workshop.pack(Path::new(ORIGINAL), ORIGINAL_VERSION).await?;
    let machine = site.machine(2).clone();
    let ours = bring(site, &machine, &ours).await?;
    let original = bring(site, &machine, &original).await?;

    site.act(&machine, &["dpkg", "--install", &original]).await?;
    let before = units(site, &machine).await?;
    let running = before.values().filter(|state| state.contains("active enabled")).count();
    ensure!(running >= 10, "of the original's units these run: {before:?}");

    // Refused, with everything as it was.
    let output = site.acted(&machine, &["dpkg", "--install", &ours]).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(!output.status.success(), "the upgrade took units away: {said}");
    ensure!(said.contains("/etc/neco/allow-removal"), "it is not said what to do: {said}");
    let lost: Vec<&String> = before.keys().filter(|unit| !OURS.contains(&unit.as_str())).collect();
    for unit in &lost {
        ensure!(said.contains(unit.as_str()), "{unit} is not named: {said}");
    }
    site.has_installed(&machine, ORIGINAL_VERSION).await?;
    // Whoever starts them does not wait for it.
    until("everything to run as before", SOON, async || {
        let after = units(site, &machine).await?;
        if after == before { Ok(Some(())) } else { bail!("after: {after:?}, before: {before:?}") }
    })
    .await?;

    // Allowed, and made.
    let allowed: String = lost.iter().map(|unit| format!("{unit}\n")).collect();
    site.write(&machine, "/etc/neco/allow-removal", 0o644, &allowed).await?;
    site.act(&machine, &["dpkg", "--install", &ours]).await?;
    site.has_installed(&machine, version.as_str()).await?;
    for unit in OURS {
        until("the daemons to run", SOON, async || {
            let state = state(site, &machine, unit).await?;
            if state == "active enabled" { Ok(Some(())) } else { bail!("{unit} is {state}") }
        })
        .await?;
    }
    for unit in &lost {
        let load = site.unit(&machine, unit, "LoadState").await?;
        ensure!(load == "not-found", "{unit} is still {load}");
    }

    // Removed, with everything that is nobody's but the package's.
    site.act(&machine, &["dpkg", "--purge", "neco"]).await?;
    for unit in OURS {
        let state = site.unit(&machine, unit, "ActiveState").await?;
        ensure!(state == "inactive", "{unit} is {state} after the purge");
    }
    let left = ["find", "/etc/systemd/system", "-name", "neco-*"];
    let left = site.ask(&machine, &left).await?;
    ensure!(left.is_empty(), "the purge leaves {left}");
    site.ask(&machine, &["test", "-d", "/var/lib/neco/journal"]).await?;
    site.ask(&machine, &["test", "!", "-e", "/var/cache/neco"]).await?;
    // As others expect it.
    let rest = ["rm", "-r", "/var/lib/neco", "/etc/neco/allow-removal", &ours, &original];
    site.ask(&machine, &rest).await.map(drop)
}

/// Gives a machine a package; gives its place.
async fn bring(site: &Site, machine: &Machine, deb: &Path) -> Result<String> {
    let name = deb.file_name().context("a package has a name")?.to_string_lossy().into_owned();
    let place = format!("/root/{name}");
    site.give(machine, deb, &place, 0o644).await?;
    Ok(place)
}

/// The units of the original, each with what it is.
async fn units(site: &Site, machine: &Machine) -> Result<BTreeMap<String, String>> {
    let dir = Path::new(ORIGINAL).join("lib/systemd/system");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut units = BTreeMap::new();
    for entry in entries.flatten() {
        let unit = entry.file_name().to_string_lossy().into_owned();
        let state = state(site, machine, &unit).await?;
        units.insert(unit, state);
    }
    Ok(units)
}

async fn state(site: &Site, machine: &Machine, unit: &str) -> Result<String> {
    let active = site.unit(machine, unit, "ActiveState").await?;
    Ok(format!("{active} {}", site.unit(machine, unit, "UnitFileState").await?))
}
