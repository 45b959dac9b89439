//! The configuration of Vault, read by OpenBao, which is called by `NECO_OPENBAO`:
//!
//! ```console
//! $ NECO_OPENBAO=$PWD/target/tools/openbao/bao cargo test -p neco-components --test components -- --ignored openbao
//! ```
//!
//! It has no storage in etcd, so that stanza is another here.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{facts, render};

const PROGRAM: &str = "NECO_OPENBAO";
const SOON: Duration = Duration::from_secs(30);

/// What OpenBao says until it has started with `config`, and whether it has.
fn started(config: &str, dir: &Path) -> (bool, String) {
    let file = dir.join("config.hcl");
    std::fs::write(&file, config).expect("writable");
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| panic!("{PROGRAM} is not set"));
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" server -config=\"$1\" 2>&1"])
        .args([&program, file.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().expect("a pipe");
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    let deadline = Instant::now() + SOON;
    let mut said = String::new();
    let started = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("server started!") => break true,
            Ok(line) => said.extend([line.as_str(), "\n"]),
            Err(_) => break false,
        }
    };
    child.kill().expect("ours");
    child.wait().expect("ours");
    (started, said)
}

#[test]
#[ignore = "needs OpenBao, which NECO_OPENBAO names; `cargo xtask test --all` runs it"]
fn openbao_understands_every_word_of_vault_s_configuration() {
    let desired = render("vault", &facts("2026.11.21-40152", 0, &[0, 1, 2]));
    let config = &desired.file("/etc/vault/config.hcl").expect("a file").content;
    let (rest, _) = config.split_once("storage \"etcd\"").expect("a storage");
    let dir = tempfile::tempdir().expect("a folder");
    let certified =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.path().join("crt"), dir.path().join("key"));
    std::fs::write(&cert, certified.cert.pem()).expect("writable");
    std::fs::write(&key, certified.signing_key.serialize_pem()).expect("writable");
    let config = rest
        .replace("/etc/neco/server.crt", &cert.display().to_string())
        .replace("/etc/neco/server.key", &key.display().to_string())
        .replace("0.0.0.0:8200", "127.0.0.1:0")
        + "storage \"inmem\" {}\n";

    let (good, said) = started(&config, dir.path());
    assert!(good, "{said}");
    assert!(!said.contains("unknown or unsupported field"), "{said}");
    for fact in ["Api Address: https://10.69.0.3:8200", "Cluster Address: https://10.69.0.3:8201"] {
        assert!(said.contains(fact), "{said}");
    }
    assert!(said.contains("tls: \"enabled\""), "{said}");

    let (_, said) = started(&config.replace("disable_hostname", "disable_host"), dir.path());
    assert!(said.contains("unknown or unsupported field disable_host"), "{said}");
}
