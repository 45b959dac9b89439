//! The drivers do on real systemd, Docker and dpkg what their fakes do.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::site::Site;
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "drivers-keep-their-contracts",
    "the contract suites of the drivers, which their fakes pass too, run on a boot server against systemd, Docker and dpkg",
    |site| Box::pin(run(site)),
).on_bare_machines().for_long();

async fn run(site: &mut Site) -> Result<()> {
    let dir = site.tools.suites.clone();
    let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut suites: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    suites.sort();
    ensure!(!suites.is_empty(), "there is no suite in {}", dir.display());
    let machine = site.machine(0);
    for suite in suites {
        let name = suite.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = format!("/root/{name}");
        site.give(machine, &suite, &place, 0o755).await?;
        let output = site.acted(machine, &[&place, "--ignored", "--test-threads=1"]).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let passed = said.lines().rev().find_map(|line| {
            line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok()
        });
        // systemd-run(1) tells of a success where systemd executed itself anew meanwhile, as a suite has it do
        // (https://github.com/systemd/systemd/issues/27204): what the suite says counts, too.
        if !output.status.success() || passed.is_none() {
            bail!("{name} has failed: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
        ensure!(passed != Some(0), "{name} has run nothing: {said}");
        site.ask(machine, &["rm", &place]).await?;
    }
    Ok(())
}
