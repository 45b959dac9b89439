//! Real etcd does what every store must do, and answers like the model of it.

use crate::common::Etcd;
use neco_testkit::store::{contract, lists};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_what_a_store_must_do() {
    let etcd = Etcd::start().await;
    contract(async |case: &'static str| etcd.rig(&format!("/{case}/")).await).await;
}

/// `NECO_SEED` and `NECO_LISTS` run other lists, or one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_random_lists_like_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("NECO_SEED").unwrap_or(20_261_121);
    let count = number("NECO_LISTS").unwrap_or(500);
    // Lists wait more than they work: several servers wait at the same time.
    let (mut servers, mut rigs) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let etcd = Etcd::start().await;
        rigs.push(etcd.rig("/lists/").await);
        servers.push(etcd);
    }
    lists::run(&rigs, seed, count).await;
}
