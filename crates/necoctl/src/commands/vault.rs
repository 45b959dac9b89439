//! `vault`: the Vault of this server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use neco_base::Secret;
use neco_host::SITE_CA;
use neco_plan::operator::{Refusal, noted};
use neco_process::config::{self, ConfigError};
use neco_process::exit::{ExitCode, Failure};
use neco_process::under;
use neco_schema::{Compare, Key, Op, Range, Txn};
use neco_vault::{Client, Options, Unsealed, Vault as _, unseal};
use tokio::time::Instant;

use crate::cli::{Change, Global, Style, duration};
use crate::failure;
use crate::order;
use crate::session::Session;

/// Look after the Vault of this server.
#[derive(Debug, Args)]
pub struct Vault {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Unseal the Vault of this server with the key that etcd keeps
    ///
    /// The unit of Vault runs this whenever it has started. A server without configuration, and a cluster without a stored
    /// key, are none of its business: nothing is done then, and that is no failure.
    Unseal(Unseal),
    /// Print the key that unseals Vault
    ///
    /// It opens everything that Vault keeps: it is printed with --reveal only.
    ShowUnsealKey(ShowUnsealKey),
    /// Take the unseal key out of etcd
    ///
    /// From then on a Vault that has started stays sealed until somebody unseals it by hand, with the key that was kept
    /// elsewhere.
    RemoveUnsealKey(RemoveUnsealKey),
}

#[derive(Debug, Args)]
struct ShowUnsealKey {
    /// Print the secret
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct RemoveUnsealKey {
    /// The key is kept elsewhere
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Unseal {
    /// Where Vault is
    #[arg(
        long,
        value_name = "URL",
        env = "VAULT_ADDR",
        hide_env_values = true,
        default_value = "https://127.0.0.1:8200"
    )]
    address: String,
    /// Trust the CAs in FILE alone [default: the site's own if it is installed, else the system's]
    #[arg(long, value_name = "FILE", env = "VAULT_CACERT", hide_env_values = true)]
    ca: Option<PathBuf>,
    /// How long to wait for etcd and for Vault
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    within: Duration,
}

impl Vault {
    /// Whether there is anything to be done on a server with this configuration.
    ///
    /// # Errors
    /// The configuration is there and cannot be read.
    pub fn concerns(&self, global: &Global) -> Result<bool, Failure> {
        match config::load(&global.root) {
            Err(ConfigError::Missing { .. }) if matches!(self.verb, Verb::Unseal(_)) => Ok(false),
            Err(error) => Err(failure::of_config(error)),
            Ok(_) => Ok(true),
        }
    }

    /// The options by which etcd is reached: it may begin to run together with Vault.
    pub fn patient(&self, global: &Global) -> Global {
        match &self.verb {
            Verb::Unseal(verb) => {
                Global { timeout: global.timeout.max(verb.within), ..global.clone() }
            }
            _ => global.clone(),
        }
    }

    /// Unseals, shows or removes the key.
    ///
    /// # Errors
    /// The key is not that of this Vault; it is still sealed after the time given; etcd does not answer; a safety rule
    /// forbids it.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Unseal(verb) => verb.run(session).await,
            Verb::ShowUnsealKey(verb) => verb.run(session).await,
            Verb::RemoveUnsealKey(verb) => verb.run(session).await,
        }
    }
}

impl ShowUnsealKey {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let Some(key) = stored_key(session).await? else {
            return Err(failure::nothing_yet("no unseal key is stored"));
        };
        if !self.reveal {
            let what = "the unseal key is a secret: --reveal prints it";
            return Err(failure::of_refusal(Refusal::Unsafe(what.into())));
        }
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "key": key.reveal() }))?;
        } else {
            io.line(key.reveal())?;
        }
        Ok(ExitCode::Done)
    }
}

impl RemoveUnsealKey {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        // The original asks nothing.
        let may = self.force || session.io.style == Style::Original;
        let key = Key::VaultUnsealKey;
        order::carry_out(
            session,
            &self.change,
            &|view, snapshot, by| {
                let Some(kv) = snapshot.kvs.get(&key.to_string()) else {
                    return Err(Refusal::AlreadySo("no unseal key is stored".into()));
                };
                if !may {
                    let what = "Neco has no other copy, and without the key nobody unseals Vault: keep what \
                        'necoctl vault show-unseal-key --reveal' prints, then give --force";
                    return Err(Refusal::Unsafe(what.into()));
                }
                let txn = Txn::default()
                    .when(Compare::unchanged(&key, kv.mod_revision))
                    .then(Op::delete(&key));
                Ok(noted(view, by, "vault remove-unseal-key", txn))
            },
            &|_| {
                "the unseal key is removed: a Vault that starts stays sealed until somebody unseals it by hand"
                    .to_owned()
            },
        )
        .await
    }
}

impl Unseal {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let began = Instant::now();
        let Some(key) = stored_key(session).await? else {
            session.io.remark("no unseal key is stored: Vault is left as it is");
            return tell(session, "no-key", None);
        };
        let vault = self.client(&session.root)?;
        let left = self.within.saturating_sub(began.elapsed());
        // Nobody wants to read of nanoseconds.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let address = neco_http::shown(vault.address());
        match unseal(&vault, &key, left).await.map_err(failure::of_vault)? {
            Unsealed::Now => tell(session, "unsealed", Some(format!("{address} is unsealed"))),
            Unsealed::Already => {
                tell(session, "already", Some(format!("{address} is unsealed already")))
            }
        }
    }

    fn client(&self, root: &Path) -> Result<Client, Failure> {
        let address = self
            .address
            .parse()
            .map_err(|_| failure::usage("--address is no URL; write https://HOST:8200"))?;
        let mut options = Options::new(address);
        // A Vault that has just begun to run may accept connections and be silent.
        options.request_timeout = Duration::from_secs(10);
        let installed = under(root, Path::new(SITE_CA));
        let ca = match &self.ca {
            Some(file) => Some(file),
            None => Some(&installed).filter(|file| file.exists()),
        };
        if let Some(file) = ca {
            let pem = std::fs::read(file)
                .with_context(|| format!("reading the CA of Vault from {}", file.display()))?;
            options = options.trusting(pem);
        }
        Client::new(options).map_err(failure::of_vault)
    }
}

/// The unseal key that etcd keeps.
async fn stored_key(session: &Session<'_, '_>) -> Result<Option<Secret>, Failure> {
    let name = Key::VaultUnsealKey.to_string();
    let read = session.store.read(&[Range::Key(name.clone())], None).await;
    let mut snapshot = read.map_err(failure::of_store)?;
    let Some(stored) = snapshot.kvs.remove(&name) else { return Ok(None) };
    // Only what went wrong, never what is there.
    let key = String::from_utf8(stored.value)
        .map_err(|_| failure::malformed(Key::VaultUnsealKey, "it is no text"))?;
    let key = Secret::new(key);
    if key.reveal().trim().is_empty() {
        return Err(failure::malformed(Key::VaultUnsealKey, "it is empty"));
    }
    Ok(Some(key))
}

/// Says what was done; the original says nothing.
fn tell(
    session: &mut Session<'_, '_>,
    outcome: &str,
    text: Option<String>,
) -> Result<ExitCode, Failure> {
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&serde_json::json!({ "format": 1, "outcome": outcome }))?;
    } else if let Some(text) = text.filter(|_| io.style == Style::Ours) {
        io.line(text)?;
    }
    Ok(ExitCode::Done)
}
