//! SIGTERM and SIGINT: the first asks everybody to end, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Turns signals into one token. Dropping it stops listening.
#[derive(Debug)]
pub struct Shutdown {
    token: CancellationToken,
    task: AbortHandle,
}

impl Shutdown {
    /// Starts listening.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let task = tokio::spawn(watch(terminate, interrupt, token.clone())).abort_handle();
        Ok(Self { token, task })
    }

    /// The token that the first signal cancels. It is the one reason to end that the whole process
    /// shares; clones of it are handed down.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    // As a shell reports a process that the signal itself has ended.
    const TERMINATED: i32 = 128 + 15;
    const INTERRUPTED: i32 = 128 + 2;
    loop {
        let code = tokio::select! {
            biased;
            _ = terminate.recv() => TERMINATED,
            _ = interrupt.recv() => INTERRUPTED,
        };
        if token.is_cancelled() {
            tracing::warn!("a second signal, ending at once");
            std::process::exit(code);
        }
        tracing::info!("a signal, ending in order; a second one ends at once");
        token.cancel();
    }
}
