//! A configuration file that cannot be used, or only with remarks.

use std::fs;
use std::path::Path;

use neco_scenarios::{Scenario, ended_in_order, lines, necoctl, processes, restarted};

/// What stands in the place of a configuration file that is none.
fn clear(file: &Path) {
    match fs::symlink_metadata(file) {
        Ok(data) if data.is_dir() => fs::remove_dir(file).expect("an empty one"),
        Ok(_) => fs::remove_file(file).expect("it is there"),
        Err(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    let name = file.display().to_string();
    let makes: Vec<(Make<'_>, Vec<&str>)> = vec![
        (Box::new(|| {}), vec![&name, "does not exist", "endpoints: ["]),
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
            write(b"endpoints: 5\ntimeout: soon\nrelease: {unsigned: maybe}\n".to_vec()),
            vec!["3 problems", "endpoints", "timeout", "release.unsigned", &name],
        ),
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
    ended_in_order(server, &waiting);
    scenario.verdict(&version).await;
}
