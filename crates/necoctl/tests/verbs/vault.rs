//! `vault unseal`, against a Vault that speaks HTTP.

use neco_vault::{FakeVault, State, Vault as _};
use necoctl::cli::Style;

use crate::harness::{Bench, Run};

const KEY: &str = "vault-unseal-key";

/// A cluster whose etcd holds this as the unseal key.
fn keeping(key: &str) -> Bench {
    let bench = Bench::new();
    bench.put(KEY, key);
    bench
}

/// Unseals the first server.
async fn unseal(bench: &Bench, vault: &FakeVault, more: &[&str]) -> Run {
    let address = vault.address(0).to_string();
    let line = ["vault", "unseal", "--address", &address];
    bench.run(&[&line, more].concat()).await
}

async fn state(vault: &FakeVault) -> State {
    vault.server(0).health().await.expect("an answer").state
}

#[tokio::test]
async fn the_stored_key_unseals_and_what_is_unsealed_stays_so() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let bench = keeping(key.reveal());
    let run = unseal(&bench, &vault, &[]).await;
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    assert!(run.out.ends_with(" is unsealed\n"), "{run:?}");
    assert_eq!(state(&vault).await, State::Active);
    let run = unseal(&bench, &vault, &[]).await;
    assert!(run.code == 0 && run.out.ends_with(" is unsealed already\n"), "{run:?}");
    let run = unseal(&bench, &vault, &["--output", "json"]).await;
    assert_eq!(run.json(), serde_json::json!({ "format": 1, "outcome": "already" }));
    for run in [run, unseal(&Bench { style: Style::Original, ..bench }, &vault, &[]).await] {
        assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
        assert!(!run.out.contains(key.reveal()), "{run:?}");
    }
}

#[tokio::test]
async fn the_original_s_name_says_nothing() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let bench = Bench { style: Style::Original, ..keeping(key.reveal()) };
    let run = unseal(&bench, &vault, &[]).await;
    assert_eq!((run.code, &*run.out, &*run.err), (0, "", ""));
    assert_eq!(state(&vault).await, State::Active);
}

#[tokio::test]
async fn without_a_stored_key_vault_is_not_even_asked() {
    let vault = FakeVault::start(1).await;
    vault.initialise();
    for style in [Style::Ours, Style::Original] {
        let bench = Bench { style, ..Bench::new() };
        let run = unseal(&bench, &vault, &[]).await;
        assert_eq!((run.code, &*run.out), (0, ""), "{run:?}");
        assert!(run.err.contains("no unseal key is stored"), "{run:?}");
    }
    assert_eq!(vault.asked(), []);
}

#[tokio::test]
async fn a_wrong_key_fails_at_once_and_is_not_shown() {
    let vault = FakeVault::start(1).await;
    vault.initialise();
    let run = unseal(&keeping("hunter2"), &vault, &[]).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("refuses the unseal key"), "{run:?}");
    assert!(!run.err.contains("hunter2"), "{run:?}");
    for (unusable, why) in [("", "it is empty"), (" \n", "it is empty")] {
        let run = unseal(&keeping(unusable), &vault, &[]).await;
        assert!(run.code == 1 && run.err.contains(why), "{run:?}");
    }
}

#[tokio::test]
async fn a_vault_that_begins_to_run_is_waited_for_until_the_deadline() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let bench = keeping(key.reveal());
    vault.stop(0).await;
    let run = unseal(&bench, &vault, &["--within", "300ms"]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("an unsealed Vault did not come within"), "{run:?}");
    let (run, ()) = tokio::join!(unseal(&bench, &vault, &["--within", "30s"]), vault.restart(0));
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(state(&vault).await, State::Active);
}

#[tokio::test]
async fn the_ca_must_be_one_and_the_address_too() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let bench = keeping(key.reveal());
    let file = bench.root.path().join("ca.crt");
    let at = file.to_str().expect("a path");
    let run = unseal(&bench, &vault, &["--ca", at]).await;
    assert!(run.code == 1 && run.err.contains(at), "{run:?}");
    std::fs::write(&file, "no PEM").expect("written");
    let run = unseal(&bench, &vault, &["--ca", at]).await;
    assert!(run.code == 1 && run.err.contains("CA of Vault"), "{run:?}");
    let run = bench.run(&["vault", "unseal", "--address", "http://10.69.0.3:8200"]).await;
    assert!(run.code == 1 && run.err.contains("https alone"), "{run:?}");
    let run = bench.run(&["vault", "unseal", "--address", "10.69.0.3"]).await;
    assert!(run.code == 64 && run.err.contains("is no URL"), "{run:?}");
    assert_eq!(state(&vault).await, State::Sealed);
}
