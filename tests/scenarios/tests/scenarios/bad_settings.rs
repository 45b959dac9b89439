//! Settings that are not of the right form, in etcd and in the configuration file.

use std::fs;
use std::path::Path;

use neco_playground::BootServer;
use neco_scenarios::{Scenario, lines, necoctl, processes, restarted};
use neco_schema::{ConfigKey, Key, NecoVersion};

/// Stands in every wrong value of a secret.
const HIDDEN: &str = "hunter2-whatNobodyMaySee";
/// The longest duration that is stored.
const LONGEST: &str = "9223372036854775807";
/// What one process may take while it reads values of any size.
const MEMORY_KIB: u64 = 192 << 10;

/// Values that a setting does not take; of a secret, each has [`HIDDEN`] in it.
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
    values.push(format!("{HIDDEN}\u{0}{}", "x".repeat(1 << 20)));
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

/// How many lines the leader's log has about a setting.
fn said(leader: &BootServer, key: ConfigKey) -> Vec<String> {
    let (name, remedy) = (format!("key {}: ", Key::Config(key)), remedy(key));
    lines(leader, "neco-updater", &[" WARN ", &name, &remedy])
}

fn remedy(key: ConfigKey) -> String {
    format!("'necoctl config set {key}' takes {}", key.form())
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a figure");
    line.split_whitespace().nth(1).expect("a figure").parse().expect("a figure")
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
            assert!(!told.err.contains(HIDDEN) || !hides(key), "{key}: {}", told.err);
        }
    }
    fs::remove_file(&file).expect("it was there");
    assert_eq!(stored(scenario).await, before, "nothing is stored");
}

/// Whether what is wrong with a setting may be a secret.
fn hides(key: ConfigKey) -> bool {
    key.is_secret()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn every_setting_of_the_wrong_form_is_refused_named_and_got_over() {
    let scenario = Scenario::begin().await;
    let leader = scenario.leading().await;
    let ran = scenario.processes();
    is_refused(&scenario, leader).await;
    assert!(ConfigKey::ALL.iter().all(|key| said(leader, *key).is_empty()), "nothing was stored");

    // Put there by hand, one wrong value of every setting at a time.
    let right = stored(&scenario).await;
    let waves = wrong(ConfigKey::Env).len();
    for wave in 0..waves {
        let mut before = Vec::new();
        for key in ConfigKey::ALL {
            before.push((key, said(leader, key).len()));
            scenario.write(&Key::Config(key).to_string(), &wrong(key)[wave]).await;
        }
        scenario
            .until_true(&format!("a word about every setting of wave {wave}"), async || {
                // What is wrong with a secret is said in words that do not change with it.
                before.iter().all(|(key, count)| {
                    said(leader, *key).len() > if key.is_secret() { 0 } else { *count }
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
            let secret =
                all.lines().any(|line| line.contains("github-token") && line.contains(HIDDEN));
            assert!(!secret, "{verb:?}: {all}");
        }
    }
    for key in ConfigKey::ALL {
        let lines = said(leader, key);
        // By the leader, and by who sends notices.
        assert!(lines.len() <= 2 * waves, "{key}: said again and again: {lines:#?}");
        assert!(lines.iter().all(|line| !line.contains("u:hunter2")), "{key}: {lines:#?}");
        assert!(lines.iter().all(|line| line.len() < 600), "{key}: {lines:#?}");
    }
    assert_eq!(scenario.processes(), ran, "nobody ended for it");
    for server in scenario.servers() {
        for process in processes(server) {
            let memory = memory(process);
            assert!(memory < MEMORY_KIB, "process {process} takes {memory} KiB");
        }
        for daemon in ["neco-worker", "neco-updater"] {
            assert!(!server.log(daemon).contains(&format!("{HIDDEN}-")), "a token is shown");
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

/// What stands in the place of a configuration file that is none.
fn clear(file: &Path) {
    match fs::symlink_metadata(file) {
        Ok(data) if data.is_dir() => fs::remove_dir(file).expect("an empty one"),
        Ok(_) => fs::remove_file(file).expect("it is there"),
        Err(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_wrong_configuration_file_is_named_waited_out_and_got_over() {
    let scenario = Scenario::begin().await;
    let server = scenario.server(1);
    let first = scenario.packages().first().clone();
    let etc = server.root().join("etc/neco");
    let (file, drop_ins) = (etc.join("config.yml"), etc.join("config.d"));
    let right = fs::read_to_string(&file).expect("a configuration");

    clear(&file);
    fs::create_dir(&file).expect("room");
    let waiting = restarted(server).await;
    let version = scenario.publish_update().await;
    type Make<'a> = Box<dyn Fn() + 'a>;
    let write = |bytes: Vec<u8>| -> Make<'_> {
        let file = &file;
        Box::new(move || fs::write(file, &bytes).expect("room"))
    };
    let mut not_text = right.clone().into_bytes();
    not_text.extend(b"cache: /srv/\xff\n");
    let makes: Vec<(Make<'_>, Vec<&str>)> = vec![
        (Box::new(|| fs::create_dir(&file).expect("room")), vec!["no regular file"]),
        (
            Box::new(|| std::os::unix::fs::symlink("gone.yml", &file).expect("room")),
            vec!["does not exist", "endpoints: ["],
        ),
        (
            Box::new(|| std::os::unix::fs::symlink("/dev/zero", &file).expect("room")),
            vec!["no regular file"],
        ),
        (write(not_text), vec!["must be a text file", "UTF-8"]),
        (write("# fill\n".repeat(200_000).into_bytes()), vec!["larger than 1 MiB"]),
        (write(b"release:\n\towner: a\n".to_vec()), vec![":2: ", "correct the YAML"]),
        (write(b"- endpoints\n".to_vec()), vec!["a list instead of keys"]),
        (write(b"endpoints: [1, {}]\n".to_vec()), vec!["endpoints[0]", "endpoints[1]"]),
        (write(b"release: [a]\nlisten: 5\n".to_vec()), vec!["release", "listen"]),
        (
            write(format!("{right}tls-ca: |\n  -----BEGIN CERTIFICATE-----\n").into_bytes()),
            vec!["must be https, as certificates are set", "correct the configuration file"],
        ),
    ];
    for (make, words) in &makes {
        clear(&file);
        make();
        for word in words {
            for daemon in ["neco-worker", "neco-updater"] {
                scenario.logged(server, daemon, &[" ERROR ", word]).await;
            }
        }
        let told = necoctl(server, &["status"]).await.ended(1);
        assert!(words.iter().all(|word| told.err.contains(word)), "{words:?}: {}", told.err);
        assert!(told.err.len() < 2000, "{}", told.err);
    }
    assert_eq!(processes(server), waiting, "they wait for the right one");
    assert_eq!(server.version_on_disk().as_deref(), Some(first.as_str()));
    for daemon in ["neco-worker", "neco-updater"] {
        for words in [["does not exist"], ["larger than 1 MiB"]] {
            assert_eq!(lines(server, daemon, &words).len(), 1, "{words:?} is said once");
        }
    }

    // It can be used, with remarks: a byte order mark, keys that nobody knows, and drop-ins that do not agree.
    fs::create_dir(&drop_ins).expect("room");
    let drop_in = |name: &str, text: &str| fs::write(drop_ins.join(name), text).expect("room");
    drop_in("10-old.yml", "prefix: /elsewhere/\ntimeout: 3s\nrelease: {apiUrl: x}\ncolour: red\n");
    drop_in("20-new.yml", "prefix: /neco/\ntimeout: 2s\nlisten: {worker: '127.0.0.1:0'}\n");
    drop_in("30-not.yaml", "{{{");
    clear(&file);
    fs::write(&file, format!("\u{feff}{right}")).expect("room");
    for words in [
        ["10-old.yml:1: prefix", "20-new.yml, which says otherwise; remove one of the two"],
        ["10-old.yml:2: timeout", "20-new.yml, which says otherwise; remove one of the two"],
        ["10-old.yml:3: release.apiUrl", "unknown and ignored; write release.api_url"],
        ["10-old.yml:4: colour", "unknown and ignored; remove it, or correct its name"],
        ["30-not.yaml", "is not read; end its name in .yml"],
    ] {
        for daemon in ["neco-worker", "neco-updater"] {
            scenario.logged(server, daemon, &[" WARN ", words[0], words[1]]).await;
        }
        let told = necoctl(server, &["status"]).await.ended(0).err;
        let line = told.lines().find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some_and(|line| line.starts_with("warning: ")), "{words:?}: {told}");
    }
    scenario.completed(&version).await;
    ended(server, &waiting, &version);
    scenario.verdict(&version).await;
}

/// Checks that processes that are gone went for the new binary, or were told to.
fn ended(server: &BootServer, processes: &[u32], version: &NecoVersion) {
    for daemon in neco_scenarios::daemons(server) {
        for exited in daemon.state().exits {
            if processes.contains(&exited.pid) {
                let code = exited.status.code();
                assert!(matches!(code, Some(0 | 3) | None), "{version}: {}", exited.status);
            }
        }
    }
}
