//! `image` and `is-running`.

use neco_runtime::{ContainerRuntime as _, Recorder, RunSpec};
use necoctl::cli::Style;

use crate::harness::{Bench, Run};

const ARTIFACTS: &str = r#"
format = 1

[[image]]
name = "serf"
repository = "ghcr.io/cybozu/serf"
tag = "0.10.1.7"

[[image]]
name = "setup-hw"
repository = "ghcr.io/cybozu-go/setup-hw"
tag = "1.20.1"
private = true
"#;
/// `user:token`.
const LOGIN: &str = r#"{"auths":{"ghcr.io":{"auth":"dXNlcjp0b2tlbg=="}}}"#;

fn bench() -> Bench {
    let bench = Bench::new();
    let write = |path: &str, text: &str| {
        let path = bench.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write("usr/share/neco/artifacts.toml", ARTIFACTS);
    write("root/.docker/config.json", "{}");
    bench
}

fn login(bench: &Bench, text: &str) {
    std::fs::write(bench.root.path().join("root/.docker/config.json"), text).expect("written");
}

async fn image(bench: &Bench, name: &str) -> Run {
    bench.run(&["image", name]).await
}

#[tokio::test]
async fn an_image_is_called_as_this_server_runs_it() {
    let bench = bench();
    let run = image(&bench, "serf").await;
    assert_eq!((run.code, &*run.out), (0, "ghcr.io/cybozu/serf:0.10.1.7\n"), "{run:?}");
    assert_eq!(image(&bench, "setup-hw").await.out, "ghcr.io/cybozu-go/setup-hw:1.20.1\n");
    login(&bench, LOGIN);
    assert_eq!(image(&bench, "serf").await.out, "ghcr.io/cybozu/serf:0.10.1.7\n");
    assert_eq!(image(&bench, "setup-hw").await.out, "ghcr.io/cybozu-go/setup-hw-secret:1.20.1\n");
    let json = bench.run(&["image", "setup-hw", "--output", "json"]).await.json();
    assert_eq!(
        json,
        serde_json::json!({
            "format": 1, "name": "setup-hw", "image": "ghcr.io/cybozu-go/setup-hw-secret:1.20.1",
            "public": "ghcr.io/cybozu-go/setup-hw:1.20.1",
        })
    );
    let bench = Bench { style: Style::Original, ..bench };
    assert_eq!(image(&bench, "setup-hw").await.out, "ghcr.io/cybozu-go/setup-hw:1.20.1\n");
}

#[tokio::test]
async fn what_cannot_be_named_is_told_in_one_line() {
    let bench = bench();
    let run = image(&bench, "squid").await;
    assert_eq!((run.code, &*run.out), (1, ""));
    assert!(run.err.contains("\"squid\"") && run.err.contains("serf, setup-hw"), "{run:?}");
    login(&bench, "no JSON");
    let run = image(&bench, "setup-hw").await;
    assert!(run.code == 1 && run.err.contains("private variant"), "{run:?}");
    assert_eq!(image(&bench, "serf").await.code, 0, "one that has no variant needs no login");
    let bare = Bench::new();
    let run = image(&bare, "serf").await;
    assert!(run.code == 1 && run.err.contains("artifacts.toml"), "{run:?}");
}

#[tokio::test]
async fn what_runs_is_told_and_what_is_not_known_too() {
    for style in [Style::Ours, Style::Original] {
        let bench = Bench { style, ..bench() };
        login(&bench, LOGIN);
        let run = bench.run(&["is-running", "setup-hw"]).await;
        assert_eq!((run.code, &*run.out), (1, "not running\n"), "{run:?}");

        let runtime = Recorder::new(bench.root.path());
        let secret = "ghcr.io/cybozu-go/setup-hw-secret:1.20.1".parse().expect("an image");
        runtime.pull(&secret, &|_| {}).await.expect("pulled");
        runtime.run(&RunSpec::new(secret).detached("setup-hw")).await.expect("run");
        let run = bench.run(&["is-running", "setup-hw"]).await;
        assert_eq!((run.code, &*run.out), (0, "running\n"), "{run:?}");
        let json = bench.run(&["is-running", "setup-hw", "--output", "json"]).await.json();
        assert_eq!(json["running"], true);
        // The public one of the same tag does not.
        login(&bench, "{}");
        assert_eq!(bench.run(&["is-running", "setup-hw"]).await.code, 1);

        let run = bench.run(&["is-running", "squid"]).await;
        assert_eq!((run.code, &*run.out), (2, ""), "{run:?}");
        login(&bench, "no JSON");
        assert_eq!(bench.run(&["is-running", "setup-hw"]).await.code, 2);
    }
}
