//! The invariants of the update protocol on a live cluster: where the evidence comes from, and what is told.

pub mod history;
pub mod journals;
pub mod report;

use std::path::Path;

use neco_plan::invariants::{Rules, Secret};
use neco_process::daemon::installed_version;
use neco_schema::{Key, Snapshot};

use crate::recipe;

/// A shorter value of a secret key may stand anywhere by chance.
const SHORTEST_SECRET: usize = 12;

/// What is known beside the history: the recipe of the version that is installed below `root`, and the secrets.
pub fn rules(root: &Path, present: &Snapshot) -> Rules {
    let version = installed_version(root).ok();
    let shape = version.and_then(|version| Some((version, recipe::installed(root)?.shape())));
    Rules { recipes: shape.into_iter().collect(), secrets: secrets(present), ..Rules::default() }
}

/// What stands under secret keys and must stand nowhere else.
fn secrets(present: &Snapshot) -> Vec<Secret> {
    let kvs = present.kvs.values();
    kvs.filter(|kv| kv.key.parse::<Key>().is_ok_and(|key| key.is_secret()))
        .map(|kv| String::from_utf8_lossy(&kv.value).trim().to_owned())
        .filter(|value| value.chars().count() >= SHORTEST_SECRET)
        .map(Secret::new)
        .collect()
}
