//! What the loader refuses, and how it says so.

use std::time::Duration;

use neco_components::{LoadError, Problems, Recipe, Scope, Sources, StepScope, read_ignitions};

const RECIPE: &str = r#"format = 1

[[step]]
name = "stop-vault"
component = "vault"
phase = "stop"

[[step]]
name = "vault"
component = "vault"

[[step]]
name = "end"
effect = "none"
reason = "nothing left"

[[group]]
name = "vault"
stop = "stop-vault"
apply = "vault"
"#;

const VAULT: &str = r#"format = 1
name = "vault"
image = "vault"

[[file]]
path = "/etc/vault/config.hcl"
template = "config.j2"

[unit]
template = "unit.j2"
"#;

const UNIT: &str = "[Service]\nExecStart=run {{ image }}\n[Install]\nWantedBy=multi-user.target\n";

const ARTIFACTS: &str = r#"format = 1

[[image]]
name = "vault"
repository = "example/vault"
tag = "1"
"#;

fn sources() -> Sources {
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Sources {
        recipe: RECIPE.to_owned(),
        artifacts: ARTIFACTS.to_owned(),
        components: [text("vault", VAULT)].into(),
        templates: [text("config.j2", "lrn = {{ lrn }}\n"), text("unit.j2", UNIT)].into(),
        ..Sources::default()
    }
}

fn problems(sources: &Sources) -> Vec<String> {
    Recipe::parse(sources).map_or_else(lines, |_| Vec::new())
}

fn lines(problems: Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn with_recipe(from: &str, to: &str) -> Vec<String> {
    let mut sources = sources();
    assert!(sources.recipe.contains(from), "{from:?} is not in the recipe");
    sources.recipe = sources.recipe.replacen(from, to, 1);
    problems(&sources)
}

fn with_vault(from: &str, to: &str) -> Vec<String> {
    let mut sources = sources();
    let vault = sources.components.get_mut("vault").expect("a component");
    assert!(vault.contains(from), "{from:?} is not in the component");
    *vault = vault.replacen(from, to, 1);
    problems(&sources)
}

fn with_template(text: &str) -> Vec<String> {
    let mut sources = sources();
    sources.templates.insert("config.j2".to_owned(), text.to_owned());
    problems(&sources)
}

#[test]
fn the_recipe_of_these_tests_is_good() {
    let recipe = Recipe::parse(&sources()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(recipe.len(), 3);
    assert_eq!(recipe.group_of(2).map(|group| group.stop), Some(1));
    assert_eq!(recipe.component("vault").expect("a component").scope, Scope::All);
}

#[test]
fn all_problems_of_all_files_are_in_one_report_by_file_and_line() {
    let mut sources = sources();
    sources.artifacts.push_str("stray = 1\n");
    sources.recipe = sources.recipe.replace("\"end\"", "\"End\"").replace("reason", "raison");
    let vault = sources.components.get_mut("vault").expect("a component");
    *vault = vault.replace("config.j2", "conf.j2").replace("/etc/vault/", "etc/");
    sources.templates.insert("unit.j2".to_owned(), "run\n{{ imag }}\n".to_owned());
    let found = problems(&sources);
    let wheres: Vec<String> = found
        .iter()
        .map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":"))
        .collect();
    assert_eq!(
        wheres,
        [
            "artifacts.toml:7: image[1].stray",
            "components/vault.toml:6: file[1].path",
            "components/vault.toml:7: file[1].template",
            "recipe.toml:12: step[3].reason",
            "recipe.toml:13: step[3].name",
            "recipe.toml:15: step[3].raison",
            "templates/unit.j2:2: imag",
        ],
        "{found:#?}"
    );
}

#[test]
fn an_unknown_format_is_refused_by_name() {
    assert_eq!(
        with_recipe("format = 1", "format = 2"),
        ["recipe.toml:1: format: format 2 is not known; this version of Neco reads `format = 1`"]
    );
    let found = with_vault("format = 1", "format = \"1\"");
    assert!(found[0].starts_with("components/vault.toml:1: format: format \"1\""), "{found:?}");
}

#[test]
fn steps_need_names_of_their_own_and_something_to_do() {
    assert_eq!(
        with_recipe("name = \"end\"", "name = \"vault\""),
        [
            "recipe.toml:13: step[3].name: step vault stands on line 8 already; give every step a name of its own"
        ]
    );
    assert_eq!(
        with_recipe("effect = \"none\"\n", ""),
        [
            "recipe.toml:12: step[3]: a step has exactly one of component, action and effect; say what it does, or effect = \"none\" and a reason"
        ]
    );
    assert_eq!(
        with_recipe("effect = \"none\"", "effect = \"none\"\naction = \"x\"").len(),
        1,
        "said once"
    );
    let found = with_recipe(&RECIPE[RECIPE.find("[[step]]").expect("steps")..], "");
    assert_eq!(found, ["recipe.toml:1: step: there is no step; write at least one [[step]]"]);
}

#[test]
fn components_actions_images_and_data_must_exist() {
    let found = with_recipe("component = \"vault\"\n\n", "component = \"volt\"\n\n");
    assert!(found.iter().any(|p| p.contains("step[2].component: there is no component volt")));
    let action = "effect = \"none\"\nreason = \"nothing left\"";
    let found =
        with_recipe(action, "action = \"a\"\nimages = [\"serf\"]\ndata = [\"x\", \"../y\"]");
    assert_eq!(
        found,
        [
            "recipe.toml:15: step[3].images: there is no image serf; add an [[image]] of that name to artifacts.toml",
            "recipe.toml:16: step[3].data: \"../y\" is not the name of a file beside the recipe; write one such as \"dhcp.json\"",
            "recipe.toml:16: step[3].data: there is no file x; put it beside the recipe",
        ]
    );
    let found = with_vault("image = \"vault\"", "image = \"volt\"");
    assert!(found[0].starts_with("components/vault.toml:3: image: there is no image volt"));
}

#[test]
fn a_stop_belongs_to_a_group_that_starts_again() {
    let group = &RECIPE[RECIPE.find("[[group]]").expect("a group")..];
    assert_eq!(
        with_recipe(group, ""),
        [
            "recipe.toml:3: step[1].phase: nothing starts again what step stop-vault stops; add a [[group]] with this step as its stop"
        ]
    );
    let found = with_recipe("stop = \"stop-vault\"", "stop = \"end\"");
    assert!(
        found.iter().any(|p| p.contains("group[1].stop: step end does not do that")),
        "{found:?}"
    );
    let found = with_recipe("apply = \"vault\"", "apply = \"gone\"");
    assert!(found.iter().any(|p| p.contains("group[1].apply: there is no step gone")), "{found:?}");
    let found = with_vault("[unit]\ntemplate = \"unit.j2\"\n", "");
    assert!(found[0].contains("step[1].phase: component vault has no unit to stop"), "{found:?}");
}

#[test]
fn a_group_applies_after_it_stops() {
    let swapped = RECIPE
        .replace(
            "\"stop-vault\"\ncomponent = \"vault\"\nphase = \"stop\"",
            "\"x\"\ncomponent = \"vault\"",
        )
        .replace(
            "\"vault\"\ncomponent = \"vault\"\n\n",
            "\"y\"\ncomponent = \"vault\"\nphase = \"stop\"\n\n",
        )
        .replace("stop = \"stop-vault\"\napply = \"vault\"", "stop = \"y\"\napply = \"x\"");
    let found = problems(&Sources { recipe: swapped, ..sources() });
    assert!(found[0].contains("group[1].apply: comes before the stop"), "{found:?}");
}

#[test]
fn groups_do_not_overlap_and_stay_with_one_component() {
    let mut sources = sources();
    let serf =
        VAULT.replace("\"vault\"\nimage", "\"serf\"\nimage").replace("/etc/vault/", "/etc/serf/");
    sources.components.insert("serf".to_owned(), serf);
    let steps = "[[step]]\nname = \"stop-serf\"\ncomponent = \"serf\"\nphase = \"stop\"\n\n";
    sources.recipe = sources
        .recipe
        .replace("[[step]]\nname = \"vault\"", &format!("{steps}[[step]]\nname = \"vault\""))
        .replace(
            "name = \"end\"\neffect = \"none\"\nreason = \"nothing left\"",
            "name = \"serf\"\ncomponent = \"serf\"",
        );
    let mixed = sources.clone();
    sources
        .recipe
        .push_str("\n[[group]]\nname = \"serf\"\nstop = \"stop-serf\"\napply = \"serf\"\n");
    let found = problems(&sources);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("group[2]: the group overlaps group vault"), "{found:?}");
    let mut sources = mixed;
    sources
        .recipe
        .push_str("\n[[group]]\nname = \"vault\"\nstop = \"stop-serf\"\napply = \"vault\"\n");
    let found = problems(&sources);
    assert!(
        found.iter().any(|p| p.contains("the group stops serf and applies vault")),
        "{found:?}"
    );
}

#[test]
fn what_a_group_starts_again_is_started_on_all_servers() {
    for scope in ["one-at-a-time", "once-per-cluster"] {
        let found =
            with_vault("image = \"vault\"\n", &format!("image = \"vault\"\nscope = \"{scope}\"\n"));
        let [problem] = &*found else { panic!("{found:?}") };
        assert!(
            problem.contains("group[1].apply: component vault is not for all servers"),
            "{problem}"
        );
    }
}

#[test]
fn sources_of_ignition_templates_are_read_where_there_are_any() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = || read_ignitions(folder.path());
    assert!(read().expect("none").is_empty());
    std::fs::create_dir_all(folder.path().join("ignitions/roles/cs")).expect("folders");
    std::fs::write(folder.path().join("ignitions/roles/cs/site.yml"), "").expect("written");
    assert_eq!(read().expect("one").paths().collect::<Vec<_>>(), ["roles/cs/site.yml"]);
    std::os::unix::fs::symlink("nowhere", folder.path().join("ignitions/x")).expect("a symlink");
    assert!(matches!(read(), Err(LoadError::Read { path, .. }) if path.ends_with("ignitions/x")));
}

#[test]
fn turns_and_records_are_named_where_they_are_needed() {
    let none = "effect = \"none\"\nreason = \"nothing left\"";
    let found = with_recipe(none, "action = \"a\"\nscope = \"one-at-a-time\"");
    assert_eq!(
        found,
        ["recipe.toml:12: step[3].turn: is missing; name the turn that a server takes"]
    );
    let found = with_recipe(none, "action = \"a\"\nturn = \"etcd\"");
    assert!(found[0].contains("step[3].turn: is not known here"), "{found:?}");
    let mut sources = sources();
    sources.recipe = RECIPE.replace(none, "action = \"a\"\nscope = \"once-per-cluster\"");
    let recipe = Recipe::parse(&sources).expect("good");
    let scope = &recipe.step(3).expect("a step").parts[0].scope;
    assert!(matches!(scope, StepScope::OncePerCluster { contents } if contents == "end"));
    let vault = VAULT.replace("image =", "scope = \"one-at-a-time\"\nimage =");
    sources.components.insert("vault".to_owned(), vault);
    // Without a group: what that stops and starts acts on all.
    let steps = RECIPE.find("[[step]]\nname = \"vault\"").expect("a step");
    let group = RECIPE.find("[[group]]").expect("a group");
    sources.recipe = format!("format = 1\n\n{}", &RECIPE[steps..group]);
    let recipe = Recipe::parse(&sources).expect("good");
    let scope = &recipe.step(1).expect("a step").parts[0].scope;
    assert!(matches!(scope, StepScope::OneAtATime { turn } if *turn == "vault"));
}

#[test]
fn paths_modes_and_accounts_are_plain() {
    for bad in ["etc/x", "/etc/../x", "/etc//x", "/etc/x/", "/", "", "/etc/./x", "/etc/a\\tb"] {
        let found = with_vault("/etc/vault/config.hcl", bad);
        assert!(found[0].contains("file[1].path: "), "{bad:?}: {found:?}");
    }
    for bad in ["644 ", "0888", "rw", "10000000", "7", "-644", "+644"] {
        let mode = format!("path = \"/etc/x\"\nmode = \"{bad}\"\n");
        let found = with_vault("path = \"/etc/vault/config.hcl\"\n", &mode);
        assert!(
            found[0].starts_with("components/vault.toml:7: file[1].mode: "),
            "{bad:?}: {found:?}"
        );
    }
    for bad in ["a b", "vault", "", "-1", "+1", "4294967296"] {
        let found = with_vault("path =", &format!("owner = \"{bad}\"\npath ="));
        let told = format!("file[1].owner: {bad:?} is no number of an account; ");
        assert!(found[0].contains(&told), "{found:?}");
    }
}

#[test]
fn one_path_has_one_owner() {
    let twice = "path = \"/etc/systemd/system/vault.service\"";
    let found = with_vault("path = \"/etc/vault/config.hcl\"", twice);
    assert_eq!(
        found,
        [
            "components/vault.toml:10: unit.template: /etc/systemd/system/vault.service stands in components/vault.toml:6 already; let one component own it, once"
        ]
    );
    let rival = |paths: &str| {
        let mut sources = sources();
        let text = format!("format = 1\nname = \"rival\"\nimage = \"vault\"\n{paths}");
        sources.components.insert("rival".to_owned(), text);
        problems(&sources)
    };
    let own = "stands in components/rival.toml:5 already; let one component own it, once";
    let file = "[[file]]\npath = \"/etc/vault/config.hcl\"\ntemplate = \"config.j2\"\n";
    assert_eq!(
        rival(file),
        [format!("components/vault.toml:6: file[1].path: /etc/vault/config.hcl {own}")]
    );
    let unit = "[unit]\nname = \"vault.service\"\ntemplate = \"unit.j2\"\n";
    let own = own.replace(":5", ":6");
    assert_eq!(
        rival(unit),
        [format!(
            "components/vault.toml:10: unit.template: /etc/systemd/system/vault.service {own}"
        )]
    );
    let output = "[install-tools]\ncommand = [\"/x\"]\nbind = \"/host\"\n[[install-tools.output]]\n\
                  command = [\"/x\"]\npath = \"/etc/vault/config.hcl\"\n";
    let own = own.replace(":6", ":9");
    assert_eq!(
        rival(output),
        [format!("components/vault.toml:6: file[1].path: /etc/vault/config.hcl {own}")]
    );
}

#[test]
fn a_file_is_no_folder_of_another() {
    let mut sources = sources();
    let rival =
        "format = 1\nname = \"rival\"\n[[file]]\npath = \"/etc/vault\"\ntemplate = \"config.j2\"\n";
    sources.components.insert("rival".to_owned(), rival.to_owned());
    assert_eq!(
        problems(&sources),
        [
            "components/vault.toml:6: file[1].path: /etc/vault would be a folder, and is a file in components/rival.toml:4; give one of them another path"
        ]
    );
}

#[test]
fn a_unit_that_is_kept_running_says_that_it_starts_at_boot() {
    let with = |component: &str, unit: &str| {
        let mut sources = sources();
        sources.components.insert("vault".to_owned(), component.to_owned());
        sources.templates.insert("static.j2".to_owned(), unit.to_owned());
        problems(&sources)
    };
    let vault = VAULT.replace("unit.j2", "static.j2");
    let told = "nothing starts vault.service at boot: what templates/static.j2 makes has no [Install] section with WantedBy=; end the template with [Install] and WantedBy=multi-user.target";
    for bad in [
        "[Service]\n",
        "[Install]\nAlso=x.service\n",
        "{% if lrn == 9 %}[Install]\nWantedBy=a.target\n{% endif %}",
    ] {
        assert_eq!(
            with(&vault, bad),
            [format!("components/vault.toml:10: unit.template: {told}")],
            "{bad}"
        );
    }
    // What a template extends says it for all of them.
    assert_eq!(with(&vault, "{% extends \"unit.j2\" %}"), [""; 0]);
    // What something else starts does not start at boot: a timer does, and is looked at in its place.
    let timer = |template: &str| format!("{vault}[timer]\ntemplate = \"{template}\"\n");
    let without_stop = |component: &str| {
        let mut sources = sources();
        sources.recipe =
            "format = 1\n[[step]]\nname = \"vault\"\ncomponent = \"vault\"\n".to_owned();
        sources.components.insert("vault".to_owned(), component.to_owned());
        sources.templates.insert("static.j2".to_owned(), "[Service]\n".to_owned());
        problems(&sources)
    };
    assert_eq!(without_stop(&timer("unit.j2")), [""; 0]);
    let told = told.replace("vault.service", "vault.timer");
    assert_eq!(
        without_stop(&timer("static.j2")),
        [format!("components/vault.toml:12: timer.template: {told}")]
    );
    assert_eq!(without_stop(&format!("{vault}started-by = \"action\"\n")), [""; 0]);
    // What a component adds to a unit, and a unit that comes with a package, are not looked at.
    let drop_in = "[[drop-in]]\nunit = \"x.service\"\nname = \"10-x.conf\"\ntemplate = \"static.j2\"\n[unit]\n";
    assert_eq!(
        without_stop(&vault.replace("[unit]\ntemplate = \"static.j2\"\n", drop_in)),
        [""; 0]
    );
}

#[test]
fn a_pattern_of_units_does_not_run() {
    let found = with_vault("[unit]\n", "[unit]\nname = \"vault@.service\"\n");
    assert_eq!(
        found,
        [
            "components/vault.toml:10: unit.name: vault@.service is a pattern of units, and none itself; name one of them, such as \"agent@1.service\""
        ]
    );
    assert_eq!(with_vault("[unit]\n", "[unit]\nname = \"vault@1.service\"\n"), [""; 0]);
}

#[test]
fn a_component_has_the_name_of_its_file() {
    let found = with_vault("name = \"vault\"", "name = \"volt\"");
    assert!(
        found[0].contains("name: component volt stands in a file named vault.toml"),
        "{found:?}"
    );
}

#[test]
fn units_and_probes_fit_together() {
    let unit = "[unit]\ntemplate = \"unit.j2\"\n";
    let found = with_vault(unit, "[unit]\nname = \"vault.timer\"\n");
    assert!(
        found[0].contains("unit.name: \"vault.timer\" is not the name of a service"),
        "{found:?}"
    );
    let found = with_vault(unit, "[timer]\ntemplate = \"unit.j2\"\n");
    assert!(found[0].contains("timer: a timer starts a unit, and there is none"), "{found:?}");
    let found = with_vault(unit, "[ready]\nunit = \"active\"\nwithin = \"1s\"\n");
    assert!(found[0].contains("ready.unit: this component has no unit"), "{found:?}");
    let found = with_vault(unit, &format!("{unit}[ready]\nunit = \"idle\"\n"));
    assert!(found.iter().any(|p| p.contains("ready.unit: \"idle\" is not known")), "{found:?}");
    assert!(found.iter().any(|p| p.contains("ready.within: is missing")), "{found:?}");
}

#[test]
fn templates_are_checked_before_any_server_needs_them() {
    assert_eq!(
        with_template("a\n{% if version == 1 %}{{ sever }}{% endif %}\n"),
        [format!(
            "templates/config.j2:2: sever: there is no such variable; use one of: {}",
            neco_components::Facts::VARIABLES.join(", ")
        )],
        "in a branch that is not taken too"
    );
    let found = with_template("a\n{{ servers[0].node1 }}\n");
    assert!(found[0].starts_with("templates/config.j2:2: undefined value"), "{found:?}");
    let found = with_template("a\nb\n{% if %}\n");
    assert!(found[0].starts_with("templates/config.j2:3: syntax error"), "{found:?}");
    let found = with_template("{{ lrn | tojsn }}\n");
    assert!(found[0].starts_with("templates/config.j2:1: "), "{found:?}");
    assert_eq!(
        with_template("{% for s in servers %}{{ s.lrn ~ loop.index }}{% endfor %}\n"),
        [""; 0]
    );
    let found = with_vault("image = \"vault\"\n", "");
    assert!(found[0].starts_with("templates/unit.j2:2: undefined value"), "{found:?}");
}

#[test]
fn files_that_would_not_be_read_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, text).expect("writable");
    };
    write("recipe.toml", RECIPE);
    write("artifacts.toml", ARTIFACTS);
    write("components/vault.toml", VAULT);
    write("templates/config.j2", "x");
    write("templates/unit.j2", UNIT);
    write("templates/.hidden", "x");
    write("VERSION", "1.0.0\n");
    Recipe::load(folder.path()).expect("good");
    write("components/serf.tml", VAULT);
    match Recipe::load(folder.path()).expect_err("a stray file") {
        error @ LoadError::Invalid { .. } => {
            let text = error.to_string();
            assert!(text.contains("components/serf.tml: this file would not be read"), "{text}");
            assert!(text.contains(&folder.path().display().to_string()), "{text}");
        }
        error @ LoadError::Read { .. } => panic!("{error}"),
    }
    std::fs::remove_file(folder.path().join("components/serf.tml")).expect("removable");
    write("templates/config.j2.dpkg-new", "x");
    let error = Recipe::load(folder.path()).expect_err("half a package").to_string();
    assert!(error.contains("config.j2.dpkg-new: dpkg is unpacking a package"), "{error}");
    assert!(!error.contains("remove other files"), "{error}");
}

/// The server is not to wait for a pipe, nor to fill its memory from a device.
#[test]
fn what_is_no_text_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recipe.toml");
    let told = || {
        Recipe::load(folder.path()).map(drop).map_err(|error| match error {
            LoadError::Read { path, source } => {
                format!("{}: {source}", path.file_name().expect("a name").display())
            }
            error @ LoadError::Invalid { .. } => format!("it is read: {error}"),
        })
    };
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("started");
    assert!(made.success());
    let (send, answer) = std::sync::mpsc::channel();
    let at = folder.path().to_owned();
    std::thread::spawn(move || send.send(Recipe::load(at).is_err()));
    let answer = answer.recv_timeout(Duration::from_secs(20));
    assert_eq!(answer, Ok(true), "nobody waits for whoever would write");
    assert_eq!(told(), Err("recipe.toml: it is no plain file".to_owned()));
    std::fs::remove_file(&path).expect("removable");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    assert_eq!(told(), Err("recipe.toml: it is no plain file".to_owned()));
    std::fs::remove_file(&path).expect("removable");
    let file = std::fs::File::create(&path).expect("writable");
    file.set_len((16 << 20) + 1).expect("a file with a hole");
    assert_eq!(told(), Err("recipe.toml: it is larger than 16 MiB".to_owned()));
    std::fs::write(&path, b"format = 1\n\n# \xff\n").expect("writable");
    assert_eq!(told(), Err("recipe.toml: line 3 is not text in UTF-8".to_owned()));
    std::fs::write(&path, RECIPE).expect("writable");
    assert!(told().expect_err("no components").starts_with("it is read: "));
    std::fs::create_dir(folder.path().join("templates")).expect("a folder");
    std::fs::write(folder.path().join("templates/a\nb.j2"), "x").expect("writable");
    let told = told().expect_err("a name that breaks lines");
    assert!(told.contains("\ntemplates/a\\nb.j2: this file would not be read"), "{told}");
}

#[test]
fn a_folder_without_a_recipe_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Recipe::load(folder.path()).expect_err("nothing there");
    assert!(error.to_string().ends_with("recipe.toml"), "{error}");
}

#[test]
fn a_step_that_is_done_once_depends_on_its_data_and_images() {
    let mut sources = sources();
    sources.recipe = RECIPE.replace(
        "effect = \"none\"\nreason = \"nothing left\"",
        "action = \"a\"\ndata = [\"x.json\"]\nimages = [\"vault\"]",
    );
    sources.data.insert("x.json".to_owned(), "{}".to_owned());
    let inputs = |sources: &Sources| {
        let recipe = Recipe::parse(sources).unwrap_or_else(|problems| panic!("{problems}"));
        recipe.inputs_of(&recipe.step(3).expect("a step").parts[0])
    };
    let before = inputs(&sources);
    assert_eq!(before, inputs(&sources));
    let mut data = sources.clone();
    data.data.insert("x.json".to_owned(), "[]".to_owned());
    assert_ne!(before, inputs(&data));
    let mut image = sources.clone();
    image.artifacts = ARTIFACTS.replace("tag = \"1\"", "tag = \"2\"");
    assert_ne!(before, inputs(&image));
    let mut other = sources;
    other.templates.insert("config.j2".to_owned(), "other".to_owned());
    assert_eq!(before, inputs(&other));
}

#[test]
fn the_digest_changes_with_what_decides_and_not_with_layout() {
    let digest = |sources: &Sources| {
        let recipe = Recipe::parse(sources).unwrap_or_else(|problems| panic!("{problems}"));
        recipe.digest().clone()
    };
    let before = digest(&sources());
    let mut layout = sources();
    layout.recipe =
        format!("# a comment\n\n{}", RECIPE.replace("phase = \"stop\"", "phase='stop'"));
    layout.components.insert("vault".to_owned(), format!("# a comment\n\n{VAULT}"));
    assert_eq!(before, digest(&layout));
    let changes: [fn(&mut Sources); 6] = [
        |s| s.recipe = s.recipe.replace("nothing left", "something else"),
        |s| s.recipe = s.recipe.replace("name = \"end\"", "name = \"end\"\none-way = true"),
        |s| s.artifacts = s.artifacts.replace("tag = \"1\"", "tag = \"2\""),
        |s| s.templates.extend([("config.j2".to_owned(), "lrn = {{ lrn }} \n".to_owned())]),
        |s| s.templates.extend([("new.j2".to_owned(), String::new())]),
        |s| s.components.extend([("vault".to_owned(), format!("{VAULT}name = \"v.service\"\n"))]),
    ];
    let mut digests = std::collections::BTreeSet::from([before]);
    for change in changes {
        let mut changed = sources();
        change(&mut changed);
        assert_ne!(changed, sources(), "it changes something");
        assert!(digests.insert(digest(&changed)), "{changed:?}");
    }
}

#[test]
fn templates_that_go_round_in_a_circle_are_named() {
    let told = |config: &str, unit: &str| {
        let mut sources = sources();
        sources.templates.insert("config.j2".to_owned(), config.to_owned());
        sources.templates.insert("unit.j2".to_owned(), unit.to_owned());
        problems(&sources)
    };
    let circle = |line: u32, circle: &str| {
        [format!(
            "templates/config.j2:{line}: the template leads back to itself: {circle}; take one of these out"
        )]
    };
    // Each of the two is used by a file of its own; the circle is told once.
    assert_eq!(
        told("a\n{% include \"unit.j2\" %}", "{% include \"config.j2\" %}"),
        circle(2, "config.j2:2 includes unit.j2, unit.j2:1 includes config.j2")
    );
    assert_eq!(
        told("{% extends \"unit.j2\" %}", "\n{% extends \"config.j2\" %}"),
        circle(1, "config.j2:1 extends unit.j2, unit.j2:2 extends config.j2")
    );
    assert_eq!(
        told("{% extends \"config.j2\" %}", UNIT),
        circle(1, "config.j2:1 extends config.j2")
    );
    assert_eq!(
        told("{% import \"config.j2\" as again %}", UNIT),
        circle(1, "config.j2:1 imports config.j2")
    );
    assert_eq!(
        told("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", UNIT),
        [
            "templates/config.j2:1: the template goes on without end; look for a macro that calls itself"
        ]
    );
    // One that comes to an end is none.
    let ends = "{% set depth = (depth | default(0)) + 1 %}{% if depth < 3 %}{% include \"config.j2\" %}{% endif %}";
    assert_eq!(told(ends, UNIT), [""; 0]);
}

#[test]
fn what_is_wrong_with_a_template_that_others_include_is_told_once() {
    let mut sources = sources();
    sources.templates.insert("config.j2".to_owned(), "{{ servers[9].lrn }}\n".to_owned());
    let unit = format!("{{% include \"config.j2\" %}}\n{UNIT}");
    sources.templates.insert("unit.j2".to_owned(), unit);
    let found = problems(&sources);
    assert_eq!(
        found.iter().filter(|line| line.contains("undefined value")).count(),
        1,
        "{found:#?}"
    );
}
