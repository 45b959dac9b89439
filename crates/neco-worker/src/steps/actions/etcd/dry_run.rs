//! What would become of the members of etcd.

use neco_components::Desired;
use neco_schema::{ChangeKind, Lrn, PreviewedChange};
use neco_store::ClusterHealth;

use super::{UNIT, decide, endpoints, files, own_member};
use crate::context::StepError;
use crate::steps::host::{StepHost, unit_name};

/// What an update of `servers` would do about the members of etcd, once the files of the own one are as `desired`; without
/// them, etcd is managed by somebody else.
///
/// # Errors
/// The disk, systemd or etcd does not answer.
pub(crate) async fn dry_run(
    host: &StepHost,
    servers: &[Lrn],
    desired: Option<&Desired>,
) -> Result<Vec<PreviewedChange>, StepError> {
    let mut changes = Vec::new();
    if desired.is_some() {
        let health = host.shared.store.health().await;
        let health = health.map_err(|error| StepError::failed("asking etcd", &error))?;
        if decide::is_of_neco(&health) {
            changes.extend(members(&health, host.about.lrn, servers));
        }
    }
    let name = unit_name(UNIT)?;
    let state = host.units.state(&name).await;
    let state = state.map_err(|error| StepError::failed(format!("state of {UNIT}"), &error))?;
    let digest = match desired {
        Some(desired) => files::digest_desired(desired),
        None => files::digest(host)?,
    };
    if state.exists() && files::started_with(host, &state)? != Some(digest) {
        changes.push(PreviewedChange::new(ChangeKind::Unit, UNIT, "is restarted"));
    }
    Ok(changes)
}

/// What an update of `servers` would do about the place where Neco's own programs look for etcd.
///
/// # Errors
/// The configuration cannot be read or understood.
pub(crate) fn dry_run_of_endpoints(
    host: &StepHost,
    servers: &[Lrn],
) -> Result<Vec<PreviewedChange>, StepError> {
    let file = neco_process::config::FILE;
    let changes = endpoints::would_change(host, servers)?;
    Ok(changes
        .then(|| PreviewedChange::new(ChangeKind::File, file, "endpoints change"))
        .into_iter()
        .collect())
}

fn members(health: &ClusterHealth, own: Lrn, servers: &[Lrn]) -> Vec<PreviewedChange> {
    let strangers = health
        .members
        .iter()
        .filter(|member| !servers.iter().any(|server| decide::is_of(member, *server)));
    let mut changes: Vec<PreviewedChange> = strangers
        .map(|member| {
            PreviewedChange::new(ChangeKind::Action, &member.name, "is taken out of etcd")
        })
        .collect();
    if own_member(health, own).is_none() && servers.contains(&own) {
        let name = neco_host::address::etcd_member_name(own);
        changes.push(PreviewedChange::new(ChangeKind::Action, &name, "is taken into etcd"));
    }
    changes
}
