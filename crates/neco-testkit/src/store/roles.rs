//! Cases of what is built on a store: sessions, elections, turns, signs of life.

use std::sync::Arc;
use std::time::Duration;

use neco_schema::{
    Alive, Key, Lrn, NecoVersion, Record, RequestId, Revision, Timestamp, Turn, Txn,
};
use neco_store::turn::{self, Taking};
use neco_store::{
    Beat, CampaignError, Committed, Election, Heart, Leadership, Session, SessionLost,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Rig, WITHIN, all, cases, delete, eventually, one, op_put, put};

cases![
    a_session_outlives_its_first_lease_time,
    a_session_notices_the_end_of_its_lease,
    a_closed_session_takes_its_keys_along,
    candidates_lead_in_the_order_of_their_arrival,
    a_leader_that_lost_its_key_writes_nothing,
    a_given_up_campaign_leaves_no_candidate,
    a_campaign_ends_with_its_session,
    a_candidate_that_went_with_its_lease_was_not_removed,
    a_removed_candidate_is_told,
    a_second_campaign_of_a_session_goes_on_with_the_first,
    a_turn_is_taken_by_one,
    a_sign_of_life_belongs_to_one_machine,
];

const LONG: Duration = Duration::from_secs(60);

async fn session(rig: &Rig, ttl: Duration) -> Arc<Session> {
    Arc::new(Session::open(rig.store.clone(), ttl).await.expect("a lease"))
}

async fn close(session: Arc<Session>) {
    let session = Arc::into_inner(session).expect("nobody else has it");
    session.close().await.expect("revoked");
}

fn election(rig: &Rig) -> Election {
    Election::new(rig.store.clone(), "updater")
}

/// A campaign in the background.
fn stand(rig: &Rig, session: &Arc<Session>, name: &'static str) -> JoinHandle<Leadership> {
    let (election, session) = (election(rig), session.clone());
    tokio::spawn(
        async move { election.campaign(&session, name).await.expect("it is won in the end") },
    )
}

async fn candidates(rig: &Rig) -> usize {
    rig.read(&[all("leader/updater//")]).await.kvs.len()
}

async fn until_candidates(rig: &Rig, count: usize) {
    eventually("the number of candidates", async || (candidates(rig).await == count).then_some(()))
        .await;
}

async fn won(campaign: JoinHandle<Leadership>) -> Leadership {
    timeout(WITHIN, campaign).await.expect("it is won in time").expect("it does not panic")
}

async fn a_session_outlives_its_first_lease_time(rig: Rig) {
    let session = session(&rig, Duration::from_secs(1)).await;
    let bound = Txn::default().then(op_put("a", "").with_lease(session.lease()));
    rig.commit(&bound).await;
    // A lease of the same length that nobody renews shows when the time is over.
    let unkept = rig.store.grant(Duration::from_secs(1)).await.expect("granted");
    rig.commit(&Txn::default().then(op_put("b", "").with_lease(unkept))).await;
    eventually("the other lease's end", async || rig.get("b").await.is_none().then_some(())).await;
    assert!(rig.get("a").await.is_some());
    assert_eq!(session.is_lost(), None);
}

async fn a_session_notices_the_end_of_its_lease(rig: Rig) {
    let session = session(&rig, Duration::from_secs(3)).await;
    let lost = session.lost();
    rig.store.revoke(session.lease()).await.expect("revoked");
    assert_eq!(timeout(WITHIN, lost).await.expect("it is noticed"), SessionLost::Expired);
    assert_eq!(session.is_lost(), Some(SessionLost::Expired));
}

async fn a_closed_session_takes_its_keys_along(rig: Rig) {
    let session = session(&rig, LONG).await;
    rig.commit(&Txn::default().then(op_put("a", "").with_lease(session.lease()))).await;
    close(session).await;
    assert_eq!(rig.get("a").await, None);
}

async fn candidates_lead_in_the_order_of_their_arrival(rig: Rig) {
    let (mut sessions, mut waiting) = (Vec::new(), Vec::new());
    for (n, name) in ["boot-0", "boot-1", "boot-2", "boot-3"].into_iter().enumerate() {
        sessions.push(session(&rig, LONG).await);
        waiting.push(stand(&rig, &sessions[n], name));
        until_candidates(&rig, n + 1).await;
    }
    let mut waiting = waiting.into_iter();
    let first = won(waiting.next().expect("four")).await;
    let leader = election(&rig).leader().await.expect("an answer").expect("a leader");
    assert_eq!(leader.value, b"boot-0");
    assert_eq!(leader.key, format!("leader/updater//{:x}", sessions[0].lease().0));
    assert_eq!(leader.create_revision, first.create_revision());
    assert_eq!(leader.key, first.key().to_string());

    // By resigning,
    election(&rig).resign(&first).await.expect("resigned");
    election(&rig).resign(&first).await.expect("a missing key is fine");
    let second = won(waiting.next().expect("four")).await;
    assert!(second.create_revision() > first.create_revision());
    // by a candidate in the middle that goes away, which makes nobody the leader,
    let third = waiting.next().expect("four");
    third.abort();
    until_candidates(&rig, 2).await;
    let last = waiting.next().expect("four");
    assert!(!last.is_finished());
    // and by the end of a session.
    close(sessions.swap_remove(1)).await;
    let last = won(last).await;
    assert!(last.create_revision() > second.create_revision());
}

async fn a_leader_that_lost_its_key_writes_nothing(rig: Rig) {
    let session = session(&rig, LONG).await;
    let leadership = won(stand(&rig, &session, "boot-0")).await;
    let write = |text: &str| put("a", text).when(leadership.compare());
    rig.commit(&write("1")).await;
    election(&rig).resign(&leadership).await.expect("resigned");
    assert_eq!(rig.store.commit(&write("2")).await.expect("an answer"), Committed::Refused);
    // The same session leads again, and the old proof stays worthless.
    let again = won(stand(&rig, &session, "boot-0")).await;
    assert_eq!(again.key(), leadership.key());
    assert_eq!(rig.store.commit(&write("3")).await.expect("an answer"), Committed::Refused);
    rig.commit(&put("a", "4").when(again.compare())).await;
}

async fn a_given_up_campaign_leaves_no_candidate(rig: Rig) {
    let leading = session(&rig, LONG).await;
    won(stand(&rig, &leading, "boot-0")).await;
    let waiting = session(&rig, LONG).await;
    let election = election(&rig);
    {
        let campaign = election.campaign(&waiting, "boot-1");
        tokio::pin!(campaign);
        tokio::select! {
            biased;
            _ = &mut campaign => panic!("another leads"),
            () = until_candidates(&rig, 2) => {}
        }
    }
    // The session goes on, only the candidate is gone.
    until_candidates(&rig, 1).await;
    assert_eq!(waiting.is_lost(), None);
}

async fn a_campaign_ends_with_its_session(rig: Rig) {
    let leading = session(&rig, LONG).await;
    won(stand(&rig, &leading, "boot-0")).await;
    let waiting = session(&rig, Duration::from_secs(3)).await;
    let lease = waiting.lease();
    let election = election(&rig);
    let campaign = tokio::spawn(async move { election.campaign(&waiting, "boot-1").await });
    until_candidates(&rig, 2).await;
    rig.store.revoke(lease).await.expect("revoked");
    let ended = timeout(WITHIN, campaign).await.expect("in time").expect("no panic");
    assert!(
        matches!(ended, Err(CampaignError::Session { source: SessionLost::Expired, .. })),
        "{ended:?}"
    );
}

async fn a_candidate_that_went_with_its_lease_was_not_removed(rig: Rig) {
    let leading = session(&rig, LONG).await;
    let leadership = won(stand(&rig, &leading, "boot-0")).await;
    // Its session renews the lease rarely, so the campaign is the first to see that it is gone.
    let waiting = session(&rig, Duration::from_secs(600)).await;
    let lease = waiting.lease();
    let election = election(&rig);
    let resigning = election.clone();
    let campaign = tokio::spawn(async move { election.campaign(&waiting, "boot-1").await });
    until_candidates(&rig, 2).await;
    rig.store.revoke(lease).await.expect("revoked");
    resigning.resign(&leadership).await.expect("resigned");
    let ended = timeout(WITHIN, campaign).await.expect("in time").expect("no panic");
    assert!(
        matches!(ended, Err(CampaignError::Session { source: SessionLost::Expired, .. })),
        "{ended:?}"
    );
}

async fn a_removed_candidate_is_told(rig: Rig) {
    let leading = session(&rig, LONG).await;
    let leadership = won(stand(&rig, &leading, "boot-0")).await;
    let waiting = session(&rig, LONG).await;
    let key = format!("leader/updater//{:x}", waiting.lease().0);
    let campaign = {
        let election = election(&rig);
        tokio::spawn(async move { election.campaign(&waiting, "boot-1").await })
    };
    until_candidates(&rig, 2).await;
    rig.commit(&delete(one(&key))).await;
    election(&rig).resign(&leadership).await.expect("resigned");
    let ended = timeout(WITHIN, campaign).await.expect("in time").expect("no panic");
    assert!(matches!(ended, Err(CampaignError::Removed { key: told }) if told == key));
}

async fn a_second_campaign_of_a_session_goes_on_with_the_first(rig: Rig) {
    let session = session(&rig, LONG).await;
    let first = won(stand(&rig, &session, "boot-0")).await;
    let again = won(stand(&rig, &session, "boot-0 again")).await;
    assert_eq!(first, again);
    let leader = election(&rig).leader().await.expect("an answer").expect("a leader");
    assert_eq!(leader.value, b"boot-0 again");
}

async fn a_turn_is_taken_by_one(rig: Rig) {
    let turn = |lrn, request: &str| Turn {
        lrn: Lrn::new(lrn),
        request: RequestId::claimed(request),
        since: Timestamp::default(),
        unknown: Default::default(),
    };
    let store = &*rig.store;
    let take = async |turn: &Turn| turn::take(store, "etcd", turn).await.expect("an answer");
    let Taking::Taken(at) = take(&turn(0, "r")).await else { panic!("nobody has it") };
    assert_eq!(take(&turn(1, "r")).await, Taking::HeldBy(turn(0, "r")));
    // One's own is held, also after a restart and in another request.
    assert_eq!(take(&turn(0, "r")).await, Taking::Taken(at));
    assert_eq!(take(&turn(0, "later")).await, Taking::Taken(at));
    let held = turn::list(store).await.expect("an answer");
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].name.as_str(), held[0].create_revision), ("etcd", at));

    assert!(!turn::release(store, "etcd", Revision(at.0 - 1)).await.expect("an answer"));
    assert!(turn::release(store, "etcd", at).await.expect("an answer"));
    let Taking::Taken(other) = take(&turn(1, "r")).await else { panic!("it is free") };
    // A late release of the first holder does not touch the second's.
    assert!(!turn::release(store, "etcd", at).await.expect("an answer"));
    assert!(other > at && turn::find(store, "etcd").await.expect("an answer").is_some());

    rig.commit(&put(&Key::Turn("serf".into()).to_string(), "{nonsense")).await;
    let error = turn::take(store, "serf", &turn(0, "r")).await.expect_err("it cannot be read");
    assert!(error.to_string().contains("turn/serf"), "{error}");
}

async fn a_sign_of_life_belongs_to_one_machine(rig: Rig) {
    let alive = |machine: &str, busy: &[&str]| Alive {
        machine_id: machine.to_owned(),
        boot_id: String::new(),
        version: "2021.04.19-13965".parse::<NecoVersion>().expect("a version"),
        address: String::new(),
        busy: busy.iter().map(|text| (*text).to_owned()).collect(),
        unfit: Vec::new(),
        unknown: Default::default(),
    };
    let mut own = Heart::new(rig.store.clone(), Lrn::new(1));
    let mut other = Heart::new(rig.store.clone(), Lrn::new(1));
    assert_eq!(own.beat(&alive("m1", &[])).await.expect("an answer"), Beat::Ours);
    let written = rig.get("alive/1").await.expect("written");
    assert_eq!(own.beat(&alive("m1", &[])).await.expect("an answer"), Beat::Ours);
    assert_eq!(rig.get("alive/1").await, Some(written.clone()), "nothing to write");
    assert_eq!(
        other.beat(&alive("m2", &[])).await.expect("an answer"),
        Beat::HeldByOther(Box::new(alive("m1", &[])))
    );
    // The same machine after a restart takes its record over, under a lease of its own.
    let mut restarted = Heart::new(rig.store.clone(), Lrn::new(1));
    assert_eq!(restarted.beat(&alive("m1", &["etcd"])).await.expect("an answer"), Beat::Ours);
    let kv = rig.get("alive/1").await.expect("written");
    assert_eq!(Alive::decode(&kv.value).expect("a record").busy, ["etcd"]);
    assert_ne!(kv.lease, written.lease);
    // Lost with its lease, it is written again.
    rig.store.revoke(kv.lease.expect("a lease")).await.expect("revoked");
    assert_eq!(rig.get("alive/1").await, None);
    assert_eq!(restarted.beat(&alive("m1", &[])).await.expect("an answer"), Beat::Ours);
    restarted.stop().await.expect("revoked");
    assert_eq!(rig.get("alive/1").await, None);
    assert_eq!(other.beat(&alive("m2", &[])).await.expect("an answer"), Beat::Ours);
}
