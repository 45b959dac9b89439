//! A fourth boot server joins three.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use neco_schema::journal::{Entry, Phase};
use serde_json::Value;

use crate::instance::orders::Power;
use crate::site::{ETCD_UNIT, Machine, Report, Site, UPDATE, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "server-added",
    "a new boot server is registered: the update that follows brings everything to it, and its etcd, which nothing starts before, joins as a learner that is promoted; all are told of its address, and nobody else's etcd is restarted nor kept from being written",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long()
.spoiling();

/// The spare one.
const NEW: u32 = 3;

/// What its worker does about its member, which is a learner until it has caught up.
const ADDED: &str = "add etcd member boot-3";
const PROMOTED: &str = "give etcd member boot-3 its vote";

async fn run(site: &mut Site) -> Result<()> {
    let version = site.version().await?;
    let of_three = site.request().await?;
    let before = site.machines.clone();
    let started = etcds_of(site, &before).await?;
    site.order_power(NEW, Power::On).await?;
    let new = site.prepare_to_join(NEW, &version).await?;
    site.machines.push(new);
    let joining = site.watching_etcd_of(&before, async {
        site.register_server(NEW).await?;
        // The version is the same, the request is not.
        let another = |report: &Report| report.request.as_ref().is_some_and(|r| r.id != of_three);
        let through = |report: &Report| report.has_completed(&version) && another(report);
        site.until_status("the new server to be through", UPDATE * 2, through).await
    });
    let (report, seen) = joining.await?;
    for machine in &site.machines {
        let condition = report.server(machine.lrn).and_then(|server| server.condition.as_deref());
        let name = &machine.name;
        ensure!(condition == Some("completed"), "{name} is {condition:?}: {}", report.in_brief());
        site.runs(machine, &version).await?;
    }
    has_joined(site).await?;
    let now = etcds_of(site, &before).await?;
    ensure!(now == started, "etcd of the others was {started:?}, and is {now:?}");
    site.note_gap(&seen)?;
    site.everything_runs().await?;
    // One more release, by four.
    site.update(UPDATE).await?;
    site.everything_runs().await
}

/// Sees that the new member votes, that it did not from the beginning, that its program was started once it was a member and
/// not before, and that everybody is told of it.
async fn has_joined(site: &Site) -> Result<()> {
    // Each member tells what it has heard of so far.
    until("boot-0 to know four members with a vote", UPDATE, async || {
        let members = site.etcd_members(site.machine(0)).await?;
        ensure!(members == ["boot-0", "boot-1", "boot-2", "boot-3"], "members are {members:?}");
        Ok(Some(()))
    })
    .await?;
    let written = site.dated_journal(site.machine(NEW)).await?;
    let mut dates = Vec::new();
    for what in [ADDED, PROMOTED] {
        let done = written.iter().find(|(_, entry)| is_done(entry, what));
        let done = done.with_context(|| {
            format!("the worker of boot-{NEW} has not written that it did {what:?}")
        })?;
        dates.push(done.0.get().as_microsecond());
    }
    let (added, started) = (dates[0], first_start_of_etcd(site, site.machine(NEW)).await?);
    let early = added - started;
    ensure!(early <= 0, "etcd of boot-{NEW} was started {early} µs before it was a member");
    site.know_etcd().await
}

/// When systemd first did something about the unit of etcd on a server, in microseconds since 1970.
async fn first_start_of_etcd(site: &Site, machine: &Machine) -> Result<i64> {
    let unit = format!("UNIT={ETCD_UNIT}");
    let words = ["journalctl", "--quiet", "--no-pager", "--output=json", &unit, "JOB_TYPE=start"];
    let told = site.ask(machine, &words).await?;
    let first = told.lines().next().context("systemd has never started etcd")?;
    let first: Value = serde_json::from_str(first).with_context(|| format!("reading {first}"))?;
    let date = first["__REALTIME_TIMESTAMP"].as_str().context("a line has no date")?;
    date.parse().with_context(|| format!("{date} is no date"))
}

/// Whether an entry tells that something was done.
fn is_done(entry: &Entry, wanted: &str) -> bool {
    matches!(entry, Entry::Effect { what, phase: Phase::End, .. } if what == wanted)
}

/// The container of etcd on each of these servers, and when it was started.
async fn etcds_of(site: &Site, machines: &[Machine]) -> Result<Vec<Option<String>>> {
    let etcd = async |machine| anyhow::Ok(site.containers(machine).await?.remove("etcd"));
    try_join_all(machines.iter().map(etcd)).await
}
