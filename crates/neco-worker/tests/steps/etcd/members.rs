//! Removing, restarting and adding, with crashes in between; etcd is the store in memory.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use neco_host::journal::JournalStore;
use neco_plan::operator_ranges;
use neco_schema::journal::Entry;
use neco_schema::{Condition, Key, Lrn, Op, Range, Record, Revision, Turn, Txn, UpdateRequest};
use neco_store::Store as _;

use super::in_memory::{InMemory, Incident};
use super::{ETCD, certify, config, peer_url};
use crate::cluster::{Cluster, edit};
use crate::previews::ask;
use crate::turns::holders;

const START: &str = "start etcd-container.service";
const ENABLE: &str = "enable etcd-container.service";

/// What a server says that it does.
fn doing(cluster: &Cluster, lrn: u32) -> String {
    let view = cluster.view();
    view.progress
        .get(&Lrn::new(lrn))
        .map(|progress| progress.value.doing.clone())
        .unwrap_or_default()
}

/// So many servers of which the first `members` are members of etcd already.
async fn joining(count: u32, members: u32) -> (Cluster, Arc<InMemory>) {
    let cluster = Cluster::of(count).await;
    certify(&cluster);
    let etcd = InMemory::of(&cluster, 0..members);
    (cluster, etcd)
}

/// Waits until the server that joins has ended so; others may have been through before.
async fn ended(cluster: &Cluster, request: &UpdateRequest, cond: Condition) {
    cluster
        .until("it has ended", async || {
            cluster.stands(3, request).is_some_and(|(_, now)| now == cond)
        })
        .await;
}

fn names(lrns: &[u32]) -> (Vec<String>, Vec<String>) {
    (lrns.iter().map(|lrn| format!("boot-{lrn}")).collect(), Vec::new())
}

/// Another configuration of etcd.
fn change_etcd(folder: &std::path::Path) {
    edit(folder, "templates/etcd.conf.yml.j2", "enable-pprof: true", "enable-pprof: false");
}

/// The values of a turn that were ever written.
fn turns_taken(cluster: &Cluster) -> usize {
    let key = Key::Turn("etcd".to_owned()).to_string();
    let changes = cluster.store.changes_since(Revision(1), &operator_ranges());
    changes.iter().filter(|change| change.key == key && change.kv.is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_new_server_is_taken_in_and_the_updates_after_that_change_nothing() {
    let (mut cluster, etcd) = joining(4, 3).await;
    // What an earlier member has left there.
    cluster.server(3).set_up("/var/lib/etcd-container/member/snap/db");
    cluster.update().await;
    assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
    assert_eq!(etcd.done(), [format!("add {}", peer_url(3)), "promote boot-3".to_owned()]);
    let server = cluster.server(3);
    assert_eq!(config(server, "initial-cluster-state"), ["initial-cluster-state: existing"]);
    let all: Vec<String> = (0..4).map(|lrn| format!("boot-{lrn}={}", peer_url(lrn))).collect();
    // The one without a name comes first in the list.
    let told = &config(server, "initial-cluster:")[0];
    for member in &all {
        assert!(told.contains(member.as_str()), "{told}");
    }
    let data = std::fs::metadata(server.path("/var/lib/etcd-container")).unwrap();
    assert_eq!(data.permissions().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read_dir(server.path("/var/lib/etcd-container")).unwrap().count(), 0);
    assert!(server.path("/var/lib/etcd-container.old.1/member/snap/db").exists());
    for server in &cluster.servers {
        assert!(server.is_enabled(ETCD).await && server.is_active(ETCD).await, "{}", server.lrn);
    }
    // Whose etcd Neco had not started was started once, one after another.
    let order = cluster.take_order(START);
    assert_eq!(order.len(), 4, "{order:?}");

    // The next update tells nobody anew, and the one after it writes nothing.
    let turns = turns_taken(&cluster);
    cluster.update().await;
    assert_eq!(config(cluster.server(3), "initial-cluster-state"), ["initial-cluster-state: new"]);
    let before = cluster.server(3).files();
    cluster.update().await;
    assert_eq!(cluster.server(3).files(), before);
    assert_eq!(cluster.take_order(ETCD), Vec::<String>::new());
    assert_eq!(turns_taken(&cluster), turns);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_left_is_taken_out_dead_or_alive() {
    for alive in [true, false] {
        let (mut cluster, etcd) = joining(3, 4).await;
        if !alive {
            cluster.store.stop_member("boot-3");
        }
        cluster.update().await;
        assert_eq!(etcd.names().await, names(&[0, 1, 2]));
        assert_eq!(etcd.done(), ["remove boot-3"], "alive: {alive}");
        cluster.verdict().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_taken_out_who_is_needed_for_the_majority() {
    let (mut cluster, _etcd) = joining(2, 2).await;
    cluster.update().await;
    let etcd = InMemory::of(&cluster, 0..3);
    // Its unit runs on.
    etcd.sleeps(1, true);
    cluster.store.stop_member("boot-1");
    let request = cluster.request().await;
    cluster
        .until("one says why it waits", async || {
            let doing = doing(&cluster, 0);
            doing.contains("etcd member boot-2 stays until") && doing.contains("boot-1")
        })
        .await;
    assert_eq!(etcd.done(), Vec::<String>::new());
    etcd.sleeps(1, false);
    cluster.completed(&request).await;
    assert_eq!(etcd.names().await, names(&[0, 1]));
    assert_eq!(etcd.done(), ["remove boot-2"]);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn members_are_restarted_for_what_they_read_and_not_for_who_was_there_in_the_beginning() {
    let (mut cluster, _etcd) = joining(3, 3).await;
    cluster.update().await;
    cluster.take_order(ETCD);
    let token = |folder: &std::path::Path| {
        edit(folder, "templates/etcd.conf.yml.j2", "boot-cluster", "another-token");
    };
    cluster.upgrade("2026.11.20-2", token).await;
    cluster.update().await;
    assert_eq!(
        config(cluster.server(0), "initial-cluster-token")[0].split(' ').nth(1),
        Some("another-token")
    );
    assert_eq!(cluster.take_order(ETCD), Vec::<String>::new());
    cluster.upgrade("2026.11.20-3", change_etcd).await;
    cluster.update().await;
    let order = cluster.take_order(ETCD);
    assert_eq!(order.len(), 6, "{order:?}");
    for pair in order.chunks(2) {
        assert_eq!(pair[0][..1], pair[1][..1], "{order:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_the_members_is_told_before() {
    let (mut cluster, _etcd) = joining(3, 4).await;
    let told = async |cluster: &Cluster| -> Vec<Vec<String>> {
        let answers = ask(cluster, cluster.version.as_str()).await;
        let last = answers.iter().map(|answer| answer.steps.last().expect("steps"));
        last.map(|step| {
            step.changes
                .iter()
                .map(|change| format!("{} {}", change.subject, change.what))
                .collect()
        })
        .collect()
    };
    for changes in told(&cluster).await {
        assert_eq!(changes, ["boot-3 is taken out of etcd"], "its unit is not there yet");
    }
    cluster.update().await;
    assert_eq!(told(&cluster).await, vec![Vec::<String>::new(); 3]);
    cluster.upgrade("2026.11.20-2", change_etcd).await;
    for changes in told(&cluster).await {
        assert_eq!(changes, [format!("{ETCD} is restarted")], "before its files are written");
    }
    cluster.verdict().await;
    let (cluster, _etcd) = joining(3, 2).await;
    let told = told(&cluster).await;
    assert_eq!(told[0], Vec::<String>::new());
    assert_eq!(told[2], ["boot-2 is taken into etcd"]);
}

/// Who waits for all others to be healthy does not hold the turn that one of them needs to become so, and who is down waits
/// for nobody, not even for another that is down.
#[tokio::test(start_paused = true)]
async fn members_that_are_down_are_started_before_the_others_are_restarted() {
    for (count, down) in [(3, vec![2]), (5, vec![3, 4])] {
        let (mut cluster, etcd) = joining(count, count).await;
        cluster.update().await;
        cluster.upgrade("2026.11.20-2", change_etcd).await;
        for lrn in &down {
            let units = cluster.server(*lrn).units();
            neco_systemd::Units::stop(&units, &ETCD.parse().unwrap()).await.unwrap();
            cluster.store.stop_member(&format!("boot-{lrn}"));
        }
        cluster.take_order(ETCD);
        cluster.update().await;
        assert_eq!(etcd.names().await, names(&(0..count).collect::<Vec<_>>()));
        let order = cluster.take_order(ETCD);
        let (started, restarted) = order.split_at(down.len());
        let mut started = started.to_vec();
        started.sort_unstable();
        let expected: Vec<String> = down.iter().map(|lrn| format!("{lrn}: {START}")).collect();
        assert_eq!(started, expected, "{order:?}");
        let pairs = restarted.chunks(2);
        let whole = pairs.clone().all(|pair| pair.len() == 2 && pair[0][..1] == pair[1][..1]);
        assert!(whole && pairs.len() == count as usize - down.len(), "{order:?}");
        cluster.verdict().await;
    }
}

/// Three members that are about to be restarted.
async fn about_to_change() -> (Cluster, Arc<InMemory>) {
    let (mut cluster, etcd) = joining(3, 3).await;
    cluster.update().await;
    cluster.upgrade("2026.11.20-2", change_etcd).await;
    cluster.take_order(ETCD);
    (cluster, etcd)
}

/// Between what was decided and the proof right before the stop, another member goes down: its server needs the turn to start
/// it, and gets it.
#[tokio::test(start_paused = true)]
async fn who_finds_another_member_down_right_before_the_stop_lets_it_have_the_turn() {
    let (mut cluster, etcd) = about_to_change().await;
    let journals: Vec<_> =
        cluster.servers.iter().map(|server| Arc::clone(&server.journal)).collect();
    let is_open = move || {
        journals.iter().any(|journal| {
            let last = JournalStore::entries(&**journal).unwrap().pop().map(|record| record.entry);
            matches!(last, Some(Entry::IntentOpened { intent, .. }) if intent.0.ends_with(ETCD))
        })
    };
    let (went, units) =
        (Arc::new(AtomicU32::new(9)), [0, 1, 2].map(|lrn| cluster.server(lrn).units()));
    let (store, down) = (cluster.store.clone(), Arc::clone(&went));
    // Not the one that is about to restart its own.
    let goes_down = async move {
        let turn = Key::Turn("etcd".to_owned());
        let found = store.with(|mvcc| mvcc.read(&[Range::from(&turn)], None)).unwrap();
        let holder = Turn::decode(&found.kvs[&turn.to_string()].value).unwrap().lrn.get();
        let lrn = (holder + 1) % 3;
        neco_systemd::Units::stop(&units[lrn as usize], &ETCD.parse().unwrap()).await.unwrap();
        store.stop_member(&format!("boot-{lrn}"));
        down.store(lrn, Ordering::SeqCst);
    };
    etcd.awaits(Incident { is_due: Box::new(is_open), what: Box::pin(goes_down) });
    cluster.update().await;
    assert!(etcd.has_happened());
    let order = cluster.take_order(ETCD);
    assert_eq!(order[0], format!("{}: {START}", went.load(Ordering::SeqCst)), "{order:?}");
    assert_eq!(order.len(), 5, "{order:?}");
    cluster.verdict().await;
}

/// The auditor sees that the stop was allowed by a view in which the turn was held.
#[tokio::test(start_paused = true)]
async fn a_turn_that_was_taken_away_in_the_meantime_is_taken_again_before_the_stop() {
    let (mut cluster, etcd) = about_to_change().await;
    let (seen, store) = (cluster.store.clone(), cluster.store.clone());
    let key = Key::Turn("etcd".to_owned());
    let range = [Range::from(&key)];
    let is_taken = move || !seen.with(|mvcc| mvcc.read(&range, None)).unwrap().kvs.is_empty();
    let by_force = async move {
        store.commit(&Txn::default().then(Op::delete(&key))).await.unwrap();
    };
    etcd.awaits(Incident { is_due: Box::new(is_taken), what: Box::pin(by_force) });
    let before = holders(&cluster, "etcd").len();
    cluster.update().await;
    assert!(etcd.has_happened());
    assert_eq!(holders(&cluster, "etcd").len() - before, 4, "one of three took it twice");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn one_member_alone_is_restarted_and_its_outage_is_written_down() {
    let (mut cluster, etcd) = joining(1, 1).await;
    cluster.update().await;
    let out = "etcd is out: it has two members or fewer, and one is restarted";
    assert_eq!(cluster.server(0).begun(out), 0, "its unit was started and not stopped");
    cluster.upgrade("2026.11.20-2", change_etcd).await;
    cluster.update().await;
    assert_eq!(cluster.server(0).begun(out), 1);
    assert_eq!(etcd.names().await, names(&[0]));
    cluster.verdict().await;
}

/// Whoever is added votes at once: there is no vote to be given.
#[tokio::test(start_paused = true)]
async fn an_etcd_that_knows_no_learners_takes_a_server_in_that_votes_at_once() {
    let (mut cluster, etcd) = joining(4, 3).await;
    etcd.knows_no_learners();
    cluster.update().await;
    assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
    assert_eq!(etcd.done(), [format!("add {}", peer_url(3))]);
    let server = cluster.server(3);
    assert!(server.is_enabled(ETCD).await && server.is_active(ETCD).await);
    assert!(cluster.view().turns.is_empty());
    cluster.update().await;
    assert_eq!(etcd.done().len(), 1, "the next one changes nothing");
    cluster.verdict().await;
}

/// It counts among the votes from the start, so it is not left there.
#[tokio::test(start_paused = true)]
async fn a_member_that_votes_at_once_and_never_comes_up_is_taken_out_again_and_the_next_request_adds_it()
 {
    let (add, remove) = (format!("add {}", peer_url(3)), format!("remove {}", peer_url(3)));
    for starts in [false, true] {
        let (mut cluster, etcd) = joining(4, 3).await;
        etcd.knows_no_learners();
        if starts {
            etcd.sleeps(3, true);
        } else {
            cluster.server(3).units().faults().fail(START, "no such image").unwrap();
        }
        let request = cluster.request().await;
        cluster.until("it was added", async || !etcd.done().is_empty()).await;
        if starts {
            tokio::time::sleep(std::time::Duration::from_secs(300)).await;
            assert_eq!(etcd.names().await.0.len(), 4, "it has its time");
        }
        ended(&cluster, &request, Condition::Abort).await;
        let origin = cluster.status(3).unwrap().origin.unwrap();
        let why = if starts { "did not come up within" } else { "no such image" };
        assert!(origin.lrn.get() == 3 && origin.cause.contains(why), "{origin:?}");
        assert_eq!(etcd.names().await, names(&[0, 1, 2]));
        assert_eq!(etcd.done(), [&*add, &*remove]);
        assert!(!cluster.server(3).is_enabled(ETCD).await);
        cluster.until("the turn is free", async || cluster.view().turns.is_empty()).await;
        etcd.sleeps(3, false);
        cluster.server(3).units().faults().clear(START).unwrap();
        cluster.recovers().await;
        assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
        assert_eq!(etcd.done(), [&*add, &*remove, &*add]);
        cluster.verdict().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_between_adding_and_starting_begins_anew() {
    let (mut cluster, etcd) = joining(4, 3).await;
    etcd.falls_silent();
    let request = cluster.request().await;
    cluster.until("it was added", async || !etcd.done().is_empty()).await;
    let (_, learners) = etcd.names().await;
    assert_eq!(learners, [""]);
    cluster.servers[3].crash().await;
    cluster.start(3);
    cluster.completed(&request).await;
    let (add, remove) = (format!("add {}", peer_url(3)), format!("remove {}", peer_url(3)));
    assert_eq!(etcd.done(), [&add, &remove, &add, "promote boot-3"]);
    assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_in_the_start_or_before_the_vote_goes_on_where_it_was() {
    for held in [true, false] {
        let (mut cluster, etcd) = joining(4, 3).await;
        etcd.sleeps(3, true);
        if held {
            cluster.server(3).units().faults().hold(START).unwrap();
        }
        let request = cluster.request().await;
        cluster
            .until("it is starting", async || {
                cluster.server(3).begun(&format!("start {ETCD}")) == 1
                    && (held || cluster.server(3).is_active(ETCD).await)
            })
            .await;
        cluster.servers[3].crash().await;
        cluster.server(3).units().faults().clear(START).unwrap();
        cluster.start(3);
        cluster.until("it runs", async || cluster.server(3).is_active(ETCD).await).await;
        assert!(cluster.view().turns.contains_key("etcd"), "given away before it is a member");
        etcd.sleeps(3, false);
        cluster.completed(&request).await;
        assert_eq!(etcd.done(), [format!("add {}", peer_url(3)), "promote boot-3".to_owned()]);
        assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
        cluster.verdict().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_after_a_removal_does_what_is_left() {
    let (mut cluster, etcd) = joining(3, 5).await;
    etcd.falls_silent();
    let request = cluster.request().await;
    cluster.until("one was removed", async || etcd.done().len() == 1).await;
    let holder = cluster.view().turns.get("etcd").map(|turn| turn.value.lrn.get()).unwrap();
    cluster.servers[holder as usize].crash().await;
    cluster.start(holder);
    cluster.completed(&request).await;
    assert_eq!(etcd.done(), ["remove boot-3", "remove boot-4"]);
    assert_eq!(etcd.names().await, names(&[0, 1, 2]));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_start_is_taken_out_again_and_the_next_request_adds_it() {
    let (mut cluster, etcd) = joining(4, 3).await;
    cluster.server(3).units().faults().fail(START, "no such image").unwrap();
    let request = cluster.request().await;
    ended(&cluster, &request, Condition::Abort).await;
    let origin = cluster.status(3).unwrap().origin.unwrap();
    assert!(origin.lrn.get() == 3 && origin.cause.contains("no such image"), "{origin:?}");
    assert_eq!(etcd.names().await, names(&[0, 1, 2]));
    assert!(!cluster.server(3).is_enabled(ETCD).await);
    cluster.until("the turn is free", async || cluster.view().turns.is_empty()).await;
    cluster.server(3).units().faults().clear(START).unwrap();
    cluster.update().await;
    assert_eq!(etcd.names().await, names(&[0, 1, 2, 3]));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_says_its_name_is_taken_out_again() {
    let (mut cluster, etcd) = joining(4, 3).await;
    etcd.sleeps(3, true);
    let request = cluster.request().await;
    cluster.until("it was added", async || !etcd.done().is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    assert_eq!(etcd.names().await.1, [""], "it has its time");
    ended(&cluster, &request, Condition::Abort).await;
    let cause = cluster.status(3).unwrap().origin.unwrap().cause;
    assert!(cause.contains("did not come up within") && cause.contains("journalctl"), "{cause}");
    assert_eq!(etcd.names().await, names(&[0, 1, 2]));
    assert!(!cluster.server(3).is_active(ETCD).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_leaves_no_member_behind() {
    let (mut cluster, etcd) = joining(4, 3).await;
    cluster.server(3).units().faults().hold(ENABLE).unwrap();
    let request = cluster.request().await;
    cluster.until("it was added", async || !etcd.done().is_empty()).await;
    cluster.stop_request(&request).await;
    cluster.server(3).units().faults().clear(ENABLE).unwrap();
    ended(&cluster, &request, Condition::NotRunning).await;
    cluster.until("it is out", async || etcd.names().await == names(&[0, 1, 2])).await;
    assert!(!cluster.server(3).is_active(ETCD).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn neco_itself_is_told_where_the_members_are_and_nothing_else_changes() {
    let (mut cluster, _etcd) = joining(2, 2).await;
    let path = cluster.server(0).path("/etc/neco/config.yml");
    let text = "# ours\nendpoints: [https://10.69.0.3:2379]\n# the rest\nprefix: /neco/\n";
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    cluster.update().await;
    let expected = "# ours\nendpoints:\n  - https://10.69.0.3:2379\n  - https://10.69.0.195:2379\n\
                    # the rest\nprefix: /neco/\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(cluster.server(0).begun("write /etc/neco/config.yml"), 1);
    cluster.update().await;
    assert_eq!(cluster.server(0).begun("write /etc/neco/config.yml"), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn without_certificates_nothing_of_etcd_is_touched() {
    let mut cluster = Cluster::of(2).await;
    let etcd = InMemory::of(&cluster, [0, 1, 7]);
    let path = cluster.server(0).path("/etc/neco/config.yml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "endpoints: [http://127.0.0.1:2379]\n").unwrap();
    cluster.update().await;
    assert_eq!(etcd.names().await, names(&[0, 1, 7]));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "endpoints: [http://127.0.0.1:2379]\n");
    for server in &cluster.servers {
        assert!(!server.path(super::CONFIG).exists());
        assert_eq!(server.begun("pull ghcr.io/cybozu/etcd:3.5.15.1"), 1, "fetch-images alone");
    }
    assert_eq!(turns_taken(&cluster), 0);
    cluster.verdict().await;
}
