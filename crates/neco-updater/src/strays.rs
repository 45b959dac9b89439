//! Keys that nobody can make sense of, in the folders that no decision reads.

use std::sync::Arc;
use std::time::Duration;

use neco_plan::{Problem, leader_ranges};
use neco_schema::{Key, Range, Snapshot};

use crate::leading::Context;

/// How often they are looked for. Nothing depends on them.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Names stray keys as long as it is polled. They are left alone: whoever wrote them may need them.
pub(crate) async fn watch_strays(context: Arc<Context>) {
    let everything = [Range::KeysOnly(String::new())];
    loop {
        // That etcd does not answer is said by who decides.
        if let Ok(snapshot) = context.store.read(&everything, None).await {
            let strays = strays_in(&snapshot);
            context.observe(|observation| {
                for stray in strays.iter().filter(|stray| !observation.strays.contains(stray)) {
                    tracing::warn!("{stray}");
                }
                observation.strays = strays;
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The keys outside of what decisions are made from that Neco has no meaning for.
fn strays_in(snapshot: &Snapshot) -> Vec<String> {
    let read = leader_ranges();
    let strays = snapshot.kvs.keys().filter(|key| !read.iter().any(|range| range.contains(key)));
    strays
        .filter_map(|key| {
            let error = key.parse::<Key>().err()?.to_string();
            Some(Problem { key: key.clone(), error }.to_string())
        })
        .collect()
}
