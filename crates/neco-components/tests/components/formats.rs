//! Everything that a component file can say, and what the loader says where it is said wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use neco_components::{
    Access, ContentDigest, Desired, Difference, Effect, Facts, FileKind, Observed, Probe, Recipe,
    Restart, ServerFacts, Sources, UnitChange, UnitRole, absent_unit, diff, effects, preview,
};
use neco_schema::Lrn;

const RECIPE: &str = r#"format = 1

[[step]]
name = "stop-cke"

[[step.part]]
component = "agent"
phase = "stop"

[[step.part]]
component = "helper"
phase = "stop"

[[step]]
name = "cke"

[[step.part]]
action = "template"
scope = "once-per-cluster"
contents = "cke-template"
data = ["template.yml"]

[[step.part]]
component = "helper"

[[step.part]]
component = "agent"

[[group]]
name = "cke"
stop = "stop-cke"
apply = "cke"
"#;

const AGENT: &str = r#"format = 1
name = "agent"
image = "agent"
package = "agent"
restart = "reload"
watch = ["/usr/bin/agent"]

[install-tools]
command = ["/usr/local/agent/install-tools"]
bind = "/host"

[[install-tools.output]]
command = ["/usr/local/bin/agent", "completion"]
path = "/etc/bash_completion.d/agent"

[[file]]
path = "/etc/agent/config.yml"
template = "config.j2"
mode = "0440"
create-only = true
validate = ["/usr/sbin/agent", "--check", "{}"]

[[drop-in]]
unit = "agent.service"
name = "10-limits.conf"
template = "drop-in.j2"

[unit]
needs = ["/etc/agent/key"]

[ready]
unit = "active"
check = "leader"
within = "30s"

[[ready.http]]
url = "https://127.0.0.1:8200/health"
status = [200, 429]
ca = "/etc/agent/ca.crt"

[[ready.tcp]]
address = "127.0.0.1:8200"

[[ready.command]]
command = ["/usr/bin/agent", "status"]
"#;

const HELPER: &str = r#"format = 1
name = "helper"

[unit]
template = "unit.j2"
"#;

const ARTIFACTS: &str = r#"format = 1

[[image]]
name = "agent"
repository = "example/agent"
tag = "1"
private = true

[[deb]]
name = "agent"
owner = "example"
repository = "agent"
release = "v1"
"#;

fn sources() -> Sources {
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Sources {
        recipe: RECIPE.to_owned(),
        artifacts: ARTIFACTS.to_owned(),
        components: [text("agent", AGENT), text("helper", HELPER)].into(),
        templates: [
            text("config.j2", "lrn: {{ lrn }}\n"),
            text("drop-in.j2", "[Unit]\n# {{ image }}\n"),
            text("unit.j2", "[Service]\n[Install]\nWantedBy=multi-user.target\n"),
        ]
        .into(),
        data: [text("template.yml", "name: x\n")].into(),
        ..Sources::default()
    }
}

fn recipe() -> Recipe {
    Recipe::parse(&sources()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn facts() -> Facts {
    let (lrn, node0) = (Lrn::new(0), Ipv4Addr::new(10, 69, 0, 3));
    Facts {
        version: "1.0.0".parse().expect("a version"),
        cluster: "test".to_owned(),
        lrn,
        node0,
        servers: vec![ServerFacts { lrn, node0 }],
        os_name: "Debian".to_owned(),
        os_version: "12".to_owned(),
        serial: "abc".to_owned(),
        variants: BTreeSet::new(),
    }
}

fn agent(facts: &Facts) -> Desired {
    let recipe = recipe();
    let agent = recipe.component("agent").expect("a component");
    Desired::render(agent, facts).unwrap_or_else(|error| panic!("{error}"))
}

fn with_agent(from: &str, to: &str) -> Vec<String> {
    let mut sources = sources();
    let agent = sources.components.get_mut("agent").expect("a component");
    assert!(agent.contains(from), "{from:?} is not in the component");
    *agent = agent.replacen(from, to, 1);
    match Recipe::parse(&sources) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn with_recipe(from: &str, to: &str) -> Vec<String> {
    let mut sources = sources();
    assert!(sources.recipe.contains(from), "{from:?} is not in the recipe");
    sources.recipe = sources.recipe.replacen(from, to, 1);
    match Recipe::parse(&sources) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn everything_that_can_be_said_is_read() {
    let recipe = recipe();
    let agent = recipe.component("agent").expect("a component");
    assert_eq!(agent.restart, Restart::Reload);
    assert_eq!(agent.watch, ["/usr/bin/agent".into()] as [PathBuf; 1]);
    assert_eq!(agent.package.as_ref().map(|package| package.release.as_str()), Some("v1"));
    let [file, drop_in] = agent.files.as_slice() else { panic!("{:?}", agent.files) };
    assert!(file.create_only && file.validate[1] == "--check" && file.kind == FileKind::Plain);
    assert_eq!(drop_in.path.to_str(), Some("/etc/systemd/system/agent.service.d/10-limits.conf"));
    assert_eq!(drop_in.kind, FileKind::Unit);
    let ready = agent.ready.as_ref().expect("probes");
    assert_eq!(ready.within, Duration::from_secs(30));
    assert_eq!(
        ready.probes,
        [
            Probe::UnitActive("agent.service".to_owned()),
            Probe::Http {
                url: "https://127.0.0.1:8200/health".to_owned(),
                status: vec![200, 429],
                ca: Some("/etc/agent/ca.crt".into())
            },
            Probe::Tcp { address: "127.0.0.1:8200".to_owned() },
            Probe::Command { command: vec!["/usr/bin/agent".to_owned(), "status".to_owned()] },
            Probe::Check { check: "leader".parse().expect("a name") },
        ]
    );
    let group = &recipe.groups()[0];
    let names: Vec<_> = group.components.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["helper", "agent"], "in the order of the apply step");
    let parts = &recipe.step(2).expect("a step").parts;
    assert_eq!(parts.len(), 3);
    assert_eq!(recipe.data("template.yml"), Some("name: x\n"), "read though a part names it");
}

#[test]
fn what_is_brought_comes_before_what_uses_it() {
    let desired = agent(&facts());
    let differences = diff(
        &desired,
        &Observed { needs: BTreeSet::from(["/etc/agent/key".into()]), ..Observed::default() },
    );
    assert_eq!(
        effects(&desired, &differences),
        [
            Effect::Pull("example/agent:1".to_owned()),
            Effect::InstallTools("example/agent:1".to_owned()),
            Effect::Write("/etc/agent/config.yml".into()),
            Effect::Write("/etc/systemd/system/agent.service.d/10-limits.conf".into()),
            Effect::Reload,
            Effect::InstallPackage("agent".parse().expect("a name")),
            Effect::Enable("agent.service".to_owned()),
            Effect::Start("agent.service".to_owned()),
        ]
    );
    assert_eq!(diff(&desired, &Observed::fulfilling(&desired)), []);
}

#[test]
fn a_component_whose_unit_comes_with_something_that_is_not_there_is_left_alone() {
    let mut desired = agent(&facts());
    assert!(desired.units.iter().all(|unit| !unit.is_written), "{desired:?}");
    assert_eq!(absent_unit(&desired, &Observed::default()), None, "its own package brings it");
    desired.package = None;
    let absent = absent_unit(&desired, &Observed::default()).map(|unit| unit.name.as_str());
    assert_eq!(absent, Some("agent.service"));
    assert_eq!(diff(&desired, &Observed::default()), []);
    let mut observed = Observed::default();
    observed.units.insert("agent.service".to_owned(), neco_components::ObservedUnit::default());
    assert_eq!(absent_unit(&desired, &observed), None);
    assert!(!diff(&desired, &observed).is_empty(), "it has come");
    desired.units[0].is_written = true;
    assert_eq!(absent_unit(&desired, &Observed::default()), None, "Neco writes it");
}

#[test]
fn data_is_rendered_with_its_own_variables_and_what_is_wrong_is_named() {
    let variables = serde_json::json!({"images": {"squid-exporter": "x:1"}, "empty": ""});
    let render = |text: &str| neco_components::render_data("squid.yml", text, &variables);
    let text = "image: {{ images[\"squid-exporter\"] }}\naddress: \"{{ empty }}\"\n";
    assert_eq!(render(text).as_deref(), Ok("image: x:1\naddress: \"\"\n"));
    for (text, why) in [
        (
            "a: b\nc: {{ imagez }}\n",
            "squid.yml:2: undefined value (`imagez` is undefined) in \"c: {{ imagez }}\"",
        ),
        (
            "a: {{ images.pause }}",
            "squid.yml:1: undefined value (`images.pause` is undefined) in \"a: {{ images.pause }}\"",
        ),
        ("a: {{ images", "squid.yml:1: syntax error"),
        ("{% for x in 3 %}{% endfor %}", "squid.yml:1: invalid operation"),
    ] {
        let error = render(text).expect_err(text);
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn a_unit_without_what_it_needs_is_enabled_and_left_alone() {
    let desired = agent(&facts());
    let mut observed = Observed::fulfilling(&desired);
    observed.needs.clear();
    let unit = observed.units.get_mut("agent.service").expect("a unit");
    (unit.active, unit.started_with) = (false, None);
    assert_eq!(diff(&desired, &observed), []);
    // One that runs all the same runs with what is desired.
    observed.units.get_mut("agent.service").expect("a unit").active = true;
    assert_eq!(
        effects(&desired, &diff(&desired, &observed)),
        [Effect::ReloadUnit("agent.service".to_owned())]
    );
}

#[test]
fn a_file_that_is_only_created_is_never_overwritten() {
    let desired = agent(&facts());
    let mut observed = Observed::fulfilling(&desired);
    let file = observed.files.get_mut(std::path::Path::new("/etc/agent/config.yml"));
    let file = file.expect("a file");
    (file.digest, file.mode) = (ContentDigest::of("the site's own"), 0o400);
    assert_eq!(diff(&desired, &observed), []);
    observed.files.remove(std::path::Path::new("/etc/agent/config.yml"));
    assert_eq!(
        effects(&desired, &diff(&desired, &observed)),
        [Effect::Write("/etc/agent/config.yml".into())]
    );
}

#[test]
fn what_a_unit_is_started_with_includes_package_and_watched_files() {
    let digest = |desired: &Desired| desired.units[0].digest.clone();
    let before = agent(&facts());
    let mut sources = sources();
    sources.artifacts = ARTIFACTS.replace("release = \"v1\"", "release = \"v2\"");
    let newer = Recipe::parse(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let newer = Desired::render(newer.component("agent").expect("a component"), &facts());
    assert_ne!(digest(&before), digest(&newer.unwrap_or_else(|error| panic!("{error}"))));
    let watching = |content: Option<&str>| {
        let found = content.map(ContentDigest::of);
        agent(&facts()).watching(&BTreeMap::from([("/usr/bin/agent".into(), found)]))
    };
    assert_eq!(digest(&watching(Some("a"))), digest(&watching(Some("a"))));
    assert_ne!(digest(&watching(Some("a"))), digest(&watching(Some("b"))));
    assert_ne!(digest(&watching(Some("a"))), digest(&watching(None)));
    assert_eq!(digest(&before), digest(&agent(&facts()).watching(&BTreeMap::new())));
    let changed = diff(&watching(Some("b")), &Observed::fulfilling(&watching(Some("a"))));
    assert!(
        matches!(
            changed.as_slice(),
            [Difference::Unit { change: UnitChange::StartedWith { .. }, .. }]
        ),
        "{changed:?}"
    );
}

#[test]
fn a_server_that_can_log_in_runs_the_private_variant() {
    let mut facts = facts();
    facts.variants.insert("agent".parse().expect("a name"));
    let desired = agent(&facts);
    assert_eq!(desired.image.as_deref(), Some("example/agent-secret:1"));
    let drop_in = desired.files.last().expect("a file");
    assert_eq!(drop_in.content, "[Unit]\n# example/agent-secret:1\n");
}

#[test]
fn a_unit_that_an_action_starts_is_only_written() {
    let mut sources = sources();
    let recipe = "format = 1\n[[step]]\nname = \"helper\"\ncomponent = \"helper\"\n";
    sources.recipe = recipe.to_owned();
    let helper = format!("{HELPER}started-by = \"action\"\n");
    sources.components.insert("helper".to_owned(), helper);
    let recipe = Recipe::parse(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let helper = recipe.component("helper").expect("a component");
    assert_eq!(helper.units[0].role, UnitRole::Triggered);
    let desired = Desired::render(helper, &facts()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        effects(&desired, &diff(&desired, &Observed::default())),
        [Effect::Write("/etc/systemd/system/helper.service".into()), Effect::Reload]
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let cases = [
        ("image = \"agent\"", "image = \"none\"", "image: there is no image none;"),
        ("image = \"agent\"\n", "", "install-tools: there is no image that could;"),
        ("package = \"agent\"", "package = \"x\"", "package: there is no deb x;"),
        ("watch = [\"/usr/bin/agent\"]", "watch = [\"agent\"]", "watch: \"agent\" is not a plain"),
        (
            "watch = [\"/usr/bin/agent\"]",
            "only-where = [\"key\"]",
            "only-where: \"key\" is not a plain",
        ),
        ("command = [\"/usr/local/agent/install-tools\"]", "", "install-tools.command: says no"),
        ("bind = \"/host\"", "bind = \"host\"", "install-tools.bind: \"host\" is not a plain"),
        ("[\"/usr/local/bin/agent\", ", "[\"agent\", ", "install-tools.output[1].command: does no"),
        ("path = \"/etc/bash_c", "path = \"etc/bash_c", "install-tools.output[1].path: \"etc/bash"),
        (
            "/etc/bash_completion.d/agent",
            "/etc/agent/config.yml",
            "/etc/agent/config.yml stands in",
        ),
        ("\"--check\", \"{}\"", "\"--check\"", "file[1].validate: the command is not told"),
        ("\"10-limits.conf\"", "\"limits\"", "drop-in[1].name: \"limits\" is not read by systemd"),
        ("unit = \"agent.service\"", "unit = \"agent\"", "drop-in[1].unit: \"agent\" is not the"),
        ("needs = [\"/etc/agent/key\"]", "needs = [\"..\"]", "unit.needs: \"..\" is not a plain"),
        ("[200, 429]", "[200, 42]", "ready.http[1].status: 42 is no status of HTTP;"),
        ("[200, 429]", "[\"200\"]", "ready.http[1].status: is of type string;"),
        ("https://127", "ftp://127", "ready.http[1].url: \"ftp://127.0.0.1:8200/health\" cannot"),
        ("\"127.0.0.1:8200\"", "\"127.0.0.1\"", "ready.tcp[1].address: \"127.0.0.1\" is none;"),
        ("[\"/usr/bin/agent\", \"st", "[\"agent\", \"st", "ready.command[1].command: says no"),
        ("restart = \"reload\"", "restart = \"sometimes\"", "restart: \"sometimes\" is not known;"),
    ];
    for (from, to, expected) in cases {
        let found = with_agent(from, to);
        let named = found.iter().any(|line| line.contains(expected));
        assert!(named, "{to:?} is not told as {expected:?}: {found:?}");
    }
    let silent = with_agent("unit = \"active\"\ncheck = \"leader\"\n", "");
    assert_eq!(silent, Vec::<String>::new(), "other probes are enough");
}

#[test]
fn parts_and_groups_fit_together() {
    let cases = [
        (
            "name = \"cke\"\n\n[[step.part]]",
            "name = \"cke\"\naction = \"x\"\n[[step.part]]",
            "step[2].part: a step has parts, or does one thing itself;",
        ),
        (
            "[[step.part]]\ncomponent = \"agent\"\n\n",
            "",
            "group[1].apply: the group stops agent and helper and applies helper;",
        ),
        (
            "component = \"helper\"\nphase",
            "component = \"nobody\"\nphase",
            "step[1].part[2].component: there is no component nobody;",
        ),
        (
            "action = \"template\"\nscope = \"once-per-cluster\"\ncontents = \"cke-template\"\ndata = [\"template.yml\"]",
            "effect = \"none\"\nreason = \"x\"",
            "step[2].part[1].effect: a part does something;",
        ),
        ("[\"template.yml\"]", "[\"other.yml\"]", "step[2].data: there is no file other.yml;"),
        (
            "data = [\"template.yml\"]",
            "data = [\"template.yml\"]\n\n[[step.part]]\naction = \"other\"\nscope = \"once-per-cluster\"\ncontents = \"cke-template\"",
            "step[2].contents: cke-template is what another once-per-cluster part is recorded as;",
        ),
    ];
    for (from, to, expected) in cases {
        let found = with_recipe(from, to);
        let named = found.iter().any(|line| line.contains(expected));
        assert!(named, "{to:?} is not told as {expected:?}: {found:?}");
    }
}

#[test]
fn unknown_actions_and_checks_are_told_before_any_effect() {
    let recipe = recipe();
    recipe.check_actions(&["template"], &["leader"]).expect("all known");
    let problems = recipe.check_actions(&[], &["follower"]).expect_err("two unknown");
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "components/agent.toml: ready.check: this version has no check leader; write one of: follower",
            "recipe.toml:14: step[2].action: this version has no action template; remove the action",
        ]
    );
}

const KEY: &str = "\n[[secret]]\npath = \"/etc/agent/own.key\"\nowner = \"10000\"\n[unit]";

fn with_key(from: &str, to: &str) -> Vec<String> {
    let secret = KEY.replacen(from, to, 1);
    assert!(from.is_empty() || secret != KEY, "{from:?} is not there");
    with_agent("\n[unit]", &secret)
}

#[test]
fn a_secret_of_others_gets_its_mode_and_owner_where_it_is_and_restarts_nothing() {
    let mut sources = sources();
    let agent = sources.components.get_mut("agent").expect("a component");
    *agent = agent.replacen("\n[unit]", KEY, 1);
    let recipe = Recipe::parse(&sources).expect("a recipe");
    let desired = Desired::render(recipe.component("agent").expect("it"), &facts()).expect("made");
    let mut observed = Observed::fulfilling(&desired);
    assert_eq!(diff(&desired, &observed), []);
    let path = PathBuf::from("/etc/agent/own.key");
    let open = Access { mode: 0o644, owner: Some("0".into()), group: Some("0".into()) };
    observed.secrets.insert(path.clone(), open);
    let differences = diff(&desired, &observed);
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["/etc/agent/own.key: mode 0644 becomes 0600", "/etc/agent/own.key: owner 0 becomes 10000"]
    );
    assert_eq!(effects(&desired, &differences), [Effect::Restrict(path.clone())]);
    let told = preview(&desired, &observed, &BTreeMap::new());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].what, "mode 0644 becomes 0600, owner 0 becomes 10000");
    observed.secrets.remove(&path);
    assert_eq!(diff(&desired, &observed), [], "nobody has put it there yet");
}

#[test]
fn a_secret_that_everybody_reads_or_that_is_a_file_of_the_component_is_refused() {
    assert_eq!(with_key("", ""), Vec::<String>::new());
    for (from, to, told) in [
        ("owner", "mode = \"0644\"\nowner", "would let everybody have a part in a secret"),
        ("owner", "mode = \"0608\"\nowner", "\"0608\" is not a file mode"),
        ("10000", "no body", "\"no body\" is no number of an account"),
        ("/etc/agent/own.key", "etc/key", "\"etc/key\" is not a plain absolute path"),
        ("path = \"/etc/agent/own.key\"\n", "", "is missing; write the absolute path of the file"),
        ("owner", "template = \"x\"\nowner", "is not known"),
        ("/etc/agent/own.key", "/etc/agent/config.yml", "stands in components/agent.toml"),
    ] {
        let problems = with_key(from, to);
        let expected = |line: &String| {
            line.starts_with("components/agent.toml:")
                && line.contains("secret[1]")
                && line.contains(told)
        };
        assert!(problems.iter().any(expected), "{told:?} is not in {problems:?}");
    }
}

#[test]
fn what_is_only_created_is_nothing_that_a_unit_is_started_with() {
    let digest = |template: &str, text: &str| {
        let mut sources = sources();
        sources.templates.insert(template.to_owned(), text.to_owned());
        let recipe = Recipe::parse(&sources).expect("a recipe");
        let agent = recipe.component("agent").expect("it");
        assert!(agent.files.iter().any(|file| file.create_only && file.template == "config.j2"));
        let desired = Desired::render(agent, &facts()).expect("made");
        desired.units[0].digest.clone()
    };
    let before = digest("config.j2", "lrn: {{ lrn }}\n");
    assert_eq!(digest("config.j2", "another: {{ lrn }}\n"), before);
    assert_ne!(digest("drop-in.j2", "[Unit]\n# another\n"), before);
}
