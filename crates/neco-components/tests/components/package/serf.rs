//! The configuration of serf, read by an agent, which is called by `NECO_SERF`:
//!
//! ```console
//! $ NECO_SERF=/usr/bin/serf cargo test -p neco-components --test components -- --ignored serf
//! ```
//!
//! It runs on loopback, where there is no node0, and nobody else to be joined.

use std::path::Path;

use super::program::{named_by, said_until};
use super::{facts, render};

/// What an agent says until it runs with `config`, and whether it does.
fn runs(config: &str, dir: &Path) -> (bool, String) {
    let file = dir.join("serf.json");
    std::fs::write(&file, config).expect("writable");
    let file = format!("-config-file={}", file.display());
    // Port 0 has the system choose. What is joined is nobody: an agent that cannot join tries again later.
    let places = ["-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"];
    said_until(
        "Serf agent running!",
        &named_by("NECO_SERF"),
        &["agent", &file, places[0], places[1]],
    )
}

#[test]
#[ignore = "needs serf, which NECO_SERF names; `cargo xtask test --all` runs it"]
fn serf_understands_every_word_of_its_configuration() {
    let desired = render("serf", &facts("2026.11.21-40152", 0, &[0, 1, 2]));
    let config = &desired.file("/etc/serf/serf.json").expect("a file").content;
    let dir = tempfile::tempdir().expect("a folder");
    let mut config: serde_json::Value = serde_json::from_str(config).expect("JSON");
    assert_eq!(config["interface"], "node0");
    config["interface"] = "lo".into();
    // A port that nobody listens on, of this machine.
    for server in config["retry_join"].as_array_mut().expect("a list") {
        *server = "127.0.0.1:1".into();
    }

    let (good, said) = runs(&config.to_string(), dir.path());
    assert!(good, "{said}");

    let (bad, said) = runs(&config.to_string().replace("retry_join", "retry_joins"), dir.path());
    assert!(!bad && said.contains("retry_joins"), "{said}");
    let (bad, said) = runs(&config.to_string().replace("\"24h\"", "\"a day\""), dir.path());
    assert!(!bad && said.contains("a day"), "{said}");
}
