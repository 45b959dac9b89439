//! How the Docker engine deals with a Docker that is away, hangs, changes, or refuses.

mod engine;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use engine::{Engine, Reply, Request};
use futures::StreamExt as _;
use neco_runtime::{
    ContainerRuntime as _, Docker, ExecSpec, ImageRef, Limits, LogSpec, Login, Logins,
    PullProgress, Pulled, RunSpec, RuntimeError,
};
use neco_schema::Severity;

const NO_IMAGE: &str = "No such image";

fn image() -> ImageRef {
    "registry.example/cybozu/serf:1".parse().expect("a name")
}

/// A password that the client alone would write in a form which Docker cannot read.
const PASSWORD: &str = "~~~???>>>hunter2";

/// Gives the same login to everybody who asks, with a password of its own each time.
#[derive(Default)]
struct Counting(AtomicU32);

#[async_trait]
impl Logins for Counting {
    async fn login(&self, _registry: &str) -> Result<Option<Login>, String> {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Login {
            registry: "registry.example".into(),
            user: "neco".into(),
            password: format!("{PASSWORD}{count}").as_str().into(),
        }))
    }

    fn remedy(&self, registry: &str) -> String {
        format!("a line for {registry} in /etc/logins")
    }
}

/// A Docker whose registry gives these answers, one after another, and whose images are there after a good one.
fn registry(answers: Vec<Reply>) -> impl Fn(&Request) -> Reply + Send + Sync {
    let state = Mutex::new((answers.into_iter(), false));
    move |request| {
        let (answers, here) = &mut *state.lock().expect("no panic");
        if request.is("POST", "/images/create") {
            let answer = answers.next().expect("no more tries");
            *here = matches!(answer, Reply::Stream(_));
            answer
        } else if *here {
            Reply::Now(200, "{}".into())
        } else {
            Reply::error(404, NO_IMAGE)
        }
    }
}

fn pulls(engine: &Engine) -> Vec<Request> {
    engine.requests().into_iter().filter(|asked| asked.is("POST", "/images/create")).collect()
}

/// Waits no longer than a minute.
async fn soon<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("a deadline of its own")
}

async fn refused(engine: &Engine) -> RuntimeError {
    engine.docker().pull(&image(), &|_| {}).await.expect_err("refused")
}

#[tokio::test]
async fn every_request_says_the_newest_version_that_both_know() {
    for (theirs, said) in [("1.41", "/v1.41/"), ("1.99", "/v1.53/")] {
        let engine = Engine::new(theirs, |_| Reply::Now(200, "[]".into()));
        let docker = engine.docker();
        for _ in 0..2 {
            assert!(!docker.is_running(&image()).await.expect("an answer"));
        }
        let lines: Vec<_> = engine.requests().into_iter().map(|asked| asked.line).collect();
        let list = format!("GET {said}containers/json");
        assert_eq!(lines.len(), 3, "agreed on once: {lines:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with(&list)), "{lines:?}");
    }
}

#[tokio::test]
async fn another_docker_after_a_restart_is_agreed_with_anew() {
    let engine = Engine::new("1.44", |_| Reply::Now(200, "[]".into()));
    let docker = engine.docker();
    docker.is_running(&image()).await.expect("an answer");
    engine.becomes("1.41", |asked| match asked.line.contains("/v1.44/") {
        true => Reply::error(
            400,
            "client version 1.44 is too new. Maximum supported API version is 1.41",
        ),
        false => Reply::Now(200, "[]".into()),
    });
    let error = docker.is_running(&image()).await.expect_err("another one");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    docker.is_running(&image()).await.expect("agreed");
}

#[tokio::test]
async fn a_docker_that_is_away_is_named_and_found_again() {
    let mut engine = Engine::new("1.41", |_| Reply::Now(200, "[]".into()));
    let docker = engine.docker();
    docker.is_running(&image()).await.expect("an answer");
    engine.stop();
    let away = |error: RuntimeError| {
        assert_eq!(error.severity(), Severity::TryAgain, "{error}");
        let wanted = format!("Docker does not answer at {}", engine.socket().display());
        assert!(error.to_string().starts_with(&wanted), "{error}");
    };
    away(docker.is_running(&image()).await.expect_err("stopped"));
    away(docker.pull(&image(), &|_| {}).await.expect_err("stopped"));
    away(docker.run(&RunSpec::new(image())).await.expect_err("stopped"));
    away(docker.stop("serf").await.expect_err("stopped"));
    std::fs::remove_file(engine.socket()).expect("a socket");
    away(docker.is_running(&image()).await.expect_err("without a socket"));
    engine.start();
    docker.is_running(&image()).await.expect("an answer");
}

#[tokio::test]
async fn a_docker_that_is_silent_is_not_waited_for_longer_than_the_deadline() {
    let engine = Engine::new("1.41", |_| Reply::Silence);
    let limits = Limits { answer: Duration::from_millis(100), ..Limits::default() };
    let docker = engine.docker().with_limits(limits);
    let error = soon(docker.is_running(&image())).await.expect_err("silent");
    assert!(matches!(error, RuntimeError::Away { .. }), "{error}");
    assert!(error.to_string().contains("100ms"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_here_is_not_asked_for() {
    let engine = Engine::new("1.41", |_| Reply::Now(200, "{}".into()));
    let docker = engine.docker().with_logins(Arc::new(Counting::default()));
    assert_eq!(docker.pull(&image(), &|_| {}).await.expect("here"), Pulled::Present);
    assert_eq!(pulls(&engine).len(), 0);
}

#[tokio::test]
async fn progress_is_the_sum_over_the_layers_and_ends_complete() {
    let lines = [
        r#"{"status":"Pulling from cybozu/serf","id":"1"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"b"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":1,"total":100},"id":"b"}"#,
        r#"{"status":"Pull complete","progressDetail":{},"id":"a"}"#,
    ];
    // The second try starts over, and does not even tell of layer b.
    let engine = Engine::new(
        "1.41",
        registry(vec![
            Reply::lines(
                &[&lines[..], &[r#"{"errorDetail":{"message":"unexpected EOF"}}"#]].concat(),
            ),
            Reply::lines(&lines[..4]),
        ]),
    );
    let seen = Mutex::new(Vec::new());
    let report = |PullProgress { done, total }| seen.lock().expect("no panic").push((done, total));
    assert_eq!(engine.docker().pull(&image(), &report).await.expect("pulled"), Pulled::Fetched);
    assert_eq!(
        seen.into_inner().expect("no panic"),
        [(0, None), (5, None), (6, Some(110)), (11, Some(110)), (11, None), (11, Some(11)),]
    );
}

#[tokio::test]
async fn what_passes_is_tried_again_a_few_times() {
    let reset = || Reply::error(500, "dial tcp 10.0.0.1:443: connect: connection refused");
    let engine = Engine::new("1.41", registry(vec![reset(), reset(), Reply::lines(&[])]));
    engine.docker().pull(&image(), &|_| {}).await.expect("the third try");
    let engine = Engine::new("1.41", registry(vec![reset(), reset(), reset()]));
    let error = refused(&engine).await;
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    let unknown = "manifest for registry.example/cybozu/serf:1 not found: manifest unknown";
    for (status, message, severity) in [
        (500, "no basic auth credentials", Severity::AskAPerson),
        (500, "unauthorized: authentication required", Severity::AskAPerson),
        (500, "x509: certificate signed by unknown authority", Severity::AskAPerson),
        (404, unknown, Severity::AskAPerson),
        (500, "name unknown: repository name not known to registry", Severity::AskAPerson),
    ] {
        let engine = Engine::new("1.41", registry(vec![Reply::error(status, message)]));
        let error = refused(&engine).await;
        assert_eq!(error.severity(), severity, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains(image().as_str()), "{error}");
    }
}

#[tokio::test]
async fn a_pull_that_gets_nowhere_ends_and_one_that_goes_on_does_not() {
    let limits = Limits { stalled: Duration::from_millis(400), ..Limits::default() };
    let line = |status: &str, current| {
        let detail = serde_json::json!({ "current": current, "total": 100 });
        let line = serde_json::json!({ "id": "a", "status": status, "progressDetail": detail });
        (Duration::from_millis(100), line.to_string())
    };
    let steady = (0..10).map(|current| line("Downloading", current)).collect();
    let engine = Engine::new("1.41", registry(vec![Reply::Stream(steady)]));
    let docker = engine.docker().with_limits(limits);
    docker.pull(&image(), &|_| {}).await.expect("a second altogether, but it goes on");

    let waiting = (0..100).map(|left| line(&format!("Retrying in {left} seconds"), 0)).collect();
    for stalled in [Reply::Silence, Reply::Stream(waiting)] {
        let engine = Engine::new("1.41", registry(vec![stalled]));
        let error = soon(engine.docker().with_limits(limits).pull(&image(), &|_| {})).await;
        let error = error.expect_err("nowhere");
        assert_eq!(error.severity(), Severity::TryAgain, "{error}");
        assert!(error.to_string().contains("got nowhere for 400ms"), "{error}");
    }
}

#[tokio::test]
async fn a_login_is_read_anew_for_each_try_and_goes_to_its_registry_alone() {
    let reset = || Reply::error(500, "connection reset");
    let engine = Engine::new("1.41", registry(vec![reset(), reset(), Reply::lines(&[])]));
    let docker = engine.docker().with_logins(Arc::new(Counting::default()));
    docker.pull(&image(), &|_| {}).await.expect("pulled");
    let sent: Vec<String> = pulls(&engine)
        .iter()
        .map(|asked| {
            let header = asked.header("x-registry-auth").expect("a login");
            let plain = URL_SAFE.decode(header).expect("as Docker reads it");
            let login: serde_json::Value = serde_json::from_slice(&plain).expect("an object");
            assert_eq!(
                (&login["username"], &login["serveraddress"]),
                (&"neco".into(), &"registry.example".into())
            );
            login["password"].as_str().expect("a password").to_owned()
        })
        .collect();
    assert_eq!(sent, [0, 1, 2].map(|count| format!("{PASSWORD}{count}")));

    for other in ["registry.example:5000/serf:1", "registry.example.org/serf:1", "serf:1"] {
        let engine = Engine::new("1.41", registry(vec![Reply::lines(&[])]));
        let docker = engine.docker().with_logins(Arc::new(Counting::default()));
        docker.pull(&other.parse().expect("a name"), &|_| {}).await.expect("pulled");
        assert_eq!(pulls(&engine)[0].header("x-registry-auth"), None, "{other}");
    }
}

#[tokio::test]
async fn a_login_that_is_not_accepted_is_told_with_its_place_and_without_the_password() {
    let denied = || registry(vec![Reply::error(500, "unauthorized: authentication required")]);
    let engine = Engine::new("1.41", denied());
    let docker = engine.docker().with_logins(Arc::new(Counting::default()));
    let error = docker.pull(&image(), &|_| {}).await.expect_err("denied");
    let text = format!("{error} {error:?} {docker:?}");
    assert!(text.contains("a line for registry.example in /etc/logins"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(error.severity(), Severity::AskAPerson);

    // The default is the file of `docker login`.
    let engine = Engine::new("1.41", denied());
    let logins = neco_runtime::DockerConfig::new("/nowhere/config.json");
    let docker = engine.docker().with_logins(Arc::new(logins));
    let error = docker.pull(&image(), &|_| {}).await.expect_err("denied").to_string();
    assert!(error.contains("wants a login"), "{error}");
    assert!(error.contains("docker --config /nowhere login registry.example"), "{error}");
}

#[tokio::test]
async fn names_that_no_container_can_have_are_not_asked_for() {
    let engine = Engine::new("1.41", |_| Reply::Now(204, String::new()));
    let docker: Docker = engine.docker();
    for name in ["", "../images", "a/b", "a?force=1", "-a"] {
        docker.stop(name).await.expect("there is none");
        let exec = ExecSpec::new(name, ["true"]);
        let error = docker.exec(&exec).await.expect_err("there is none");
        assert!(matches!(error, RuntimeError::NotRunning { .. }), "{error}");
    }
    assert!(engine.requests().iter().all(|asked| asked.is("GET", "/version")));
}

#[tokio::test]
async fn a_command_has_all_rights_only_where_that_is_asked_for() {
    let engine = Engine::new("1.41", |_| Reply::error(409, "container x is not running"));
    let exec = ExecSpec::new("serf", ["true"]);
    for spec in [exec.clone(), exec.privileged()] {
        let error = engine.docker().exec(&spec).await.expect_err("it does not run");
        assert!(matches!(error, RuntimeError::NotRunning { .. }), "{error}");
        let asked = engine.requests().pop().expect("a request");
        assert!(asked.is("POST", "/containers/serf/exec"), "{asked:?}");
        let body: serde_json::Value = serde_json::from_str(&asked.body).expect("an object");
        assert_eq!(body["Privileged"], spec.privileged);
    }
}

#[tokio::test]
async fn a_log_that_ends_before_its_container_has_broken_off() {
    for runs in [true, false] {
        let engine =
            Engine::new("1.41", move |asked| match asked.is("GET", "/containers/serf/json") {
                true => {
                    Reply::Now(200, format!("{{\"Id\":\"5e1f\",\"State\":{{\"Running\":{runs}}}}}"))
                }
                false if asked.is("GET", "/containers/5e1f/json") => {
                    Reply::Now(200, format!("{{\"State\":{{\"Running\":{runs}}}}}"))
                }
                // A frame of Docker's: the channel, and the length of what follows.
                false => Reply::lines(&["\u{1}\0\0\0\0\0\0\u{4}one"]),
            });
        let follow = LogSpec::last(9).follow();
        let lines = engine.docker().logs("serf", follow).await.expect("a log");
        let lines: Vec<_> = soon(lines.collect()).await;
        assert_eq!(lines[0].as_ref().expect("a line").text, "one");
        match lines.get(1) {
            Some(Err(error)) if runs => assert_eq!(error.severity(), Severity::TryAgain),
            None if !runs => {}
            other => panic!("runs: {runs}, then {other:?}"),
        }
    }
}
