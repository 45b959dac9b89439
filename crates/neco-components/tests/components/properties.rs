//! Properties of differences, over arbitrary components.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neco_components::{
    ContentDigest, Deb, Desired, DesiredFile, DesiredUnit, Difference, Effect, FileKind,
    InstallTools, Observed, Restart, UnitRole, diff, effects,
};
use proptest::prelude::*;

fn files() -> impl Strategy<Value = Vec<DesiredFile>> {
    let account = || proptest::option::of("[a-z]{1,4}");
    let file = ("[a-z]{0,4}", 0u32..0o1000, account(), account(), any::<bool>());
    proptest::collection::vec(file, 0..5).prop_map(|files| {
        let file =
            |(index, (content, mode, owner, group, unit)): (usize, (String, _, _, _, bool))| {
                DesiredFile {
                    path: PathBuf::from(format!("/etc/{index}")),
                    digest: ContentDigest::of(&content),
                    content,
                    mode,
                    owner,
                    group,
                    create_only: false,
                    validate: Vec::new(),
                    kind: if unit { FileKind::Unit } else { FileKind::Plain },
                }
            };
        files.into_iter().enumerate().map(file).collect()
    })
}

fn units() -> impl Strategy<Value = Vec<DesiredUnit>> {
    proptest::collection::vec(("[a-z]{0,4}", any::<bool>()), 0..3).prop_map(|units| {
        let unit = |(index, (content, running)): (usize, (String, bool))| DesiredUnit {
            name: format!("{index}.service"),
            role: if running { UnitRole::Running } else { UnitRole::Triggered },
            is_written: true,
            needs: Vec::new(),
            digest: ContentDigest::of(content),
        };
        units.into_iter().enumerate().map(unit).collect()
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let restart = prop_oneof![
        Just(Restart::WhenChanged),
        Just(Restart::Reload),
        Just(Restart::Never),
        Just(Restart::Always),
    ];
    let image = proptest::option::of("[ab]".prop_map(|tag| format!("registry/program:{tag}")));
    let package = proptest::option::of("v[12]");
    let all = (restart, image, any::<bool>(), package, files(), units());
    all.prop_map(|(restart, image, tools, package, files, units)| Desired {
        only_where: Vec::new(),
        component: "some".parse().expect("a name"),
        restart,
        tools: image.as_ref().filter(|_| tools).map(|_| InstallTools {
            command: vec!["/install-tools".to_owned()],
            bind: "/host".into(),
            outputs: Vec::new(),
        }),
        image,
        package: package.map(|release| Deb {
            name: "some".parse().expect("a name"),
            owner: "o".to_owned(),
            repository: "r".to_owned(),
            release,
            sha256: None,
        }),
        files,
        secrets: Vec::new(),
        units,
        watched: BTreeMap::new(),
    })
}

/// The unit that a file defines: `/etc/1` is that of `1.service`.
fn unit_of(desired: &Desired, path: &Path) -> Option<String> {
    let unit = format!("{}.service", path.file_name()?.to_str()?);
    let file = desired.file(path)?;
    let known = desired.units.iter().any(|known| known.name == unit);
    (file.kind == FileKind::Unit && known).then_some(unit)
}

/// Does to `observed` what the effects say, as the worker would.
fn carry_out(desired: &Desired, observed: &mut Observed, effects: &[Effect]) {
    let fulfilled = Observed::fulfilling(desired);
    for effect in effects {
        match effect {
            Effect::Write(path) => {
                observed.files.insert(path.clone(), fulfilled.files[path].clone());
                let unit = unit_of(desired, path).and_then(|unit| observed.units.get_mut(&unit));
                if let Some(unit) = unit {
                    unit.needs_reload = true;
                }
            }
            Effect::Restrict(path) => {
                observed.secrets.insert(path.clone(), fulfilled.secrets[path].clone());
            }
            Effect::Reload => observed.units.values_mut().for_each(|u| u.needs_reload = false),
            Effect::Enable(unit) => {
                observed.units.entry(unit.clone()).or_default().enabled = true;
            }
            Effect::Pull(_) => observed.image = true,
            Effect::InstallTools(image) => {
                assert!(observed.image, "an image is run before it is there");
                observed.tools = Some(image.clone());
            }
            Effect::InstallPackage(_) => observed.package.clone_from(&fulfilled.package),
            Effect::Start(unit) | Effect::Restart(unit) | Effect::ReloadUnit(unit) => {
                let started = observed.units.entry(unit.clone()).or_default();
                started.active = true;
                started.started_with.clone_from(&fulfilled.units[unit].started_with);
            }
        }
    }
}

fn only_restarts_always(desired: &Desired, differences: &[Difference]) -> bool {
    let restarts = effects(desired, differences);
    desired.restart == Restart::Always && restarts.iter().all(|e| matches!(e, Effect::Restart(_)))
}

proptest! {
    #[test]
    fn what_is_as_desired_has_no_difference(desired in desired()) {
        let differences = diff(&desired, &Observed::fulfilling(&desired));
        prop_assert!(differences.is_empty() || only_restarts_always(&desired, &differences));
    }

    #[test]
    fn what_differs_is_as_desired_after_the_effects(before in desired(), after in desired()) {
        let mut observed = Observed::fulfilling(&before);
        let differences = diff(&after, &observed);
        carry_out(&after, &mut observed, &effects(&after, &differences));
        let left = diff(&after, &observed);
        prop_assert!(left.is_empty() || only_restarts_always(&after, &left), "{left:?}");
    }

    #[test]
    fn a_file_differs_if_and_only_if_its_content_mode_owner_or_group_does(
        before in desired(),
        after in desired(),
    ) {
        let observed = Observed::fulfilling(&before);
        let differences = diff(&after, &observed);
        for file in &after.files {
            let old = before.files.iter().find(|old| old.path == file.path);
            let other = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
            let expected = old.is_none_or(|old| {
                old.content != file.content
                    || old.mode != file.mode
                    || other(&old.owner, &file.owner)
                    || other(&old.group, &file.group)
            });
            let differs = differences
                .iter()
                .any(|d| matches!(d, Difference::File { path, .. } if *path == file.path));
            prop_assert_eq!(differs, expected, "{:?}", file.path);
        }
    }

    #[test]
    fn a_restart_that_was_lost_is_still_due(before in desired(), after in desired()) {
        // All files are written, and then the worker dies before it restarts anything.
        let mut observed = Observed::fulfilling(&before);
        let first = effects(&after, &diff(&after, &observed));
        let writes: Vec<Effect> =
            first.iter().filter(|e| matches!(e, Effect::Write(_))).cloned().collect();
        carry_out(&after, &mut observed, &writes);
        let second = effects(&after, &diff(&after, &observed));
        let restarts = |effects: &[Effect]| -> Vec<Effect> {
            effects
                .iter()
                .filter(|e| !matches!(e, Effect::Write(_) | Effect::Reload))
                .cloned()
                .collect()
        };
        prop_assert_eq!(restarts(&second), restarts(&first));
    }

    #[test]
    fn no_unit_starts_before_systemd_knows_its_file(
        before in desired(),
        after in desired(),
        done in 0usize..8,
    ) {
        // The worker dies after some of the effects, and comes back.
        let mut observed = Observed::fulfilling(&before);
        let first = effects(&after, &diff(&after, &observed));
        carry_out(&after, &mut observed, &first[..done.min(first.len())]);
        for effect in effects(&after, &diff(&after, &observed)) {
            if let Effect::Start(unit) | Effect::Restart(unit) | Effect::ReloadUnit(unit) = &effect
            {
                prop_assert!(!observed.units.get(unit).is_some_and(|unit| unit.needs_reload));
            }
            carry_out(&after, &mut observed, &[effect]);
        }
        prop_assert!(!observed.units.values().any(|unit| unit.needs_reload));
    }

    #[test]
    fn a_digest_changes_if_and_only_if_the_content_does(a in ".{0,8}", b in ".{0,8}") {
        prop_assert_eq!(ContentDigest::of(&a) == ContentDigest::of(&b), a == b);
    }
}
