//! Who leads is made to be so, not left to chance.

use neco_playground::{BootServer, Daemon, GoLeader};

use crate::Scenario;

/// The updater of a server that has one.
///
/// # Panics
/// It has none.
#[must_use]
pub fn updater(server: &BootServer) -> &Daemon {
    server.updater().expect("it has an updater")
}

/// The updater of `server` leads, and the others stand behind it.
///
/// # Panics
/// It does not come to that.
pub async fn leads(scenario: &Scenario, server: &BootServer) {
    let others = || scenario.updaters().filter(|other| other.lrn() != server.lrn());
    for other in others() {
        updater(other).stop().await;
    }
    let what = format!("the leadership of boot-{}", server.lrn());
    scenario
        .until_true(&what, async || {
            let leader = scenario.leader().await.ok().flatten();
            leader.is_some_and(|leader| leader.lrn() == server.lrn())
        })
        .await;
    for other in others() {
        updater(other).up().await;
    }
}

/// A leader of the original, with our updaters waiting behind it.
///
/// # Panics
/// It is not elected.
pub async fn go_leads(scenario: &Scenario) -> GoLeader {
    for server in scenario.updaters() {
        updater(server).stop().await;
    }
    let go = GoLeader::elected(scenario).await.expect("elected");
    for server in scenario.updaters() {
        updater(server).up().await;
    }
    go
}
