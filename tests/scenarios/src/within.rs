//! Holding and killing workers: at which calls a step can be held, whatever kind of step it is, and whether a worker has
//! come to one of them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use neco_components::{
    Desired, DesiredFile, Facts, Part, Phase, Recipe, Restart, ServerFacts, Work,
};
use neco_playground::{BootServer, Package, Site};
use neco_schema::journal::{Entry, Phase as When};
use neco_schema::{Lrn, UpdateRequest};
use neco_systemd::{UnitName, Units};
use nix::sys::signal::Signal;

use crate::journal::entries;
use crate::{LONG, Scenario, is_up};

/// A unit that one server at a time may restart, in the last step.
pub const TURN_UNIT: &str = "etcd-container.service";

/// Gives every server a unit that runs and that takes a turn to be restarted, as an etcd that Neco manages would.
///
/// # Panics
/// There is no room.
pub async fn add_turn_unit(site: &Site) {
    let name: UnitName = TURN_UNIT.parse().expect("a name");
    for server in site.servers() {
        let unit = server.root().join("etc/systemd/system").join(TURN_UNIT);
        std::fs::create_dir_all(unit.parent().expect("a folder"))
            .and_then(|()| std::fs::write(&unit, "[Service]\nExecStart=/usr/bin/etcd\n"))
            .expect("room");
        server.units().daemon_reload().await.expect("reloaded");
        server.units().start(&name).await.expect("started");
    }
}

/// Kills the worker of a server and waits for the next one.
///
/// # Panics
/// None runs, or none follows.
pub async fn kill_worker(server: &BootServer) {
    let killed = server.kill_worker(Signal::SIGKILL).await.expect("a worker");
    server.worker().successor_of(killed, LONG).await.expect("a successor");
}

/// Kills the worker of a server, and waits until the next one says that it runs.
///
/// # Panics
/// None runs, or none follows.
pub async fn kill_and_wait(scenario: &Scenario, server: &BootServer) {
    kill_worker(server).await;
    scenario.until_true("the next worker", async || server.ready("neco-worker").is_some()).await;
}

/// The recipe that a package brings.
///
/// # Panics
/// It cannot be unpacked, or its recipe is malformed.
#[must_use]
pub fn recipe_of(site: &Site, package: &Package) -> Recipe {
    let folder = site.path().join(format!("opened-{}", package.version));
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package.path).arg(&folder).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "{}", package.path.display());
    Recipe::load(folder.join("usr/share/neco")).unwrap_or_else(|error| panic!("{error}"))
}

/// The kind of a step, in words: steps of one kind run the same code.
#[must_use]
pub fn kind(recipe: &Recipe, number: u32) -> String {
    let step = recipe.step(number).expect("a step");
    let kinds: Vec<String> =
        step.parts.iter().map(|part| kind_of_part(recipe, number, part)).collect();
    kinds.join("; ")
}

fn kind_of_part(recipe: &Recipe, number: u32, part: &Part) -> String {
    let scope = match &part.scope {
        neco_components::StepScope::All => "on all servers",
        neco_components::StepScope::OneAtATime { .. } => "one server at a time",
        neco_components::StepScope::OncePerCluster { .. } => "once for all",
    };
    let work = match &part.work {
        Work::None { .. } => "nothing to do".to_owned(),
        Work::Action { action } => format!("action {action}"),
        Work::Component { phase: Phase::Stop, .. } => "stop of a group".to_owned(),
        Work::Component { .. } if recipe.group_of(number).is_some() => "end of a group".to_owned(),
        Work::Component { .. } => "component".to_owned(),
    };
    format!("{work}, {scope}")
}

/// The calls at which a worker can be held in a step that brings `new` where `old` runs, in the order in which it makes
/// them. Those of one line are alternatives: whichever comes first.
///
/// # Panics
/// The step is of a kind of which this does not know where to hold it.
#[must_use]
pub fn holds(new: &Recipe, old: &Recipe, number: u32) -> Vec<Vec<String>> {
    let step = new.step(number).expect("a step");
    let parts = step.parts.iter();
    let holds: Vec<_> = parts.flat_map(|part| holds_of_part(new, old, number, part)).collect();
    // Where it does nothing in this update, it can be held before that.
    if holds.is_empty() { vec![vec![format!("step {}", step.name)]] } else { holds }
}

fn holds_of_part(new: &Recipe, old: &Recipe, number: u32, part: &Part) -> Vec<Vec<String>> {
    match &part.work {
        Work::None { .. } => Vec::new(),
        Work::Component { component, phase } => of_component(new, old, component.as_str(), *phase),
        Work::Action { action } => match action.as_str() {
            "fetch-images" => of_images(new, old, part),
            "dhcp-json" => vec![vec!["write /var/lib/neco/published/dhcp.json".to_owned()]],
            "etcd-members" => {
                ["stop", "start"].map(|job| vec![format!("{job} {TURN_UNIT}")]).into()
            }
            // The first of the archives that are new: whoever is elected next brings the others.
            "sabakan-contents" => new_images(new, old, part)
                .take(1)
                .map(|image| vec![format!("archive {image}")])
                .collect(),
            // They are as they were, or leave no trace in a sandbox.
            "cke-template" | "cke-contents" | "user-resources" | "etcd-endpoints" => Vec::new(),
            other => panic!(
                "step {number}: it is not known where to hold a worker in the action {other}"
            ),
        },
    }
}

/// The images of a part that no part of the older recipe is about.
fn new_images<'r>(
    new: &'r Recipe,
    old: &'r Recipe,
    part: &'r Part,
) -> impl Iterator<Item = String> + 'r {
    let there: Vec<String> = old
        .steps()
        .flat_map(|(_, step)| &step.parts)
        .flat_map(|part| old.images_of(part))
        .map(|image| image.reference())
        .collect();
    let images = new.images_of(part).map(|image| image.reference());
    images.filter(move |image| !there.contains(image))
}

/// The first and the last of the images that are new.
fn of_images(new: &Recipe, old: &Recipe, part: &Part) -> Vec<Vec<String>> {
    let pulls: Vec<String> =
        new_images(new, old, part).map(|image| format!("pull {image}")).collect();
    match pulls.as_slice() {
        [] => panic!("the update brings no image"),
        [only] => vec![vec![only.clone()]],
        [first, .., last] => vec![vec![first.clone()], vec![last.clone()]],
    }
}

/// What a component of a recipe looks like on some server with this version.
fn looks(recipe: &Recipe, component: &str, version: &str) -> Desired {
    let (lrn, node0) = (Lrn::new(0), Ipv4Addr::new(10, 69, 0, 3));
    let facts = Facts {
        version: version.parse().expect("a version"),
        cluster: "playground".to_owned(),
        lrn,
        node0,
        servers: vec![ServerFacts { lrn, node0 }],
        os_name: "Ubuntu".to_owned(),
        os_version: "22.04".to_owned(),
        serial: String::new(),
        variants: BTreeSet::new(),
    };
    let component = recipe.component(component).expect("a component");
    Desired::render(component, &facts).unwrap_or_else(|error| panic!("{error}"))
}

fn of_component(new: &Recipe, old: &Recipe, name: &str, phase: Phase) -> Vec<Vec<String>> {
    let component = new.component(name).expect("a component");
    // The servers of a playground have nothing that would make such a component theirs.
    if !component.only_where.is_empty() {
        return Vec::new();
    }
    let (now, before) = (looks(new, name, "2026.1.2-1"), looks(old, name, "2026.1.1-1"));
    let is_new = |file: &&DesiredFile| before.file(&file.path) != Some(*file);
    let written: Vec<String> = now
        .files
        .iter()
        .filter(is_new)
        .map(|file| format!("write {}", file.path.display()))
        .collect();
    let started = now.running_unit().filter(|unit| {
        !before.units.iter().any(|old| old.name == unit.name && old.digest == unit.digest)
    });
    let jobs = |jobs: &[&str]| -> Vec<Vec<String>> {
        let unit = started.iter();
        unit.flat_map(|unit| jobs.iter().map(move |job| vec![format!("{job} {}", unit.name)]))
            .collect()
    };
    if phase == Phase::Stop {
        return jobs(&["disable", "stop"]);
    }
    let mut calls = Vec::new();
    if !written.is_empty() {
        calls.push(written);
    }
    if now.restart != Restart::Reload {
        calls.extend(jobs(&["start"]));
    }
    calls
}

/// Whether the worker of a server is held at one of `calls`, in the given attempt at a step.
///
/// # Panics
/// The server's journal or units cannot be read.
#[must_use]
pub fn is_held(
    server: &BootServer,
    request: &UpdateRequest,
    number: u32,
    attempt: u32,
    calls: &[String],
) -> bool {
    let mut within: Option<String> = None;
    for entry in entries(server) {
        match entry {
            Entry::StepBegun { request: id, step, attempt: n, .. } if id == request.id() => {
                within = (step == number && n == attempt).then(|| "step".to_owned());
            }
            Entry::StepDone { request: id, step } if id == request.id() && step == number => {
                within = None;
            }
            Entry::Effect { request: id, step, attempt: n, what, phase, .. }
                if id == request.id() && step == number && n == attempt =>
            {
                within = Some(if phase == When::Begin { what } else { "step".to_owned() });
            }
            _ => {}
        }
    }
    within.is_some_and(|what| calls.iter().any(|call| is_within(server, &what, call)))
}

/// Whether an effect is the one that makes a call, and the call has not had its effect.
fn is_within(server: &BootServer, what: &str, call: &str) -> bool {
    let Some((job, on)) = call.split_once(' ') else { return false };
    let is_active = || is_up(server, on);
    match job {
        "step" => what == "step",
        "write" => what == call || (what.starts_with("publish ") && on.ends_with(&what[8..])),
        "start" => what.ends_with(on) && !is_active(),
        "archive" => what == "publish sabakan",
        "disable" | "stop" => what.ends_with(on) && is_active(),
        _ => what == call,
    }
}
