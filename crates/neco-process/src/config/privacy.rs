//! Who may read a file that holds a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::report::Report;
use crate::yaml::{Node, Value};

/// The keys whose values are secrets.
const SECRETS: [&str; 2] = ["password", "tls-key"];

/// The bit that lets everybody read.
const OTHERS_READ: u32 = 0o004;

/// Warns of a secret in `file` that every user of this machine may read.
pub(super) fn check(file: &Path, node: &Node, report: &mut Report) {
    let Value::Map(entries) = &node.value else { return };
    let open = fs::metadata(file).is_ok_and(|data| data.permissions().mode() & OTHERS_READ != 0);
    for (key, node) in entries {
        let set = matches!(&node.value, Value::Text(text) if !text.is_empty());
        if open && set && SECRETS.contains(&key.as_str()) {
            let what = "can be read by every user of this machine";
            report.warning(node.place(), key, what, format!("chmod o-r {}", file.display()));
        }
    }
}
