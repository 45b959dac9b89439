//! Vault on the boot servers, whose part OpenBao plays, with a storage of its own (raft).

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::bootstrap::CA;
use super::{Machine, Site, until};

/// Where a server reaches its own.
const HERE: &str = "https://127.0.0.1:8200/v1/";

/// How long it may take to come up, to be unsealed, and to find a leader.
const SOON: Duration = Duration::from_secs(90);

impl Site {
    /// Gives a new Vault its key, and unseals it on the first server. Gives the key.
    pub(super) async fn initialise_vault(&self) -> Result<String> {
        let machine = self.machine(0);
        let parts = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let given = until("Vault to take a key", SOON, async || {
            self.tell_vault(machine, "PUT", "sys/init", &parts).await.map(Some)
        })
        .await?;
        let key = given["keys_base64"][0].as_str().context("Vault gives no key")?.to_owned();
        self.unseal(machine, &key).await?;
        Ok(key)
    }

    /// Unseals the others, which join the first by that.
    pub(super) async fn unseal_vault(&self, key: &str) -> Result<()> {
        try_join_all(self.machines.iter().map(|machine| self.unseal(machine, key))).await?;
        self.vault_is_up().await
    }

    async fn unseal(&self, machine: &Machine, key: &str) -> Result<()> {
        until(&format!("Vault of {} to be unsealed", machine.name), SOON, async || {
            let told =
                self.tell_vault(machine, "PUT", "sys/unseal", &json!({ "key": key })).await?;
            if told["sealed"] == false { Ok(Some(())) } else { bail!("it says {told}") }
        })
        .await
    }

    /// Waits until Vault is unsealed on all servers and everybody names the same leader.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn vault_is_up(&self) -> Result<()> {
        until("Vault to have a leader everywhere", SOON, async || {
            let mut leaders = Vec::new();
            for machine in &self.machines {
                let status = self.ask_vault(machine, "sys/seal-status").await?;
                if status["sealed"] != false {
                    bail!("{}: it is sealed: {status}", machine.name);
                }
                let leader = self.ask_vault(machine, "sys/leader").await?;
                leaders.push(leader["leader_address"].as_str().unwrap_or_default().to_owned());
            }
            leaders.dedup();
            match &leaders[..] {
                [leader] if !leader.is_empty() => Ok(Some(())),
                _ => bail!("they name {leaders:?}"),
            }
        })
        .await
    }

    /// What the Vault of a server says when nobody in particular asks.
    ///
    /// # Errors
    /// It does not answer with success.
    pub async fn ask_vault(&self, machine: &Machine, path: &str) -> Result<Value> {
        let url = format!("{HERE}{path}");
        let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "5"];
        let told = self.ask(machine, &[&words[..], &["--cacert", CA, &url]].concat()).await?;
        serde_json::from_str(&told).with_context(|| format!("{}: {url}: {told}", machine.name))
    }

    /// Tells the Vault of a server something; nobody sees what in a list of processes.
    async fn tell_vault(
        &self,
        machine: &Machine,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value> {
        let url = format!("{HERE}{path}");
        let words = ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", CA];
        let rest = ["--request", method, "--data-binary", "@-", "--write-out", "\n%{http_code}"];
        let words = [&words[..], &rest, &[&url]].concat();
        let told = self.tell(machine, &words, &body.to_string()).await?;
        let (body, status) = told.rsplit_once('\n').unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{}: {path} answers {status}: {}", machine.name, body.trim());
        }
        serde_json::from_str(body).with_context(|| format!("{}: {path}", machine.name))
    }
}
