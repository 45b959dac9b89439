//! SIGTERM, SIGINT and SIGHUP: the first asks everybody to end, the second ends the process at once. SIGHUP counts unless
//! whoever started the process had it ignored, as `nohup` does.

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
        let hang_up = SignalKind::hangup();
        let hang_up = if is_ignored(hang_up) { None } else { Some(signal(hang_up)?) };
        let token = CancellationToken::new();
        let task = tokio::spawn(watch(terminate, interrupt, hang_up, token.clone())).abort_handle();
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

/// Whether this process was started to pass over a signal; not if nobody knows.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (ignored >> (kind.as_raw_value() - 1)) & 1 == 1
}

async fn watch(
    mut terminate: Signal,
    mut interrupt: Signal,
    mut hang_up: Option<Signal>,
    token: CancellationToken,
) {
    // As a shell reports a process that the signal itself has ended.
    const TERMINATED: i32 = 128 + 15;
    const INTERRUPTED: i32 = 128 + 2;
    const HUNG_UP: i32 = 128 + 1;
    loop {
        let hung_up = async {
            match &mut hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let code = tokio::select! {
            biased;
            _ = terminate.recv() => TERMINATED,
            _ = interrupt.recv() => INTERRUPTED,
            _ = hung_up => HUNG_UP,
        };
        if token.is_cancelled() {
            tracing::warn!("a second signal, ending at once");
            std::process::exit(code);
        }
        tracing::info!("a signal, ending in order; a second one ends at once");
        token.cancel();
    }
}
