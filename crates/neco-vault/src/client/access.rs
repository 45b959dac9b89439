//! Who may do what: policies, ways to log in, tokens.

use std::collections::BTreeMap;

use neco_base::Secret;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::VaultError;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Programs, by a role and its secret.
    AppRole,
    /// People, by name and password.
    UserPass,
}

impl AuthMethod {
    /// Its kind, and the path where it is by default.
    pub fn name(self) -> &'static str {
        match self {
            Self::AppRole => "approle",
            Self::UserPass => "userpass",
        }
    }
}

/// What Vault says and is told.
mod wire {
    use super::*;

    #[derive(Serialize)]
    pub(super) struct Policy<'p> {
        pub(super) policy: &'p str,
    }

    #[derive(Deserialize, Serialize)]
    pub(super) struct Kind {
        #[serde(rename = "type")]
        pub(super) kind: String,
    }

    #[derive(Serialize)]
    pub(super) struct User<'u> {
        pub(super) password: &'u str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) token_policies: Option<&'u [&'u str]>,
    }

    #[derive(Deserialize)]
    pub(super) struct Login {
        pub(super) auth: Option<Auth>,
    }

    #[derive(Deserialize)]
    pub(super) struct Auth {
        pub(super) client_token: String,
    }

    #[derive(Deserialize)]
    pub(super) struct StoredPolicy {
        pub(super) policy: String,
    }
}

impl Client {
    /// Writes a policy.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn put_policy(&self, name: &str, policy: &str) -> Result<(), VaultError> {
        let body = wire::Policy { policy };
        self.put(format!("sys/policies/acl/{name}")).body(&body).send().await.map(drop)
    }

    /// A policy; none if there is none.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn policy(&self, name: &str) -> Result<Option<String>, VaultError> {
        match self.get(format!("sys/policies/acl/{name}")).find().await? {
            Some(answer) => Ok(Some(answer.data::<wire::StoredPolicy>()?.policy)),
            None => Ok(None),
        }
    }

    /// Enables a way to log in at its default path unless it is; tells whether it was not.
    ///
    /// # Errors
    /// Another way is at that path; Vault refuses, or does not answer.
    pub async fn ensure_auth_method(&self, method: AuthMethod) -> Result<bool, VaultError> {
        let mut found: BTreeMap<String, wire::Kind> = self.get("sys/auth").send().await?.data()?;
        let name = method.name();
        if let Some(found) = found.remove(&format!("{name}/")) {
            if found.kind == name {
                return Ok(false);
            }
            return Err(self.conflict("sys/auth", name, found.kind, name));
        }
        let body = wire::Kind { kind: name.to_owned() };
        self.act(format!("sys/auth/{name}")).body(&body).send().await?;
        Ok(true)
    }

    /// Writes a user who logs in by password.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn put_user(
        &self,
        name: &str,
        password: &Secret,
        policies: &[&str],
    ) -> Result<(), VaultError> {
        let name = plain(name)?;
        let body = wire::User { password: password.reveal(), token_policies: Some(policies) };
        self.put(format!("auth/userpass/users/{name}")).body(&body).send().await.map(drop)
    }

    /// Logs a user in, and gives out the token for [`Client::with_token`].
    ///
    /// # Errors
    /// User and password do not fit; Vault refuses otherwise, or does not answer.
    pub async fn login(&self, user: &str, password: &Secret) -> Result<Secret, VaultError> {
        let user = plain(user)?;
        let body = wire::User { password: password.reveal(), token_policies: None };
        let call = self.act(format!("auth/userpass/login/{user}")).without_token().body(&body);
        let answer = call.send().await.map_err(|error| match error {
            VaultError::Refused { url, status: 400, .. } | VaultError::Forbidden { url, .. } => {
                VaultError::LoginRefused { url, user: user.to_owned() }
            }
            other => other,
        })?;
        let auth = answer.json::<wire::Login>()?.auth.ok_or_else(|| answer.empty())?;
        Ok(Secret::new(auth.client_token))
    }

    /// Makes the client's own token worthless.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn revoke_self(&self) -> Result<(), VaultError> {
        self.act("auth/token/revoke-self").send().await.map(drop)
    }
}

/// A name that is one step of a path.
fn plain(name: &str) -> Result<&str, VaultError> {
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        let problem = format!("{name:?} is none");
        return Err(VaultError::Option { option: "user name", problem });
    }
    Ok(name)
}
