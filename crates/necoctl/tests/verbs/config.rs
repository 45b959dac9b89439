//! The settings: checked before they are stored, and no secret on the command line or in the output.

use neco_schema::{ConfigKey, Key};
use necoctl::cli::Style;

use crate::harness::{Bench, golden};

#[tokio::test]
async fn a_change_says_from_what_to_what() {
    let bench = Bench::new();
    for (line, said) in [
        (&["env", "staging"][..], "env: not set -> staging\n"),
        (&["env", "prod"], "env: staging -> prod\n"),
        (&["env", "prod"], "unchanged: env is prod already\n"),
        (&["worker-timeout", "90m"], "worker-timeout: not set -> 1h30m0s\n"),
        (&["worker-timeout", "5m"], "worker-timeout: 1h30m0s -> 5m0s\n"),
        (
            &["external-ip-address-block", "10.1.2.3/24"],
            "external-ip-address-block: not set -> 10.1.2.0/24\n",
        ),
        (
            &["release-time", "0 10 * * MON", "0 14 * * TUE"],
            "release-time: not set -> 0 10 * * MON; 0 14 * * TUE\n",
        ),
        (&["release-timezone", "Europe/Berlin"], "release-timezone: not set -> Europe/Berlin\n"),
    ] {
        let run = bench.run(&[&["config", "set"], line].concat()).await;
        assert_eq!((run.code, run.out.as_str()), (0, said), "{line:?}: {}", run.err);
    }
    assert_eq!(bench.get("config/worker-timeout").as_deref(), Some("300000000000"));
    assert_eq!(bench.get("config/release-time").as_deref(), Some("0 10 * * MON\n0 14 * * TUE"));
    let run = bench.run(&["config", "unset", "env"]).await;
    assert_eq!(run.out, "env: prod -> not set\n");
    assert_eq!(bench.run(&["config", "unset", "env"]).await.out, "unchanged: env is not set\n");
}

#[tokio::test]
async fn a_wrong_value_is_wrong_usage_and_changes_nothing() {
    let bench = Bench::new();
    for line in [
        &["env", "production"][..],
        &["env"],
        &["env", "prod", "dev"],
        &["worker-timeout", "0s"],
        &["worker-timeout", "10"],
        &["proxy", "localhost:3128"],
        &["proxy", "http://proxy:99999"],
        &["node-proxy", "http://[::1"],
        &["lb-address-block-internet-cn"],
        &["external-ip-address-block", "fd00::/8"],
        &["release-time"],
        &["release-time", ""],
        &["release-time", "0 10 * *"],
        &["release-time", "0 10 * * MON", "61 * * * *"],
        &["release-timezone", "Mars/Olympus"],
    ] {
        let run = bench.run(&[&["config", "set"], line].concat()).await;
        assert_eq!(run.code, 64, "{line:?}: {} {}", run.out, run.err);
        assert_eq!(run.err.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    }
    assert!(bench.keys().is_empty());
}

#[tokio::test]
async fn unset_settings_show_their_defaults_or_end_with_3() {
    let bench = Bench::new();
    for (key, value) in [
        ("env", "none\n"),
        ("check-update-interval", "1m0s\n"),
        ("worker-timeout", "1h0m0s\n"),
        ("step-timeout", "20m0s\n"),
        ("release-timezone", "Asia/Tokyo\n"),
    ] {
        let run = bench.run(&["config", "get", key]).await;
        assert_eq!((run.code, run.out.as_str()), (0, value), "{key}");
    }
    for key in ["slack", "proxy", "github-token", "node-proxy"] {
        let run = bench.run(&["config", "get", key]).await;
        assert_eq!(run.code, 3, "{key}");
        assert!(run.err.contains(&format!("{key} is not set")), "{}", run.err);
    }
}

#[tokio::test]
async fn the_list_looks_as_expected() {
    let bench = Bench::new();
    bench
        .put("config/env", "prod")
        .put("config/github-token", "hunter2")
        .put("config/release-time", "0 10 * * 1\n0 14 * * 2")
        .put("config/worker-timeout", "1h");
    let run = bench.run(&["config", "list"]).await;
    assert_eq!(run.code, 1, "worker-timeout is malformed");
    golden("config-list.human.txt", &run.out);
    let run = bench.run(&["config", "list", "--output=json"]).await;
    golden("config-list.json.txt", &run.out);
    assert!(bench.run(&["config", "list", "--reveal"]).await.out.contains("hunter2"));
}

#[tokio::test]
async fn a_malformed_setting_is_named_by_its_key() {
    let bench = Bench::new();
    let wrong = [
        ("worker-timeout", "1h"),
        ("env", "production"),
        ("proxy", "http://proxy:99999"),
        ("release-time", "61 * * * *"),
    ];
    for (key, value) in wrong {
        bench.put(&format!("config/{key}"), value);
    }
    let (list, status) = (bench.run(&["config", "list"]).await, bench.run(&["status"]).await);
    for (key, _) in wrong {
        let run = bench.run(&["config", "get", key]).await;
        assert_eq!(run.code, 1);
        assert!(run.err.contains(&format!("key config/{key}: ")), "{}", run.err);
        // Nobody shows as right what another names wrong.
        let listed = list.out.lines().find(|line| line.starts_with(key)).expect("a line");
        assert!(listed.contains("cannot be read: "), "{listed}");
        assert!(status.out.contains(&format!("config/{key}")), "{}", status.out);
    }
    assert_eq!((list.code, status.code), (1, 1));
}

#[tokio::test]
async fn a_secret_on_the_command_line_is_refused_under_both_names() {
    for style in [Style::Ours, Style::Original] {
        let mut bench = Bench::new();
        bench.style = style;
        for key in [ConfigKey::GithubToken, ConfigKey::Slack] {
            let run = bench.run(&["config", "set", key.name(), "https://h.example/hunter2"]).await;
            assert_eq!(run.code, 64, "{style:?}");
            assert!(run.err.contains(&format!("necoctl config set {key} < FILE")), "{}", run.err);
            assert!(!run.err.contains("hunter2") && bench.keys().is_empty(), "{}", run.err);
        }
    }
}

#[tokio::test]
async fn a_proxy_with_a_password_is_no_word_of_the_command_line_and_not_shown() {
    let mut bench = Bench::new();
    let url = "http://user:hunter2@proxy:3128";
    for style in [Style::Ours, Style::Original] {
        bench.style = style;
        let run = bench.run(&["config", "set", "proxy", url]).await;
        assert_eq!(run.code, 64, "{}", run.err);
        assert!(!run.err.contains("hunter2") && bench.keys().is_empty(), "{}", run.err);
    }
    bench.style = Style::Ours;
    let run = bench.run(&["config", "set", "proxy", "http://proxy:1"]).await;
    assert_eq!((run.code, run.out.as_str()), (0, "proxy: not set -> http://proxy:1\n"));
    bench.input = "http://user:hunter2@proxy:3128\n";
    let run = bench.run(&["config", "set", "proxy", "--dry-run"]).await;
    assert!(run.out.contains("put    config/proxy http://***@proxy:3128"), "{}", run.out);
    let run = bench.run(&["config", "set", "proxy"]).await;
    assert_eq!(run.out, "proxy: http://proxy:1 -> http://***@proxy:3128\n", "{}", run.err);
    assert_eq!(bench.get("config/proxy").as_deref(), Some(url));
    let reveal = ["config", "get", "proxy", "--reveal"];
    assert_eq!(bench.run(&reveal).await.out, format!("{url}\n"));
    for line in [
        &["config", "get", "proxy"][..],
        &["config", "list"],
        &["config", "list", "--output=json"],
        &["config", "set", "proxy"],
        &["config", "unset", "proxy", "--dry-run"],
        &["config", "unset", "proxy"],
    ] {
        let run = bench.run(line).await;
        assert_eq!(run.code, 0, "{line:?}: {}", run.err);
        let all = format!("{}{}", run.out, run.err);
        assert!(!all.contains("hunter2"), "{line:?}: {all}");
    }
}

#[tokio::test]
async fn a_secret_comes_from_standard_input_or_a_file() {
    let mut bench = Bench::new();
    bench.input = "hunter2\n";
    let run = bench.run(&["config", "set", "github-token"]).await;
    assert_eq!((run.code, run.out.as_str()), (0, "github-token is set\n"), "{}", run.err);
    let stored = Key::Config(ConfigKey::GithubToken).to_string();
    assert_eq!(bench.get(&stored).as_deref(), Some("hunter2"));
    assert_eq!(
        bench.run(&["config", "set", "github-token"]).await.out,
        "unchanged: github-token is so already\n"
    );

    let file = bench.root.path().join("token");
    std::fs::write(&file, "hunter3\n").expect("a file");
    let file = file.to_str().expect("a path");
    assert_eq!(bench.run(&["config", "set", "github-token", "--file", file]).await.code, 0);
    assert_eq!(bench.get(&stored).as_deref(), Some("hunter3"));

    bench.input = "\n";
    let run = bench.run(&["config", "set", "github-token"]).await;
    assert_eq!(run.code, 64, "nothing was given");
    bench.input = "hunter4 with spaces";
    let run = bench.run(&["config", "set", "github-token"]).await;
    assert_eq!(run.code, 64);
    assert!(!run.err.contains("hunter4"), "{}", run.err);
}
