//! Workers and the units that install are killed in the middle of an installation.

use neco_playground::BootServer;
use neco_scenarios::{
    Scenario, attempts, kill_and_wait, nothing_was_done_twice, recipe_of, request_for,
};
use neco_schema::UpdateRequest;
use neco_schema::journal::{Effect, Entry, IntentEnd};
use neco_worker::install::UNIT;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_and_the_unit_that_installs_are_killed_at_each_stage_of_the_install() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let version = scenario.packages().update().clone();
    let fetch = format!("fetch neco_{version}_amd64.deb");
    let (unpack, place) = ("unpack neco", "place /usr/share/neco/VERSION");
    // The first installs alone, the others after it.
    let victims = [scenario.server(0), scenario.server(1)];
    for server in victims {
        for call in [fetch.as_str(), unpack, place] {
            server.hold(call).expect("room");
        }
    }
    scenario.publish_update().await;
    let request = request_for(&scenario, &version, &[]).await;
    for server in victims {
        let root = server.root();
        let part = root.join(format!("var/cache/neco/packages/neco_{version}_amd64.deb.part"));
        scenario.until_true("a download in its middle", async || part.exists()).await;
        kill_and_wait(&scenario, server).await;
        server.release(&fetch).expect("room");

        // Before anything is changed: neither the unit nor the worker needs the other.
        let staging = root.join("var/lib/neco/sandbox-staging");
        let unit = unit_of(&scenario, server, 0).await;
        scenario.until_true("room for the new files", async || staging.is_dir()).await;
        kill_and_wait(&scenario, server).await;
        assert_eq!(server.detached(UNIT), Some(unit), "it goes on without its worker");
        kill_unit(unit);
        let unit = unit_of(&scenario, server, unit).await;

        // With half of the files replaced: the next worker may be of either version.
        server.release(unpack).expect("room");
        let replaced = staging.join("usr/sbin/neco-worker");
        let in_the_middle = async |unit: u32| {
            scenario
                .until_true("an installation in its middle", async || {
                    let broken = server.installed().await.expect("a record").to_string();
                    broken.contains("half-installed")
                        && !replaced.exists()
                        && server.detached(UNIT) == Some(unit)
                })
                .await;
        };
        in_the_middle(unit).await;
        kill_and_wait(&scenario, server).await;
        kill_unit(unit);
        let unit = unit_of(&scenario, server, unit).await;
        in_the_middle(unit).await;

        // With everything in place and no verdict, for the new worker does not come up.
        server.worker().kill().await;
        server.release(place).expect("room");
        scenario
            .until_true("the new package", async || {
                server.installed().await.expect("a record").to_string() == version.as_str()
            })
            .await;
        kill_unit(unit);
        server.worker().up().await;
    }
    scenario.completed(&version).await;

    for server in scenario.servers() {
        assert_eq!(
            installations(server, &request),
            ["begun", "completed"],
            "boot-{}",
            server.lrn()
        );
        let left = std::fs::read_dir(server.root().join("var/lib/neco/enabled"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "the unit is disabled after its verdict");
        assert_eq!(attempts(server, &request, 1), [1]);
    }
    let recipe = recipe_of(&scenario, scenario.packages().of(&version).expect("it"));
    nothing_was_done_twice(&scenario, from, recipe.len()).await;
    scenario.verdict(&version).await;
}

/// Waits until the unit that installs runs, as another process than `before`.
async fn unit_of(scenario: &Scenario, server: &BootServer, before: u32) -> u32 {
    let mut unit = None;
    scenario
        .until_true("the unit that installs", async || {
            unit = server.detached(UNIT).filter(|unit| *unit != before);
            unit.is_some()
        })
        .await;
    unit.expect("just seen")
}

fn kill_unit(unit: u32) {
    kill(Pid::from_raw(unit.cast_signed()), Signal::SIGKILL).expect("it runs");
}

/// What the journal of a server says about installations for a request.
fn installations(server: &BootServer, request: &UpdateRequest) -> Vec<&'static str> {
    let mut open = None;
    let mut told = Vec::new();
    for record in server.journal().unwrap_or_else(|error| panic!("{error}")) {
        match record.entry {
            Entry::IntentOpened { intent, request: id, effect: Effect::Install { .. }, .. }
                if id == request.id() =>
            {
                open = Some(intent);
            }
            Entry::IntentBegun { intent, .. } if Some(&intent) == open.as_ref() => {
                told.push("begun");
            }
            Entry::IntentClosed { intent, end } if Some(&intent) == open.as_ref() => {
                told.push(match end {
                    IntentEnd::Completed => "completed",
                    IntentEnd::Dropped => "dropped",
                    IntentEnd::Failed { .. } => "failed",
                });
            }
            _ => {}
        }
    }
    told
}
