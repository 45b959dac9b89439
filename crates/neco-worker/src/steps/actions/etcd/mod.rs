//! `etcd-members`: who belongs to etcd, and with what its member on this server runs.
//!
//! - [`decide`] says what to do next; it knows the order remove, restart, add, and what costs the majority.
//! - [`members`] does it, under a turn.
//! - [`files`] is what the own member is started with.
//! - [`endpoints`] tells Neco's own programs where etcd is: `etcd-endpoints`.

mod decide;
mod dry_run;
pub(crate) mod endpoints;
mod files;
mod members;

use std::time::Duration;

use neco_connect::one_line;
use neco_schema::Lrn;
use neco_store::{ClusterHealth, MemberHealth, Store};

use crate::context::StepContext;
use crate::steps::host::StepHost;

pub(crate) use dry_run::{dry_run, dry_run_of_endpoints};
pub(crate) use files::note_run;
pub(crate) use members::{NAME, run};

/// The component whose files and unit belong to the own member. Only where it is one of a server's components, Neco changes
/// who belongs to etcd, and where its own programs look for it.
pub(crate) const COMPONENT: &str = "etcd";

/// The unit of this server's etcd.
pub(crate) const UNIT: &str = "etcd-container.service";

/// How long a start that a crash cut off is waited for until the own etcd is healthy, before the step itself waits.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
/// How often that is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Waits for a while until the own etcd is healthy: the engine, which completes an intent, must not need etcd. After a
/// power cut the others may take long to come up; the step waits for them, and says so.
pub(crate) async fn caught_up(host: &StepHost) {
    let healthy = async {
        while let Some(trouble) = own_trouble(&*host.shared.store, host.about.lrn).await {
            tracing::info!(%trouble, "waiting for the own etcd");
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    if tokio::time::timeout(CAUGHT_UP_WITHIN, healthy).await.is_err() {
        tracing::warn!("the own etcd was started and is not healthy yet");
    }
}

/// Whether an outage comes with a new start of the own member, which runs or does not, or why it cannot be now.
async fn restart_now(context: &StepContext, runs: bool) -> Result<bool, String> {
    match context.store().health().await {
        Ok(health) => decide::restart_now(&health, context.lrn, runs),
        Err(error) => Err(format!("waiting for etcd: {}", one_line(&error))),
    }
}

/// Why the own member of etcd is not healthy. On a server without one, all of them are asked for.
async fn own_trouble(store: &dyn Store, lrn: Lrn) -> Option<String> {
    match store.health().await {
        Ok(health) => trouble_of(&health, lrn),
        Err(error) => Some(format!("waiting for etcd: {}", one_line(&error))),
    }
}

fn trouble_of(health: &ClusterHealth, lrn: Lrn) -> Option<String> {
    if let Some(own) = own_member(health, lrn) {
        let name = if own.name.is_empty() { "of this server" } else { own.name.as_str() };
        return (!own.healthy)
            .then(|| format!("waiting for the own etcd member {name}: {}", own.trouble));
    }
    decide::quorum_trouble(health)
}

/// The member of boot server `lrn`.
fn own_member(health: &ClusterHealth, lrn: Lrn) -> Option<&MemberHealth> {
    health.members.iter().find(|member| decide::is_of(member, lrn))
}
