//! `component list` and `component show`.

use std::path::Path;
use std::sync::Arc;

use neco_schema::{
    ChangeKind, Key, Op, Preview, PreviewQuestion, PreviewedChange, Record, StepPreview, Txn,
};
use neco_store::{Follower, MemoryStore, Store};

use crate::harness::{Bench, Run, copy, lrn, request, version};

/// A server with the data that the package of this tree ships.
fn shipped() -> Bench {
    let bench = Bench::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/usr/share/neco");
    let to = bench.root.path().join("usr/share/neco");
    std::fs::remove_file(to.join("recipe.toml")).expect("the harness's recipe");
    copy(&from, &to);
    let write = |path: &str, text: &str| {
        let path = bench.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write("usr/share/neco/VERSION", "2026.11.21-40152\n");
    write("etc/neco/rack", "1\n");
    write("etc/neco/cluster", "stage0\n");
    write("etc/os-release", "NAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\n");
    write("sys/class/dmi/id/product_serial", "abc\n");
    bench
}

#[tokio::test]
async fn the_components_of_the_package_are_listed_with_their_steps() {
    let bench = shipped();
    let run = bench.run(&["component", "list"]).await;
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    let line = |name: &str| {
        let found = run.out.lines().find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("no {name}: {}", run.out)).to_owned()
    };
    let serf = line("serf");
    for part in ["one-at-a-time", "when-changed", "serf.service", "ghcr.io/cybozu/serf:", " serf"] {
        assert!(serf.contains(part), "{part}: {serf}");
    }
    assert!(line("vault").contains("(stop)"), "{}", line("vault"));
    let json = bench.run(&["component", "list", "--output", "json"]).await.json();
    let components = json["components"].as_array().expect("a list");
    assert_eq!(components.len() + 1, run.out.lines().count());
    let etcd = components.iter().find(|one| one["name"] == "etcd").expect("etcd");
    assert_eq!(etcd["steps"][0]["phase"], "apply");
}

/// Every column, of components that have all of it and of one that has nothing.
#[tokio::test]
async fn the_list_says_of_each_component_what_its_file_and_the_recipe_say() {
    let bench = Bench::new();
    for (path, text) in [
        (
            "recipe.toml",
            "format = 1\n\
             [[step]]\nname = \"stop-agent\"\ncomponent = \"agent\"\nphase = \"stop\"\n\
             [[step]]\nname = \"agent\"\ncomponent = \"agent\"\n\
             [[step]]\nname = \"tool\"\ncomponent = \"tool\"\n\
             [[group]]\nname = \"agent\"\nstop = \"stop-agent\"\napply = \"agent\"\n",
        ),
        (
            "artifacts.toml",
            "format = 1\n\
             [[image]]\nname = \"agent\"\nrepository = \"example/agent\"\ntag = \"1\"\n\
             [[deb]]\nname = \"tool\"\nowner = \"x\"\nrepository = \"tool\"\nrelease = \"v2\"\n",
        ),
        (
            "components/agent.toml",
            "format = 1\nname = \"agent\"\nimage = \"agent\"\nrestart = \"reload\"\n\
             [unit]\ntemplate = \"unit.j2\"\n[timer]\ntemplate = \"unit.j2\"\n",
        ),
        (
            "components/tool.toml",
            "format = 1\nname = \"tool\"\npackage = \"tool\"\nscope = \"one-at-a-time\"\nrestart = \"always\"\n",
        ),
        (
            "components/idle.toml",
            "format = 1\nname = \"idle\"\nscope = \"once-per-cluster\"\nrestart = \"never\"\n",
        ),
        ("templates/unit.j2", "[Install]\nWantedBy=multi-user.target\n"),
    ] {
        let path = bench.root.path().join("usr/share/neco").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    let run = bench.run(&["component", "list"]).await;
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    let rows = [
        "COMPONENT  SCOPE             RESTART  UNITS                       IMAGE OR PACKAGE  STEPS",
        "agent      all               reload   agent.service, agent.timer  example/agent:1   1 stop-agent (stop), 2 agent",
        "idle       once-per-cluster  never    -                           -                 -",
        "tool       one-at-a-time     always   -                           tool v2           3 tool",
    ];
    assert_eq!(run.out.lines().collect::<Vec<_>>(), rows);
    let json = bench.run(&["component", "list", "--output", "json"]).await.json();
    assert_eq!(
        json,
        serde_json::json!({ "format": 1, "components": [
            {
                "name": "agent", "scope": "all", "restart": "reload",
                "units": ["agent.service", "agent.timer"], "image": "example/agent:1",
                "steps": [
                    { "number": 1, "name": "stop-agent", "phase": "stop" },
                    { "number": 2, "name": "agent", "phase": "apply" },
                ],
            },
            {
                "name": "idle", "scope": "once-per-cluster", "restart": "never", "units": [], "steps": [],
            },
            {
                "name": "tool", "scope": "one-at-a-time", "restart": "always", "units": [],
                "package": "tool v2", "steps": [{ "number": 3, "name": "tool", "phase": "apply" }],
            },
        ] })
    );
}

#[tokio::test]
async fn a_component_is_shown_as_it_should_be_on_this_server() {
    let bench = shipped();
    for number in [0, 1, 2] {
        bench.put(&format!("info/bootservers/{number}"), "");
    }
    let run = bench.run(&["component", "show", "serf"]).await;
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    for part in [
        "Image      ghcr.io/cybozu/serf:",
        "serf.service: kept running",
        "\n==> /etc/serf/serf.json (0644)\n",
        "\"10.69.0.3",
        "10.69.1.131",
        "\n==> /etc/systemd/system/serf.service (0644)\n",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    // Once there is a request, its servers are what counts.
    let mut update = request();
    update.servers.pop();
    bench.set(Key::Request, &update);
    let run = bench.run(&["component", "show", "serf"]).await;
    assert!(!run.out.contains("10.69.1.131"), "{}", run.out);
}

#[tokio::test]
async fn what_is_not_for_everybody_is_shown_where_that_is_asked_for() {
    let bench = shipped();
    bench.put("info/bootservers/1", "");
    let shown = |more: &'static [&'static str]| {
        let line = [&["component", "show", "sudoers"], more].concat();
        let bench = &bench;
        async move { bench.run(&line).await }
    };
    let run = shown(&[]).await;
    assert!(run.out.contains("(0440") && run.out.contains("--reveal"), "{run:?}");
    assert!(!run.out.contains("NOPASSWD"), "{run:?}");
    assert!(shown(&["--reveal"]).await.out.contains("NOPASSWD"));
    let json = shown(&["--output", "json"]).await.json();
    assert_eq!(json["files"][0]["mode"], "0440");
    assert!(json["files"][0].get("content").is_none(), "{json}");
    assert_eq!(json["files"][0]["sha256"].as_str().expect("a digest").len(), 64);
}

#[tokio::test]
async fn what_cannot_be_shown_is_told() {
    let bench = shipped();
    bench.put("info/bootservers/1", "");
    let run = bench.run(&["component", "show", "squid"]).await;
    assert_eq!((run.code, &*run.out), (3, ""), "{run:?}");
    assert!(run.err.contains("setup-hw"), "{run:?}");
    let recipe = bench.root.path().join("usr/share/neco/components/serf.toml");
    std::fs::write(recipe, "format = 1\nname = \"serf\"\nscope = \"each\"\n").expect("written");
    let run = bench.run(&["component", "list"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("components/serf.toml:3: scope"), "{run:?}");
    std::fs::remove_dir_all(bench.root.path().join("usr/share/neco")).expect("removed");
    for line in [&["list"][..], &["show", "serf"], &["diff"]] {
        let run = bench.run(&[&["component"], line].concat()).await;
        assert_eq!((run.code, &*run.out), (1, ""), "{run:?}");
        assert!(run.err.contains("usr/share/neco/recipe.toml: No such file"), "{run:?}");
        assert!(run.err.contains("hint: it comes with the package neco"), "{run:?}");
    }
}

/// A change that the worker tells.
fn change(component: &str, subject: &str, diff: &str) -> PreviewedChange {
    PreviewedChange {
        component: component.into(),
        kind: ChangeKind::File,
        subject: subject.into(),
        what: "content changes".into(),
        diff: diff.into(),
    }
}

/// Answers as the worker of boot server 1 does, once.
async fn worker(store: MemoryStore, changes: Vec<PreviewedChange>, error: &'static str) {
    let questions = vec![neco_schema::Range::Prefix("preview/".into())];
    let mut follower = Follower::new(Arc::new(store.clone()), questions.clone());
    loop {
        follower.changed().await;
        let snapshot = store.read(&questions, None).await.expect("a snapshot");
        for kv in snapshot.kvs.values() {
            let Ok(Key::Preview(id)) = kv.key.parse() else { continue };
            let question = PreviewQuestion::decode(&kv.value).expect("a question");
            assert_eq!(question.version, version("2026.11.21-40152"), "what is installed");
            assert_eq!(question.servers, [lrn(0), lrn(1), lrn(2)], "files name all servers");
            let step = StepPreview {
                name: "all".into(),
                one_way: false,
                scope: String::new(),
                changes: changes.clone(),
            };
            let answer = Preview {
                running: question.version,
                recipe: None,
                steps: vec![step],
                groups: Vec::new(),
                error: error.into(),
                unknown: serde_json::Map::new(),
            };
            let put = Op::put(&Key::PreviewAnswer(id, lrn(1)), &answer);
            let put = put.with_lease(kv.lease.expect("a lease"));
            store.commit(&Txn::default().then(put)).await.expect("a put");
            return;
        }
    }
}

/// Runs `component diff` on boot server 1, whose worker tells this.
async fn diff(
    bench: &Bench,
    more: &[&str],
    changes: Vec<PreviewedChange>,
    error: &'static str,
) -> Run {
    let worker = tokio::spawn(worker(bench.store.clone(), changes, error));
    let run = bench.run(&[&["component", "diff"], more].concat()).await;
    worker.abort();
    run
}

#[tokio::test]
async fn what_differs_on_this_server_is_told() {
    let bench = shipped();
    for number in 0..3 {
        bench.put(&format!("info/bootservers/{number}"), "");
    }
    bench.alive(1, "2026.11.21-40152", &[]);
    let changes = || {
        let text = "@@ -1 +1 @@\n-old\u{1b}[2J\n+new\n";
        let vault = change("vault", "/etc/vault/config.hcl", "");
        vec![change("serf", "/etc/serf/serf.json", text), vault, change("", "cke-template", "")]
    };
    let run = diff(&bench, &[], changes(), "").await;
    assert_eq!(
        (run.code, &*run.out),
        (
            1,
            "serf: /etc/serf/serf.json content changes\n    @@ -1 +1 @@\n    -old [2J\n    +new\n\
             vault: /etc/vault/config.hcl content changes\n"
        ),
        "{run:?}"
    );
    let run = diff(&bench, &["vault"], changes(), "").await;
    assert_eq!(run.out, "vault: /etc/vault/config.hcl content changes\n");
    let run = diff(&bench, &["etcd", "--output", "json"], changes(), "").await;
    assert_eq!((run.code, run.json()["differences"].as_array().map(Vec::len)), (0, Some(0)));
    let run = diff(&bench, &[], Vec::new(), "").await;
    assert_eq!((run.code, &*run.out), (0, "Nothing differs.\n"));
    let run = diff(&bench, &[], Vec::new(), "the disk cannot be read").await;
    assert!(run.code == 1 && run.err.contains("the disk cannot be read"), "{run:?}");
    assert_eq!(bench.run(&["component", "diff", "squid"]).await.code, 3);
    let run = bench.run(&["component", "diff", "--wait", "100ms"]).await;
    assert_eq!((run.code, &*run.out), (2, ""), "{run:?}");
}
