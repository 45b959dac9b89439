//! Questions that are more than one request (external-apis §1.10).

use std::net::Ipv4Addr;
use std::time::Duration;

use neco_base::Backoff;
use neco_schema::Lrn;
use tokio::time::Instant;

use crate::{Machine, MachineQuery, Role, Sabakan, SabakanError};

const BETWEEN_LOOKS: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

/// Waits until anything at all answers where sabakan should be, at most so long (neco-cd-core §9.1, step 9).
///
/// # Errors
/// Nothing did: the error of the last look.
pub async fn wait_until_it_answers(
    sabakan: &dyn Sabakan,
    within: Duration,
) -> Result<(), SabakanError> {
    let deadline = Instant::now() + within;
    let mut retry = BETWEEN_LOOKS.retry();
    loop {
        let error = match tokio::time::timeout_at(deadline, sabakan.answers()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(SabakanError::Silent { call: "GET /".to_owned(), after: within }),
        };
        let next = Instant::now() + retry.pause();
        if next >= deadline {
            return Err(error);
        }
        tokio::time::sleep_until(next).await;
    }
}

/// The one machine that `query` means (external-apis §1.10).
///
/// # Errors
/// There is none, there are several, or sabakan does not answer.
pub async fn the_machine(
    sabakan: &dyn Sabakan,
    query: &MachineQuery,
) -> Result<Machine, SabakanError> {
    let mut machines = sabakan.machines(query).await?;
    match (machines.len(), machines.pop()) {
        (1, Some(machine)) => Ok(machine),
        (found, _) => Err(SabakanError::NotOne { query: query.to_string(), found }),
    }
}

/// The first address of the boot server of each rack, in the order given: what templates know as `boot_servers` (neco-cd-core
/// §9.1, step 14).
///
/// # Errors
/// A rack has none or several, a boot server has no address, or sabakan does not answer.
pub async fn boot_servers(
    sabakan: &dyn Sabakan,
    servers: &[Lrn],
) -> Result<Vec<Ipv4Addr>, SabakanError> {
    let mut addresses = Vec::with_capacity(servers.len());
    for lrn in servers {
        let query = MachineQuery::in_rack(lrn.get(), Role::boot());
        let spec = the_machine(sabakan, &query).await?.spec;
        let no_address = || SabakanError::NoAddress { serial: spec.serial.to_string() };
        addresses.push(*spec.ipv4.first().ok_or_else(no_address)?);
    }
    Ok(addresses)
}
