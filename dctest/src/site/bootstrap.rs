//! What setup leaves on boot servers that run everything: certificates, etcd in a container with users, Vault with its key in
//! etcd, and Neco, which makes the rest of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use neco_components::{Desired, Facts, Recipe, ServerFacts};
use neco_schema::{Lrn, NecoVersion};

use super::{Draft, Machine, Report, Site, until};
use crate::instance::mirror;
use crate::instance::secrets::Authority;
use crate::plan::machine::host_name;

/// Where every server finds the authority of its servers' certificates.
pub(super) const CA: &str = "/usr/local/share/ca-certificates/neco.crt";

/// Programs that find etcd with a certificate and a role of their own, and what their keys begin with.
const APPLICATIONS: [(&str, &str); 3] =
    [("etcdpasswd", "/passwd/"), ("sabakan", "/sabakan/"), ("cke", "/cke/")];

/// How long the first update of everything may take: images are pulled and unpacked on every server.
const FIRST_UPDATE: Duration = Duration::from_secs(240);

/// How long a container may take to be pulled and to answer.
const SOON: Duration = Duration::from_secs(90);

/// What issues certificates to boot servers.
pub(super) struct Authorities {
    pub(super) server: Authority,
    peer: Authority,
    client: Authority,
}

impl Authorities {
    fn new() -> Result<Self> {
        Ok(Self {
            server: Authority::named("server CA")?,
            peer: Authority::named("boot etcd peer CA")?,
            client: Authority::named("boot etcd client CA")?,
        })
    }
}

/// A file of a server: where, its content, and whether etcd and Vault read it, too.
struct File {
    path: String,
    text: String,
}

impl Site {
    /// Sets everything up on all boot servers, as `neco setup` and `neco init-local` do, and has a first update bring the rest.
    /// Gives the version that they run then.
    ///
    /// # Errors
    /// Something of it fails or takes too long.
    pub(super) async fn set_up(&mut self) -> Result<NecoVersion> {
        let version = self.next_version();
        let deb = self.workshop.publish(&Draft::sound(version.clone())).await?;
        self.authorities = Some(Authorities::new()?);
        let recipe = Recipe::load(self.workshop.data())?;
        // Daemons without a configuration wait.
        try_join_all(self.machines.iter().map(async |machine| {
            self.issue_certificates(machine).await?;
            self.install_by_hand(machine, &deb).await
        }))
        .await?;
        try_join_all(
            self.machines
                .iter()
                .map(async |machine| self.run_component(machine, &recipe, &version, "etcd").await),
        )
        .await?;
        self.etcd_is_healthy().await?;
        self.run_component(self.machine(0), &recipe, &version, "vault").await?;
        let key = self.initialise_vault().await?;
        let others = self.machines.iter().filter(|machine| machine.lrn != 0);
        try_join_all(
            others
                .map(async |machine| self.run_component(machine, &recipe, &version, "vault").await),
        )
        .await?;
        self.unseal_vault(&key).await?;
        self.etcdctl_told(self.machine(0), &["put", "/neco/vault-unseal-key"], &key).await?;
        self.make_etcd_users().await?;
        self.start_outside().await?;
        self.register(&version).await?;
        for machine in &self.machines {
            // ckecli reads it, and may be called before CKE itself is brought.
            self.lay_component(machine, &recipe, &version, "cke").await?;
            self.configure_full(machine).await?;
        }
        let settled =
            |report: &Report| report.has_completed(&version) || report.has_aborted(&version);
        let what = "the first update to be over";
        let report = self.until_status(what, FIRST_UPDATE, settled).await?;
        ensure!(report.has_completed(&version), "{}", report.in_brief());
        self.has_completed(&version, SOON).await?;
        Ok(version)
    }

    /// Issues the certificates of a server, and whatever else must lie there before anything runs.
    ///
    /// # Errors
    /// The data centre has ended.
    pub(super) async fn issue_certificates(&self, machine: &Machine) -> Result<()> {
        let authorities = self.authorities.as_ref().context("this site has no authorities")?;
        let Authorities { server, peer, client } = authorities;
        let (host, address) = (host_name(self.centre(), machine.lrn), machine.address.to_string());
        let names = [host.as_str(), "localhost", "127.0.0.1", &address];
        let mut files = Vec::new();
        let mut file = |path: &str, text: &str| {
            files.push(File { path: path.to_owned(), text: text.to_owned() });
        };
        file(CA, &server.certificate);
        let registry = self.dirs.secrets().join("authority.pem");
        let registry = std::fs::read_to_string(&registry)
            .with_context(|| format!("reading {}", registry.display()))?;
        file("/usr/local/share/ca-certificates/data-centre.crt", &registry);
        file("/etc/etcd/ca-peer.crt", &peer.certificate);
        file("/etc/etcd/ca-client.crt", &client.certificate);
        let issued = [
            ("/etc/neco/server", server.issue(&host, &names)?),
            ("/etc/sabakan/server", server.issue(&host, &names)?),
            ("/etc/etcd/peer", peer.issue(&host, &[&address])?),
            ("/etc/neco/etcd", client.issue("neco", &[])?),
            ("/etc/vault/etcd", client.issue("vault", &[])?),
            ("/etc/etcd/backup", client.issue("backup", &[])?),
        ];
        let of_applications = APPLICATIONS.map(|(name, _)| {
            client.issue(name, &[]).map(|issued| (format!("/etc/{name}/etcd"), issued))
        });
        for (place, (certificate, key)) in issued {
            file(&format!("{place}.crt"), &certificate);
            file(&format!("{place}.key"), &key);
        }
        for issued in of_applications {
            let (place, (certificate, key)) = issued?;
            file(&format!("{place}.crt"), &certificate);
            file(&format!("{place}.key"), &key);
        }
        file("/etc/neco/bmc-address.json", "{\"ipv4\": {\"address\": \"192.0.2.1\"}}\n");
        for File { path, text } in &files {
            // Containers run as somebody else, and keys are read there: as the original leaves them.
            self.write(machine, path, 0o644, text).await?;
        }
        let script = "update-ca-certificates >/dev/null && \
             install -d -m 0700 -o 10000 -g 10000 /var/lib/etcd-container /var/lib/vault && \
             install -d /var/lib/sabakan /run/promtail";
        self.ask(machine, &["sh", "-c", script]).await.map(drop)
    }

    /// Writes the files of a component as it is on this server.
    async fn lay_component(
        &self,
        machine: &Machine,
        recipe: &Recipe,
        version: &NecoVersion,
        name: &str,
    ) -> Result<Desired> {
        let component = recipe.component(name).with_context(|| format!("no component {name}"))?;
        let desired = Desired::render(component, &self.facts(machine, version)?)?;
        for file in &desired.files {
            self.write(machine, &file.path.display().to_string(), file.mode, &file.content).await?;
        }
        Ok(desired)
    }

    /// The same, and starts its unit.
    async fn run_component(
        &self,
        machine: &Machine,
        recipe: &Recipe,
        version: &NecoVersion,
        name: &str,
    ) -> Result<()> {
        let desired = self.lay_component(machine, recipe, version, name).await?;
        let image = desired.image.with_context(|| format!("{name} has no image"))?;
        // On a busy host routes come and go.
        until(&format!("{image} to be pulled"), SOON, async || {
            self.act(machine, &["docker", "pull", "--quiet", &image]).await.map(Some)
        })
        .await?;
        self.ask(machine, &["systemctl", "daemon-reload"]).await?;
        for unit in &desired.units {
            self.ask(machine, &["systemctl", "enable", "--now", &unit.name]).await?;
        }
        Ok(())
    }

    /// What a server is, for templates.
    fn facts(&self, machine: &Machine, version: &NecoVersion) -> Result<Facts> {
        let servers = self
            .machines
            .iter()
            .map(|machine| ServerFacts { lrn: Lrn::new(machine.lrn), node0: machine.address });
        Ok(Facts {
            version: version.clone(),
            cluster: self.centre().name.clone(),
            lrn: Lrn::new(machine.lrn),
            node0: machine.address,
            servers: servers.collect(),
            os_name: "Debian GNU/Linux".to_owned(),
            os_version: "12".to_owned(),
            serial: machine.name.clone(),
            variants: BTreeSet::new(),
        })
    }

    /// Makes the users of etcd, who are known by their certificates, and shuts everybody else out.
    async fn make_etcd_users(&self) -> Result<()> {
        let machine = self.machine(0);
        self.etcdctl(machine, &["role", "add", "root"]).await?;
        for user in ["root", "backup", "neco"] {
            self.etcdctl(machine, &["user", "add", user, "--no-password"]).await?;
            self.etcdctl(machine, &["user", "grant-role", user, "root"]).await?;
        }
        for (user, prefix) in [("vault", "/vault/")].iter().chain(&APPLICATIONS) {
            self.etcdctl(machine, &["user", "add", user, "--no-password"]).await?;
            self.etcdctl(machine, &["role", "add", user]).await?;
            let words = ["role", "grant-permission", user, "--prefix=true", "readwrite", prefix];
            self.etcdctl(machine, &words).await?;
            self.etcdctl(machine, &["user", "grant-role", user, user]).await?;
        }
        self.etcdctl(machine, &["auth", "enable"]).await.map(drop)
    }

    /// Writes the configuration of Neco, which its daemons wait for.
    ///
    /// # Errors
    /// The data centre has ended.
    pub(super) async fn configure_full(&self, machine: &Machine) -> Result<()> {
        let key = self.workshop.trusted_key()?;
        self.write(machine, "/etc/neco/release-keys/site.pub", 0o644, &key).await?;
        let endpoints = self.machines.iter();
        let endpoints = endpoints.map(|machine| format!("  - https://{}:2379\n", machine.address));
        let config = format!(
            "endpoints:\n{}prefix: /neco/\ntimeout: 2s\ntls-ca-file: {CA}\n\
             tls-cert-file: /etc/neco/etcd.crt\ntls-key-file: /etc/neco/etcd.key\n\
             release:\n  owner: cybozu-go\n  repository: neco\n  api_url: {}\n",
            endpoints.collect::<String>(),
            mirror::API
        );
        self.write(machine, "/etc/neco/config.yml", 0o600, &config).await
    }

    /// Prepares a server that is on to join the others with the version that they run, as `neco join` and `neco init-local` do.
    ///
    /// # Errors
    /// Something of it fails.
    pub async fn prepare_to_join(&self, lrn: u32, version: &NecoVersion) -> Result<Machine> {
        let machine = self.machine_of_rack(lrn);
        self.issue_certificates(&machine).await?;
        self.knows_the_web(&machine).await?;
        self.install_by_hand(&machine, &self.workshop.package(version)).await?;
        let recipe = Recipe::load(self.workshop.data())?;
        self.lay_component(&machine, &recipe, version, "cke").await?;
        // The servers that are there are those that it is told of.
        self.configure_full(&machine).await?;
        Ok(machine)
    }

    /// Registers a server, as the last word of `neco join`.
    ///
    /// # Errors
    /// etcd does not take it.
    pub async fn register_server(&self, lrn: u32) -> Result<()> {
        let key = format!("/neco/info/bootservers/{lrn}");
        self.etcdctl(self.machine(0), &["put", "--", &key, ""]).await.map(drop)
    }

    /// Waits until a unit runs on a server.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn is_up(&self, machine: &Machine, unit: &str) -> Result<()> {
        until(&format!("{unit} to run on {}", machine.name), SOON, async || {
            let state = self.unit(machine, unit, "ActiveState").await?;
            if state == "active" { Ok(Some(())) } else { bail!("it is {state}") }
        })
        .await
    }
}
