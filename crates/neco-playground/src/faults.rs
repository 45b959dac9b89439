//! What goes wrong in the middle of the update, and how it is got over.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use neco_plan::{View, outcome};
use neco_schema::{NecoVersion, Outcome};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::cli::Fault;
use crate::go_leader::GoLeader;
use crate::held::{HELD_UNIT, Held};
use crate::show::Show;
use crate::state::has_settled;
use crate::{BootServer, Look, SESSION_TTL, Site};

/// How long a process may take to be started again.
const START_WITHIN: Duration = Duration::from_secs(30);

/// An update under way: the site, what is shown of it, and when it must be over.
pub(crate) struct Act<'a> {
    pub(crate) site: &'a Site,
    pub(crate) show: &'a mut Show,
    pub(crate) deadline: Instant,
}

impl<'a> Act<'a> {
    /// Publishes the update with this fault in its middle, and returns the version that all servers are to complete.
    pub(crate) async fn begin(&mut self, fault: Option<Fault>) -> anyhow::Result<NecoVersion> {
        let update = self.site.packages().update().clone();
        match fault {
            None => self.publish(&update).await?,
            Some(Fault::KillWorker) => self.kill_worker(&update).await?,
            Some(Fault::KillLeader) => self.kill_leader(&update).await?,
            Some(Fault::RestartEtcd) => self.restart_etcd(&update).await?,
            Some(Fault::BadRelease) => return self.bad_release(&update).await,
            Some(Fault::GoLeader) => self.go_leader(&update).await?,
        }
        Ok(update)
    }

    /// How long is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits for something while the update is shown.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&View) -> bool,
    ) -> anyhow::Result<Look> {
        let (site, left) = (self.site, self.left());
        let look = site.watch(what, left, |look| {
            self.show.draw(look);
            holds(&look.view)
        });
        Ok(look.await?)
    }

    async fn publish(&mut self, version: &NecoVersion) -> anyhow::Result<()> {
        self.site.publish(self.site.packages().of(version)?).await?;
        self.show.tell(&format!("release {version} is out"));
        Ok(())
    }

    async fn kill_worker(&mut self, update: &NecoVersion) -> anyhow::Result<()> {
        let victim = self.last()?;
        let held = Held::next_start_of(victim, HELD_UNIT)?;
        self.publish(update).await?;
        let step = self.reached(&held, update).await?;
        let killed =
            victim.kill_worker(Signal::SIGKILL).await.context("its worker does not run")?;
        let lrn = victim.lrn();
        self.show.fault(&format!(
            "boot server {lrn}, step {step}: worker {killed} is killed; it had stopped {HELD_UNIT} and not started it"
        ));
        let began = Instant::now();
        let next = victim.worker().successor_of(killed, START_WITHIN).await?;
        held.release()?;
        let unit = HELD_UNIT.parse()?;
        self.until("the start of what was stopped", |_| {
            victim.units().record(&unit).is_ok_and(|unit| unit.is_some_and(|unit| unit.active))
        })
        .await?;
        self.show.done(
            &format!("worker {next} started {HELD_UNIT} and resumes step {step}"),
            began.elapsed(),
        );
        Ok(())
    }

    async fn kill_leader(&mut self, update: &NecoVersion) -> anyhow::Result<()> {
        let held = Held::next_start_of(self.last()?, HELD_UNIT)?;
        self.publish(update).await?;
        self.reached(&held, update).await?;
        let leader = self.site.leader().await?.context("no updater leads")?;
        let updater = leader.updater().context("the leader has no updater")?;
        let killed = updater.signal(Signal::SIGKILL).await.context("the leader does not run")?;
        let lrn = leader.lrn();
        self.show.fault(&format!("boot server {lrn}: updater {killed} is killed while it leads"));
        let began = Instant::now();
        let site = self.site;
        let within = SESSION_TTL * 6;
        let next = loop {
            match site.leader().await? {
                Some(now) if now.lrn() != lrn => break now.lrn(),
                _ if began.elapsed() > within => bail!("no other updater leads after {within:?}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        self.show.done(&format!("the updater of boot server {next} leads"), began.elapsed());
        Ok(held.release()?)
    }

    async fn restart_etcd(&mut self, update: &NecoVersion) -> anyhow::Result<()> {
        let held = Held::next_start_of(self.last()?, HELD_UNIT)?;
        self.publish(update).await?;
        self.reached(&held, update).await?;
        let mut etcd = self.site.etcd().await;
        for number in 0..etcd.len() {
            let began = Instant::now();
            self.show.fault(&format!("etcd member {number} is restarted"));
            etcd.member_mut(number).restart().await?;
            self.show.done(&format!("etcd member {number} is back"), began.elapsed());
        }
        drop(etcd);
        Ok(held.release()?)
    }

    async fn bad_release(&mut self, update: &NecoVersion) -> anyhow::Result<NecoVersion> {
        let packages = self.site.packages();
        let (first, healing) = (packages.first().clone(), packages.healing()?.clone());
        self.site.publish(packages.bad(update)?).await?;
        self.show.fault(&format!("release {update} is out; its worker dies at start"));
        let began = Instant::now();
        let look = self
            .until("the end of the bad update", |view| {
                let request = view.current().filter(|request| request.version == *update);
                request.is_some_and(|request| request.stop && has_settled(view, request))
            })
            .await?;
        let request = look.view.current().context("the request is gone")?;
        let outcome = outcome(&look.view, request);
        ensure!(outcome == Outcome::Aborted, "the bad update ended {outcome}");
        for server in self.site.servers() {
            let on_disk = server.version_on_disk();
            ensure!(
                on_disk.as_deref() == Some(first.as_str()),
                "boot-{} has {on_disk:?} on its disk after the bad update",
                server.lrn()
            );
        }
        let lrn = request.first_server().context("a request without members")?;
        self.show
            .done(&format!("boot server {lrn} went back to {first} by itself"), began.elapsed());
        self.publish(&healing).await?;
        Ok(healing)
    }

    async fn go_leader(&mut self, update: &NecoVersion) -> anyhow::Result<()> {
        let go = GoLeader::before_ours(self.site).await?;
        self.show.fault("an updater of the original leads; ours wait");
        let held = Held::next_start_of(self.last()?, HELD_UNIT)?;
        self.publish(update).await?;
        // Nobody judges this run.
        let _ = go.note_release(self.site, update).await?;
        let (action, _) = go.act(self.site).await?;
        self.show.tell(&format!("the original's leader says {}", action.name()));
        self.reached(&held, update).await?;
        let began = Instant::now();
        go.leave().await?;
        let next = loop {
            match self.site.leader().await? {
                Some(now) => break now.lrn(),
                None if self.left().is_zero() => bail!("no updater of ours leads"),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let what = format!("it went away; the updater of boot server {next} leads on");
        self.show.done(&what, began.elapsed());
        Ok(held.release()?)
    }

    /// The server on which the update is held.
    fn last(&self) -> anyhow::Result<&'a BootServer> {
        self.site.servers().last().context("a site without servers")
    }

    /// Waits until the update is held.
    async fn reached(&mut self, held: &Held<'_>, update: &NecoVersion) -> anyhow::Result<u32> {
        let (site, left) = (self.site, self.left());
        Ok(held.reached(site, update, left, |look| self.show.draw(look)).await?)
    }
}
