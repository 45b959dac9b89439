//! The unit of its own that installs the package, goes on after a power cut, and has a way back.

use std::time::Duration;

use neco_schema::journal::{Entry, IntentEnd, Phase};

use super::counts::Kind;
use super::host::{Installer, Stage};
use super::worker::Worker;
use super::world::World;

/// How long the daemons may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What the daemons of the machine are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    Nothing,
    /// Be started again.
    Restart,
}

/// Whether the unit has something to do.
pub(super) fn is_ready(world: &World, at: usize, worker: Option<&Worker>) -> bool {
    let host = &world.hosts[at];
    host.powered
        && host.installer.as_ref().is_some_and(|installer| match installer.stage {
            Stage::Ready { until } => world.now >= until || worker.is_some(),
            _ => true,
        })
}

/// Does one atomic action of the unit.
pub(super) fn act(world: &mut World, at: usize, worker: &mut Option<Worker>) -> Order {
    let Some(mut installer) = world.hosts[at].installer.take() else { return Order::Nothing };
    let lrn = world.hosts[at].lrn;
    world.tell(|| format!("installer {lrn}: {:?}", installer.stage));
    let (next, order) = match installer.stage {
        Stage::Unpack => {
            let request = installer.request.clone();
            let mut oracle = std::mem::take(&mut world.oracle);
            oracle.dpkg_begins(world, at, &request);
            world.oracle = oracle;
            unpack(world, at, worker, &installer, false);
            (Some(Stage::Restart), Order::Nothing)
        }
        Stage::Restart => (Some(Stage::Ready { until: world.now + READY_WITHIN }), Order::Restart),
        Stage::Ready { until } => {
            let is_ready = worker.as_ref().is_some_and(|worker| {
                worker.local.running == installer.to && world.now >= worker.frozen_until
            });
            if is_ready {
                close(world, at, worker, &installer, IntentEnd::Completed);
                (None, Order::Nothing)
            } else if world.now >= until {
                world.counts.add(Kind::State, "way back");
                (Some(Stage::UnpackBack), Order::Nothing)
            } else {
                (Some(Stage::Ready { until }), Order::Nothing)
            }
        }
        Stage::UnpackBack => {
            unpack(world, at, worker, &installer, true);
            (Some(Stage::RestartBack), Order::Nothing)
        }
        Stage::RestartBack => {
            let cause = format!("the daemons of {} were not ready in time", installer.to);
            close(world, at, worker, &installer, IntentEnd::Failed { cause });
            (None, Order::Restart)
        }
    };
    world.machines_changed();
    if let Some(stage) = next {
        installer.stage = stage;
        world.hosts[at].installer = Some(installer);
    }
    order
}

fn unpack(
    world: &mut World,
    at: usize,
    worker: &mut Option<Worker>,
    installer: &Installer,
    back: bool,
) {
    let version = if back { installer.from.clone() } else { installer.to.clone() };
    let revision = installer.revision;
    for phase in [Phase::Begin, Phase::End] {
        let entry = Entry::Effect {
            request: installer.request.clone(),
            step: 0,
            attempt: 1,
            what: format!("dpkg {version}"),
            phase,
            revision,
        };
        write_down(world, at, worker, &entry);
    }
    world.hosts[at].installed = version.clone();
    world.evidence.installed(world.hosts[at].lrn, &version, back);
    if let Some(worker) = worker {
        worker.sees_installed(version);
    }
}

fn close(
    world: &mut World,
    at: usize,
    worker: &mut Option<Worker>,
    installer: &Installer,
    end: IntentEnd,
) {
    let intent = installer.intent.clone();
    write_down(world, at, worker, &Entry::IntentClosed { intent, end });
}

/// The journal is shared with the worker, whether that runs or not.
fn write_down(world: &mut World, at: usize, worker: &mut Option<Worker>, entry: &Entry) {
    world.journal(at, entry);
    if let Some(worker) = worker {
        worker.reread(entry);
    }
}
