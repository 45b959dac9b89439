//! A program of a site's own, laid over the package by `necoctl site build`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use neco_schema::NecoVersion;

use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "site-program",
    "a site lays an HTTP server of its own over the package: it comes up on all servers, a release with another page restarts it, one that changes nothing leaves it alone",
    |site| Box::pin(run(site)),
)
.spoiling();

/// The example of the documents.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/hello");

const UNIT: &str = "hello.service";
const PAGE: &str = "templates/hello.page.html.j2";

async fn run(site: &mut Site) -> Result<()> {
    let dir = site.workshop.lay_site(Path::new(EXAMPLE)).await?;
    update(site, &dir).await?;
    let first = runs(site).await?;
    let page = fs::read_to_string(dir.join(PAGE)).context("reading the page")?;
    for machine in &site.machines {
        let said = hello(site, machine.lrn).await?;
        let wanted = format!("<title>boot server {}</title>", machine.lrn);
        ensure!(said.contains(&wanted), "{}: the page is {said}", machine.name);
    }
    fs::write(dir.join(PAGE), format!("{page}<p>Another page.\n")).context("writing the page")?;
    update(site, &dir).await?;
    let second = runs(site).await?;
    for (machine, (before, after)) in site.machines.iter().zip(first.iter().zip(&second)) {
        ensure!(before != after, "{}: another page, and {UNIT} runs on", machine.name);
        let said = hello(site, machine.lrn).await?;
        ensure!(said.contains("Another page."), "{}: the page is {said}", machine.name);
    }
    update(site, &dir).await?;
    let third = runs(site).await?;
    ensure!(second == third, "nothing has changed, and {UNIT} was {second:?} and is {third:?}");
    Ok(())
}

/// Has the site's package installed in its next version.
async fn update(site: &mut Site, dir: &Path) -> Result<NecoVersion> {
    let version = site.next_version();
    site.workshop.publish_site(&site.tools.necoctl, dir, &version).await?;
    site.has_completed(&version, UPDATE).await?;
    Ok(version)
}

/// The present run of the program on each server.
async fn runs(site: &Site) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    for machine in &site.machines {
        site.is_up(machine, UNIT).await?;
        runs.push(site.unit(machine, UNIT, "InvocationID").await?);
    }
    Ok(runs)
}

/// What it says on a server.
async fn hello(site: &Site, lrn: u32) -> Result<String> {
    let words = ["curl", "--silent", "--show-error", "--fail", "http://127.0.0.1:8088/"];
    site.ask(site.machine(lrn), &words).await
}
