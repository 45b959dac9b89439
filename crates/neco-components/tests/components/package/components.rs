//! What the components say of themselves.

use std::path::Path;
use std::time::Duration;

use neco_components::{Probe, Restart, Scope, UnitRole};

use super::{COMPONENTS, shipped};

#[test]
fn every_component_of_the_original_is_there() {
    let recipe = shipped();
    let names: Vec<&str> = recipe.components().map(|component| component.name.as_str()).collect();
    assert_eq!(names, COMPONENTS);
}

/// A program whose unit no component names would lie there and never run.
#[test]
fn every_unit_of_the_example_of_programs_is_kept_running_and_needs_what_it_says() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../debian/usr/share/doc/neco/examples/programs/units");
    let (recipe, mut seen) = (shipped(), 0);
    // What components write themselves is there.
    let rendered = recipe
        .components()
        .map(|component| super::render(component.name.as_str(), &super::facts("1.0.0", 0, &[0])));
    let rendered: Vec<_> = rendered.collect();
    let written = |path: &str| rendered.iter().any(|desired| desired.file(path).is_some());
    for entry in std::fs::read_dir(&example).expect("a folder") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a unit");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let mut units = recipe.components().flat_map(|component| &component.units);
        let unit = units.find(|unit| unit.name.as_str() == name);
        let unit = unit.unwrap_or_else(|| panic!("no component has {name}"));
        assert_eq!(unit.role, UnitRole::Running, "{name}");
        let conditions = text.lines().filter_map(|line| line.strip_prefix("ConditionPathExists="));
        for path in conditions.filter(|path| !written(path)) {
            assert!(unit.needs.iter().any(|need| need == Path::new(path)), "{name} needs {path}");
        }
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", example.display());
}

/// Without a person watching, a unit that systemd has given up stays down until the next update.
#[test]
fn units_are_started_again_without_end() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian");
    let mut units = Vec::new();
    for place in ["lib/systemd/system", "usr/share/doc/neco/examples/programs/units"] {
        for entry in std::fs::read_dir(folder.join(place)).expect("a folder") {
            let path = entry.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("a unit");
            units.push((path.display().to_string(), text));
        }
    }
    for component in shipped().components() {
        let desired = super::render(component.name.as_str(), &super::facts("1.0.0", 0, &[0]));
        let templates = component.units.iter().filter(|unit| unit.template.is_some());
        units.extend(templates.map(|unit| {
            let file = desired.file(unit.path()).expect("a file");
            (unit.path().display().to_string(), file.content.clone())
        }));
    }
    let mut seen = 0;
    for (path, text) in units {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        if value("Restart=").is_some() {
            assert_eq!(value("StartLimitIntervalSec="), Some("0"), "{path}");
            assert!(value("RestartSec=").is_some_and(|pause| pause != "0"), "{path} has no pause");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} units are started again");
}

/// The unit of each component, what becomes of it, and what it needs.
#[test]
fn units_are_those_of_the_original() {
    let units = [
        ("cke", "cke.service", UnitRole::Running, vec!["/etc/cke/etcd.crt", "/etc/cke/etcd.key"]),
        (
            "cke-localproxy",
            "cke-localproxy.service",
            UnitRole::Running,
            vec!["/etc/cke/etcd.crt", "/etc/cke/etcd.key"],
        ),
        ("etcd", "etcd-container.service", UnitRole::Triggered, vec![]),
        (
            "etcdpasswd",
            "ep-agent.service",
            UnitRole::Running,
            vec!["/etc/etcdpasswd/etcd.crt", "/etc/etcdpasswd/etcd.key"],
        ),
        ("node-exporter", "node-exporter.service", UnitRole::Running, vec![]),
        ("promtail", "promtail.service", UnitRole::Running, vec![]),
        (
            "sabakan",
            "sabakan.service",
            UnitRole::Running,
            vec!["/etc/sabakan/etcd.crt", "/etc/sabakan/etcd.key"],
        ),
        ("sabakan-state-setter", "sabakan-state-setter.service", UnitRole::Running, vec![]),
        ("serf", "serf.service", UnitRole::Running, vec![]),
        ("setup-hw", "setup-hw.service", UnitRole::Running, vec!["/etc/neco/bmc-address.json"]),
        ("setup-serf-tags", "setup-serf-tags.service", UnitRole::Triggered, vec![]),
        ("setup-serf-tags", "setup-serf-tags.timer", UnitRole::Running, vec![]),
        ("sshd", "ssh.service", UnitRole::Running, vec![]),
        (
            "teleport-node",
            "teleport-node.service",
            UnitRole::Running,
            vec!["/etc/teleport/teleport.yaml"],
        ),
        ("vault", "vault.service", UnitRole::Running, vec![]),
    ];
    let recipe = shipped();
    let found = recipe.components().flat_map(|component| {
        component.units.iter().map(|unit| {
            let needs = unit.needs.iter().map(|path| path.to_str().expect("a text")).collect();
            (component.name.as_str(), unit.name.as_str(), unit.role, needs)
        })
    });
    assert_eq!(found.collect::<Vec<(_, _, _, Vec<&str>)>>(), units);
}

/// What a unit needs to be started is what its file has as conditions: one that needs more than Neco knows would be started,
/// not run, and abort the update.
#[test]
fn what_a_unit_needs_stands_in_its_file_and_nothing_else_does() {
    for component in shipped().components() {
        let desired = super::render(component.name.as_str(), &super::facts("1.0.0", 0, &[0]));
        for unit in component.units.iter().filter(|unit| unit.template.is_some()) {
            let file = desired.file(unit.path()).expect("a file");
            let conditions = file.content.lines();
            let conditions =
                conditions.filter_map(|line| line.strip_prefix("ConditionPathExists="));
            // What the component writes itself is there.
            let needed = conditions.filter(|path| desired.file(path).is_none());
            let needs: Vec<&str> =
                unit.needs.iter().map(|path| path.to_str().expect("a text")).collect();
            assert_eq!(needed.collect::<Vec<_>>(), needs, "{}", unit.name);
        }
    }
}

#[test]
fn programs_that_clients_lose_are_taken_one_after_another() {
    let recipe = shipped();
    let one = recipe.components().filter(|component| component.scope == Scope::OneAtATime);
    assert_eq!(one.map(|component| component.name.as_str()).collect::<Vec<_>>(), ["serf"]);
    assert!(recipe.components().all(|component| component.scope != Scope::OncePerCluster));
}

#[test]
fn nothing_is_restarted_that_did_not_change() {
    let recipe = shipped();
    for component in recipe.components() {
        let expected = match component.name.as_str() {
            "etcd" => Restart::Never,
            "sshd" => Restart::Reload,
            _ => Restart::WhenChanged,
        };
        assert_eq!(component.restart, expected, "{}", component.name);
    }
}

#[test]
fn images_install_their_client_programs() {
    let recipe = shipped();
    let tools = recipe.components().filter_map(|component| {
        let tools = component.tools.as_ref()?;
        let bind = tools.bind.to_str().expect("a text");
        Some((component.name.as_str(), tools.command.join(" "), bind))
    });
    let expected = [
        ("etcd", "/usr/local/etcd/install-tools".to_owned(), "/host"),
        ("sabakan", "/usr/local/sabakan/install-tools".to_owned(), "/host/usr/local/bin"),
        ("serf", "/usr/local/serf/install-tools".to_owned(), "/host/usr/local/bin"),
        ("vault", "/usr/local/vault/install-tools".to_owned(), "/host"),
    ];
    assert_eq!(tools.collect::<Vec<_>>(), expected);
    let outputs = recipe.components().flat_map(|component| {
        let tools = component.tools.iter().flat_map(|tools| &tools.outputs);
        tools.map(|output| (output.command.join(" "), output.path.display().to_string()))
    });
    let completion = "/etc/bash_completion.d/sabactl".to_owned();
    let expected = [("/usr/local/bin/sabactl completion".to_owned(), completion)];
    assert_eq!(outputs.collect::<Vec<_>>(), expected);
}

#[test]
fn programs_and_units_of_a_package_are_watched() {
    let recipe = shipped();
    let watched = recipe.components().filter(|component| !component.watch.is_empty());
    let watched = watched.map(|component| {
        let paths = component.watch.iter().map(|path| path.to_str().expect("a text"));
        // A unit that is not written here is part of what its program is started with, too.
        let unit = component.running_unit().expect("it runs");
        assert!(unit.template.is_none(), "{}", component.name);
        let unit = format!("/lib/systemd/system/{}", unit.name);
        let (units, others): (Vec<_>, Vec<_>) = paths.partition(|path| *path == unit);
        assert_eq!(units.len(), 1, "{}: {unit}", component.name);
        (component.name.as_str(), others)
    });
    assert_eq!(
        watched.collect::<Vec<_>>(),
        [
            ("cke", vec!["/usr/sbin/cke"]),
            ("cke-localproxy", vec!["/usr/sbin/cke-localproxy", "/etc/cke/config.yml"]),
            ("node-exporter", vec!["/usr/sbin/node_exporter"]),
            ("sabakan-state-setter", vec!["/usr/bin/sabakan-state-setter"]),
            ("teleport-node", vec!["/usr/sbin/teleport"]),
        ]
    );
}

/// Whatever is kept running is asked whether it does.
#[test]
fn what_runs_proves_that_it_is_ready() {
    let recipe = shipped();
    let http = |url: &str, ca: Option<&str>| Probe::Http {
        url: url.to_owned(),
        status: vec![200],
        ca: ca.map(Into::into),
    };
    for component in recipe.components() {
        let Some(unit) = component.running_unit() else {
            assert_eq!(component.ready, None, "{}", component.name);
            continue;
        };
        let mut expected = vec![Probe::UnitActive(unit.name.clone())];
        match component.name.as_str() {
            "vault" => expected.extend([
                http(
                    "https://127.0.0.1:8200/v1/sys/health?standbyok=true&perfstandbyok=true",
                    Some("/usr/local/share/ca-certificates/neco.crt"),
                ),
                Probe::Check { check: "vault-leader".parse().expect("a name") },
            ]),
            "sabakan" => expected.push(http("http://127.0.0.1:10080/health", None)),
            _ => {}
        }
        let ready = component.ready.as_ref().expect("it proves itself");
        assert_eq!(ready.probes, expected, "{}", component.name);
        let seconds = if matches!(component.name.as_str(), "sabakan" | "vault") { 60 } else { 30 };
        assert_eq!(ready.within, Duration::from_secs(seconds), "{}", component.name);
    }
}

#[test]
fn files_that_decide_who_comes_in_are_validated_first() {
    let recipe = shipped();
    let validated = recipe.components().flat_map(|component| &component.files);
    let validated = validated.filter(|file| !file.validate.is_empty());
    let found: Vec<_> = validated
        .map(|file| (file.path.to_str().expect("a text"), file.mode, file.create_only))
        .collect();
    assert_eq!(
        found,
        [
            ("/etc/ssh/sshd_config.d/neco.conf", 0o644, false),
            ("/etc/sudoers.d/cybozu", 0o440, true)
        ]
    );
}
