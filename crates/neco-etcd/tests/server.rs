//! One real server, from its first word to its last.

mod common;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use common::{DEADLINE, get, member, process_exists, put, until, within};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use neco_etcd::{AutoCompaction, Binary, Error, MemberConfig, Server, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

#[tokio::test]
async fn a_default_member_is_ready_and_serves() {
    let mut server = Server::start(member("m")).await.unwrap();
    within("ready again", server.ready()).await.unwrap();
    put(&server.client_url(), "k", "v").await;
    assert_eq!(get(&server.client_url(), "k").await.as_deref(), Some("v"));
    assert!(server.is_running());
    assert_eq!(server.stop().await.unwrap(), Stopped::Orderly);
    assert!(!server.is_running());
    assert_eq!(server.stop().await.unwrap(), Stopped::Already);
}

#[tokio::test]
async fn it_advertises_the_address_on_which_it_serves() {
    let server = Server::start(member("m")).await.unwrap();
    let mut client = common::connect(&[server.client_url()]).await;
    let members = within("member list", client.member_list()).await.unwrap();
    assert_eq!(members.members()[0].client_urls(), [server.client_url()]);
    assert_eq!(members.members()[0].peer_urls(), [server.peer_url()]);
}

#[tokio::test]
async fn ready_is_signalled_after_launch() {
    let binary = Binary::find().await.unwrap();
    let server = Server::launch(&binary, member("m")).await.unwrap();
    let (first, second) = (server.ready(), server.ready());
    within("ready", first).await.unwrap();
    within("ready for another", second).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_reported_in_etcds_own_words() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", holder.local_addr().unwrap());
    let error = Server::start(member("m").client_url(&url)).await.unwrap_err();
    let Error::EarlyExit(exit) = &error else { panic!("{error}") };
    assert!(exit.words.contains("bind: address already in use"), "{error}");
    assert_eq!(exit.status.and_then(|status| status.code()), Some(1));
    assert!(!exit.requested && !exit.log.is_empty());
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[tokio::test]
async fn an_unusable_data_directory_is_reported_in_etcds_own_words() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Server::start(member("m").data_dir(file.path())).await.unwrap_err();
    assert!(matches!(error, Error::EarlyExit(_)), "{error}");
    assert!(error.to_string().contains("not a directory"), "{error}");
}

#[tokio::test]
async fn an_invalid_configuration_starts_nothing() {
    let error = Server::start(member("a,b").data_dir("/").max_txn_ops(0)).await.unwrap_err();
    let Error::Invalid { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.0.len(), 3, "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_ready_in_time_is_an_error() {
    // A member of two never finds a leader alone.
    let all = [("m", "http://127.0.0.1:9"), ("n", "http://127.0.0.1:10")];
    let all = all.map(|(name, url)| (name.to_owned(), url.to_owned()));
    let config = member("m")
        .peer_url("http://127.0.0.1:9")
        .initial_cluster(all, neco_etcd::ClusterState::New)
        .start_within(Duration::from_millis(300));
    let binary = Binary::find().await.unwrap();
    let server = Server::launch(&binary, config).await.unwrap();
    let pid = server.pid();
    match within("ready", server.ready()).await.unwrap_err() {
        Error::NotReady { within, .. } => assert_eq!(within, Duration::from_millis(300)),
        // An ordinary user may not listen below 1024.
        Error::EarlyExit(exit) => assert!(exit.words.contains("permission denied"), "{exit}"),
        other => panic!("{other}"),
    }
    drop(server);
    until("the child is gone", || !process_exists(pid)).await;
}

/// Scenario M30: an embedded server that dies after it was ready is reported to its caller.
#[tokio::test]
async fn death_after_ready_is_noticed_and_reported() {
    let server = Server::start(member("m")).await.unwrap();
    let exited = server.exited();
    // Signals of ours that do not end it do not make its end a requested one.
    server.pause().await.unwrap();
    server.resume().await.unwrap();
    signal(server.pid(), Signal::SIGKILL);
    let exit = within("exit", exited).await;
    assert!(!exit.requested && exit.was_ready);
    assert!(exit.log.iter().any(|line| line.contains("published local member to cluster")));
    let error = exit.into_result().unwrap_err().to_string();
    assert!(error.contains("etcd member m ended unexpectedly (signal: 9 (SIGKILL))"), "{error}");
    assert!(!server.is_running());
    let error = within("ready", server.ready()).await.unwrap_err();
    assert!(matches!(error, Error::Died(_)), "{error}");
}

#[tokio::test]
async fn a_requested_end_is_no_error() {
    let mut server = Server::start(member("m")).await.unwrap();
    let exited = server.exited();
    server.kill().await.unwrap();
    let exit = within("exit", exited).await;
    assert!(exit.requested);
    exit.into_result().unwrap();
    server.kill().await.unwrap();
    let error = server.pause().await.unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_end_in_order_is_killed() {
    let config = member("m").stop_within(Duration::from_millis(200));
    let mut server = Server::start(config).await.unwrap();
    let pid = server.pid();
    server.pause().await.unwrap();
    let stopped = within("stop", server.stop()).await.unwrap();
    assert_eq!(stopped, Stopped::Forced);
    assert!(!process_exists(pid));
}

#[tokio::test]
async fn a_paused_server_answers_again_after_resume() {
    let server = Server::start(member("m")).await.unwrap();
    put(&server.client_url(), "k", "v").await;
    server.pause().await.unwrap();
    let url = server.client_url();
    let mut answer = tokio::spawn(async move { get(&url, "k").await });
    let paused = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
    assert!(paused.is_err(), "a paused server answered: {paused:?}");
    server.resume().await.unwrap();
    // The first request may have been given up; the server must answer one.
    let _ = within("the waiting request", answer).await;
    assert_eq!(get(&server.client_url(), "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn restart_keeps_data_and_address() {
    let mut server = Server::start(member("m")).await.unwrap();
    let (url, pid) = (server.client_url(), server.pid());
    put(&url, "k", "v").await;
    server.restart().await.unwrap();
    assert_ne!(server.pid(), pid);
    assert_eq!(server.client_url(), url);
    assert_eq!(get(&url, "k").await.as_deref(), Some("v"));
    // A killed server cleans nothing up; what it left must not be in the way.
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(get(&url, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn kept_data_outlive_the_server_and_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = member("m").data_dir(dir.path().join("deep/data"));
    let mut server = Server::start(config.clone()).await.unwrap();
    put(&server.client_url(), "k", "v").await;
    server.stop().await.unwrap();
    drop(server);
    let again = Server::start(config).await.unwrap();
    assert_eq!(get(&again.client_url(), "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn temporary_data_and_the_process_are_gone_after_drop() {
    let server = Server::start(member("m")).await.unwrap();
    let (pid, dir) = (server.pid(), server.data_dir().to_owned());
    assert!(dir.join("member").is_dir());
    let work = dir.parent().unwrap().to_owned();
    drop(server);
    until("nothing is left", || !work.exists() && !process_exists(pid)).await;
}

#[test]
fn the_end_of_the_runtime_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(member("m"))).unwrap();
    let (pid, dir) = (server.pid(), server.data_dir().to_owned());
    drop(runtime);
    assert!(!process_exists(pid));
    drop(server);
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_server_outlives_the_thread_that_asked_for_it() {
    // The parent-death signal belongs to a thread; it must not be this one.
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || runtime.block_on(Server::start(member("m"))));
    until("the thread is done", || thread.is_finished()).await;
    let server = thread.join().unwrap().unwrap();
    put(&server.client_url(), "k", "v").await;
    assert!(server.is_running());
}

#[tokio::test]
async fn limits_reach_the_server() {
    let config = member("m")
        .max_txn_ops(3)
        .quota(64 << 20)
        .auth_token_ttl(Duration::from_secs(5))
        .auto_compaction(AutoCompaction::Revisions(10))
        .election_timeout(Duration::from_millis(500));
    let server = Server::start(config).await.unwrap();
    let mut client = common::connect(&[server.client_url()]).await;
    let transaction = |count: usize| {
        let puts: Vec<TxnOp> = (0..count).map(|n| TxnOp::put(format!("k{n}"), "v", None)).collect();
        Txn::new().when([Compare::version("absent", CompareOp::Equal, 0)]).and_then(puts)
    };
    within("small", client.txn(transaction(3))).await.unwrap();
    let error = within("big", client.txn(transaction(4))).await.unwrap_err().to_string();
    assert!(error.contains("too many operations"), "{error}");
    let log = server.log_tail().join("\n");
    assert!(log.contains("\"quota-size-bytes\":67108864"), "{log}");
    assert!(log.contains("\"auto-compaction-retention\":\"10ns\""), "{log}");
    assert!(log.contains("\"election-timeout\":\"500ms\""), "{log}");
}

#[tokio::test]
async fn an_etcd_environment_does_not_leak_in() {
    // Set for a child of this test, as changing one's own environment is unsafe.
    const MARK: &str = "NECO_ETCD_TEST_INNER";
    if std::env::var_os(MARK).is_none() {
        let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "an_etcd_environment_does_not_leak_in"]);
        again.env(MARK, "1").env("ETCD_DISCOVERY", "http://192.0.2.1/x").kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, again.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    Server::start(MemberConfig::default().start_within(Duration::from_secs(30))).await.unwrap();
}

#[tokio::test]
async fn servers_are_killed_when_their_parent_is() {
    const PID_FILE: &str = "NECO_ETCD_TEST_PID_FILE";
    if let Some(file) = std::env::var_os(PID_FILE) {
        let server = Server::start(member("m")).await.unwrap();
        let text = format!("{} {}", server.pid(), server.data_dir().parent().unwrap().display());
        fs::write(file, text).unwrap();
        std::future::pending::<()>().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap());
    parent.args(["--exact", "servers_are_killed_when_their_parent_is"]);
    parent.env(PID_FILE, &file).stdout(std::process::Stdio::null()).kill_on_drop(true);
    let mut parent = parent.spawn().unwrap();
    let mut pid = None;
    until("the grandchild runs", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        pid = text.split_once(' ').map(|(pid, dir)| (pid.parse().unwrap(), dir.to_owned()));
        pid.is_some()
    })
    .await;
    let (pid, work): (u32, String) = pid.unwrap();
    assert!(process_exists(pid));
    parent.kill().await.unwrap();
    // It may stay a zombie where nobody reaps orphans.
    let is_dead = || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    until("the grandchild is dead", is_dead).await;
    fs::remove_dir_all(work).unwrap();
}
