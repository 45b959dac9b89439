//! Who Neco is to a registry of images.

use async_trait::async_trait;
use neco_base::Secret;

/// User and password for one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The registry's host, with its port if it has one, such as `ghcr.io`. They are sent to no other.
    pub registry: String,
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: Secret,
}

/// Knows logins. It is asked anew at every try of a pull, so that a changed password counts at once.
#[async_trait]
pub trait Logins: Send + Sync {
    /// The login for `registry`; `None` to come without one.
    ///
    /// # Errors
    /// Where it was sought, what is wrong and what to do; no secret.
    async fn login(&self, registry: &str) -> Result<Option<Login>, String>;

    /// What a person does so that there is a login for `registry`, as the end of a sentence.
    fn remedy(&self, registry: &str) -> String;
}
