//! Whether a server runs, has its key, and leads.

use async_trait::async_trait;
use neco_base::Secret;
use neco_http::{Url, shown};
use serde::{Deserialize, Serialize};

use super::Client;
use super::call::Repeat;
use crate::{Health, Leader, SealStatus, State, Vault, VaultError};

/// What a new Vault gives out once.
#[derive(Clone, Debug)]
pub struct Initialised {
    /// The one share that is the whole key, in base64.
    pub unseal_key: Secret,
    /// The token that may do everything.
    pub root_token: Secret,
}

/// States answer as a success that says which, so that a proxy's 503 is not taken for a sealed Vault.
const EVERY_STATE: &str = "uninitcode=299&sealedcode=299&standbycode=299&activecode=299\
                           &drsecondarycode=299&performancestandbycode=299";

/// What Vault says.
mod wire {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Health {
        pub(super) initialized: bool,
        pub(super) sealed: bool,
        pub(super) standby: bool,
        #[serde(default)]
        pub(super) version: String,
    }

    #[derive(Deserialize)]
    pub(super) struct SealStatus {
        pub(super) initialized: bool,
        pub(super) sealed: bool,
        pub(super) t: u32,
        pub(super) progress: u32,
    }

    #[derive(Deserialize)]
    pub(super) struct InitStatus {
        pub(super) initialized: bool,
    }

    #[derive(Serialize)]
    pub(super) struct Init {
        pub(super) secret_shares: u32,
        pub(super) secret_threshold: u32,
    }

    #[derive(Deserialize)]
    pub(super) struct Initialised {
        pub(super) keys_base64: Vec<String>,
        pub(super) root_token: String,
    }

    #[derive(Serialize)]
    pub(super) struct Unseal<'k> {
        pub(super) key: &'k str,
    }

    #[derive(Deserialize)]
    pub(super) struct Leader {
        #[serde(default)]
        pub(super) leader_address: String,
    }
}

impl From<wire::SealStatus> for SealStatus {
    fn from(told: wire::SealStatus) -> Self {
        Self {
            initialised: told.initialized,
            sealed: told.sealed,
            threshold: told.t,
            progress: told.progress,
        }
    }
}

#[async_trait]
impl Vault for Client {
    fn address(&self) -> &Url {
        &self.base
    }

    async fn health(&self) -> Result<Health, VaultError> {
        // No server forwards this; the header keeps it so.
        let call = self.get("sys/health").query(EVERY_STATE).repeat(Repeat::Never);
        let told: wire::Health = call.without_token().send().await?.json()?;
        let state = match told {
            _ if !told.initialized => State::Uninitialised,
            _ if told.sealed => State::Sealed,
            _ if told.standby => State::Standby,
            _ => State::Active,
        };
        Ok(Health { state, version: told.version })
    }

    async fn seal_status(&self) -> Result<SealStatus, VaultError> {
        let call = self.get("sys/seal-status").repeat(Repeat::Never).without_token();
        Ok(call.send().await?.json::<wire::SealStatus>()?.into())
    }

    async fn unseal(&self, key: &Secret) -> Result<SealStatus, VaultError> {
        let body = wire::Unseal { key: key.reveal().trim() };
        let call = self.put("sys/unseal").repeat(Repeat::Never).without_token().body(&body);
        let told = call.send().await.map_err(|error| match error {
            VaultError::Refused { url, status: 400, reason } => {
                VaultError::KeyRefused { url, reason }
            }
            other => other,
        })?;
        Ok(told.json::<wire::SealStatus>()?.into())
    }

    async fn leader(&self) -> Result<Leader, VaultError> {
        let url = shown(&self.base);
        match self.health().await?.state {
            State::Active => return Ok(Leader { address: self.base.clone(), here: true }),
            State::Uninitialised => return Err(VaultError::NotInitialised { url }),
            State::Sealed => return Err(VaultError::Sealed { url }),
            State::Standby => {}
        }
        let call = self.get("sys/leader").repeat(Repeat::Never).without_token().not_forwarded();
        let told: wire::Leader = call.send().await?.json()?;
        let nobody = |why: String| VaultError::NoLeader { url: url.clone(), why };
        if told.leader_address.is_empty() {
            return Err(nobody("it knows of none".to_owned()));
        }
        let address: Url = told
            .leader_address
            .parse()
            .map_err(|_| nobody("what it names is no address".to_owned()))?;
        let named = shown(&address);
        match self.at(&address)?.health().await {
            Ok(Health { state: State::Active, .. }) => {
                // It may have been this one that became active in between, by its other address.
                let here = self.health().await?.state == State::Active;
                Ok(Leader { address, here })
            }
            Ok(Health { state, .. }) => Err(nobody(format!("it names {named}, which is {state}"))),
            Err(error) if error.passes_soon() => {
                Err(nobody(format!("it names {named}, which does not answer")))
            }
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// Gives a new Vault a key of one share. What comes back comes once.
    ///
    /// # Errors
    /// It has a key already; or an answer was lost, and with it perhaps the key.
    pub async fn initialise(&self) -> Result<Initialised, VaultError> {
        let shares = wire::Init { secret_shares: 1, secret_threshold: 1 };
        let call = self.act("sys/init").without_token().body(&shares);
        let given = async { call.send().await?.json::<wire::Initialised>() }.await;
        let url = shown(&self.base);
        let given = match given {
            Ok(given) => given,
            Err(VaultError::Refused { status: 400, reason, .. })
                if reason.contains("already initialized") =>
            {
                return Err(VaultError::AlreadyInitialised { url });
            }
            Err(error @ (VaultError::Refused { .. } | VaultError::Untrusted { .. })) => {
                return Err(error);
            }
            Err(error) if error.was_not_sent() => return Err(error),
            Err(error) => return Err(VaultError::InitUnknown { url, source: Box::new(error) }),
        };
        let mut keys = given.keys_base64.into_iter().map(Secret::new);
        let root_token = Secret::new(given.root_token);
        let Some(unseal_key) = keys.next() else {
            let source = Box::new(VaultError::Empty { url: url.clone() });
            return Err(VaultError::InitUnknown { url, source });
        };
        Ok(Initialised { unseal_key, root_token })
    }

    /// Whether Vault has a key: for a server that has joined none of its servers yet, too.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn is_initialised(&self) -> Result<bool, VaultError> {
        let answer = self.get("sys/init").without_token().send().await?;
        Ok(answer.json::<wire::InitStatus>()?.initialized)
    }

    /// Makes the leader forget its key. Needs a token.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn seal(&self) -> Result<(), VaultError> {
        self.act("sys/seal").send().await.map(drop)
    }

    /// Makes the leader of the cluster leave the lead to another server; alone, it takes it up again. Needs a token.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn step_down(&self) -> Result<(), VaultError> {
        self.act("sys/step-down").send().await.map(drop)
    }
}
