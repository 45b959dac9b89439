//! Credentials that can be changed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::credentials::{Credentials, Login};

/// The same login for every registry, until it is changed. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Changing(Arc<Mutex<Option<Login>>>);

impl Changing {
    /// Credentials with this login.
    pub fn with(user: &str, password: &str) -> Self {
        let changing = Self::default();
        changing.set(user, password);
        changing
    }

    /// From now on there is this login.
    pub fn set(&self, user: &str, password: &str) {
        let login = Login { user: user.to_owned(), password: password.into() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(login);
    }

    /// From now on there is none.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl Credentials for Changing {
    async fn login(&self, _: &str) -> Result<Option<Login>, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn remedy(&self, registry: &str) -> String {
        format!("`docker login {registry}`")
    }
}
