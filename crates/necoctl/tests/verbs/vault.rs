//! `vault unseal`, against a Vault that speaks HTTP.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use neco_vault::{FakeVault, State, Vault as _};
use necoctl::cli::{Cli, Style};
use necoctl::commands::Command;

use crate::disturbed::Disturbed;
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

/// Time is the test's own: nobody waits for a minute.
#[tokio::test(start_paused = true)]
async fn etcd_and_vault_together_have_one_minute_unless_told_otherwise() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    let bench = keeping(key.reveal());
    let address = vault.address(0).to_string();
    vault.stop(0).await;
    let line = ["vault", "unseal", "--address", &address];
    for late in [0, 25, 59] {
        let store = Disturbed {
            store: bench.store.clone(),
            late: Duration::from_secs(late),
            ..Disturbed::default()
        };
        let begun = tokio::time::Instant::now();
        let run = bench.run_on(Arc::new(store), &line).await;
        assert_eq!(run.code, 2, "{run:?}");
        let left = format!("did not come within {}s", 60 - late);
        assert!(run.err.contains(&left), "etcd took {late} s: {run:?}");
        // Who has waited for etcd does not wait as long again.
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(58) && took < Duration::from_secs(61), "{took:?}");
    }
}

#[test]
fn etcd_is_waited_for_as_long_as_vault_is() {
    for (more, expected) in [
        (&[][..], 60),
        (&["--within", "90s"], 90),
        (&["--within", "1s"], 5),
        (&["--within", "1s", "--timeout", "7s"], 7),
    ] {
        let line = [&["necoctl", "vault", "unseal"], more].concat();
        let cli = Cli::try_parse_from(line).expect("a line");
        let Some(Command::Vault(verb)) = cli.command else { panic!("another verb") };
        assert_eq!(verb.patient(&cli.global).timeout, Duration::from_secs(expected), "{more:?}");
    }
    let cli = Cli::try_parse_from(["necoctl", "vault", "show-unseal-key"]).expect("a line");
    let Some(Command::Vault(verb)) = cli.command else { panic!("another verb") };
    assert_eq!(verb.patient(&cli.global).timeout, cli.global.timeout, "a person waits there");
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

#[tokio::test]
async fn the_key_is_printed_where_that_is_asked_for_alone() {
    for (style, refused) in [(Style::Ours, 5), (Style::Original, 1)] {
        let bench = Bench { style, ..keeping("hunter2") };
        for more in [&[][..], &["--output", "json"]] {
            let run = bench.run(&[&["vault", "show-unseal-key"], more].concat()).await;
            assert_eq!((run.code, &*run.out), (refused, ""), "{run:?}");
            assert!(run.err.contains("--reveal") && !run.err.contains("hunter2"), "{run:?}");
        }
        let run = bench.run(&["vault", "show-unseal-key", "--reveal"]).await;
        assert_eq!((run.code, &*run.out, &*run.err), (0, "hunter2\n", ""));
    }
    let json = ["vault", "show-unseal-key", "--reveal", "--output", "json"];
    let run = keeping("hunter2").run(&json).await;
    assert_eq!(run.json(), serde_json::json!({ "format": 1, "key": "hunter2" }));
    let run = Bench::new().run(&json).await;
    assert_eq!((run.code, &*run.out), (3, ""), "{run:?}");
}

#[tokio::test]
async fn the_only_copy_of_the_key_is_not_removed_by_the_way() {
    let bench = keeping("hunter2");
    for more in [&[][..], &["--dry-run"]] {
        let run = bench.run(&[&["vault", "remove-unseal-key"], more].concat()).await;
        assert_eq!((run.code, &*run.out), (5, ""), "{run:?}");
        assert!(run.err.contains("--force"), "{run:?}");
    }
    let run = bench.run(&["vault", "remove-unseal-key", "--force", "--dry-run"]).await;
    assert!(run.code == 0 && run.out.contains("delete vault-unseal-key\n"), "{run:?}");
    assert_eq!(bench.get(KEY).as_deref(), Some("hunter2"));

    let run = bench.run(&["vault", "remove-unseal-key", "--force", "--reason", "kept"]).await;
    assert!(run.code == 0 && run.out.contains("is removed"), "{run:?}");
    assert!(!run.out.contains("hunter2") && !run.err.contains("hunter2"), "{run:?}");
    assert_eq!(bench.get(KEY), None);
    let orders = bench.run(&["history", "--orders"]).await.out;
    assert!(orders.contains("vault remove-unseal-key") && orders.contains("kept"), "{orders}");
    let run = bench.run(&["vault", "remove-unseal-key", "--force"]).await;
    assert!(run.code == 0 && run.out.contains("unchanged: "), "{run:?}");
}

#[tokio::test]
async fn under_the_original_s_name_the_key_goes_without_a_word() {
    let bench = Bench { style: Style::Original, ..keeping("hunter2") };
    for _ in 0..2 {
        let run = bench.run(&["vault", "remove-unseal-key"]).await;
        assert_eq!((run.code, &*run.out, &*run.err), (0, "", ""));
        assert_eq!(bench.get(KEY), None);
    }
}
