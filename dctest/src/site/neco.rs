//! Neco on the boot servers: installed as an operator installs it, and asked through `necoctl`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use neco_schema::NecoVersion;
use serde::Deserialize;

use super::etcd::{CA, CERTIFICATE, KEY};
use super::{Draft, Flavour, Machine, Site, until};
use crate::instance::mirror;

/// The real unit of Serf, as a template.
pub(super) const SERF_UNIT: &str =
    include_str!("../../../debian/usr/share/neco/templates/serf.service.j2");

/// What packages of stories do on a boot server, in the place of what the real one does.
pub(super) const DATA_FILES: [(&str, &str); 10] = [
    ("artifacts.toml", include_str!("../../fixtures/package/artifacts.toml")),
    ("recipe.toml", include_str!("../../fixtures/package/recipe.toml")),
    ("components/serf.toml", include_str!("../../../debian/usr/share/neco/components/serf.toml")),
    (
        "components/setup-serf-tags.toml",
        include_str!("../../../debian/usr/share/neco/components/setup-serf-tags.toml"),
    ),
    (
        "templates/container.service.j2",
        include_str!("../../../debian/usr/share/neco/templates/container.service.j2"),
    ),
    ("templates/serf.service.j2", SERF_UNIT),
    (
        "templates/serf.json.j2",
        include_str!("../../../debian/usr/share/neco/templates/serf.json.j2"),
    ),
    (
        "templates/setup-serf-tags.j2",
        include_str!("../../fixtures/package/templates/setup-serf-tags.j2"),
    ),
    (
        "templates/setup-serf-tags.service.j2",
        include_str!("../../../debian/usr/share/neco/templates/setup-serf-tags.service.j2"),
    ),
    (
        "templates/setup-serf-tags.timer.j2",
        include_str!("../../../debian/usr/share/neco/templates/setup-serf-tags.timer.j2"),
    ),
];

/// How often updaters look for a release, in nanoseconds, as it stands in etcd.
const POLL: u64 = 1_000_000_000;

/// How long an update may take that meets with nothing. It takes a quarter of a minute where nobody else computes; others do,
/// and a wait ends with its condition.
pub const UPDATE: Duration = Duration::from_secs(120);

/// How an update stands, as `necoctl status --output json` tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// The word for it.
    pub state: String,
    /// The current request.
    pub request: Option<Request>,
    /// The boot servers.
    pub servers: Vec<Server>,
    /// The host whose updater leads.
    pub leader: Option<String>,
}

/// The current request.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// Its identity.
    pub id: String,
    /// The version that all are to run.
    pub version: NecoVersion,
    /// Who stopped it and why, if somebody did.
    stopped: Option<Stopped>,
}

/// That a request was stopped.
#[derive(Clone, Debug, Deserialize)]
struct Stopped {
    reason: String,
}

/// One boot server.
#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    /// Its number.
    pub lrn: u32,
    /// Whether it has a living worker.
    pub alive: bool,
    /// The version that worker runs.
    pub version: Option<NecoVersion>,
    /// The step it has posted.
    pub step: Option<u32>,
    /// How it stands there.
    pub condition: Option<String>,
    /// Why, if it gave up.
    pub message: String,
}

/// An update that is under way.
#[derive(Clone, Debug)]
pub struct Update {
    /// The version that all are to run.
    pub version: NecoVersion,
    /// The identity of the request.
    pub request: String,
}

impl Report {
    /// Whether all servers have completed `version`.
    #[must_use]
    pub fn has_completed(&self, version: &NecoVersion) -> bool {
        self.state == "completed" && self.request.as_ref().is_some_and(|r| r.version == *version)
    }

    /// The identity of the request for `version`, while it is under way.
    #[must_use]
    pub fn under_way(&self, version: &NecoVersion) -> Option<&str> {
        let request = self.request.as_ref().filter(|request| request.version == *version)?;
        (self.state == "running").then_some(&request.id)
    }

    /// Whether the update to `version` was given up, for everybody.
    #[must_use]
    pub fn has_aborted(&self, version: &NecoVersion) -> bool {
        let stopped =
            self.request.as_ref().is_some_and(|r| r.version == *version && r.stopped.is_some());
        self.state == "aborted" && stopped
    }

    /// Why the request was stopped; nothing if it was not.
    #[must_use]
    pub fn why_stopped(&self) -> &str {
        let stopped = self.request.as_ref().and_then(|request| request.stopped.as_ref());
        stopped.map_or("", |stopped| &stopped.reason)
    }

    /// A boot server of it.
    #[must_use]
    pub fn server(&self, lrn: u32) -> Option<&Server> {
        self.servers.iter().find(|server| server.lrn == lrn)
    }

    /// Why a boot server gave up.
    ///
    /// # Errors
    /// It is not told of.
    pub fn message(&self, lrn: u32) -> Result<&str> {
        let server = self.server(lrn);
        let server = server.with_context(|| format!("nothing is told of boot server {lrn}"))?;
        Ok(&server.message)
    }

    /// In a line, for those who wait in vain.
    #[must_use]
    pub fn in_brief(&self) -> String {
        let request = self.request.as_ref().map_or("nothing", |request| request.version.as_str());
        let servers = self.servers.iter().map(|server| {
            let step = server.step.map_or_else(String::new, |step| step.to_string());
            let condition = server.condition.as_deref().unwrap_or("not begun");
            let alive = if server.alive { "" } else { " (dead)" };
            format!("{}: {step} {condition}{alive} {}", server.lrn, server.message)
        });
        format!("{} is {}; {}", request, self.state, servers.collect::<Vec<_>>().join("; "))
    }
}

impl Site {
    /// Has a version installed on all boot servers by hand and run by them, as setup would: configured, registered in etcd,
    /// and brought up by a first update.
    ///
    /// # Errors
    /// Something of it fails or takes too long.
    pub async fn install(&mut self) -> Result<NecoVersion> {
        let version = self.next_version();
        let deb = self.workshop.publish(&Draft::sound(version.clone())).await?;
        self.register(&version).await?;
        for machine in &self.machines {
            self.configure(machine).await?;
        }
        try_join_all(self.machines.iter().map(|machine| self.install_by_hand(machine, &deb)))
            .await?;
        self.has_completed(&version, UPDATE).await?;
        Ok(version)
    }

    /// What setup writes to etcd before anything is installed.
    pub(super) async fn register(&self, version: &NecoVersion) -> Result<()> {
        let machine = self.machine(0);
        let poll = POLL.to_string();
        let mut keys = vec![
            ("/neco/info/neco-release".to_owned(), version.as_str()),
            ("/neco/config/env".to_owned(), "prod"),
            ("/neco/config/check-update-interval".to_owned(), poll.as_str()),
        ];
        keys.extend(
            self.machines
                .iter()
                .map(|machine| (format!("/neco/info/bootservers/{}", machine.lrn), "")),
        );
        for (key, value) in keys {
            self.etcdctl(machine, &["put", "--", &key, value]).await?;
        }
        Ok(())
    }

    /// Writes what is local to a boot server.
    async fn configure(&self, machine: &Machine) -> Result<()> {
        let endpoints: Vec<String> = self
            .machines
            .iter()
            .map(|machine| format!("  - https://{}:2379\n", machine.address))
            .collect();
        let config = format!(
            "endpoints:\n{}prefix: /neco/\ntls-ca-file: {CA}\ntls-cert-file: {CERTIFICATE}\n\
             tls-key-file: {KEY}\nrelease:\n  owner: cybozu-go\n  repository: neco\n  api_url: {}\n",
            endpoints.concat(),
            mirror::API
        );
        self.write(machine, "/etc/neco/config.yml", 0o600, &config).await?;
        let key = self.workshop.trusted_key()?;
        self.write(machine, "/etc/neco/release-keys/site.pub", 0o644, &key).await
    }

    /// Has a boot server install a package as an operator does.
    ///
    /// # Errors
    /// dpkg(1) refuses.
    pub async fn install_by_hand(&self, machine: &Machine, deb: &Path) -> Result<()> {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("/root/{name}");
        self.give(machine, deb, &place, 0o644).await?;
        self.act(machine, &["dpkg", "--install", &place]).await?;
        self.ask(machine, &["rm", &place]).await.map(drop)
    }

    /// How the update stands, as a machine tells it.
    ///
    /// # Errors
    /// etcd does not answer there.
    pub async fn status_from(&self, machine: &Machine) -> Result<Report> {
        let words = ["necoctl", "status", "--output", "json", "--timeout", "3s"];
        let output = self.outcome(machine, &words).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = said.lines().last().unwrap_or_default();
        serde_json::from_str(told).with_context(|| {
            let complained = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("`necoctl status` on {}: {said}{complained}", machine.name)
        })
    }

    /// How the update stands, as the first boot server tells it that can.
    ///
    /// # Errors
    /// None can.
    pub async fn status(&self) -> Result<Report> {
        let mut why = None;
        for machine in &self.machines {
            match self.status_from(machine).await {
                Ok(report) => return Ok(report),
                Err(error) => why = Some(error),
            }
        }
        Err(why.unwrap_or_else(|| anyhow::anyhow!("there are no boot servers")))
    }

    /// Waits until the update is as wanted.
    ///
    /// # Errors
    /// It is not in time: then how it stands.
    pub async fn until_status(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Report) -> bool,
    ) -> Result<Report> {
        until(what, within, async || {
            let report = self.status().await?;
            if wanted(&report) { Ok(Some(report)) } else { bail!("{}", report.in_brief()) }
        })
        .await
    }

    /// Waits until all servers have completed `version`, and sees that it is so: on the disks, in the processes.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn has_completed(&self, version: &NecoVersion, within: Duration) -> Result<()> {
        let what = format!("all boot servers to complete {version}");
        self.until_status(&what, within, |report| report.has_completed(version)).await?;
        for machine in &self.machines {
            self.runs(machine, version).await?;
        }
        Ok(())
    }

    /// Sees that a machine has a version installed, whole.
    ///
    /// # Errors
    /// It has another.
    pub async fn has_installed(&self, machine: &Machine, version: &str) -> Result<()> {
        let words = ["dpkg-query", "-W", "-f", "${Status} ${Version}", "neco"];
        let told = self.ask(machine, &words).await?;
        if told != format!("install ok installed {version}") {
            bail!("{}: dpkg says {told:?}, not that {version} is installed", machine.name);
        }
        Ok(())
    }

    /// Sees that dpkg of a machine has never heard of a version.
    ///
    /// # Errors
    /// It has.
    pub async fn has_not_met(&self, machine: &Machine, version: &NecoVersion) -> Result<()> {
        let log = self.ask(machine, &["cat", "/var/log/dpkg.log"]).await?;
        match log.lines().find(|line| line.contains(version.as_str())) {
            Some(line) => bail!("{} has met {version}: {line}", machine.name),
            None => Ok(()),
        }
    }

    /// Sees that a machine has a version installed, whole, and that its daemons run as it.
    ///
    /// # Errors
    /// It has another, or they do not.
    pub async fn runs(&self, machine: &Machine, version: &NecoVersion) -> Result<()> {
        self.has_installed(machine, version.as_str()).await?;
        for daemon in ["neco-worker", "neco-updater"] {
            let what = format!("{daemon} on {} to run as {version}", machine.name);
            let file = format!("/run/neco/{daemon}.ready");
            until(&what, Duration::from_secs(30), async || {
                let state = self.unit(machine, &format!("{daemon}.service"), "ActiveState").await?;
                let main = self.unit(machine, &format!("{daemon}.service"), "MainPID").await?;
                let told = self.ask(machine, &["cat", &file]).await?;
                let ready: serde_json::Value = serde_json::from_str(&told)?;
                let says = ready["version"] == version.as_str()
                    && ready["pid"].as_u64().map(|pid| pid.to_string()) == Some(main);
                if state == "active" && says { Ok(Some(())) } else { bail!("{state}, {told}") }
            })
            .await?;
        }
        Ok(())
    }

    /// Publishes the next release, of this flavour; gives its version.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn offer(&mut self, flavour: Flavour) -> Result<NecoVersion> {
        let version = self.next_version();
        self.workshop.publish(&Draft::sound(version.clone()).flavour(flavour)).await?;
        Ok(version)
    }

    /// Publishes the next release, a sound one, and waits until all servers have completed it; gives its version.
    ///
    /// # Errors
    /// They have not in time.
    pub async fn update(&mut self, within: Duration) -> Result<NecoVersion> {
        let version = self.offer(Flavour::Sound).await?;
        self.has_completed(&version, within).await?;
        Ok(version)
    }

    /// Waits until an update to `version` is under way.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn begins(&self, version: &NecoVersion) -> Result<Update> {
        let what = format!("{version} to be requested");
        let begun = |report: &Report| report.under_way(version).is_some();
        let report = self.until_status(&what, UPDATE, begun).await?;
        let request = report.request.with_context(|| format!("no request for {version}"))?.id;
        Ok(Update { version: version.clone(), request })
    }

    /// Publishes a release during whose update Serf takes seconds to start, one server after the other, and waits until it is
    /// about to start on boot server `lrn`.
    ///
    /// # Errors
    /// It does not come to it in time.
    pub async fn get_into_mid_step(&mut self, lrn: u32) -> Result<Update> {
        let version = self.next_version();
        self.workshop.publish(&Draft::sound(version.clone()).slow()).await?;
        let machine = self.machine(lrn);
        let request = until("Serf to be in the middle of its start", UPDATE, async || {
            let state = self.unit(machine, "serf.service", "SubState").await?;
            let report = self.status().await?;
            let request = report.under_way(&version).map(str::to_owned);
            if state == "start-pre" { Ok(request) } else { bail!("{state}; {}", report.in_brief()) }
        });
        Ok(Update { request: request.await?, version })
    }

    /// Waits until all servers have completed an update that went on: no other request took the place of its own.
    ///
    /// # Errors
    /// They have not in time, or another did.
    pub async fn completes(&self, update: &Update, within: Duration) -> Result<()> {
        self.has_completed(&update.version, within).await?;
        let (request, now) = (&update.request, self.request().await?);
        if now != *request {
            bail!("request {request} was given up for {now}");
        }
        Ok(())
    }

    /// Waits until all servers have completed the version of an update by another request than its own.
    ///
    /// # Errors
    /// They have not in time, or by that one.
    pub async fn completes_anew(&self, update: &Update, within: Duration) -> Result<()> {
        self.has_completed(&update.version, within).await?;
        let now = self.request().await?;
        if now == update.request {
            bail!("request {now} itself was completed");
        }
        Ok(())
    }

    /// The identity of the current request.
    ///
    /// # Errors
    /// There is none, or etcd does not answer.
    pub async fn request(&self) -> Result<String> {
        Ok(self.status().await?.request.context("there is no request")?.id)
    }

    /// The server whose updater leads.
    ///
    /// # Errors
    /// None does.
    pub async fn leader(&self) -> Result<&Machine> {
        let what = "somebody to lead";
        let report = self.until_status(what, UPDATE, |report| report.leader.is_some()).await?;
        let host = report.leader.unwrap_or_default();
        let found = self.machines.iter().find(|machine| host.ends_with(&machine.name));
        found.with_context(|| format!("{host} leads, which is no boot server"))
    }

    /// The version that all boot servers have completed.
    ///
    /// # Errors
    /// They have completed none.
    pub async fn version(&self) -> Result<NecoVersion> {
        let report = self.status().await?;
        match &report.request {
            Some(request) if report.state == "completed" => Ok(request.version.clone()),
            _ => bail!("{}", report.in_brief()),
        }
    }

    /// Waits until the update to `version` is given up, and sees that all boot servers run `old`; gives the last report.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn gives_up(
        &self,
        version: &NecoVersion,
        old: &NecoVersion,
        within: Duration,
    ) -> Result<Report> {
        let what = format!("the update to {version} to be given up");
        let report = self.until_status(&what, within, |report| report.has_aborted(version)).await?;
        for machine in &self.machines {
            self.runs(machine, old).await?;
        }
        Ok(report)
    }

    /// Runs `necoctl` on a machine, as an operator.
    ///
    /// # Errors
    /// It ends with another code than 0.
    pub async fn necoctl(&self, machine: &Machine, words: &[&str]) -> Result<String> {
        self.ssh(machine, &[&["necoctl"], words].concat()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_given_up_for_everybody_once_it_is_stopped() {
        let version: NecoVersion = "2026.11.22-40001".parse().unwrap();
        let report = |stopped: serde_json::Value| -> Report {
            let request = serde_json::json!({ "id": "a", "version": version, "stopped": stopped });
            let report = serde_json::json!({
                "state": "aborted", "request": request, "servers": [], "leader": null,
            });
            serde_json::from_value(report).unwrap()
        };
        let aborted = report(serde_json::Value::Null);
        assert!(!aborted.has_aborted(&version) && aborted.why_stopped().is_empty());
        let stopped = report(serde_json::json!({ "by": "an updater", "reason": "boot server 0" }));
        assert!(stopped.has_aborted(&version));
        assert_eq!(stopped.why_stopped(), "boot server 0");
        let other = "2026.11.22-40002".parse().unwrap();
        assert!(!stopped.has_aborted(&other));
    }
}
