//! Versions for releases that come to nothing.

use neco_schema::NecoVersion;

/// Versions between the first and the update, oldest first: the date does not go back, the build grows.
pub fn versions_between() -> impl Iterator<Item = NecoVersion> {
    (1..).map(|number| format!("2026.11.20-40151.{number}").parse().expect("a version"))
}
