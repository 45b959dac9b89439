//! The Docker engine against a real Docker, which these tests restart and clear of their own images and containers. They
//! bring their registry and their images with them and need no network beyond the loopback:
//!
//! ```console
//! $ cargo test -p neco-runtime --test real_docker --no-run
//! $ cargo xtask dc sh boot-0 -- sh -c 'cat > /root/real_docker && chmod +x /root/real_docker' < target/debug/deps/real_docker-…
//! $ cargo xtask dc sh boot-0 -- /root/real_docker --ignored --test-threads 1
//! ```

mod bench;
mod image;
mod proxy;
mod registry;
mod tools;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{BIG, Changing, Site, remove_images};
use futures::StreamExt as _;
use neco_runtime::contract::{self, Bench as _, NAME};
use neco_runtime::{
    ContainerRuntime as _, ExecSpec, ImageRef, Limits, LogSpec, Login, Pulled, RunSpec,
    RuntimeError,
};
use neco_schema::Severity;
use nix::sys::signal::Signal;
use proxy::Proxy;
use registry::{PASSWORD, Registry, USER};
use tools::{output, succeeds, until};

/// The containers made of an image, in whatever state.
fn containers_of(image: &ImageRef) -> String {
    let filter = format!("ancestor={image}");
    output("docker", &["ps", "--all", "--quiet", "--filter", &filter])
}

/// Whether one of them runs.
fn some_run(image: &ImageRef) -> bool {
    !output("docker", &["ps", "--quiet", "--filter", &format!("ancestor={image}")]).is_empty()
}

fn sh(image: &ImageRef, script: &str) -> RunSpec {
    RunSpec::new(image.clone()).command(["sh", "-c", script])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn the_real_engine_keeps_the_contract() {
    let site = Site::new();
    contract::holds(|| site.machine()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_closed_registry_gives_images_for_the_right_login_alone() {
    let site = Site::new();
    let closed = Registry::closed(&site.registry.lock().expect("no panic"));
    let machine = site.machine();
    let repository = machine
        .repository()
        .replace(machine.repository().split('/').next().expect("a host"), &closed.host());
    let image: ImageRef = format!("{repository}:1").parse().expect("a name");
    let logins = Changing::default();
    let docker = machine.docker.clone().with_logins(Arc::new(logins.clone()));
    let login = |password: &str| Login {
        registry: closed.host(),
        user: USER.to_owned(),
        password: password.into(),
    };
    let elsewhere = Login { registry: "ghcr.io".to_owned(), ..login(PASSWORD) };
    for (given, why) in [
        (None, "wants a login"),
        (Some(elsewhere), "wants a login"),
        (Some(login("wrong")), "does not accept the login of neco"),
    ] {
        logins.set(given);
        let error = docker.pull(&image, &|_| {}).await.expect_err("closed");
        assert_eq!(error.severity(), Severity::AskAPerson, "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains(image.as_str()), "{text}");
        assert!(
            text.contains(&format!("telling the test the login for {}", closed.host())),
            "{text}"
        );
    }
    logins.set(Some(login(PASSWORD)));
    assert_eq!(docker.pull(&image, &|_| {}).await.expect("open"), Pulled::Fetched);
    remove_images(&repository);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_tag_that_the_registry_does_not_have_is_told_as_that() {
    let site = Site::new();
    let machine = site.machine();
    for image in [
        machine.image("9.9"),
        format!("{}-secret:1", machine.repository()).parse().expect("a name"),
    ] {
        let begin = Instant::now();
        let error = machine.docker.pull(&image, &|_| {}).await.expect_err("unknown");
        assert!(error.to_string().contains("does not have it"), "{error}");
        assert!(error.to_string().contains(image.as_str()), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson, "time does not bring it");
        assert!(begin.elapsed() < Duration::from_secs(1), "it was tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_docker_that_was_restarted_is_found_again() {
    let site = Site::new();
    let machine = site.machine();
    let docker = &machine.docker;
    let image = machine.pull("1").await;
    docker.run(&RunSpec::new(image.clone()).detached(NAME)).await.expect("run");
    let mut lines = docker.logs(NAME, LogSpec::last(0).follow()).await.expect("a log");
    let survives = output("docker", &["info", "--format", "{{.LiveRestoreEnabled}}"]) == "true";

    output("systemctl", &["stop", "docker.socket", "docker.service"]);
    let error = docker.is_running(&image).await.expect_err("stopped");
    assert_eq!(error.severity(), Severity::TryAgain);
    let text = error.to_string();
    assert!(text.starts_with("Docker does not answer at /var/run/docker.sock"), "{text}");
    if let Some(Err(error)) = lines.next().await {
        assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    } else {
        assert!(!survives, "a log that broke off is not one that ended");
    }

    output("systemctl", &["start", "docker.socket", "docker.service"]);
    assert_eq!(docker.is_running(&image).await.expect("an answer"), survives);
    output("systemctl", &["restart", "docker"]);
    assert_eq!(docker.pull(&image, &|_| {}).await.expect("an answer"), Pulled::Present);
    docker.run(&sh(&image, "true")).await.expect("run");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_pull_dropped_in_the_middle_leaves_no_image_and_can_be_repeated() {
    let site = Site::with_big();
    let machine = site.machine();
    let image = machine.image(BIG);
    // The registry is halted as soon as something has come, so that the rest cannot.
    let halted = AtomicBool::new(false);
    let halt = |progress: neco_runtime::PullProgress| {
        if progress.done > 0 && !halted.swap(true, Ordering::Relaxed) {
            site.registry.lock().expect("no panic").signal(Signal::SIGSTOP);
        }
    };
    let limits = Limits { stalled: Duration::from_secs(2), ..Limits::default() };
    let docker = machine.docker.clone().with_limits(limits);
    let error = docker.pull(&image, &halt).await.expect_err("it hangs");
    assert!(error.to_string().contains("got nowhere for 2s"), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    assert!(halted.load(Ordering::Relaxed), "something came");

    let hangs = machine.docker.pull(&image, &|_| {});
    assert!(tokio::time::timeout(Duration::from_secs(1), hangs).await.is_err(), "dropped");
    assert!(!succeeds("docker", &["image", "inspect", image.as_str()]));
    let error = docker.run(&RunSpec::new(image.clone())).await.expect_err("no image");
    assert!(matches!(error, RuntimeError::ImageMissing { .. }), "{error}");

    site.registry.lock().expect("no panic").signal(Signal::SIGCONT);
    assert_eq!(docker.pull(&image, &|_| {}).await.expect("pulled"), Pulled::Fetched);
    docker.run(&sh(&image, "cat /ballast > /dev/null")).await.expect("whole");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn the_progress_of_a_pull_is_in_bytes_of_the_image() {
    let site = Site::with_big();
    let machine = site.machine();
    let seen = std::sync::Mutex::new(Vec::new());
    let report = |progress| seen.lock().expect("no panic").push(progress);
    machine.docker.pull(&machine.image(BIG), &report).await.expect("pulled");
    let seen = seen.into_inner().expect("no panic");
    assert!(seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    let last = seen.last().expect("a report");
    assert!((64 << 20..80 << 20).contains(&last.done) && last.total == Some(last.done), "{last:?}");
    assert!(seen.iter().any(|progress| progress.done > 0 && progress.done < last.done), "{seen:?}");
    let early = seen.iter().find_map(|progress| progress.total);
    assert_eq!(early, last.total, "what is still to come is known once every size is");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_run_dropped_in_the_middle_leaves_no_container() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let forever = sh(&image, "sleep infinity");
    let docker = machine.docker.clone();
    let task = tokio::spawn(async move { docker.run(&forever).await });
    until("the command runs", || some_run(&image));
    task.abort();
    until("its container is gone", || containers_of(&image).is_empty());

    let limits = Limits { command: Duration::from_secs(1), ..Limits::default() };
    let docker = machine.docker.clone().with_limits(limits);
    let error = docker.run(&sh(&image, "sleep infinity")).await.expect_err("too long");
    assert!(matches!(error, RuntimeError::TimedOut { .. }), "{error}");
    assert_eq!(containers_of(&image), "");
}

/// Where the caller finds its script and the image.
const CALLER: &str = "NECO_RUNTIME_CALLER";

/// The call that a killed process and its successor make.
fn install(image: &ImageRef, dir: &str) -> RunSpec {
    sh(image, "test -e /host/quick || sleep infinity").mount(dir, "/host")
}

/// No test of its own: the caller that the next test kills.
#[tokio::test]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn caller() {
    let Ok(told) = std::env::var(CALLER) else { return };
    let (image, dir) = told.split_once(' ').expect("an image and a folder");
    let docker = neco_runtime::Docker::default();
    let _ = docker.run(&install(&image.parse().expect("a name"), dir)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn what_a_killed_caller_left_is_removed_by_the_same_call() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let host = tempfile::tempdir().expect("a folder");
    let dir = host.path().display().to_string();
    let mut caller = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "caller"])
        .env(CALLER, format!("{image} {dir}"))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    until("the command runs", || some_run(&image));

    std::fs::write(host.path().join("quick"), "").expect("written");
    machine.docker.run(&install(&image, &dir)).await.expect("run");
    assert_ne!(containers_of(&image), "", "the caller lives, so its container is not touched");
    caller.kill().await.expect("killed");
    machine.docker.run(&sh(&image, "true")).await.expect("run");
    assert_ne!(containers_of(&image), "", "that was another call");
    machine.docker.run(&install(&image, &dir)).await.expect("run");
    assert_eq!(containers_of(&image), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_command_is_run_as_root_and_tells_what_it_wrote() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let docker = &machine.docker;
    let done = docker.run(&sh(&image, "id -u; echo beside >&2")).await.expect("run");
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"0\n"[..], &b"beside\n"[..]));

    let script = "i=0; while [ $i -lt 20000 ]; do echo some words; i=$((i+1)); done >&2; echo why >&2; exit 7";
    match docker.run(&sh(&image, script)).await.expect_err("status 7") {
        RuntimeError::Failed { status, stderr, .. } => {
            assert_eq!(status, Some(7));
            assert!(
                stderr.ends_with("some words\nwhy\n") && stderr.len() == 64 << 10,
                "{}",
                stderr.len()
            );
        }
        other => panic!("{other}"),
    }
    let script = "i=0; while [ $i -lt 20000 ]; do echo some words; i=$((i+1)); done";
    assert_eq!(docker.run(&sh(&image, script)).await.expect("run").stdout.len(), 220_000);
    let error = docker.run(&sh(&image, "cat /dev/zero")).await.expect_err("without end");
    assert!(matches!(error, RuntimeError::TooMuchOutput { .. }), "{error}");
    let error =
        docker.run(&RunSpec::new(image.clone()).command(["absent"])).await.expect_err("absent");
    assert!(error.to_string().contains("absent"), "{error}");
    assert_eq!(containers_of(&image), "");

    docker.run(&RunSpec::new(image.clone()).detached(NAME)).await.expect("run");
    let mode = output("docker", &["inspect", "--format", "{{.HostConfig.NetworkMode}}", NAME]);
    assert_eq!(mode, "host");
    let error = docker.exec(&ExecSpec::new(NAME, ["absent"])).await.expect_err("absent");
    assert!(matches!(error, RuntimeError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("absent"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_container_sees_the_folders_it_is_shown() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let docker = &machine.docker;
    let host = tempfile::tempdir().expect("a folder");
    let put = sh(&image, "cat /bin/true > /host/tool");
    docker.run(&put.clone().mount(host.path(), "/host")).await.expect("run");
    let here = std::fs::read("/bin/true").expect("a program");
    assert!(std::fs::read(host.path().join("tool")).expect("installed") == here);
    let error = docker.run(&put.clone().mount_read_only(host.path(), "/host")).await;
    let error = error.expect_err("read only").to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    let error = docker.run(&put.mount(host.path().join("absent"), "/host")).await;
    let error = error.expect_err("absent").to_string();
    assert!(error.contains("does not exist"), "{error}");
    assert_eq!(containers_of(&image), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_name_is_taken_from_dead_containers_and_not_from_others() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let named = RunSpec::new(image.clone()).detached(NAME);
    let host = "--network=host";
    for dead in [
        vec!["create", host, "--name", NAME, image.as_str()],
        vec!["run", host, "--name", NAME, image.as_str(), "true"],
    ] {
        output("docker", &dead);
        machine.docker.run(&named).await.expect("the name is free");
        machine.docker.stop(NAME).await.expect("stopped");
        assert_eq!(containers_of(&image), "");
    }
    let words = ["run", host, "--detach", "--rm", "--name", NAME, image.as_str()];
    let id = output("docker", &words);
    match machine.docker.run(&named).await.expect_err("taken") {
        RuntimeError::NameTaken { name, image: by } => {
            assert_eq!((name.as_str(), by.as_str()), (NAME, image.as_str()));
        }
        other => panic!("{other}"),
    }
    assert!(id.starts_with(&containers_of(&image)), "the other one still runs");
    machine.docker.stop(NAME).await.expect("Docker removes it by itself");
    assert_eq!(containers_of(&image), "");
    machine.docker.run(&named).await.expect("the name is free at once");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_container_whose_image_has_lost_its_name_does_not_count_as_running() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let other = machine.pull("2").await;
    machine.docker.run(&RunSpec::new(image.clone()).detached(NAME)).await.expect("run");
    assert!(machine.docker.is_running(&image).await.expect("an answer"));
    output("docker", &["tag", other.as_str(), image.as_str()]);
    assert!(!machine.docker.is_running(&image).await.expect("an answer"));
    assert!(!machine.docker.is_running(&other).await.expect("an answer"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_container_that_does_not_end_by_itself_is_ended_after_its_time() {
    let site = Site::new();
    let machine = site.machine();
    let image = machine.pull("1").await;
    let deaf = sh(&image, "trap '' TERM; while true; do sleep 1; done").detached(NAME);
    machine.docker.run(&deaf).await.expect("run");
    let limits = Limits {
        grace: Duration::from_secs(2),
        answer: Duration::from_secs(5),
        ..Limits::default()
    };
    let begin = Instant::now();
    machine.docker.clone().with_limits(limits).stop(NAME).await.expect("stopped");
    assert!((2..6).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(containers_of(&image), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn every_request_says_a_version_that_docker_knows() {
    let site = Site::new();
    let machine = site.machine();
    let proxy = Proxy::new();
    let docker = neco_runtime::Docker::at(proxy.socket());
    let image = machine.image("1");
    docker.pull(&image, &|_| {}).await.expect("pulled");
    docker.run(&sh(&image, "true")).await.expect("run");
    let number = |version: &str| -> Vec<u32> {
        version.split('.').map(|number| number.parse().expect("a number")).collect()
    };
    let newest = output("docker", &["version", "--format", "{{.Server.APIVersion}}"]);
    let lines = proxy.lines();
    assert!(lines.len() > 5, "{lines:?}");
    for line in lines.iter().filter(|line| !line.contains(" /version")) {
        let version = line.split('/').nth(1).and_then(|version| version.strip_prefix('v'));
        let version = version.unwrap_or_else(|| panic!("no version: {line}"));
        assert!(number(version) <= number(&newest), "{line} to {newest}");
    }
}
