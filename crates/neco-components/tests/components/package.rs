//! The data that the package ships: it loads, has the steps of the original, and renders what is expected.

mod changes;
mod components;
mod files;
mod forced_command;
mod openbao;
mod pinned;
mod program;
mod serf;
mod serf_tags;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use neco_components::{Artifacts, Desired, Facts, Phase, Recipe, ServerFacts, StepScope, Work};
use neco_schema::Lrn;

/// All components.
const COMPONENTS: [&str; 15] = [
    "cke",
    "cke-localproxy",
    "etcd",
    "etcdpasswd",
    "node-exporter",
    "promtail",
    "sabakan",
    "sabakan-state-setter",
    "serf",
    "setup-hw",
    "setup-serf-tags",
    "sshd",
    "sudoers",
    "teleport-node",
    "vault",
];

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
        variants: BTreeSet::new(),
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
    let groups: Vec<_> = recipe
        .groups()
        .iter()
        .map(|group| {
            let components: Vec<&str> = group.components.iter().map(|name| name.as_str()).collect();
            (group.name.as_str(), group.stop, group.apply, components)
        })
        .collect();
    assert_eq!(
        groups,
        [("vault", 3, 4, vec!["vault"]), ("cke", 11, 12, vec!["cke", "cke-localproxy"])]
    );
    let applied: Vec<Vec<String>> = [8, 12, 16]
        .map(|number| step(number).components(Phase::Apply).map(ToString::to_string).collect())
        .into();
    assert_eq!(
        applied,
        [
            vec!["sshd", "sudoers", "etcdpasswd", "teleport-node"],
            vec!["cke", "cke-localproxy"],
            vec!["promtail", "node-exporter"]
        ]
    );
    // CKE's command reads the configuration that is written before.
    assert!(
        matches!(&step(12).parts[2].work, Work::Action { action } if *action == "cke-template")
    );
    let once = recipe.steps().flat_map(|(_, step)| &step.parts).filter_map(|part| {
        let StepScope::OncePerCluster { contents } = &part.scope else { return None };
        Some(contents.as_str())
    });
    let once: Vec<&str> = once.collect();
    assert_eq!(once, ["cke-template", "cke", "sabakan", "dhcp.json", "user-resources"]);
    let images = recipe.images_of(part(14)).map(|image| image.name.to_string());
    assert_eq!(
        images.collect::<Vec<_>>().join(" "),
        "bird chrony coil serf setup-hw squid squid-exporter cilium cilium-operator-generic hubble-relay cilium-certgen"
    );
    for (number, step) in recipe.steps() {
        let none = step.parts.iter().find(|part| matches!(part.work, Work::None { .. }));
        assert!(none.is_none(), "step {number} does nothing");
    }
    let applied: BTreeSet<String> = recipe
        .steps()
        .flat_map(|(_, step)| step.components(Phase::Apply))
        .map(ToString::to_string)
        .collect();
    assert_eq!(applied.iter().map(String::as_str).collect::<Vec<_>>(), COMPONENTS, "all of them");
    let actions = [
        "fetch-images",
        "etcd-endpoints",
        "etcd-members",
        "cke-template",
        "cke-contents",
        "sabakan-contents",
        "dhcp-json",
        "user-resources",
    ];
    recipe.check_actions(&actions, &["vault-leader"]).expect("all known");
    let but_one: Vec<&str> =
        actions.iter().copied().filter(|action| *action != "dhcp-json").collect();
    let error = recipe.check_actions(&but_one, &["vault-leader"]).expect_err("one unknown");
    assert!(error.to_string().contains("step[15].action: this version has no action dhcp-json"));
    let dhcp: serde_json::Value =
        serde_json::from_str(recipe.data("dhcp.json").expect("a file")).expect("JSON");
    assert_eq!(dhcp, serde_json::json!({"gateway-offset": 1, "lease-minutes": 60}));
}

#[test]
fn the_playground_updates_to_newer_images_and_to_nothing_else() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        let text = std::fs::read_to_string(&path).expect("a file");
        Artifacts::parse(&text).unwrap_or_else(|problems| panic!("{}: {problems}", path.display()))
    };
    let shipped = read("debian/usr/share/neco/artifacts.toml");
    let mut newer = read("crates/neco-playground/newer-images/usr/share/neco/artifacts.toml");
    let mut changed = Vec::new();
    for (name, image) in &mut newer.images {
        let before = &shipped.images[name];
        if image.tag != before.tag {
            changed.push(name.to_string());
            image.tag.clone_from(&before.tag);
        }
    }
    assert_eq!(changed, ["etcd", "serf", "setup-hw", "vault"]);
    assert_eq!(newer, shipped);
}
