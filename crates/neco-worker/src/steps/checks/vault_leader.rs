//! The check `vault-leader`: whether Vault has a leader, which nobody can tell who asks the Vault of one server alone.

use neco_connect::one_line;
use neco_host::{Root, SITE_CA};
use neco_http::Url;
use neco_vault::{Client, Options, Vault};

/// The name in component files.
pub(crate) const NAME: &str = "vault-leader";

/// The Vault of this server.
const ADDRESS: &str = "https://127.0.0.1:8200";

/// Why there is no leader yet; `None` when there is one.
pub(crate) async fn trouble(root: &Root) -> Option<String> {
    match client(root) {
        Ok(vault) => no_leader(&vault).await,
        Err(why) => Some(why),
    }
}

async fn no_leader(vault: &dyn Vault) -> Option<String> {
    vault.leader().await.err().map(|error| one_line(&error))
}

fn client(root: &Root) -> Result<Client, String> {
    let address: Url = ADDRESS.parse().map_err(|error| format!("{ADDRESS}: {error}"))?;
    let mut options = Options::new(address);
    // The authorities of the system where the site has none.
    let ca = root.join(SITE_CA);
    match std::fs::read(&ca) {
        Ok(pem) => options = options.trusting(pem),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("reading {}: {error}", ca.display())),
    }
    Client::new(options).map_err(|error| one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use neco_vault::{FakeVault, unseal};
    use std::time::Duration;

    #[tokio::test]
    async fn there_is_a_leader_once_one_server_is_unsealed_and_may_lead() {
        let cluster = FakeVault::start(2).await;
        let (key, _) = cluster.initialise();
        let asked = cluster.server(1);
        assert!(no_leader(&asked).await.is_some(), "all are sealed");
        cluster.allow_elections(false);
        for server in [0, 1] {
            let unsealed = unseal(&cluster.server(server), &key, Duration::from_secs(5)).await;
            unsealed.unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(no_leader(&asked).await.is_some(), "nobody was elected");
        cluster.allow_elections(true);
        assert_eq!(no_leader(&asked).await, None);
    }

    #[test]
    fn an_authority_that_is_none_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join(&SITE_CA[1..]);
        std::fs::create_dir_all(ca.parent().expect("a folder")).expect("writable");
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\nbroken\n").expect("writable");
        let root = Root::new(folder.path()).expect("a root");
        assert!(client(&root).is_err());
        std::fs::remove_file(&ca).expect("removable");
        assert!(client(&root).is_ok(), "the system's authorities");
    }
}
