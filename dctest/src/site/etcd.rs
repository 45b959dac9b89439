//! etcd on the boot servers, as a site would have set it up: one member on the `node0` address of each, TLS for everybody.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;

use super::{Machine, Runs, Site, until};
use crate::instance::secrets::Authority;

/// The unit, under the name by which Neco knows it.
pub const UNIT: &str = "etcd-container.service";

/// How long a cluster may take to be healthy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// By which programs of a server that runs everything find etcd.
const FINDING_ETCD: [&str; 4] = [
    "/etc/cke/config.yml",
    "/etc/etcdpasswd/config.yml",
    "/etc/neco/config.yml",
    "/etc/sabakan/config.yml",
];

const UNIT_FILE: &str = "\
[Unit]
Description=etcd of this boot server
After=network.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/etcd --config-file /etc/etcd/etcd.conf.yml
Restart=always
RestartSec=1s

[Install]
WantedBy=multi-user.target
";

/// Where clients find their certificates on a boot server.
pub(super) const CA: &str = "/etc/neco/etcd-ca.crt";
pub(super) const CERTIFICATE: &str = "/etc/neco/etcd.crt";
pub(super) const KEY: &str = "/etc/neco/etcd.key";

/// What `etcdctl` is told on a boot server.
const CLIENT: [&str; 3] =
    ["--endpoints=https://127.0.0.1:2379", "--cert=/etc/neco/etcd.crt", "--key=/etc/neco/etcd.key"];

impl Site {
    /// Sets etcd up on all boot servers and starts it.
    ///
    /// # Errors
    /// It is not healthy in time.
    pub async fn start_etcd(&self) -> Result<()> {
        let authority = Authority::new()?;
        let peers: Vec<String> = self
            .machines
            .iter()
            .map(|machine| format!("{}=https://{}:2380", machine.name, machine.address))
            .collect();
        let peers = peers.join(",");
        for machine in &self.machines {
            let address = machine.address.to_string();
            let names = [address.as_str(), "127.0.0.1"];
            let (certificate, key) = authority.issue(&machine.name, &names)?;
            for (path, mode, text) in [
                ("/etc/etcd/ca.crt", 0o644, authority.certificate.as_str()),
                ("/etc/etcd/server.crt", 0o644, &certificate),
                ("/etc/etcd/server.key", 0o600, &key),
                ("/etc/etcd/etcd.conf.yml", 0o644, &settings(machine, &peers)),
                (&format!("/etc/systemd/system/{UNIT}"), 0o644, UNIT_FILE),
            ] {
                self.write(machine, path, mode, text).await?;
            }
            let (certificate, key) = authority.issue("neco", &[])?;
            for (path, mode, text) in [
                (CA, 0o644, authority.certificate.as_str()),
                (CERTIFICATE, 0o644, &certificate),
                (KEY, 0o600, &key),
            ] {
                self.write(machine, path, mode, text).await?;
            }
        }
        try_join_all(self.machines.iter().map(async |machine| {
            self.ask(machine, &["systemctl", "daemon-reload"]).await?;
            self.ask(machine, &["systemctl", "enable", "--now", UNIT]).await
        }))
        .await?;
        self.etcd_is_healthy().await
    }

    /// Waits until every member answers.
    ///
    /// # Errors
    /// One does not in time.
    pub async fn etcd_is_healthy(&self) -> Result<()> {
        let machine = self.machine(0);
        until("etcd to be healthy", HEALTHY_WITHIN, async || {
            let told = self.etcdctl(machine, &["endpoint", "health", "--cluster"]).await?;
            Ok(Some(told))
        })
        .await
        .map(drop)
    }

    /// What etcdctl(1) answers on a machine.
    ///
    /// # Errors
    /// It fails.
    pub async fn etcdctl(&self, machine: &Machine, words: &[&str]) -> Result<String> {
        self.etcdctl_told(machine, words, "").await
    }

    /// The same of a command that reads `input`.
    ///
    /// # Errors
    /// It fails.
    pub async fn etcdctl_told(
        &self,
        machine: &Machine,
        words: &[&str],
        input: &str,
    ) -> Result<String> {
        let authority = match self.runs {
            Runs::Little => CA,
            Runs::Everything => super::bootstrap::CA,
        };
        let authority = format!("--cacert={authority}");
        let all = ["env", "ETCDCTL_API=3", "etcdctl", &authority];
        let all = [&all, &CLIENT[..], words].concat();
        self.tell(machine, &all, input).await
    }

    /// The names of the members that have started, as a machine tells them, with a word at one that has no vote; of one that
    /// has not started, its addresses.
    ///
    /// # Errors
    /// etcd does not answer there.
    pub async fn etcd_members(&self, machine: &Machine) -> Result<Vec<String>> {
        let told = self.etcdctl(machine, &["member", "list", "--write-out=json"]).await?;
        let told: serde_json::Value =
            serde_json::from_str(&told).context("reading what etcdctl says")?;
        let members = told["members"].as_array().context("etcdctl tells no members")?;
        let name = |member: &serde_json::Value| {
            let name = member["name"].as_str().filter(|name| !name.is_empty());
            let name = name.map_or_else(|| member["peerURLs"].to_string(), str::to_owned);
            if member["isLearner"] == true { format!("{name} (a learner)") } else { name }
        };
        let mut names: Vec<String> = members.iter().map(name).collect();
        names.sort();
        Ok(names)
    }

    /// Sees that on every server Neco and each program that finds etcd by a file are told of the members on all servers, and of
    /// no other.
    ///
    /// # Errors
    /// One is told of others.
    pub async fn know_etcd(&self) -> Result<()> {
        let urls = self.machines.iter().map(|machine| format!("https://{}:2379", machine.address));
        let wanted: BTreeSet<String> = urls.collect();
        for machine in &self.machines {
            for file in FINDING_ETCD {
                let text = self.ask(machine, &["cat", file]).await?;
                let told = endpoints_in(&text);
                ensure!(told == wanted, "{}: {file} tells of {told:?}", machine.name);
            }
        }
        Ok(())
    }

    /// Takes a member out as an operator does, who asks again; gives back when the others are healthy. While it closes its
    /// connections to a member that is dead, one of etcd may answer nobody for many seconds.
    ///
    /// # Errors
    /// It is not out in time, or they are not.
    pub async fn remove_etcd_member(&self, machine: &Machine, name: &str) -> Result<()> {
        until(&format!("etcd to be without {name}"), HEALTHY_WITHIN * 2, async || {
            let told = self.etcdctl(machine, &["member", "list"]).await?;
            // ID, status, name, addresses.
            let fields = told.lines().map(|line| line.split(", ").collect::<Vec<_>>());
            let found = fields.into_iter().find(|fields| fields.get(2) == Some(&name));
            let Some(&member) = found.as_deref().and_then(<[&str]>::first) else {
                return Ok(Some(()));
            };
            let words = ["--command-timeout=30s", "member", "remove", member];
            self.etcdctl(machine, &words).await?;
            Ok(None)
        })
        .await?;
        self.etcd_is_healthy().await
    }

    /// The server whose member leads.
    ///
    /// # Errors
    /// Nobody answers, or nobody leads.
    pub async fn etcd_leader(&self) -> Result<&Machine> {
        for machine in &self.machines {
            let told = self.etcdctl(machine, &["endpoint", "status", "--write-out=json"]).await?;
            let told: serde_json::Value =
                serde_json::from_str(&told).context("reading what etcdctl says")?;
            let status = &told[0]["Status"];
            if status["leader"].as_u64().is_some_and(|leader| leader != 0)
                && status["leader"] == status["header"]["member_id"]
            {
                return Ok(machine);
            }
        }
        anyhow::bail!("no member of etcd leads")
    }

    /// Keeps what etcd holds, as far as it answers; values that are nobody's business are not part of stories.
    pub(super) async fn keep_etcd(&self, dir: &Path) {
        let mut text = String::new();
        for machine in &self.machines {
            for words in [
                &["endpoint", "status", "--cluster", "--write-out=table"][..],
                &["get", "--prefix", "/neco/"],
            ] {
                let told = self.etcdctl(machine, words).await;
                let told = told.unwrap_or_else(|error| format!("{error:#}\n"));
                text.push_str(&format!("── {}: etcdctl {}\n{told}", machine.name, words.join(" ")));
            }
        }
        // What cannot be kept is missed by those who look for it.
        if let Err(error) = fs::write(dir.join("etcd.txt"), text) {
            eprintln!("dctest: the state of etcd is not kept: {error}");
        }
    }
}

/// The addresses for clients of etcd that a file holds.
fn endpoints_in(text: &str) -> BTreeSet<String> {
    let words = text.split_whitespace().map(|word| word.trim_matches(['"', ',']));
    words.filter(|word| word.ends_with(":2379")).map(str::to_owned).collect()
}

/// The configuration file of a member (etcd, `--config-file`).
fn settings(machine: &Machine, peers: &str) -> String {
    let (name, address) = (&machine.name, machine.address);
    let tls = "  cert-file: /etc/etcd/server.crt\n  key-file: /etc/etcd/server.key\n  \
               client-cert-auth: true\n  trusted-ca-file: /etc/etcd/ca.crt\n";
    format!(
        "name: {name}\ndata-dir: /var/lib/etcd-container\n\
         listen-client-urls: https://{address}:2379,https://127.0.0.1:2379\n\
         advertise-client-urls: https://{address}:2379\n\
         listen-peer-urls: https://{address}:2380\n\
         initial-advertise-peer-urls: https://{address}:2380\n\
         initial-cluster: {peers}\ninitial-cluster-token: dctest\ninitial-cluster-state: new\n\
         client-transport-security:\n{tls}peer-transport-security:\n{tls}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_found_in_every_form() {
        let block = "endpoints:\n  - https://10.69.0.3:2379\n  - https://10.69.0.195:2379\nprefix: /neco/\n";
        let quoted = "address = \"https://10.69.0.3:2379\"\n";
        let found = |text: &str| endpoints_in(text).into_iter().collect::<Vec<_>>();
        assert_eq!(found(block), ["https://10.69.0.195:2379", "https://10.69.0.3:2379"]);
        assert_eq!(found(quoted), ["https://10.69.0.3:2379"]);
        assert!(found("prefix: /neco/\n").is_empty());
    }
}
