//! The crates of the workspace, their floors and their arrows, from `cargo metadata --no-deps`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::exit::{Done, Failure};

/// Where a crate lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Floor {
    /// 0 to 4.
    Number(u8),
    /// Beside the house: used by tests alone.
    Aside,
    /// The developer's verbs.
    Xtask,
}

impl Floor {
    fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => {
                number.as_u64().filter(|&n| n <= 4).map(|n| Self::Number(n as u8))
            }
            Value::String(word) if word == "aside" => Some(Self::Aside),
            Value::String(word) if word == "xtask" => Some(Self::Xtask),
            _ => None,
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "floor {number}"),
            Self::Aside => f.write_str("aside"),
            Self::Xtask => f.write_str("xtask"),
        }
    }
}

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) floor: Floor,
    /// The folder of its manifest.
    pub(super) dir: PathBuf,
    /// Crates of the workspace it is built with; those of its tests are not among them.
    pub(super) uses: BTreeSet<String>,
}

/// The crates that state a floor, and a complaint about each that does not.
pub(super) fn read(metadata: &Value) -> Done<(Vec<Crate>, Vec<String>)> {
    let packages = metadata["packages"]
        .as_array()
        .ok_or_else(|| Failure::failed("cargo's metadata lists no packages"))?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut crates = Vec::new();
    let mut violations = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let stated = &package["metadata"]["neco"]["floor"];
        let Some(floor) = Floor::parse(stated) else {
            violations.push(format!(
                "{name}: its Cargo.toml must say `[package.metadata.neco] floor =` 0 to 4, \
                 \"aside\" or \"xtask\"; found: {stated}"
            ));
            continue;
        };
        let uses = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(str::to_owned)
            .collect();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
        let dir = manifest.parent().map(PathBuf::from).unwrap_or_default();
        crates.push(Crate { name, floor, dir, uses });
    }
    crates.sort_by(|a, b| (a.floor, &a.name).cmp(&(b.floor, &b.name)));
    Ok((crates, violations))
}

/// The house from the roof down, each crate with what it stands on.
pub(super) fn picture(crates: &[Crate]) -> String {
    let width = crates.iter().map(|one| one.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut floor = None;
    for one in crates.iter().rev() {
        if floor != Some(one.floor) {
            floor = Some(one.floor);
            text.push_str(&format!("{}\n", one.floor));
        }
        let uses: Vec<_> = one.uses.iter().map(|name| name.trim_start_matches("neco-")).collect();
        let uses = if uses.is_empty() { "-".to_owned() } else { uses.join(" ") };
        text.push_str(&format!("  {:<width$}  → {uses}\n", one.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, floor: Value, dependencies: Value) -> Value {
        json!({
            "name": name,
            "metadata": { "neco": { "floor": floor } },
            "manifest_path": format!("/tree/crates/{name}/Cargo.toml"),
            "dependencies": dependencies,
        })
    }

    #[test]
    fn reads_floors_and_arrows_without_those_of_tests() {
        let metadata = json!({ "packages": [
            package("neco-store", json!(1), json!([
                { "name": "neco-schema", "kind": null },
                { "name": "neco-testkit", "kind": "dev" },
                { "name": "tokio", "kind": null },
            ])),
            package("neco-schema", json!(0), json!([])),
            package("neco-testkit", json!("aside"), json!([{ "name": "neco-store", "kind": "build" }])),
        ]});
        let (crates, violations) = read(&metadata).unwrap();
        assert!(violations.is_empty(), "{violations:?}");
        assert_eq!(
            picture(&crates),
            "aside\n  neco-testkit  → store\nfloor 1\n  neco-store    → schema\n\
             floor 0\n  neco-schema   → -\n"
        );
        assert_eq!(crates[1].dir, PathBuf::from("/tree/crates/neco-store"));
    }

    #[test]
    fn complains_of_a_missing_or_unknown_floor() {
        let metadata = json!({ "packages": [
            { "name": "bare", "metadata": null, "dependencies": [], "manifest_path": "/x" },
            package("attic", json!(5), json!([])),
            package("cellar", json!("below"), json!([])),
        ]});
        let (crates, violations) = read(&metadata).unwrap();
        assert!(crates.is_empty());
        assert_eq!(violations.len(), 3);
        assert!(violations[0].starts_with("bare: its Cargo.toml must say"), "{}", violations[0]);
        assert!(violations[1].ends_with("found: 5"), "{}", violations[1]);
    }
}
