//! Who may use whom.

use super::graph::{Crate, Floor};

/// What a crate may be built with.
enum Allowed {
    /// No crate of this workspace.
    Nothing,
    /// Exactly these.
    Only(&'static [&'static str]),
    /// Any crate of these floors.
    Floors(std::ops::RangeInclusive<u8>),
    /// Any crate at all.
    Anything,
}

/// The table of floors. Crates of floor 2 say exactly what they stand on (two of them are pure), so
/// that a new one has to be thought about.
fn allowed(name: &str, floor: Floor) -> Option<Allowed> {
    Some(match (floor, name) {
        (Floor::Number(0), _) | (Floor::Xtask, _) => Allowed::Nothing,
        (Floor::Number(1), "neco-process") => Allowed::Only(&["neco-base"]),
        (Floor::Number(1), _) => Allowed::Floors(0..=0),
        (Floor::Number(2), "neco-plan") => Allowed::Only(&["neco-schema"]),
        (Floor::Number(2), "neco-components") => {
            Allowed::Only(&["neco-artifacts", "neco-base", "neco-schema", "neco-toml"])
        }
        (Floor::Number(2), "neco-connect") => Allowed::Only(&[
            "neco-base",
            "neco-process",
            "neco-releases",
            "neco-schema",
            "neco-store",
        ]),
        (Floor::Number(2), _) => return None,
        (Floor::Number(3), "neco-playground") => Allowed::Floors(0..=3),
        (Floor::Number(3), _) | (Floor::Aside, _) => Allowed::Floors(0..=2),
        (Floor::Number(_), _) => Allowed::Anything,
    })
}

/// A complaint for each arrow that runs where none may.
pub(super) fn check(crates: &[Crate]) -> Vec<String> {
    let mut violations = Vec::new();
    for from in crates {
        let Some(allowed) = allowed(&from.name, from.floor) else {
            violations.push(format!(
                "{}: a crate of floor 2 needs a row of its own in xtask/src/layers/arrows.rs that \
                 says what it may use",
                from.name
            ));
            continue;
        };
        for to in crates.iter().filter(|to| from.uses.contains(&to.name)) {
            let fits = match &allowed {
                Allowed::Nothing => false,
                Allowed::Only(names) => names.contains(&to.name.as_str()),
                Allowed::Floors(floors) => {
                    matches!(to.floor, Floor::Number(number) if floors.contains(&number))
                }
                Allowed::Anything => true,
            };
            if !fits {
                violations.push(complaint(from, to));
            }
        }
    }
    violations
}

fn complaint(from: &Crate, to: &Crate) -> String {
    let why = match (from.floor, to.floor) {
        (_, Floor::Aside) => "it is for tests: make it a dev-dependency".to_owned(),
        (Floor::Number(1), Floor::Number(1)) => "crates of floor 1 are strangers".to_owned(),
        (Floor::Number(mine), Floor::Number(theirs)) if theirs > mine => {
            "the arrow runs uphill".to_owned()
        }
        _ => format!("not among what {} may use", from.name),
    };
    format!("{} ({}) uses {} ({}): {why}", from.name, from.floor, to.name, to.floor)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn a(name: &str, floor: Floor, uses: &[&str]) -> Crate {
        let uses = uses.iter().map(|&name| name.to_owned()).collect();
        Crate { name: name.into(), floor, dir: PathBuf::new(), uses }
    }

    const N: fn(u8) -> Floor = Floor::Number;

    fn house() -> Vec<Crate> {
        vec![
            a("neco-schema", N(0), &[]),
            a("neco-store", N(1), &["neco-schema"]),
            a("neco-host", N(1), &["neco-schema"]),
            a("neco-base", N(0), &[]),
            a("neco-process", N(1), &["neco-base"]),
            a("neco-artifacts", N(1), &["neco-schema"]),
            a("neco-components", N(2), &["neco-artifacts", "neco-schema"]),
            a("neco-plan", N(2), &["neco-schema"]),
            a("neco-connect", N(2), &["neco-process", "neco-store"]),
            a("neco-worker", N(3), &["neco-plan", "neco-store", "neco-process", "neco-schema"]),
            a("neco-playground", N(3), &["neco-worker", "neco-store"]),
            a("neco-scenarios", N(4), &["neco-playground", "neco-testkit"]),
            a("neco-testkit", Floor::Aside, &["neco-plan", "neco-store"]),
            a("xtask", Floor::Xtask, &[]),
        ]
    }

    /// The complaints when one arrow is added to a sound house.
    fn with(from: &str, to: &str) -> Vec<String> {
        let mut house = house();
        let from = house.iter_mut().find(|one| one.name == from).unwrap();
        assert!(from.uses.insert(to.to_owned()), "that arrow was there before");
        check(&house)
    }

    #[test]
    fn a_sound_house_has_nothing_to_complain_of() {
        assert_eq!(check(&house()), Vec::<String>::new());
    }

    #[test]
    fn every_planted_arrow_is_found() {
        for (from, to, why) in [
            ("neco-schema", "neco-store", "runs uphill"),
            ("neco-store", "neco-plan", "runs uphill"),
            ("neco-store", "neco-host", "strangers"),
            ("neco-process", "neco-schema", "not among what neco-process may use"),
            ("neco-plan", "neco-base", "not among what neco-plan may use"),
            ("neco-plan", "neco-store", "not among what neco-plan may use"),
            ("neco-plan", "neco-components", "not among what neco-plan may use"),
            ("neco-components", "neco-host", "not among what neco-components may use"),
            ("neco-connect", "neco-host", "not among what neco-connect may use"),
            ("neco-worker", "neco-playground", "not among what neco-worker may use"),
            ("neco-worker", "neco-testkit", "dev-dependency"),
            ("neco-worker", "neco-scenarios", "runs uphill"),
            ("neco-testkit", "neco-worker", "not among what neco-testkit may use"),
            ("xtask", "neco-schema", "not among what xtask may use"),
        ] {
            let complaints = with(from, to);
            assert_eq!(complaints.len(), 1, "{from} → {to}: {complaints:?}");
            assert!(complaints[0].contains(why), "{}", complaints[0]);
        }
    }

    #[test]
    fn a_new_crate_of_floor_2_has_to_be_thought_about() {
        let mut house = house();
        house.push(a("neco-fresh", N(2), &[]));
        assert!(check(&house)[0].starts_with("neco-fresh: a crate of floor 2 needs a row"));
    }
}
