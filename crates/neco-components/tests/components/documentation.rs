//! The examples of `docs/components.md` are a folder that loads, and its table of variables is complete.

use std::path::Path;

use neco_components::{Facts, Recipe, Sources};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/components.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The TOML examples by the file that their first line names.
fn examples(page: &str) -> Vec<(String, String)> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks
        .map(|(block, _)| {
            let name = block.lines().next().and_then(|line| line.strip_prefix("# "));
            (name.expect("a file name").to_owned(), block.to_owned())
        })
        .collect()
}

#[test]
fn the_examples_load() {
    let mut sources = Sources::default();
    for (name, text) in examples(&page()) {
        match name.as_str() {
            "recipe.toml" => sources.recipe = text,
            "artifacts.toml" => sources.artifacts = text,
            other => {
                let stem = other.strip_prefix("components/").and_then(|n| n.strip_suffix(".toml"));
                sources.components.insert(stem.expect("a component").to_owned(), text);
            }
        }
    }
    for template in [
        "serf.json.j2",
        "serf.service.j2",
        "greet.j2",
        "greet.service.j2",
        "greet.timer.j2",
        "agent.sudoers.j2",
        "agent.limits.conf.j2",
    ] {
        let text = "[Install]\nWantedBy=multi-user.target\n";
        sources.templates.insert(template.to_owned(), text.to_owned());
    }
    sources.data.insert("dhcp.json".to_owned(), "{}".to_owned());
    let recipe = Recipe::parse(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((recipe.len(), recipe.groups().len(), recipe.components().count()), (8, 1, 3));
}

#[test]
fn every_variable_is_described() {
    let page = page();
    let table = page.split("| Variable | Is |").nth(1).expect("a table");
    let table = table.split("\n\n").next().expect("its end");
    for variable in Facts::VARIABLES {
        assert!(table.contains(&format!("`{variable}`")), "{variable}");
    }
}
