//! Waiting for a Vault server, with a deadline.

use std::time::Duration;

use neco_base::{Backoff, Secret};
use neco_http::shown;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Health, Leader, State, Vault, VaultError};

/// Between two looks: the first comes soon, because an election takes a second or two.
const BETWEEN_LOOKS: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));

/// After how long the key is given once more to a server that took it and is still sealed: one that could not join its
/// cluster by it. One that still joins answers a second key with an error.
const AGAIN: Duration = Duration::from_secs(10);

/// What [`unseal`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// There was nothing to do.
    Already,
    /// It was sealed and is not any more.
    Now,
}

/// Waits until a server tells how it is, whatever that is.
///
/// # Errors
/// It does not within the time given, or nothing but a person will change that.
pub async fn wait_until_answering(
    vault: &dyn Vault,
    within: Duration,
) -> Result<Health, VaultError> {
    wait("an answer of Vault", within, async || vault.health().await).await
}

/// Waits until somebody has unsealed a server.
///
/// # Errors
/// Nobody does within the time given, or nothing but a person will change that.
pub async fn wait_until_unsealed(
    vault: &dyn Vault,
    within: Duration,
) -> Result<Health, VaultError> {
    wait("an unsealed Vault", within, async || {
        let health = vault.health().await?;
        match health.state {
            State::Standby | State::Active => Ok(health),
            State::Sealed | State::Uninitialised => Err(not_unsealed(vault, health.state)),
        }
    })
    .await
}

/// Waits until a server knows who leads, and that one says so too.
///
/// # Errors
/// It does not within the time given, or nothing but a person will change that.
pub async fn wait_for_leader(vault: &dyn Vault, within: Duration) -> Result<Leader, VaultError> {
    wait("a leader of Vault", within, async || vault.leader().await).await
}

/// Unseals a server with the one share of its key, and waits until it is unsealed; one that is unsealed stays so, whatever
/// the key.
///
/// A server that begins to run, or that joins a cluster by being unsealed, may take some looks.
///
/// # Errors
/// The key is refused or not enough, or the server is still sealed after the time given.
pub async fn unseal(
    vault: &dyn Vault,
    key: &Secret,
    within: Duration,
) -> Result<Unsealed, VaultError> {
    let mut sent: Option<Instant> = None;
    wait("an unsealed Vault", within, async || {
        // Whoever could not be asked may have begun anew.
        let before = sent.take();
        let found = vault.seal_status().await?;
        sent = before;
        if found.initialised && !found.sealed {
            return Ok(if sent.is_some() { Unsealed::Now } else { Unsealed::Already });
        }
        if !found.initialised {
            return Err(not_unsealed(vault, State::Uninitialised));
        }
        if sent.is_none_or(|sent| sent.elapsed() >= AGAIN) {
            sent = Some(Instant::now());
            let left = vault.unseal(key).await?;
            if !left.sealed {
                return Ok(Unsealed::Now);
            }
            if left.threshold > 1 {
                let url = shown(vault.address());
                return Err(VaultError::MoreShares { url, threshold: left.threshold });
            }
        }
        Err(not_unsealed(vault, State::Sealed))
    })
    .await
}

fn not_unsealed(vault: &dyn Vault, state: State) -> VaultError {
    let url = shown(vault.address());
    match state {
        State::Uninitialised => VaultError::NotInitialised { url },
        _ => VaultError::Sealed { url },
    }
}

/// Asks until there is an answer, or an error that does not pass, or no time left.
async fn wait<T>(
    what: &'static str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let deadline = Instant::now() + within;
    let mut retry = BETWEEN_LOOKS.retry();
    let mut last = None;
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.passes() => last = Some(Box::new(error)),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(VaultError::Deadline { what, within, last }),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left < BETWEEN_LOOKS.first {
            return Err(VaultError::Deadline { what, within, last });
        }
        // The last look comes near the deadline.
        sleep(retry.pause().min(left / 2)).await;
    }
}
