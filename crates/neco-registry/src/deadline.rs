//! Streams that may not take for ever.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::RegistryError;

/// When a stream is given up; counted from its first byte, pauses of whoever reads it included.
pub(crate) struct Deadline {
    what: String,
    after: Duration,
    at: Option<Instant>,
}

impl Deadline {
    /// `what` may take so long.
    pub(crate) fn new(what: String, after: Duration) -> Self {
        Self { what, after, at: None }
    }

    /// Waits for a part of it.
    pub(crate) async fn within<T>(
        &mut self,
        part: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let at = *self.at.get_or_insert_with(|| Instant::now() + self.after);
        match timeout_at(at, part).await {
            Ok(done) => done,
            Err(_) => Err(RegistryError::TimedOut { what: self.what.clone(), after: self.after }),
        }
    }
}
