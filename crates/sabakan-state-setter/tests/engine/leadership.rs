//! One leads, and another takes over.

use neco_sabakan::MachineState::{Healthy, Unhealthy, Unreachable};
use neco_schema::{Op, Range, Txn};
use neco_serf::Status;
use neco_store::{Election, Store as _};
use std::sync::Arc;

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
    let daemon = bench.start("boot-0");
    daemon.looks(2).await;
    bench.store.go_down();
    daemon.is_troubled_by("asking etcd").await;
    daemon.sees("the end of its term", |now| !now.leads && !now.waiting_for.is_empty()).await;
    bench.exporters.say(address, &WELL.replace("cpu{n=\"1\"} 0", "cpu{n=\"1\"} 2")).await;
    assert_eq!(bench.state("a").await, Healthy);
    bench.store.come_back();
    bench.becomes("a", Unhealthy).await;
}
