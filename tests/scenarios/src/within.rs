//! Holding and killing workers: at which calls a step can be held, whatever kind of step it is, and whether a worker has
//! come to one of them.

use std::process::Command;

use neco_components::{Component, Part, Phase, Recipe, Work};
use neco_playground::{BootServer, Package, Site};
use neco_schema::UpdateRequest;
use neco_schema::journal::{Entry, Phase as When};
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
    step.parts.iter().flat_map(|part| holds_of_part(new, old, number, part)).collect()
}

fn holds_of_part(new: &Recipe, old: &Recipe, number: u32, part: &Part) -> Vec<Vec<String>> {
    let step = new.step(number).expect("a step");
    match &part.work {
        Work::None { .. } => vec![vec![format!("step {}", step.name)]],
        Work::Component { component, phase } => {
            let component = new.component(component.as_str()).expect("a component");
            of_component(component, *phase)
        }
        Work::Action { action } => match action.as_str() {
            "fetch-images" => of_images(new, old, part),
            "dhcp-json" => vec![vec!["write /var/lib/neco/published/dhcp.json".to_owned()]],
            "restart-etcd" => {
                ["stop", "start"].map(|job| vec![format!("{job} {TURN_UNIT}")]).into()
            }
            other => panic!(
                "step {number}: it is not known where to hold a worker in the action {other}"
            ),
        },
    }
}

/// The first and the last of the images that are new.
fn of_images(new: &Recipe, old: &Recipe, part: &Part) -> Vec<Vec<String>> {
    let there: Vec<String> = old
        .steps()
        .flat_map(|(_, step)| &step.parts)
        .flat_map(|part| old.images_of(part))
        .map(|image| image.reference())
        .collect();
    let images = new.images_of(part).map(|image| image.reference());
    let pulls: Vec<String> = images
        .filter(|image| !there.contains(image))
        .map(|image| format!("pull {image}"))
        .collect();
    match pulls.as_slice() {
        [] => panic!("the update brings no image"),
        [only] => vec![vec![only.clone()]],
        [first, .., last] => vec![vec![first.clone()], vec![last.clone()]],
    }
}

fn of_component(component: &Component, phase: Phase) -> Vec<Vec<String>> {
    let unit = component.running_unit().map(|unit| unit.name.clone());
    let jobs = |jobs: &[&str]| -> Vec<Vec<String>> {
        let unit = unit.iter();
        unit.flat_map(|unit| jobs.iter().map(move |job| vec![format!("{job} {unit}")])).collect()
    };
    if phase == Phase::Stop {
        return jobs(&["disable", "stop"]);
    }
    let units = component.units.iter().filter(|unit| unit.template.is_some());
    let files = component.files.iter().map(|file| file.path.clone());
    let written = files.chain(units.map(neco_components::UnitSpec::path));
    let writes = written.map(|path| format!("write {}", path.display())).collect();
    let mut calls = vec![writes];
    // What runs is replaced if its image is.
    if component.image.is_some() {
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
        "disable" | "stop" => what.ends_with(on) && is_active(),
        _ => what == call,
    }
}
