//! All steps of the package's own recipe, on boot servers that run everything.

use anyhow::{Result, ensure};
use futures::future::{try_join, try_join_all};
use serde_json::{Value, json};

use crate::site::{Machine, Running, Site, UPDATE};
use crate::stand_in::SABACTL_COMPLETION;
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "full-recipe",
    "all steps of the package's own recipe bring etcd, Vault and the other programs of three boot servers up, and the completion of sabactl with them; a release that changes nothing starts none of them anew",
    |site| Box::pin(run(site)),
)
.on_full_servers();

/// Where shells learn how sabactl completes words.
const COMPLETION: &str = "/etc/bash_completion.d/sabactl";

async fn run(site: &mut Site) -> Result<()> {
    site.everything_runs().await?;
    contents_are_there(site).await?;
    completion_is_there(site).await?;
    keys_are_kept_from_others(site).await?;
    let before = running(site).await?;
    site.update(UPDATE).await?;
    let after = running(site).await?;
    site.note_what_nothing_took("an update of everything that changes nothing").await?;
    for (machine, (before, after)) in site.machines.iter().zip(before.iter().zip(&after)) {
        for (what, run) in before {
            let now = after.get(what);
            let name = &machine.name;
            ensure!(now == Some(run), "{name}: {what} was {run}, and is {now:?} now");
        }
    }
    site.everything_runs().await
}

/// Sees that sabakan and CKE have what one server brought them for all.
async fn contents_are_there(site: &Site) -> Result<()> {
    let version = site.version().await?;
    for machine in &site.machines {
        let assets = site.ask_sabakan(machine, "assets").await?;
        let assets: Vec<&str> =
            assets.as_array().into_iter().flatten().flat_map(Value::as_str).collect();
        for image in [
            "cybozu-coil-registry.test-coil-2.8.0.img",
            "cybozu-pause-registry.test-pause-1.30.6.img",
        ] {
            ensure!(assets.contains(&image), "{}: no {image} among {assets:?}", machine.name);
        }
        let images = site.ask_sabakan(machine, "images/coreos").await?;
        let newest = images.as_array().and_then(|images| images.last()).map(|image| &image["id"]);
        ensure!(newest == Some(&json!("4152.2.1")), "{}: machines boot {newest:?}", machine.name);
        for role in ["cs", "ss"] {
            let ids = site.ask_sabakan(machine, &format!("ignitions/{role}")).await?;
            let ids: Vec<&str> =
                ids.as_array().into_iter().flatten().flat_map(Value::as_str).collect();
            let newest = ids.last().copied().unwrap_or_default();
            ensure!(
                newest.starts_with(version.as_str()),
                "{}: {role} boots as {ids:?}",
                machine.name
            );
            let template = site.ask_sabakan(machine, &format!("ignitions/{role}/{newest}")).await?;
            let told = template["meta"]["version"].as_str();
            ensure!(
                told == Some(version.as_str()),
                "{}: {role} boots as of {told:?}",
                machine.name
            );
        }
        let dhcp = site.ask_sabakan(machine, "config/dhcp").await?;
        ensure!(dhcp["lease-minutes"] == 60, "{}: leases: {dhcp}", machine.name);
    }
    let machine = site.machine(0);
    for key in ["/cke/sabakan/template", "/cke/resource/Namespace/"] {
        let found = site.etcdctl(machine, &["get", "--prefix", "--keys-only", key]).await?;
        ensure!(!found.trim().is_empty(), "CKE has no {key}");
    }
    Ok(())
}

/// Sees that what a program that was brought says about itself lies where shells look for it.
async fn completion_is_there(site: &Site) -> Result<()> {
    for machine in &site.machines {
        let found = site.ask(machine, &["cat", COMPLETION]).await?;
        let name = &machine.name;
        ensure!(found.trim_end() == SABACTL_COMPLETION, "{name}: {COMPLETION} says {found:?}");
    }
    Ok(())
}

/// Sees that private keys, which were there before for everybody to read, are read by their programs alone.
async fn keys_are_kept_from_others(site: &Site) -> Result<()> {
    for machine in &site.machines {
        for (key, owner) in [
            ("/etc/etcd/peer.key", 10_000),
            ("/etc/neco/server.key", 10_000),
            ("/etc/sabakan/etcd.key", 10_000),
            ("/etc/sabakan/server.key", 10_000),
            ("/etc/etcd/backup.key", 0),
            ("/etc/cke/etcd.key", 0),
            ("/etc/etcdpasswd/etcd.key", 0),
        ] {
            let found = site.ask(machine, &["stat", "--format=%a %u %g", key]).await?;
            let wanted = format!("600 {owner} {owner}");
            ensure!(found.trim_end() == wanted, "{}: {key} has {found:?}", machine.name);
        }
    }
    Ok(())
}

/// What runs on each machine: units and containers.
async fn running(site: &Site) -> Result<Vec<Running>> {
    try_join_all(site.machines.iter().map(async |machine: &Machine| {
        let (mut units, containers) =
            try_join(site.running(machine), site.containers(machine)).await?;
        units.extend(containers);
        Ok(units)
    }))
    .await
}
