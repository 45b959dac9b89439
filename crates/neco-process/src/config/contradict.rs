//! Files that are laid over each other and do not agree.

use std::path::Path;

use super::report::Report;
use crate::yaml::{Node, Value};

/// The key that no two files may differ in without a word: under another prefix stands another Neco.
const PREFIX: &str = "prefix";

/// Warns where `over` is laid over something that another drop-in has set differently, or over another prefix: the later
/// name wins, and whoever wrote the earlier one may not know. What the main file says is meant to be overridden.
pub(super) fn check(under: &Node, over: &Node, main: &Path, report: &mut Report) {
    compare("", under, over, main, report);
}

fn compare(key: &str, under: &Node, over: &Node, main: &Path, report: &mut Report) {
    if let (Value::Map(below), Value::Map(above)) = (&under.value, &over.value) {
        for (name, node) in above {
            let Some((_, known)) = below.iter().find(|(known, _)| known == name) else { continue };
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            compare(&key, known, node, main, report);
        }
        return;
    }
    let intended = *under.file == *main && key != PREFIX;
    if intended || agree(under, over) {
        return;
    }
    // Neither value is shown: one may be a secret.
    let what = format!("is overridden by {}, which says otherwise", over.file.display());
    report.warning(under.place(), key, what, "remove one of the two");
}

/// Whether two values say the same.
fn agree(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Text(one), Value::Text(other)) => one == other,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Number(one), Value::Number(other)) => one == other,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| agree(one, other))
        }
        (one, other) => one.kind() == other.kind(),
    }
}
