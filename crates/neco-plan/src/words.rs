//! Boot servers as they stand in a sentence.

use neco_schema::Lrn;

/// `boot server 0`, or `boot servers 0, 2`.
pub(crate) fn named(servers: impl IntoIterator<Item = Lrn>) -> String {
    let names: Vec<String> = servers.into_iter().map(|lrn| lrn.to_string()).collect();
    format!("boot server{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}
