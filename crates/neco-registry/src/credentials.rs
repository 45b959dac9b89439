//! Who Neco is to a registry.

use async_trait::async_trait;
use neco_base::Secret;

/// User and password for one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: Secret,
}

/// Knows logins. It is asked whenever a registry wants to know who comes, so that a changed password counts at once.
///
/// The caller joins it with whatever keeps logins, such as the file that `docker login` writes.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The login for `registry`, a host with its port if it has one; `None` to come without one.
    ///
    /// # Errors
    /// Where it was sought, what is wrong and what to do; no secret.
    async fn login(&self, registry: &str) -> Result<Option<Login>, String>;

    /// What a person does so that there is a right login for `registry`, as the end of a sentence.
    fn remedy(&self, registry: &str) -> String;
}

/// Comes to every registry without a login.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    async fn login(&self, _: &str) -> Result<Option<Login>, String> {
        Ok(None)
    }

    fn remedy(&self, registry: &str) -> String {
        format!("let anonymous pulls in at {registry}: this program has no login for it")
    }
}
