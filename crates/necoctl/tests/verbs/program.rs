//! The program itself: its names, its exit codes, its streams; and a real etcd.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use neco_etcd::{MemberConfig, Server};
use neco_schema::{Key, Op, Txn};
use neco_store::{Committed, EtcdStore, Options, Store as _};
use neco_vault::{FakeVault, State, Vault as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_necoctl");

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the program")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A root with this configuration.
fn root(config: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    let folder = root.path().join("etc/neco");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.yml"), config).expect("a configuration");
    root
}

/// The program under its other name.
fn neco() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("neco");
    std::os::unix::fs::symlink(PROGRAM, &path).expect("a link");
    (dir, path)
}

#[test]
fn wrong_usage_is_64_and_1_under_the_other_name() {
    let (_dir, neco) = neco();
    for line in [
        &[][..],
        &["nope"],
        &["update"],
        &["update", "--dry-run"],
        &["leave", "x"],
        &["config", "get", "nope"],
        &["turn", "release", "etcd"],
        &["recover", "--wait", "5"],
        &["status", "--output", "xml"],
        &["audit", "--journal", "/var/lib/neco/journal"],
        &["audit", "--journal", "one=/tmp"],
        &["audit", "--journal", "1="],
        &["audit", "--within", "5"],
    ] {
        let output = run(Path::new(PROGRAM), line);
        assert_eq!(code(&output), 64, "{line:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line:?}");
        assert_eq!(code(&run(&neco, line)), 1, "{line:?}");
    }
    let line = ["config", "set", "github-token", "hunter2"];
    for program in [Path::new(PROGRAM), &neco] {
        let output = run(program, &line);
        assert_eq!(code(&output), 64);
        assert!(text(&output.stderr).contains("< FILE"), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("hunter2"));
    }
}

#[test]
fn help_version_and_completion_need_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().to_str().expect("a path");
    for line in [&["--help"][..], &["status", "--help"], &["completion"], &["completion", "zsh"]] {
        let output = run(Path::new(PROGRAM), &[line, &["--root", at]].concat());
        assert_eq!(code(&output), 0, "{line:?}: {}", text(&output.stderr));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{line:?}");
    }
    let version = || text(&run(Path::new(PROGRAM), &["--version", "--root", at]).stdout).to_owned();
    assert_eq!(version(), format!("necoctl {}\n", env!("CARGO_PKG_VERSION")));
    let folder = root.path().join("usr/share/neco");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("VERSION"), "2026.11.21-40152\n").expect("a version");
    assert_eq!(version(), "necoctl 2026.11.21-40152\n");
}

#[test]
fn a_closed_pipe_ends_in_silence() {
    for line in [&["--help"][..], &["completion", "bash"], &["status", "--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(PROGRAM)
            .args(line)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("the program");
        assert_eq!((code(&output), text(&output.stderr)), (0, ""), "{line:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_in_one_report() {
    let missing = tempfile::tempdir().expect("a directory");
    let at = missing.path().to_str().expect("a path");
    let output = run(Path::new(PROGRAM), &["status", "--root", at]);
    assert_eq!(code(&output), 1);
    let error = text(&output.stderr);
    assert!(error.contains("etc/neco/config.yml does not exist") && error.contains("endpoints"));

    let bad = root("endpoints: 5\ntimeout: soon\nrelease: {unsigned: maybe}\n");
    let at = bad.path().to_str().expect("a path");
    let output = run(Path::new(PROGRAM), &["status", "--root", at]);
    assert_eq!(code(&output), 1);
    let error = text(&output.stderr);
    for part in ["3 problems", "endpoints", "timeout", "release.unsigned", "config.yml:2"] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let broken = root("endpoints: [\n");
    let at = broken.path().to_str().expect("a path");
    let output = run(Path::new(PROGRAM), &["status", "--root", at]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("correct the YAML"), "{}", text(&output.stderr));
}

#[test]
fn an_etcd_that_does_not_answer_is_2_before_anybody_gets_impatient() {
    // Bound and never listened to.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let root = root(&format!("endpoints: [\"http://{address}\"]\n"));
    let at = root.path().to_str().expect("a path");
    let begun = Instant::now();
    let output = run(Path::new(PROGRAM), &["status", "--root", at, "--timeout", "300ms"]);
    assert_eq!(code(&output), 2, "{}", text(&output.stderr));
    // The default of the store would be ten seconds; the bound leaves room for a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    let error = text(&output.stderr);
    assert!(error.contains(&address.to_string()) && error.contains("hint: "), "{error}");
    assert_eq!(error.lines().count(), 2, "one line and a hint: {error}");
    assert!(text(&output.stdout).starts_with("STALE: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_work_on_a_real_etcd() {
    let mut etcd = Server::start(MemberConfig::default().fsync(false)).await.expect("etcd");
    let root = root(&format!("endpoints: [\"{}\"]\n", etcd.client_url()));
    let at = root.path().to_str().expect("a path").to_owned();
    let run = |line: &'static [&'static str]| {
        let at = at.clone();
        async move {
            let line = [line, &["--root", &at, "--timeout", "30s"]].concat();
            let run = || Command::new(PROGRAM).args(&line).stdin(Stdio::null()).output();
            tokio::task::block_in_place(run).expect("the program")
        }
    };
    let output = run(&["status"]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("nothing is requested"), "{}", text(&output.stdout));

    let output = run(&["config", "set", "env", "staging"]).await;
    assert_eq!(text(&output.stdout), "env: not set -> staging\n", "{}", text(&output.stderr));
    let output = run(&["config", "get", "env", "--output=json"]).await;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(value["value"], "staging");

    assert_eq!(code(&run(&["pause", "--reason", "a test", "--by", "bob"]).await), 0);
    let output = run(&["status"]).await;
    assert!(text(&output.stdout).contains("by bob"), "{}", text(&output.stdout));
    let output = run(&["audit"]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains(" invariants hold over 2 changes\n"), "{told}");
    assert_eq!(code(&run(&["stop"]).await), 3);
    assert_eq!(code(&run(&["resume"]).await), 0);
    etcd.stop().await.expect("a stop");
}

#[test]
fn a_server_without_configuration_has_no_vault_to_unseal() {
    let root = tempfile::tempdir().expect("a directory");
    let at = root.path().to_str().expect("a path");
    let (_dir, neco) = neco();
    for program in [Path::new(PROGRAM), &neco] {
        let output = run(program, &["vault", "unseal", "--root", at]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    let broken = self::root("endpoints: 5\n");
    let output = run(
        Path::new(PROGRAM),
        &["vault", "unseal", "--root", broken.path().to_str().expect("a path")],
    );
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
}

/// How long anything may take that comes in the end.
const SOON: Duration = Duration::from_secs(50);

/// Listens in place of a program that is not up yet, until somebody has asked for it in vain.
async fn asked_in_vain(address: &str) {
    let place = tokio::net::TcpListener::bind(address).await.expect("it is free");
    let asked = tokio::time::timeout(SOON, place.accept()).await.expect("it is asked for");
    drop(asked.expect("a connection"));
}

/// After a boot all of them begin at once: etcd comes when it was asked for already, and Vault when the key is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_is_unsealed_though_etcd_and_vault_come_up_late() {
    let mut etcd = Server::start(MemberConfig::default().fsync(false)).await.expect("etcd");
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let options = Options { prefix: "/neco/".to_owned(), ..Options::new([etcd.client_url()]) };
    let store = EtcdStore::connect(options).await.expect("usable");
    let put = Op::put_bytes(&Key::VaultUnsealKey, key.reveal().as_str());
    let put = store.commit(&Txn::default().then(put)).await.expect("an answer");
    assert!(matches!(put, Committed::Done(_)), "{put:?}");
    drop(store);
    etcd.stop().await.expect("a stop");
    vault.stop(0).await;

    let root = root(&format!("endpoints: [\"{}\"]\n", etcd.client_url()));
    let etcd_at = etcd.client_url().trim_start_matches("http://").to_owned();
    let vault_at = vault.address(0);
    let first = tokio::spawn(async move { asked_in_vain(&etcd_at).await });
    // As the unit of Vault calls it, by somebody who would wait for etcd no longer than this.
    let mut unseal = tokio::process::Command::new(PROGRAM);
    unseal.args(["vault", "unseal", "--address", vault_at.as_str(), "--timeout", "1ms"]);
    unseal.arg("--root").arg(root.path()).kill_on_drop(true);
    unseal.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let unseal = unseal.spawn().expect("the program").wait_with_output();
    first.await.expect("it asks for etcd");
    let then = tokio::spawn({
        let vault_at = vault_at.authority().to_owned();
        async move { asked_in_vain(&vault_at).await }
    });
    etcd.restart().await.expect("etcd is up");
    then.await.expect("it asks for Vault");
    vault.restart(0).await;
    let output = tokio::time::timeout(SOON, unseal).await.expect("in time").expect("its output");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{vault_at} is unsealed\n"));
    assert!(!text(&output.stderr).contains(key.reveal().as_str()));
    assert_eq!(vault.server(0).health().await.expect("an answer").state, State::Active);
    etcd.stop().await.expect("a stop");
}
