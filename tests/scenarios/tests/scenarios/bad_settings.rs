//! Settings in etcd that are not of the right form.

use std::fs;

use neco_playground::BootServer;
use neco_scenarios::{
    Said, Scenario, leads_alone, lines, memory, necoctl, others_come_back, processes,
};
use neco_schema::{ConfigKey, Key};

/// Stands in every wrong value of a secret, and in the password of a proxy; nobody shows it.
const HIDDEN: &str = "hunter2-whatNobodyMaySee";
/// The longest duration that is stored.
const LONGEST: &str = "9223372036854775807";
/// What one process may take while it reads values of any size.
const MEMORY_KIB: u64 = 192 << 10;

/// Values that a setting does not take; of a secret, each but what is no URL at all has [`HIDDEN`] in it.
fn wrong(key: ConfigKey) -> Vec<String> {
    let texts: &[&str] = match key {
        ConfigKey::Env => &["production", "PROD", "prod,dev", "\u{1b}[2J"],
        ConfigKey::Slack => &[
            "hunter2-whatNobodyMaySee",
            "ftp://h/hunter2-whatNobodyMaySee",
            "https://",
            "http://h o/hunter2-whatNobodyMaySee",
        ],
        ConfigKey::GithubToken => &[
            "hunter2-whatNobodyMaySee\nmore",
            "hunter2-whatNobodyMaySee more",
            "hunter2-whatNobodyMaySee\u{7f}",
            "hunter2-whatNobodyMaySee-ö",
        ],
        ConfigKey::Proxy | ConfigKey::NodeProxy => {
            &["proxy:3128", "socks5://proxy:1080", "http://", "http://u:hunter2-whatNobodyMaySee@"]
        }
        ConfigKey::CheckUpdateInterval
        | ConfigKey::WorkerTimeout
        | ConfigKey::ReleaseWindow
        | ConfigKey::StepTimeout => &["0", "-1", "1000000000000000000000000000000", "1.5.0h"],
        ConfigKey::ExternalIpAddressBlock
        | ConfigKey::LbAddressBlockDefault
        | ConfigKey::LbAddressBlockBastion
        | ConfigKey::LbAddressBlockInternet
        | ConfigKey::LbAddressBlockInternetCn => {
            &["10.72.32.0", "10.72.32.0/33", "fd00::/8", "10.72.32.256/20"]
        }
        ConfigKey::ReleaseTime => &["", "0 10 * *", "61 * * * *", "0 0 30 2 *"],
        ConfigKey::ReleaseTimezone => &["Mars/Olympus", "+09:00", "../../etc/passwd", "JST-9 x"],
    };
    let mut values: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    // As much as etcd takes, and bytes that nobody types.
    let hidden = if key.is_secret() { HIDDEN } else { "" };
    values.push(format!("{hidden}\u{0}{}", "x".repeat(1 << 20)));
    values
}

/// What all settings stand at while nothing is wrong.
async fn stored(scenario: &Scenario) -> Vec<(ConfigKey, Option<String>)> {
    let mut all = Vec::new();
    for key in ConfigKey::ALL {
        all.push((key, scenario.value(&Key::Config(key).to_string()).await));
    }
    all
}

/// What the leader has logged about each setting.
fn complaints(leader: &BootServer) -> Vec<(ConfigKey, Said)> {
    let about = |key| {
        let (name, remedy) = (format!("key {}: ", Key::Config(key)), remedy(key));
        (key, Said::until_now(leader, "neco-updater", &[" WARN ", &name, &remedy]))
    };
    ConfigKey::ALL.into_iter().map(about).collect()
}

fn remedy(key: ConfigKey) -> String {
    format!("'necoctl config set {key}' takes {}", key.form())
}

/// Refuses every wrong value on the command line: one line each, and nothing is stored.
async fn is_refused(scenario: &Scenario, server: &BootServer) {
    let before = stored(scenario).await;
    let file = server.root().join("tmp-value");
    for key in ConfigKey::ALL {
        let mut values: Vec<Vec<u8>> = wrong(key).into_iter().map(String::into_bytes).collect();
        values.push(vec![0xff, 0xfe, b'\n']);
        for value in values {
            fs::write(&file, &value).expect("room");
            let path = file.display().to_string();
            let told = necoctl(server, &["config", "set", key.name(), "--file", &path]).await;
            let shown: String = String::from_utf8_lossy(&value).chars().take(40).collect();
            assert!(matches!(told.code, Some(1 | 64)), "{key} {shown:?}: {told:?}");
            let errors: Vec<_> = told.err.lines().filter(|l| l.starts_with("error: ")).collect();
            assert_eq!(errors.len(), 1, "{key} {shown:?}: {}", told.err);
            let names = told.err.contains(key.name()) || told.err.contains(&path);
            assert!(names && told.err.len() < 1000, "{key} {shown:?}: {}", told.err);
            let all = format!("{}{}", told.out, told.err);
            assert!(!all.contains(HIDDEN), "{key} {shown:?}: {all}");
        }
    }
    fs::remove_file(&file).expect("it was there");
    assert_eq!(stored(scenario).await, before, "nothing is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn every_setting_of_the_wrong_form_is_refused_named_and_got_over() {
    let scenario = Scenario::begin().await;
    let leader = scenario.server(0);
    leads_alone(&scenario, leader).await;
    let ran = scenario.processes();
    let ever = complaints(leader);
    is_refused(&scenario, leader).await;
    assert!(!ever.iter().any(|(_, said)| said.is_more(&scenario)), "nothing was stored");

    // Put there by hand, one wrong value of every setting at a time.
    let right = stored(&scenario).await;
    let waves = wrong(ConfigKey::Env).len();
    for wave in 0..waves {
        let anew = complaints(leader);
        for key in ConfigKey::ALL {
            scenario.write(&Key::Config(key).to_string(), &wrong(key)[wave]).await;
        }
        scenario
            .until_true(&format!("a word about every setting of wave {wave}"), async || {
                anew.iter().zip(&ever).all(|((key, anew), (_, ever))| {
                    // What is wrong with a secret is said in words that do not change with it.
                    let said = if key.is_secret() { ever } else { anew };
                    said.is_more(&scenario)
                })
            })
            .await;
        for verb in [&["status"][..], &["why"], &["config", "list"]] {
            let told = necoctl(leader, verb).await;
            let (code, all) = (told.code, format!("{}{}", told.out, told.err));
            assert_eq!(code, Some(i32::from(verb[0] != "why")), "{verb:?}: {all}");
            for key in ConfigKey::ALL {
                let named = match verb[0] {
                    "config" => all.lines().any(|line| {
                        line.starts_with(key.name()) && line.contains("cannot be read")
                    }),
                    _ => {
                        all.contains(&format!("key {}: ", Key::Config(key)))
                            && all.contains(&remedy(key))
                    }
                };
                assert!(named, "wave {wave}: {verb:?} on {key}: {all}");
            }
            assert!(!all.contains(HIDDEN), "wave {wave}: {verb:?}: {all}");
        }
    }
    for (key, said) in &ever {
        let lines = said.since(&scenario);
        // By the leader, and by who sends notices.
        assert!(lines.len() <= 2 * waves, "{key}: said again and again: {lines:#?}");
        assert!(lines.iter().all(|line| line.len() < 600), "{key}: {lines:#?}");
    }
    assert_eq!(scenario.processes(), ran, "nobody ended for it");
    for server in scenario.servers() {
        for process in processes(server) {
            let memory = memory(process);
            assert!(memory < MEMORY_KIB, "process {process} takes {memory} KiB");
        }
        for daemon in ["neco-worker", "neco-updater"] {
            let shown = lines(server, daemon, &[HIDDEN]);
            assert!(shown.is_empty(), "boot-{}: {shown:#?}", server.lrn());
        }
    }

    // Nothing is followed while it is not known what to follow, and nothing begins while it is not known when.
    let version = scenario.publish_update().await;
    for (key, value) in &right {
        if *key != ConfigKey::ReleaseTime {
            put(&scenario, leader, *key, value.as_deref()).await;
        }
    }
    // Absurd, and of the right form.
    for key in [ConfigKey::WorkerTimeout, ConfigKey::StepTimeout, ConfigKey::ReleaseWindow] {
        scenario.write(&Key::Config(key).to_string(), LONGEST).await;
    }
    scenario.write(&Key::Config(ConfigKey::CheckUpdateInterval).to_string(), "1").await;
    scenario.until("the release", |view| view.release.as_ref() == Some(&version)).await;
    let request = |view: &neco_plan::View| view.current().map(|request| request.version.clone());
    let words = ["decided: wait", "window"];
    scenario.logged(leader, "neco-updater", &words).await;
    let told = necoctl(leader, &["why"]).await.ended(0);
    assert!(told.err.contains("key config/release-time: "), "{}{}", told.out, told.err);
    let now = scenario.view().await.expect("an answer");
    assert_ne!(request(&now).as_ref(), Some(&version), "it waits for its window");
    others_come_back(&scenario, leader).await;
    put(&scenario, leader, ConfigKey::ReleaseTime, Some("* * * * *")).await;
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}

/// Gives a setting back what it had.
async fn put(scenario: &Scenario, server: &BootServer, key: ConfigKey, value: Option<&str>) {
    match value {
        Some(value) => scenario.write(&Key::Config(key).to_string(), value).await,
        None => {
            necoctl(server, &["config", "unset", key.name()]).await.ended(0);
        }
    }
}
