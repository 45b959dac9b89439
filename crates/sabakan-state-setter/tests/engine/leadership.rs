//! One leads, and another takes over.

use std::sync::Arc;
use std::time::Duration;

use neco_sabakan::MachineState::{Healthy, Unhealthy, Unreachable};
use neco_schema::{GracePeriods, Key, Op, Range, Record as _, Txn};
use neco_serf::Status;
use neco_store::{Election, Store as _};

use crate::bench::{Bench, WELL};

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_when_it_ends_the_other_does() {
    let bench = Bench::new().await;
    let address = bench.machine("a", "qemu", Healthy).await;
    let one = bench.start("boot-0");
    one.sees("its own leadership", |now| now.leads).await;
    let other = bench.start("boot-1");
    other.sees("the other's leadership", |now| now.waiting_for.contains("another server")).await;
    one.looks(2).await;
    assert_eq!((other.observed().looks, other.observed().leads), (0, false));

    // As the original has it: host name at leader/sabakan-state-setter//LEASE.
    let election = Election::new(Arc::new(bench.store.clone()), "sabakan-state-setter");
    let leader = election.leader().await.expect("etcd").expect("a leader");
    assert_eq!(leader.value, b"boot-0");
    assert!(leader.key.starts_with("leader/sabakan-state-setter//"), "{}", leader.key);

    one.stop().await;
    other.sees("its own leadership", |now| now.leads).await;
    bench.serf("a", address, Status::Failed, &[]);
    bench.becomes("a", Unreachable).await;
    other.stop().await;
    let left = bench.store.read(&[Range::Prefix("leader/".to_owned())], None).await.expect("etcd");
    assert!(left.kvs.is_empty(), "{:?}", left.kvs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_goes_on_counting_how_long_a_machine_is_bad() {
    let bench = Bench::new().await;
    let address = bench.machine("a", "patient", Healthy).await;
    bench.exporters.be_ill(address);
    let recorded = async || {
        let now = bench.store.read(&[Range::from(&Key::GracePeriods)], None).await.expect("etcd");
        let kv = now.kvs.get(&Key::GracePeriods.to_string());
        kv.map(|kv| GracePeriods::decode(&kv.value).expect("a record"))
    };
    let one = bench.start("boot-0");
    one.sees("a grace", |now| now.grace.contains_key("a")).await;
    let mut record = recorded().await.expect("it is written down");
    assert_eq!(record.since, one.observed().grace);
    one.stop().await;
    let other = bench.start("boot-1");
    other.sees("the same grace", |now| now.grace == record.since).await;
    other.stop().await;

    // As if the first had begun two hours ago; the grace is one.
    let since = record.since.get_mut("a").expect("it is bad");
    *since = since.plus_nanos(-2 * 3600 * 1_000_000_000);
    record.unknown.insert("colour".to_owned(), "red".into());
    let put = async |op: Op| bench.store.commit(&Txn::default().then(op)).await;
    put(Op::put(&Key::GracePeriods, &record)).await.expect("put");
    let third = bench.start("boot-2");
    bench.becomes("a", Unhealthy).await;
    // The look after that one sees what was told.
    third.looks(3).await;
    assert!(third.observed().grace.is_empty(), "{:?}", third.observed().grace);
    let left = recorded().await.expect("what is not known stays");
    assert_eq!((left.since.len(), left.unknown.len()), (0, 1));
    third.stop().await;

    // What cannot be read begins anew.
    bench.exporters.say(address, WELL).await;
    put(Op::put_bytes(&Key::GracePeriods, "no record")).await.expect("put");
    let fourth = bench.start("boot-0");
    fourth.is_troubled_by("sabakan-state-setter/grace-periods: ").await;
    bench.becomes("a", Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_deletes_the_key_of_the_election_ends_the_term() {
    let bench = Bench::new().await;
    bench.machine("a", "qemu", Healthy).await;
    let one = bench.start("boot-0");
    one.sees("its own leadership", |now| now.leads && now.looks > 1).await;
    let other = bench.start("boot-1");
    other.sees("the other's leadership", |now| now.waiting_for.contains("another server")).await;
    let election = Election::new(Arc::new(bench.store.clone()), "sabakan-state-setter");
    let leader = election.leader().await.expect("etcd").expect("a leader");
    let delete = Op::delete_prefix(leader.key.clone());
    bench.store.commit(&Txn::default().then(delete)).await.expect("deleted");
    other.sees("its own leadership", |now| now.leads).await;
    one.sees("the end of its term", |now| !now.leads).await;
    other.looks(2).await;
    assert!(!one.observed().leads, "it stands behind the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_away_ends_the_term_and_begins_another() {
    let bench = Bench::new().await;
    let address = bench.machine("a", "qemu", Healthy).await;
    let daemon = bench.start_with("boot-0", |options| {
        options.session_ttl = Duration::from_secs(2);
    });
    daemon.looks(2).await;
    bench.store.go_down();
    daemon.is_troubled_by("asking etcd").await;
    daemon.sees("the end of its term", |now| !now.leads && !now.waiting_for.is_empty()).await;
    bench.exporters.say(address, &WELL.replace("cpu{n=\"1\"} 0", "cpu{n=\"1\"} 2")).await;
    assert_eq!(bench.state("a").await, Healthy);
    bench.store.come_back();
    bench.becomes("a", Unhealthy).await;
}
