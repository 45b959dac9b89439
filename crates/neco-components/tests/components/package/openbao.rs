//! The configuration of Vault, read by OpenBao, which is called by `NECO_OPENBAO`:
//!
//! ```console
//! $ NECO_OPENBAO=$PWD/target/tools/openbao/bao cargo test -p neco-components --test components -- --ignored openbao
//! ```
//!
//! It has no storage in etcd, so that stanza is another here.

use std::path::Path;

use super::program::{named_by, said_until};
use super::{facts, render};

/// What OpenBao says until it has started with `config`, and whether it has.
fn started(config: &str, dir: &Path) -> (bool, String) {
    let file = dir.join("config.hcl");
    std::fs::write(&file, config).expect("writable");
    let file = format!("-config={}", file.display());
    said_until("server started!", &named_by("NECO_OPENBAO"), &["server", &file])
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
