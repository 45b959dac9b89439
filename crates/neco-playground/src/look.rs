//! Looking at a site, and waiting for what is to be seen there.

use std::sync::Arc;
use std::time::Duration;

use neco_plan::{View, operator_ranges};
use neco_schema::{NecoVersion, Snapshot};
use neco_store::{Follower, Store};
use tokio::time::{Instant, timeout_at};

use crate::state::{is_completed, is_stopped, state_text};
use crate::{Site, SiteError};

/// How long it may be quiet until a waiting look is taken anyway.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many log lines of each daemon stand in a report of failure.
const TAIL: usize = 12;

/// Everything in etcd at one revision.
#[derive(Clone, Debug)]
pub struct Look {
    /// As it stands.
    pub snapshot: Snapshot,
    /// Parsed.
    pub view: View,
}

impl Site {
    /// Everything in etcd, parsed.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn view(&self) -> Result<View, SiteError> {
        Ok(self.look().await?.view)
    }

    /// Everything in etcd, as it stands and parsed.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn look(&self) -> Result<Look, SiteError> {
        let snapshot = self.store().read(&operator_ranges(), None).await?;
        Ok(Look { view: View::assemble(&snapshot), snapshot })
    }

    /// Waits until `holds` says so of a view. It is asked again whenever something changes, and at least twice a second.
    ///
    /// # Errors
    /// It did not come in time: with the last state, and the ends of the logs.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&View) -> bool,
    ) -> Result<View, SiteError> {
        Ok(self.watch(what, within, |look| holds(&look.view)).await?.view)
    }

    /// The same, with everything in etcd as it stands beside the view.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn watch(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Look) -> bool,
    ) -> Result<Look, SiteError> {
        let deadline = Instant::now() + within;
        let store: Arc<dyn Store> = self.store().clone();
        let mut follower = Follower::every(store, operator_ranges(), LOOK_EVERY);
        let mut last = None;
        loop {
            // A read during an outage of etcd takes its own bound; the next may succeed.
            match timeout_at(deadline, self.look()).await {
                Ok(Ok(look)) if holds(&look) => return Ok(look),
                Ok(Ok(look)) => last = Some(look.view),
                Ok(Err(error)) => {
                    tracing::debug!(error = %neco_connect::one_line(&error), "looking again");
                }
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(self.too_late(what, within, last.as_ref()));
            }
            let next = (Instant::now() + LOOK_EVERY).min(deadline);
            let _ = timeout_at(next, follower.changed()).await;
        }
    }

    /// Waits until all servers have completed a request for `version`, and until that is recorded.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for); the request was stopped, and nobody but an operator or a newer release goes on.
    pub async fn wait_completed(
        &self,
        version: &NecoVersion,
        within: Duration,
        mut draw: impl FnMut(&Look),
    ) -> Result<View, SiteError> {
        let what = format!("the completion of {version}");
        let look = self.watch(&what, within, |look| {
            draw(look);
            is_completed(&look.view, version) || is_stopped(&look.view, version)
        });
        let view = look.await?.view;
        if is_completed(&view, version) {
            return Ok(view);
        }
        Err(SiteError::Ended { version: version.to_string(), state: state_text(&view) })
    }

    /// The error of somebody who waited in vain.
    pub(crate) fn too_late(&self, what: &str, within: Duration, last: Option<&View>) -> SiteError {
        let mut state = last.map_or_else(|| "etcd did not answer\n".to_owned(), state_text);
        for server in self.servers() {
            let logged = server.log_tail(TAIL);
            state.push_str(&format!("boot-{} logged last:\n{logged}", server.lrn()));
        }
        SiteError::Deadline { what: what.to_owned(), within, state }
    }
}
