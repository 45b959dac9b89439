//! Several real servers.

mod common;

use std::fs;
use std::time::Duration;

use common::{connect, get, member, process_exists, put, until, within};
use neco_etcd::{Cluster, ClusterOptions, Error, Stopped};

fn options() -> ClusterOptions {
    ClusterOptions { member: Some(member("m")), ..ClusterOptions::default() }
}

#[tokio::test]
async fn three_members_form_one_cluster() {
    let mut cluster = Cluster::start(3, options()).await.unwrap();
    assert_eq!(cluster.len(), 3);
    let mut client = connect(&cluster.endpoints()).await;
    let members = within("member list", client.member_list()).await.unwrap();
    let mut names: Vec<&str> = members.members().iter().map(|m| m.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    put(&cluster.member(0).client_url(), "k", "v").await;
    assert_eq!(get(&cluster.member(2).client_url(), "k").await.as_deref(), Some("v"));
    assert_eq!(cluster.stop().await.unwrap(), [Stopped::Orderly; 3]);
}

#[tokio::test]
async fn a_killed_member_catches_up_after_its_restart() {
    let mut cluster = Cluster::start(3, options()).await.unwrap();
    cluster.member_mut(1).kill().await.unwrap();
    put(&cluster.member(0).client_url(), "k", "v").await;
    cluster.member_mut(1).restart().await.unwrap();
    assert_eq!(get(&cluster.member(1).client_url(), "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_cluster_goes_on_while_one_member_is_paused() {
    let cluster = Cluster::start(3, options()).await.unwrap();
    cluster.member(2).pause().await.unwrap();
    put(&cluster.member(0).client_url(), "k", "v").await;
    cluster.member(2).resume().await.unwrap();
    assert_eq!(get(&cluster.member(2).client_url(), "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_member_without_quorum_is_not_ready_until_there_is_one() {
    let mut cluster = Cluster::start(3, options()).await.unwrap();
    put(&cluster.member(0).client_url(), "k", "v").await;
    for n in 0..3 {
        cluster.member_mut(n).kill().await.unwrap();
    }
    cluster.member_mut(0).relaunch().await.unwrap();
    let alone = tokio::time::timeout(Duration::from_millis(500), cluster.member(0).ready()).await;
    assert!(alone.is_err(), "a member of three was ready alone: {alone:?}");
    within("restart of all", cluster.restart()).await.unwrap();
    assert_eq!(get(&cluster.member(2).client_url(), "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn kept_data_start_as_the_same_cluster_again() {
    let dir = tempfile::tempdir().unwrap();
    let kept = || ClusterOptions { data_dir: Some(dir.path().to_owned()), ..options() };
    let cluster = Cluster::start(3, kept()).await.unwrap();
    let endpoints = cluster.endpoints();
    put(&endpoints[0], "k", "v").await;
    let mut cluster = cluster;
    cluster.stop().await.unwrap();
    drop(cluster);

    let error = Cluster::start(2, kept()).await.unwrap_err();
    assert!(matches!(error, Error::Prepare { .. }), "{error}");
    let cluster = Cluster::start(3, kept()).await.unwrap();
    assert_eq!(cluster.endpoints(), endpoints);
    assert_eq!(get(&endpoints[1], "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn data_without_recorded_addresses_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("m1/member");
    fs::create_dir_all(&precious).unwrap();
    let kept = ClusterOptions { data_dir: Some(dir.path().to_owned()), ..options() };
    let error = Cluster::start(3, kept).await.unwrap_err();
    assert!(matches!(&error, Error::Prepare { path, .. } if path.ends_with("m1")), "{error}");
    assert!(precious.is_dir());
}

#[tokio::test]
async fn one_invalid_member_starts_nothing() {
    let invalid = ClusterOptions { member: Some(member("m/")), ..ClusterOptions::default() };
    let error = Cluster::start(3, invalid).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn nothing_is_left_after_drop() {
    let cluster = Cluster::start(3, options()).await.unwrap();
    let left: Vec<_> = (0..3)
        .map(|n| (cluster.member(n).pid(), cluster.member(n).data_dir().to_owned()))
        .collect();
    drop(cluster);
    until("all are gone", || left.iter().all(|(pid, dir)| !process_exists(*pid) && !dir.exists()))
        .await;
}
