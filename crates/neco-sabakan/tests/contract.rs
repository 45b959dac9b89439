//! The real client keeps the contract on the stand-in.

mod common;

use common::Stage;

#[tokio::test]
async fn the_client_keeps_the_contract() {
    neco_sabakan::contract::holds(Stage::new).await;
}
