//! The in-memory store does what every store must do.

use crate::common::memory_rig;
use neco_testkit::store::{contract, lists};

#[tokio::test(start_paused = true)]
async fn does_what_a_store_must_do() {
    contract(async |_| memory_rig()).await;
}

/// The player of the lists itself: the model against itself, on one store for all lists.
#[tokio::test]
async fn answers_random_lists_like_the_model() {
    lists::run(&[memory_rig()], 1, 200).await;
}
