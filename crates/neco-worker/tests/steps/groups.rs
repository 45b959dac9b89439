//! Outage groups: stopped on all before they start on any, and given back whatever happens in between.

use std::time::Duration;

use neco_schema::journal::Entry;
use neco_schema::{Condition, Group, Key, Lrn, Op, Origin, UpdateRequest, UpdateStatus, Way};
use serde_json::Map;

use crate::cluster::{Cluster, Server, VAULT, change_vault, edit};

const STOP: &str = "stop vault.service";
const START: &str = "start vault.service";

/// Servers that run Vault, and then a package with which it changes.
async fn about_to_change(count: u32) -> Cluster {
    let mut cluster = Cluster::of(count).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_vault).await;
    cluster.take_order(VAULT);
    cluster
}

fn begins(order: &[String], what: &str) -> Vec<usize> {
    let is = |line: &String| line.ends_with(what);
    order.iter().enumerate().filter(|(_, line)| is(line)).map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn it_is_down_everywhere_before_it_starts_anywhere() {
    let mut cluster = about_to_change(3).await;
    // One server is slow to stop.
    cluster.server(2).units().faults().hold(STOP).unwrap();
    let request = cluster.request().await;
    let apply = cluster.step("vault");
    cluster
        .until("the others wait in the apply step", async || {
            [0, 1].iter().all(|lrn| {
                cluster.stands(*lrn, &request) == Some((apply, Condition::Running))
                    && cluster.server(*lrn).waits_for().contains("boot server 2")
            })
        })
        .await;
    assert!(begins(&cluster.order(), START).is_empty(), "{:?}", cluster.order());
    cluster.server(2).units().faults().clear(STOP).unwrap();
    cluster.completed(&request).await;
    let order = cluster.take_order(VAULT);
    let (stops, starts) = (begins(&order, STOP), begins(&order, START));
    assert_eq!((stops.len(), starts.len()), (3, 3), "{order:?}");
    assert!(stops.iter().max() < starts.iter().min(), "{order:?}");
    // The store says the same: the way was decided after every server had posted the apply step.
    let view = cluster.view();
    let group = &view.groups["vault"];
    assert_eq!((&group.value.request, group.value.way), (&request.id(), Way::Forward));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_down_everywhere_if_it_changes_on_one_server_only() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    cluster.take_order(VAULT);
    // Somebody has stopped it on one server: that counts as a change.
    cluster.server(1).units().stop_by_hand(VAULT).await;
    cluster.update().await;
    let order = cluster.take_order(VAULT);
    assert_eq!(begins(&order, START).len(), 3, "{order:?}");
    assert_eq!(begins(&order, STOP).len(), 2, "{order:?}");
    cluster.verdict().await;
}

/// Stops a unit past the worker.
trait ByHand {
    async fn stop_by_hand(&self, unit: &str);
}

impl ByHand for neco_systemd::Recorder {
    async fn stop_by_hand(&self, unit: &str) {
        neco_systemd::Units::stop(self, &unit.parse().unwrap()).await.unwrap();
    }
}

/// Brings a cluster to where Vault is down on servers 0 and 1 and about to stop on server 2.
async fn in_the_group() -> (Cluster, UpdateRequest) {
    let mut cluster = about_to_change(3).await;
    let begun = cluster.server(2).begun(STOP);
    cluster.server(2).units().faults().hold(STOP).unwrap();
    let request = cluster.request().await;
    cluster
        .until("Vault is down on the others", async || {
            !cluster.server(0).is_active(VAULT).await
                && !cluster.server(1).is_active(VAULT).await
                && cluster.server(2).begun(STOP) > begun
        })
        .await;
    (cluster, request)
}

async fn runs_as_before(cluster: &Cluster) {
    for server in &cluster.servers {
        assert!(server.is_active(VAULT).await && server.is_enabled(VAULT).await, "{}", server.lrn);
        let config = std::fs::read_to_string(server.path("/etc/vault/config.hcl")).unwrap();
        assert!(config.contains("1000d"), "the old configuration: {config}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_within_gives_it_back_on_all_servers_and_settles() {
    let (cluster, request) = in_the_group().await;
    cluster.stop_request(&request).await;
    cluster
        .until("0 and 1 have it back", async || {
            cluster.server(0).is_active(VAULT).await && cluster.server(1).is_active(VAULT).await
        })
        .await;
    cluster.server(2).units().faults().clear(STOP).unwrap();
    cluster.ended(&request, Condition::NotRunning).await;
    runs_as_before(&cluster).await;
    assert_eq!(cluster.view().groups["vault"].value.way, Way::Back);
    for server in &cluster.servers {
        // Given back before the status says that all is settled.
        let entries = server.entries();
        let closed = entries.iter().position(|entry| matches!(entry, Entry::GroupClosed { request: id, way: Way::Back, .. } if *id == request.id()));
        let posted = entries.iter().position(|entry| matches!(entry, Entry::Posting { request: id, cond: 0, .. } if *id == request.id()));
        assert!(closed.is_some() && closed < posted, "{closed:?} {posted:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_within_gives_it_back_on_all_servers() {
    let (cluster, request) = in_the_group().await;
    cluster.server(2).units().faults().fail(STOP, "it will not go").unwrap();
    cluster.ended(&request, Condition::Abort).await;
    runs_as_before(&cluster).await;
    for server in &cluster.servers {
        let origin = cluster.status(server.lrn).unwrap().origin.unwrap();
        assert_eq!(origin.lrn.get(), 2);
        assert!(origin.cause.contains("it will not go"), "{origin:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_between_stop_and_start_is_followed_by_one_that_goes_on() {
    let (mut cluster, request) = in_the_group().await;
    cluster.servers[2].crash().await;
    cluster.servers[0].crash().await;
    cluster.server(2).units().faults().clear(STOP).unwrap();
    cluster.start(0);
    cluster.start(2);
    cluster.completed(&request).await;
    let order = cluster.take_order(VAULT);
    assert_eq!((begins(&order, STOP).len(), begins(&order, START).len()), (3, 3), "{order:?}");
    assert_eq!(cluster.server(0).attempts(&request, cluster.step("stop-vault")), [1]);
    assert_eq!(cluster.server(2).attempts(&request, cluster.step("stop-vault")), [1, 2]);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_reboot_within_starts_nothing_beside_the_worker() {
    let (mut cluster, request) = in_the_group().await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().boot().await.unwrap();
    assert!(!cluster.server(0).is_active(VAULT).await, "the old must not start beside the new");
    cluster.server(2).units().faults().clear(STOP).unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    assert!(cluster.server(0).is_active(VAULT).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_in_the_apply_step_starts_it_once() {
    let mut cluster = about_to_change(2).await;
    cluster.server(0).units().faults().hold(START).unwrap();
    let request = cluster.request().await;
    cluster.until("the start hangs", async || cluster.server(0).begun(START) == 2).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    let order = cluster.take_order(VAULT);
    assert_eq!(begins(&order, START).len(), 2, "{order:?}");
    let config = std::fs::read_to_string(cluster.server(0).path("/etc/vault/config.hcl")).unwrap();
    assert!(config.contains("30d"), "{config}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_start_again_stays_stopped_and_the_status_says_so() {
    let mut cluster = about_to_change(2).await;
    cluster.server(1).units().faults().fail(START, "the seal is broken").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    // What came of the restoration is added to what was told before it.
    let whole = async || cluster.status(1).unwrap().message.contains("group vault stays stopped: ");
    cluster.until("the status says so", whole).await;
    let own = cluster.status(1).unwrap();
    assert!(own.message.contains("in step 4: starting vault.service"), "{}", own.message);
    assert!(own.message.matches("the seal is broken").count() == 2, "{}", own.message);
    let remedy = "run 'systemctl enable --now vault.service' on this server";
    assert!(own.message.contains(remedy), "{}", own.message);
    assert!(!cluster.server(1).is_active(VAULT).await);
    // The way was decided: the other one goes forward.
    assert!(cluster.server(0).is_active(VAULT).await);
    let config = std::fs::read_to_string(cluster.server(0).path("/etc/vault/config.hcl")).unwrap();
    assert!(config.contains("30d"), "{config}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_while_the_group_is_restored_and_a_crash_then_leaves_nothing_stopped() {
    let mut cluster = about_to_change(2).await;
    cluster.server(1).units().faults().fail(START, "the seal is broken").unwrap();
    let request = cluster.request().await;
    let told = async || cluster.status(1).is_some_and(|own| own.cond == Condition::Abort);
    cluster.until("everybody knows", told).await;
    let message = cluster.status(1).unwrap().message;
    assert!(message.contains("in step 4: starting vault.service"), "{message}");
    assert!(!message.contains("stays stopped"), "it is still tried: {message}");
    let opened = |entry: &Entry| matches!(entry, Entry::GroupOpened { .. });
    let closed = |entry: &Entry| matches!(entry, Entry::GroupClosed { .. });
    let count = |which: fn(&Entry) -> bool| {
        cluster.server(1).entries().iter().filter(|entry| which(entry)).count()
    };
    assert_eq!(count(opened), count(closed) + 1, "the restoration runs");
    cluster.servers[1].crash().await;
    cluster.server(1).units().faults().clear(START).unwrap();
    cluster.start(1);
    cluster.until("it runs again", async || cluster.server(1).is_active(VAULT).await).await;
    cluster.ended(&request, Condition::Abort).await;
    assert_eq!(cluster.status(1).unwrap().message, message);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_start_again_after_a_stop_stays_stopped_and_the_status_says_so() {
    let (cluster, request) = in_the_group().await;
    cluster.server(0).units().faults().fail(START, "the seal is broken").unwrap();
    cluster.stop_request(&request).await;
    cluster.server(2).units().faults().clear(STOP).unwrap();
    cluster.ended(&request, Condition::NotRunning).await;
    let message = cluster.status(0).unwrap().message;
    assert!(message.contains("group vault stays stopped: "), "{message}");
    assert!(message.contains("the seal is broken"), "{message}");
    assert_eq!(cluster.status(1).unwrap().message, "");
    assert!(!cluster.server(0).is_active(VAULT).await && cluster.server(1).is_active(VAULT).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_for_minutes_is_started_once_it_can() {
    let mut cluster = about_to_change(2).await;
    cluster.server(1).units().faults().fail(START, "Docker is being upgraded").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let said = cluster.server(1).waits_for();
    assert!(said.starts_with("restoring group vault again: starting vault.service"), "{said}");
    cluster.server(1).units().faults().clear(START).unwrap();
    cluster.until("it runs again", async || cluster.server(1).is_active(VAULT).await).await;
    let over = async || !cluster.server(1).waits_for().contains("restoring");
    cluster.until("it is over", over).await;
    let message = cluster.status(1).unwrap().message;
    assert!(!message.contains("stays stopped"), "{message}");
    cluster.verdict().await;
}

/// Somebody has installed another package by hand.
#[tokio::test(start_paused = true)]
async fn a_group_that_the_recipe_does_not_know_is_started_as_was_noted_when_it_was_stopped() {
    let (mut cluster, request) = in_the_group().await;
    for lrn in [0, 1] {
        cluster.servers[lrn].crash().await;
        let folder = cluster.servers[lrn].path("/usr/share/neco");
        edit(&folder, "recipe.toml", "name = \"vault\"\nstop", "name = \"secrets\"\nstop");
    }
    // An older version than that has not noted it.
    let kept = cluster.server(1).path("/var/lib/neco/groups/vault.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    let without = text.replace(",\"units\":[\"vault.service\"]", "");
    assert_ne!(text, without);
    std::fs::write(&kept, without).unwrap();
    cluster.start(0);
    cluster.start(1);
    cluster.stop_request(&request).await;
    cluster
        .until("both groups are closed", async || {
            [0, 1].iter().all(|lrn| cluster.server(*lrn).local().journal.groups.is_empty())
        })
        .await;
    assert!(cluster.server(0).is_active(VAULT).await && cluster.server(0).is_enabled(VAULT).await);
    assert!(!cluster.server(1).is_active(VAULT).await);
    let said = |lrn: u32, text: &str| cluster.status(lrn).unwrap().message.contains(text);
    cluster
        .until("1 says what to do", async || said(1, "'systemctl enable --now' its units"))
        .await;
    assert!(!said(0, "vault"), "{}", cluster.status(0).unwrap().message);
}

/// A member that failed writes down that the group goes back before it posts its abort. Who comes to the apply step in
/// between waits for that abort.
#[tokio::test(start_paused = true)]
async fn a_way_back_that_is_decided_before_the_abort_shows_is_waited_out() {
    let mut cluster = about_to_change(2).await;
    cluster.server(0).units().faults().hold(STOP).unwrap();
    let request = cluster.request().await;
    let apply = cluster.step("vault");
    cluster
        .until("1 waits in the apply step", async || {
            cluster.stands(1, &request) == Some((apply, Condition::Running))
        })
        .await;
    // It fails there and decides, and is slow to restore.
    cluster.servers[1].crash().await;
    let back = Group { request: request.id(), way: Way::Back, unknown: Map::new() };
    cluster.write(Op::put(&Key::Group("vault".to_owned()), &back)).await;
    cluster.server(0).units().faults().clear(STOP).unwrap();
    cluster
        .until("0 is in the apply step", async || {
            !cluster.server(0).attempts(&request, apply).is_empty()
        })
        .await;
    let asked = cluster.server(0).calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = cluster.server(0).calls() - asked;
    assert!(asked <= 120, "{asked} calls in a minute");
    assert_eq!(cluster.server(0).attempts(&request, apply), [1]);
    let cause = "rendering failed".to_owned();
    let origin = Origin { lrn: Lrn::new(1), step: apply, cause, unknown: Default::default() };
    let own = cluster.status(1).unwrap();
    let abort = UpdateStatus { cond: Condition::Abort, origin: Some(origin), ..own };
    cluster.write(Op::put(&Key::Status(Lrn::new(1)), &abort)).await;
    cluster.start(1);
    cluster.ended(&request, Condition::Abort).await;
    cluster
        .until("both have it back", async || {
            cluster.server(0).is_active(VAULT).await && cluster.server(1).is_active(VAULT).await
        })
        .await;
    runs_as_before(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_for_the_end_of_the_group() {
    let (cluster, request) = in_the_group().await;
    cluster.pause(true).await;
    cluster.server(2).units().faults().clear(STOP).unwrap();
    let apply = cluster.step("vault");
    cluster
        .until("all rest behind the group", async || {
            cluster.servers.iter().all(|server| {
                server.waits_for().contains("paused")
                    && cluster.stands(server.lrn, &request) == Some((apply + 1, Condition::Running))
            })
        })
        .await;
    for server in &cluster.servers {
        assert!(server.is_active(VAULT).await, "{}", server.lrn);
    }
    cluster.pause(false).await;
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_way_that_cannot_be_read_is_waited_for_and_named_and_nobody_asks_without_end() {
    let mut cluster = about_to_change(1).await;
    let key = Key::Group("vault".to_owned());
    cluster.write(Op::put_bytes(&key, "{")).await;
    let request = cluster.request().await;
    cluster
        .until("it says so", async || {
            cluster.server(0).waits_for().contains("key group/vault cannot be read")
        })
        .await;
    let before = cluster.server(0).calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = cluster.server(0).calls() - before;
    assert!(asked <= 120, "{asked} calls in a minute");
    cluster.write(Op::delete(&key)).await;
    cluster.completed(&request).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_stopped_does_not_apply_what_goes_back() {
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    cluster.take_order(VAULT);
    cluster.pause(true).await;
    let request = cluster.request().await;
    let back = Group { request: request.id(), way: Way::Back, unknown: Map::new() };
    cluster.write(Op::put(&Key::Group("vault".to_owned()), &back)).await;
    cluster.pause(false).await;
    cluster.ended(&request, Condition::Abort).await;
    let origin = cluster.status(0).unwrap().origin.unwrap();
    assert_eq!(origin.step, cluster.step("vault"));
    assert!(origin.cause.contains("group vault goes back"), "{origin:?}");
    assert!(cluster.take_order(VAULT).is_empty());
    cluster.verdict().await;
}

/// Only server 1 changes. That server 0 does not know its plan does not mean that nothing changes.
#[tokio::test(start_paused = true)]
async fn a_plan_that_was_lost_is_waited_for_before_the_stop() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.server(1).units().stop_by_hand(VAULT).await;
    cluster.take_order(VAULT);
    cluster.server(0).units().faults().hold(STOP).unwrap();
    let begun = cluster.server(0).begun(STOP);
    let request = cluster.request().await;
    let apply = cluster.step("vault");
    cluster
        .until("0 stops it and 1 has", async || {
            cluster.server(0).begun(STOP) > begun
                && cluster.stands(1, &request) == Some((apply, Condition::Running))
        })
        .await;
    cluster.servers[1].crash().await;
    cluster.servers[0].crash().await;
    cluster.write(Op::delete(&Key::Plan(Lrn::new(1)))).await;
    cluster.server(0).units().faults().clear(STOP).unwrap();
    cluster.start(0);
    cluster
        .until("it waits for the plan", async || {
            let view = cluster.view();
            let said = view.progress.get(&Lrn::new(0));
            said.is_some_and(|said| said.value.doing.contains("plans of boot server 1"))
        })
        .await;
    assert!(cluster.server(0).is_active(VAULT).await);
    cluster.start(1);
    cluster.completed(&request).await;
    assert_eq!(begins(&cluster.take_order(VAULT), STOP).len(), 1);
    cluster.verdict().await;
}

pub(crate) const CKE: [&str; 2] = ["cke.service", "cke-localproxy.service"];

/// CKE and its proxy come to a server, as a package of the site brings them.
pub(crate) fn bring_cke(server: &Server) {
    for unit in CKE {
        let path = server.path("/usr/lib/systemd/system").join(unit);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
            .unwrap();
    }
    for file in ["etc/cke/etcd.crt", "etc/cke/etcd.key"] {
        server.set_up(file);
    }
}

#[tokio::test(start_paused = true)]
async fn programs_that_are_not_on_a_server_are_left_alone_until_they_come() {
    let mut cluster = Cluster::of(2).await;
    bring_cke(cluster.server(1));
    // Set up it is: programs and units are what is not there.
    for file in ["etc/cke/etcd.crt", "etc/cke/etcd.key"] {
        cluster.server(0).set_up(file);
    }
    cluster.update().await;
    assert!(!cluster.server(0).path("/etc/cke/config.yml").exists(), "nothing of it is there");
    for unit in CKE {
        assert!(cluster.server(1).is_active(unit).await, "{unit}");
        assert_eq!(cluster.server(0).count(&format!("enable {unit}")), 0);
    }
    cluster.update().await;
    bring_cke(cluster.server(0));
    cluster.update().await;
    assert!(cluster.server(0).path("/etc/cke/config.yml").exists());
    for unit in CKE {
        assert!(
            cluster.server(0).is_active(unit).await && cluster.server(0).is_enabled(unit).await
        );
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_the_file_of_another_member_is_started_with_it_once() {
    let mut cluster = Cluster::of(2).await;
    cluster.servers.iter().for_each(bring_cke);
    cluster.update().await;
    cluster.take_order("");
    cluster
        .upgrade("2026.11.21-1", |folder| {
            edit(
                folder,
                "templates/etcd-client.yml.j2",
                "tls-cert-file",
                "# changed\ntls-cert-file",
            );
        })
        .await;
    cluster.update().await;
    let order = cluster.take_order("");
    for server in 0..2 {
        let jobs = ["stop", "start"].map(|job| CKE.map(|unit| format!("{server}: {job} {unit}")));
        for job in jobs.as_flattened() {
            assert_eq!(order.iter().filter(|line| *line == job).count(), 1, "{job} in {order:#?}");
        }
    }
    cluster.update().await;
    for unit in CKE {
        assert_eq!(cluster.take_order(unit), Vec::<String>::new());
    }
    cluster.verdict().await;
}

/// CKE is down on servers 0 and 1, and about to stop on server 1.
async fn within_the_outage_of_cke() -> (Cluster, UpdateRequest) {
    let mut cluster = Cluster::of(2).await;
    cluster.servers.iter().for_each(bring_cke);
    cluster.update().await;
    let version = "2026.11.21-1";
    let changed = |folder: &std::path::Path| {
        edit(folder, "templates/etcd-client.yml.j2", "tls-cert-file", "# x\ntls-cert-file");
    };
    cluster.upgrade(version, changed).await;
    let stop = format!("stop {}", CKE[0]);
    cluster.server(1).units().faults().hold(&stop).unwrap();
    let request = cluster.request().await;
    cluster
        .until("both are down on 0, the proxy on 1", async || {
            let down = async |lrn: u32, unit: &str| !cluster.server(lrn).is_active(unit).await;
            down(0, CKE[0]).await && down(0, CKE[1]).await && down(1, CKE[1]).await
        })
        .await;
    (cluster, request)
}

async fn stop_within_the_outage_of_cke(cluster: &Cluster, request: &UpdateRequest) {
    cluster.stop_request(request).await;
    cluster.server(1).units().faults().clear(&format!("stop {}", CKE[0])).unwrap();
    cluster.ended(request, Condition::NotRunning).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_group_that_does_not_start_keeps_no_other_from_it() {
    let (cluster, request) = within_the_outage_of_cke().await;
    let refused = format!("start {}", CKE[0]);
    cluster.server(0).units().faults().fail(&refused, "its certificate has expired").unwrap();
    stop_within_the_outage_of_cke(&cluster, &request).await;
    let message = cluster.status(0).unwrap().message;
    assert!(message.contains("its certificate has expired"), "{message}");
    assert!(message.contains("'systemctl enable --now cke.service' on"), "{message}");
    let (cke, proxy) = (CKE[0], CKE[1]);
    let server = cluster.server(0);
    assert!(!server.is_active(cke).await && server.is_enabled(cke).await);
    assert!(server.is_active(proxy).await && server.is_enabled(proxy).await);
    for unit in CKE {
        assert!(
            cluster.server(1).is_active(unit).await && cluster.server(1).is_enabled(unit).await
        );
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_group_that_is_not_ready_keeps_no_other_stopped_on_the_way_forward() {
    let (cluster, request) = within_the_outage_of_cke().await;
    cluster.faults.start_slowly(CKE[0]);
    cluster.server(1).units().faults().clear(&format!("stop {}", CKE[0])).unwrap();
    cluster.ended(&request, Condition::Abort).await;
    let told = async || {
        [0, 1].iter().all(|lrn| cluster.status(*lrn).unwrap().message.contains("stays stopped"))
    };
    cluster.until("what came of the restoration is told", told).await;
    for server in &cluster.servers {
        assert!(server.is_active(CKE[1]).await && server.is_enabled(CKE[1]).await);
        assert!(server.is_enabled(CKE[0]).await, "it starts at boot");
        let message = cluster.status(server.lrn).unwrap().message;
        assert!(message.contains("'systemctl enable --now cke.service' on"), "{message}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn another_mode_of_a_file_takes_no_group_down() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.take_order("");
    cluster
        .upgrade("2026.11.21-1", |folder| edit(folder, "components/vault.toml", "0644", "0640"))
        .await;
    cluster.update().await;
    assert_eq!(cluster.take_order(VAULT), Vec::<String>::new());
    use std::os::unix::fs::PermissionsExt as _;
    let config = cluster.server(0).path("/etc/vault/config.hcl").metadata().unwrap();
    assert_eq!(config.permissions().mode() & 0o777, 0o640);
    cluster.verdict().await;
}
