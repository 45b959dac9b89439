//! Who leads is made to be so, not left to chance.

use neco_plan::invariants::Writer;
use neco_plan::testing::GoAction;
use neco_playground::{BootServer, Daemon, GoLeader, Written};
use neco_schema::NecoVersion;

use crate::Scenario;

/// The updater of a server that has one.
///
/// # Panics
/// It has none.
#[must_use]
pub fn updater(server: &BootServer) -> &Daemon {
    server.updater().expect("it has an updater")
}

/// The updaters of all servers but one.
fn others<'a>(scenario: &'a Scenario, server: &BootServer) -> impl Iterator<Item = &'a Daemon> {
    let lrn = server.lrn();
    scenario.updaters().filter(move |other| other.lrn() != lrn).map(updater)
}

/// The updater of `server` leads, and the others stand behind it.
///
/// # Panics
/// It does not come to that.
pub async fn leads(scenario: &Scenario, server: &BootServer) {
    leads_alone(scenario, server).await;
    others_come_back(scenario, server).await;
}

/// The updater of `server` leads, and the others are stopped: however slow everything is, no other one leads.
///
/// # Panics
/// It does not come to that.
pub async fn leads_alone(scenario: &Scenario, server: &BootServer) {
    for other in others(scenario, server) {
        other.stop().await;
    }
    let what = format!("the leadership of boot-{}", server.lrn());
    scenario
        .until_true(&what, async || {
            let leader = scenario.leader().await.ok().flatten();
            leader.is_some_and(|leader| leader.lrn() == server.lrn())
        })
        .await;
}

/// The updaters of all servers but one are started again; an update that is installed there waits for them.
///
/// # Panics
/// There are none.
pub async fn others_come_back(scenario: &Scenario, server: &BootServer) {
    for other in others(scenario, server) {
        other.up().await;
    }
}

/// A leader of the original; what it writes is told to the auditor as its own.
pub struct GoPeer<'a> {
    scenario: &'a Scenario,
    leader: GoLeader,
}

/// A leader of the original, with our updaters waiting behind it.
///
/// # Panics
/// It is not elected.
pub async fn go_leads(scenario: &Scenario) -> GoPeer<'_> {
    let leader = GoLeader::before_ours(scenario).await.unwrap_or_else(|error| panic!("{error:?}"));
    GoPeer { scenario, leader }
}

impl GoPeer<'_> {
    /// Notes that a version is released.
    ///
    /// # Panics
    /// It is refused.
    pub async fn note_release(&self, version: &NecoVersion) {
        let written = self.leader.note_release(self.scenario, version).await;
        self.tell(written.unwrap_or_else(|error| panic!("{error:?}")));
    }

    /// Does what the original does next, and says what that was.
    ///
    /// # Panics
    /// It is refused.
    pub async fn act(&self) -> GoAction {
        let acted = self.leader.act(self.scenario).await;
        let (action, written) = acted.unwrap_or_else(|error| panic!("{error:?}"));
        written.into_iter().for_each(|written| self.tell(written));
        action
    }

    /// Carries out what the original would do in some situation.
    ///
    /// # Panics
    /// It is refused, or there is nothing to be written.
    pub async fn carry_out(&self, action: &GoAction) {
        let done = self.leader.carry_out(self.scenario, action).await;
        let written = done.unwrap_or_else(|error| panic!("{error:?}"));
        self.tell(written.unwrap_or_else(|| panic!("nothing to write: {}", action.name())));
    }

    /// Goes away in order.
    ///
    /// # Panics
    /// etcd does not answer.
    pub async fn leave(self) {
        self.leader.leave().await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    fn tell(&self, written: Written) {
        self.scenario.wrote(written.revision, Writer::Go, written.compares);
    }
}
