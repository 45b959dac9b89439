//! Outages, lost answers and odd watches, on the in-memory store with a clock that the test owns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neco_schema::{Alive, Lrn, NecoVersion, RequestId, Revision, Timestamp, Turn};
use neco_store::turn::{self, Taking};
use neco_store::{
    Beat, Committed, Election, Follower, Heard, Heart, MemoryStore, Session, SessionLost, Severity,
    Store, StoreError, WatchEvent,
};
use neco_testkit::store::{all, put};
use tokio::time::{Instant, timeout};

const TTL: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

async fn session(store: &MemoryStore) -> Session {
    Session::open(Arc::new(store.clone()), TTL).await.expect("a lease")
}

fn election(store: &MemoryStore) -> Election {
    Election::new(Arc::new(store.clone()), "updater")
}

#[tokio::test(start_paused = true)]
async fn a_session_without_answers_gives_up_before_its_lease_ends() {
    let store = MemoryStore::default();
    let session = session(&store).await;
    tokio::time::sleep(Duration::from_secs(35)).await;
    store.go_down();
    let before = Instant::now();
    let why = timeout(HOUR, session.lost()).await.expect("it is noticed");
    assert_eq!(why, SessionLost::Silent { ttl: TTL });
    assert!(before.elapsed() <= TTL);
    // The lease outlived the session's belief in it, not the other way round.
    assert!(store.with(|mvcc| mvcc.next_expiry()).is_none_or(|left| left < Duration::from_secs(2)));
}

#[tokio::test(start_paused = true)]
async fn a_session_rides_out_a_shorter_outage() {
    let store = MemoryStore::default();
    let session = session(&store).await;
    for _ in 0..5 {
        store.go_down();
        tokio::time::sleep(TTL / 2).await;
        store.come_back();
        tokio::time::sleep(TTL / 2).await;
    }
    assert_eq!(session.is_lost(), None);
    assert!(matches!(store.keep_alive(session.lease()).await, Ok(neco_store::KeepAlive::Alive(_))));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_tells_that_it_stands_before_it_leads_and_not_before_it_is_written() {
    let store = MemoryStore::default();
    let (first, second) = (session(&store).await, session(&store).await);
    election(&store).campaign(&first, "0").await.expect("nobody else stands");
    let told = AtomicUsize::new(0);
    let stands = || {
        told.fetch_add(1, Ordering::SeqCst);
    };
    let election = election(&store);
    store.go_down();
    {
        let campaign = election.campaign_telling(&second, "1", stands);
        tokio::pin!(campaign);
        assert!(timeout(TTL / 4, &mut campaign).await.is_err());
        assert_eq!(told.load(Ordering::SeqCst), 0, "etcd has taken nothing");
        store.come_back();
        assert!(timeout(TTL / 2, &mut campaign).await.is_err(), "another leads");
        assert_eq!(told.load(Ordering::SeqCst), 1, "told once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_campaign_rides_out_an_outage() {
    let store = MemoryStore::default();
    let (first, second) = (session(&store).await, session(&store).await);
    let leadership = election(&store).campaign(&first, "0").await.expect("nobody else stands");
    let election = election(&store);
    let campaign = election.campaign(&second, "1");
    tokio::pin!(campaign);
    let mut wait = async |time| {
        let ended = timeout(time, &mut campaign).await;
        assert!(ended.is_err(), "{ended:?}");
    };
    wait(Duration::from_secs(10)).await;
    store.go_down();
    wait(TTL / 2).await;
    store.come_back();
    store.close_watches();
    wait(HOUR).await;
    store.hold_watches(true);
    election.resign(&leadership).await.expect("resigned");
    // No event ever tells; time does.
    let won = timeout(TTL, &mut campaign).await.expect("in time").expect("it leads");
    assert!(won.create_revision() > leadership.create_revision());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_candidate() {
    let store = MemoryStore::default();
    let session = session(&store).await;
    store.lose_answers(1);
    let leadership = election(&store).campaign(&session, "0").await.expect("it leads");
    let candidates = store.read(&[all("leader/")], None).await.expect("an answer");
    assert_eq!(candidates.kvs.len(), 1);
    store.lose_answers(1);
    election(&store).resign(&leadership).await.expect("the candidate is gone");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_unknown_and_looking_again_tells() {
    let store = MemoryStore::default();
    let turn = Turn {
        lrn: Lrn::new(1),
        request: RequestId::claimed("r"),
        since: Timestamp::default(),
        unknown: Default::default(),
    };
    store.lose_answers(1);
    let error = turn::take(&store, "etcd", &turn).await.expect_err("lost");
    assert!(matches!(error, StoreError::Unknown { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::TryAgain);
    let Ok(Taking::Taken(at)) = turn::take(&store, "etcd", &turn).await else { panic!("ours") };
    assert_eq!(store.with(|mvcc| mvcc.revision()), at, "it was not written twice");

    let alive = Alive {
        machine_id: "m".to_owned(),
        boot_id: String::new(),
        version: "2021.04.19-13965".parse::<NecoVersion>().expect("a version"),
        address: String::new(),
        busy: Vec::new(),
        unfit: Vec::new(),
        unknown: Default::default(),
    };
    let mut heart = Heart::new(Arc::new(store.clone()), Lrn::new(1));
    store.lose_answers(1);
    assert_eq!(heart.beat(&alive).await.expect("it looks again"), Beat::Ours);
}

#[tokio::test(start_paused = true)]
async fn a_follower_hints_whatever_its_watch_does() {
    let store = MemoryStore::default();
    let mut follower = Follower::every(Arc::new(store.clone()), vec![all("a")], HOUR);
    let mut hinted = async |within| timeout(within, follower.changed()).await.is_ok();
    let soon = Duration::from_secs(20);
    assert!(hinted(soon).await, "the first look");
    while hinted(soon).await {}

    store.commit(&put("b", "")).await.expect("written");
    assert!(!hinted(soon).await, "not followed");
    store.repeat_events(3);
    store.commit(&put("a", "")).await.expect("written");
    assert!(hinted(soon).await, "a change");
    while hinted(soon).await {}
    store.close_watches();
    assert!(hinted(soon).await, "a lost watch");
    while hinted(soon).await {}
    let backup = store.with(|mvcc| mvcc.clone());
    store.commit(&put("a", "")).await.expect("written");
    store.with(|mvcc| mvcc.restore(&backup, 99));
    assert!(hinted(soon).await, "a restored backup");
    while hinted(soon).await {}

    store.hold_watches(true);
    store.commit(&put("a", "")).await.expect("written");
    assert!(!hinted(soon).await, "the event is late");
    assert!(hinted(HOUR).await, "the time is up");
    store.hold_watches(false);
    store.go_down();
    store.close_watches();
    store.commit(&put("a", "")).await.expect_err("down");
    while hinted(soon).await {}
    store.come_back();
    assert!(hinted(soon).await, "back again");
}

#[tokio::test(start_paused = true)]
async fn a_follower_passes_over_what_a_look_has_shown_and_nothing_else() {
    let store = MemoryStore::default();
    let mut follower = Follower::every(Arc::new(store.clone()), vec![all("a")], HOUR);
    let mut hinted = async |since| {
        let soon = Duration::from_secs(20);
        timeout(soon, follower.changed_since(since)).await.is_ok()
    };
    assert!(hinted(Revision(i64::MAX)).await, "the first look");
    while hinted(Revision(i64::MAX)).await {}

    let at = async |value| match store.commit(&put("a", value)).await.expect("written") {
        Committed::Done(revision) => revision,
        Committed::Refused => unreachable!("nothing was compared"),
    };
    let first = at("1").await;
    assert!(!hinted(first).await, "the look at this revision has shown it");
    let second = at("2").await;
    assert!(second > first && hinted(first).await, "newer than the look");
    assert!(!hinted(first).await, "told once");
    // A restored backup counts its revisions anew.
    let backup = store.with(|mvcc| mvcc.clone());
    at("3").await;
    while hinted(second).await {}
    store.with(|mvcc| mvcc.restore(&backup, 99));
    assert!(hinted(Revision(i64::MAX)).await, "a restored backup");
    while hinted(Revision(i64::MAX)).await {}
    store.close_watches();
    assert!(hinted(Revision(i64::MAX)).await, "a lost watch");
}

#[tokio::test(start_paused = true)]
async fn watches_survive_an_outage_and_see_a_restore() {
    let store = MemoryStore::default();
    let mut watch = store.watch(&[all("a")], Revision(2)).await.expect("a watch");
    store.commit(&put("a", "1")).await.expect("written");
    store.go_down();
    assert!(timeout(HOUR, watch.next()).await.is_err());
    store.come_back();
    assert!(matches!(watch.next().await, Ok(WatchEvent::Changed(changes)) if changes.len() == 1));
    let backup = store.with(|mvcc| mvcc.clone());
    for n in 0..3 {
        let done = store.commit(&put("a", n.to_string())).await;
        assert!(matches!(done, Ok(Committed::Done(_))));
        assert!(matches!(watch.next().await, Ok(WatchEvent::Changed(_))));
    }
    store.with(|mvcc| mvcc.restore(&backup, mvcc.cluster_id()));
    assert!(matches!(watch.next().await, Ok(WatchEvent::Lost { .. })));
    store.fail_calls(1);
    let error = store.read(&[], None).await.expect_err("it fails once");
    assert!(matches!(error, StoreError::Unreachable { .. }));
    assert!(store.read(&[], None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_follower_tells_changes_only_where_they_are_all_there_is() {
    let store = MemoryStore::default();
    let mut follower = Follower::every(Arc::new(store.clone()), vec![all("a")], HOUR);
    let mut hear = async |since| {
        let soon = Duration::from_secs(20);
        timeout(soon, follower.heard_since(since)).await.ok()
    };
    let at = async |value: String| match store.commit(&put("a", value)).await.expect("written") {
        Committed::Done(revision) => revision,
        Committed::Refused => unreachable!("nothing was compared"),
    };
    let revisions = |heard: Option<Heard>| match heard {
        Some(Heard::Changes(changes)) => {
            changes.into_iter().map(|change| change.revision).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let seen = at("0".to_owned()).await;
    while let Some(heard) = hear(seen).await {
        assert_eq!(heard, Heard::Look, "the first look");
    }
    let (first, second) = (at("1".to_owned()).await, at("2".to_owned()).await);
    assert_eq!(revisions(hear(seen).await), [first, second]);
    assert_eq!(hear(second).await, None, "told once");
    // Events that come again are older than what was told.
    store.repeat_events(2);
    let third = at("3".to_owned()).await;
    assert_eq!(revisions(hear(second).await), [third]);
    assert_eq!(hear(third).await, None);
    // Whoever is behind what was told has missed something.
    let fourth = at("4".to_owned()).await;
    assert_eq!(hear(first).await, Some(Heard::Look));
    // So has whoever lets too much pile up.
    for n in 0..1_100 {
        at(n.to_string()).await;
    }
    tokio::task::yield_now().await;
    assert_eq!(hear(fourth).await, Some(Heard::Look));
    let large = at("x".repeat(1 << 20)).await;
    let last = at("y".repeat(1 << 20)).await;
    assert!(last > large);
    assert_eq!(hear(large).await, Some(Heard::Look));
    // And what came before the watch was lost is no news after it.
    at("5".to_owned()).await;
    store.close_watches();
    assert_eq!(hear(last).await, Some(Heard::Look));
}
