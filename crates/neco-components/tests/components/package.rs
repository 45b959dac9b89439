//! The data that the package ships: it loads, has the steps of the original, and renders what is expected.
//!
//! `BLESS=1 cargo test -p neco-components` writes the expected files anew.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_components::{
    Desired, Effect, Facts, FileKind, Observed, Phase, Probe, Recipe, ServerFacts, StepScope,
    UnitRole, Work, diff, effects,
};
use neco_schema::Lrn;

fn shipped() -> Recipe {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/usr/share/neco");
    Recipe::load(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn facts(version: &str, lrn: u32, servers: &[u32]) -> Facts {
    let node0 = |lrn: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 69, 0, 0)) + 192 * lrn + 3);
    Facts {
        version: version.parse().expect("a version"),
        cluster: "test".to_owned(),
        lrn: Lrn::new(lrn),
        node0: node0(lrn),
        servers: servers
            .iter()
            .map(|lrn| ServerFacts { lrn: Lrn::new(*lrn), node0: node0(*lrn) })
            .collect(),
        os_name: "Ubuntu".to_owned(),
        os_version: "18.04".to_owned(),
        serial: "abc".to_owned(),
        variants: std::collections::BTreeSet::new(),
    }
}

fn render(component: &str, facts: &Facts) -> Desired {
    let recipe = shipped();
    let component = recipe.component(component).expect("a component");
    Desired::render(component, facts).unwrap_or_else(|error| panic!("{error}: {:?}", error.source))
}

#[test]
fn the_recipe_has_the_steps_of_the_original() {
    let recipe = shipped();
    let names: Vec<String> = recipe.steps().map(|(_, step)| step.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "fetch-images",
            "etcd",
            "stop-vault",
            "vault",
            "setup-hw",
            "serf",
            "setup-serf-tags",
            "etcdpasswd",
            "sabakan",
            "sabakan-state-setter",
            "stop-cke",
            "cke",
            "cke-contents",
            "sabakan-contents",
            "dhcp-json",
            "promtail",
            "user-resources",
            "final-sync",
        ]
    );
    assert_eq!(recipe.len(), 18);
    assert_eq!(recipe.step(18).map(|step| step.name.to_string()).as_deref(), Some("final-sync"));
    assert!(recipe.step(0).is_none() && recipe.step(19).is_none());
}

#[test]
fn the_recipe_has_every_kind_of_step() {
    let recipe = shipped();
    let step = |number| recipe.step(number).expect("a step");
    let part = |number: u32| match step(number).parts.as_slice() {
        [part] => part,
        parts => panic!("step {number} has {} parts", parts.len()),
    };
    let images: Vec<_> = recipe.images_of(part(1)).map(|image| image.name.to_string()).collect();
    assert_eq!(images, ["etcd", "promtail", "setup-hw", "sabakan", "serf", "vault"]);
    assert_eq!(step(1).timeout, Some(Duration::from_secs(3600)));
    assert!(matches!(part(3).work, Work::Component { phase: Phase::Stop, .. }));
    assert_eq!(part(3).scope, StepScope::All);
    assert!(matches!(&part(6).scope, StepScope::OneAtATime { turn } if *turn == "serf"));
    assert!(
        matches!(&part(15).scope, StepScope::OncePerCluster { contents } if contents == "dhcp.json")
    );
    assert!(matches!(&part(18).scope, StepScope::OneAtATime { turn } if *turn == "etcd"));
    let group = &recipe.groups()[0];
    assert_eq!((group.name.as_str(), group.stop, group.apply), ("vault", 3, 4));
    assert_eq!(recipe.groups().len(), 1);
    for (number, _) in recipe.steps() {
        assert_eq!(recipe.group_of(number).is_some(), number == 3 || number == 4);
        if let Work::None { reason } = &part(number).work {
            assert!(reason.starts_with("this package does not "), "{reason}");
        }
    }
    recipe.check_actions(&["fetch-images", "dhcp-json", "restart-etcd"], &[]).expect("all known");
    let error =
        recipe.check_actions(&["fetch-images", "restart-etcd"], &[]).expect_err("one unknown");
    assert!(error.to_string().contains("step[15].action: this version has no action dhcp-json"));
    let dhcp: serde_json::Value =
        serde_json::from_str(recipe.data("dhcp.json").expect("a file")).expect("JSON");
    assert_eq!(dhcp, serde_json::json!({"gateway-offset": 1, "lease-minutes": 60}));
}

#[test]
fn generated_files_are_as_expected() {
    let facts = facts("2026.11.21-40152", 0, &[2, 0, 1]);
    for component in ["serf", "setup-serf-tags", "vault"] {
        for file in render(component, &facts).files {
            let name = file.path.file_name().expect("a name").to_string_lossy().into_owned();
            let golden: PathBuf =
                [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &name].iter().collect();
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&golden, &file.content).expect("writable");
            }
            let expected = std::fs::read_to_string(&golden).expect("a golden file");
            assert_eq!(file.content, expected, "{}", golden.display());
        }
    }
}

#[test]
fn serf_joins_the_other_servers() {
    let desired = render("serf", &facts("2026.11.21-40152", 1, &[0, 1, 2]));
    let file = desired.file("/etc/serf/serf.json").expect("a file");
    let config: serde_json::Value = serde_json::from_str(&file.content).expect("JSON");
    assert_eq!(config["retry_join"], serde_json::json!(["10.69.0.3", "10.69.1.131"]));
    assert_eq!(
        config["tags"],
        serde_json::json!({"os-name": "Ubuntu", "os-version": "18.04", "serial": "abc", "boot-server": "true"})
    );
    let alone = render("serf", &facts("2026.11.21-40152", 1, &[1]));
    let file = alone.file("/etc/serf/serf.json").expect("a file");
    let config: serde_json::Value = serde_json::from_str(&file.content).expect("JSON");
    assert_eq!(config["retry_join"], serde_json::json!([]));
}

#[test]
fn a_fact_cannot_break_out_of_json() {
    let mut facts = facts("2026.11.21-40152", 0, &[0]);
    facts.serial = "a\"b\\c".to_owned();
    let desired = render("serf", &facts);
    let file = desired.file("/etc/serf/serf.json").expect("a file");
    let config: serde_json::Value = serde_json::from_str(&file.content).expect("JSON");
    assert_eq!(config["tags"]["serial"], "a\"b\\c");
}

#[test]
fn the_order_of_servers_in_a_request_does_not_matter() {
    for component in ["serf", "setup-serf-tags", "vault"] {
        assert_eq!(
            render(component, &facts("1.0.0", 0, &[0, 1, 2])),
            render(component, &facts("1.0.0", 0, &[2, 1, 0]))
        );
    }
}

#[test]
fn a_new_version_changes_the_tags_and_restarts_nothing() {
    let (old, new) = (facts("1.0.0", 0, &[0, 1]), facts("1.0.1", 0, &[0, 1]));
    for component in ["serf", "vault"] {
        let differences =
            diff(&render(component, &new), &Observed::fulfilling(&render(component, &old)));
        assert_eq!(differences, [], "{component}");
    }
    let (old, new) = (render("setup-serf-tags", &old), render("setup-serf-tags", &new));
    let differences = diff(&new, &Observed::fulfilling(&old));
    assert_eq!(
        effects(&new, &differences),
        [Effect::Write("/usr/local/bin/setup-serf-tags".into())]
    );
}

#[test]
fn a_new_server_restarts_serf_and_vault() {
    let (old, new) = (facts("1.0.0", 0, &[0, 1]), facts("1.0.0", 0, &[0, 1, 2]));
    for (component, path) in [("serf", "/etc/serf/serf.json"), ("vault", "/etc/vault/config.hcl")] {
        let new = render(component, &new);
        let differences = diff(&new, &Observed::fulfilling(&render(component, &old)));
        assert_eq!(
            effects(&new, &differences),
            [Effect::Write(path.into()), Effect::Restart(format!("{component}.service"))]
        );
    }
}

#[test]
fn a_timer_is_kept_running_and_its_service_is_not() {
    let recipe = shipped();
    let component = recipe.component("setup-serf-tags").expect("a component");
    let roles: Vec<_> =
        component.units.iter().map(|unit| (unit.name.as_str(), unit.role)).collect();
    assert_eq!(
        roles,
        [
            ("setup-serf-tags.service", UnitRole::Triggered),
            ("setup-serf-tags.timer", UnitRole::Running)
        ]
    );
    let probes = &component.ready.as_ref().expect("a probe").probes;
    assert_eq!(probes, &[Probe::UnitActive("setup-serf-tags.timer".to_owned())]);
    let desired = render("setup-serf-tags", &facts("1.0.0", 0, &[0]));
    let units = desired.files.iter().filter(|file| file.kind == FileKind::Unit).count();
    assert_eq!(units, 2);
    assert_eq!(
        effects(&desired, &diff(&desired, &Observed::default())),
        [
            Effect::Write("/usr/local/bin/setup-serf-tags".into()),
            Effect::Write("/etc/systemd/system/setup-serf-tags.service".into()),
            Effect::Write("/etc/systemd/system/setup-serf-tags.timer".into()),
            Effect::Reload,
            Effect::Enable("setup-serf-tags.timer".to_owned()),
            Effect::Start("setup-serf-tags.timer".to_owned()),
        ]
    );
}
