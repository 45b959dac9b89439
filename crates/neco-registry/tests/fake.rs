//! The client against the registry in memory: the suite that the real one passes too.

use async_trait::async_trait;
use bytes::Bytes;
use neco_registry::contract::{self, Bench, PASSWORD, USER};
use neco_registry::testing::{Content, Door, FakeRegistry};

struct Site {
    open: FakeRegistry,
    closed: FakeRegistry,
}

impl Site {
    async fn new(door: Door) -> Self {
        let open = FakeRegistry::start().await.expect("a port");
        let closed = open.beside(door).await.expect("a port");
        Self { open, closed }
    }
}

#[async_trait]
impl Bench for Site {
    fn open(&self) -> String {
        self.open.host().to_owned()
    }

    fn closed(&self) -> String {
        self.closed.host().to_owned()
    }

    async fn put_blob(&self, repository: &str, content: Bytes) {
        self.open.put_blob(repository, Content::of(content));
    }

    async fn put_manifest(&self, repository: &str, reference: &str, kind: &str, text: Bytes) {
        self.open.put_manifest(repository, reference, kind, text);
    }
}

fn login() -> (String, String) {
    (USER.to_owned(), PASSWORD.to_owned())
}

#[tokio::test]
async fn the_fake_keeps_the_contract_with_passwords() {
    let (user, password) = login();
    contract::holds(&Site::new(Door::Basic(user, password)).await).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_with_tokens() {
    contract::holds(&Site::new(Door::Bearer(Some(login()))).await).await;
}
