//! `cke-template`: gives CKE the template of its cluster: what the site brings in the package, with the name of this
//! cluster, its protected name spaces and the weights that operators set.

use std::collections::BTreeMap;
use std::path::Path;

use neco_components::{ContentDigest, Part, Problem, Recipe, Report, Work};
use neco_schema::{Key, Range};
use serde_json::{Map, Value, json};

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, patiently};
use crate::steps::{contents, set_up, stored};

/// The name in recipes.
pub(crate) const NAME: &str = "cke-template";
/// The file beside the recipe that is made into the template.
pub(crate) const DATA: &str = "cke-template.yml";

/// Where the template lies for `ckecli`.
const FILE: &str = "/var/lib/neco/cke-template.yml";

/// Sets the template, once for the cluster, and again when what it is made of changes; leaves CKE its own where the package
/// brings none.
///
/// # Errors
/// Cancelled at a safe point, what is shipped or stored is malformed, or CKE refuses it.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    contents: &str,
    shipped: Option<&str>,
) -> Result<(), StepError> {
    if !set_up::cke(context, host)? {
        return Ok(());
    }
    let Some(shipped) = shipped else {
        set_up::is_not_brought(context, DATA);
        return Ok(());
    };
    let weights = weights(context).await?;
    let text = template(shipped, &host.cluster()?, &weights)
        .map_err(|why| StepError::Failed(format!("{DATA} of the package: {why}")))?;
    let inputs = ContentDigest::of(&text);
    let set = || async {
        host.write_bytes(Path::new(FILE), text.as_bytes(), 0o644)?;
        let file = host.root.join(FILE);
        let give = || async { host.cke.set_template(&file).await.map_err(Trouble::passing) };
        patiently(context, host.patience, "giving CKE its template", give).await
    };
    contents::once(context, contents, inputs.as_str(), set).await
}

/// Reports a step that does not name the file it is to read, and a file that can be made into no template, whatever cluster it
/// is for.
pub(crate) fn check(recipe: &Recipe, report: &Report) {
    for (number, step) in recipe.steps() {
        let is_this =
            |part: &&Part| matches!(&part.work, Work::Action { action } if *action == *NAME);
        for part in step.parts.iter().filter(is_this) {
            if !part.files().any(|name| name == DATA) {
                report.add(Problem {
                    file: Recipe::FILE.to_owned(),
                    line: Some(step.line),
                    field: format!("step[{number}].site-data"),
                    what: format!("{NAME} reads {DATA}"),
                    remedy: "name it there".to_owned(),
                });
            }
            let made = recipe.data(DATA).map(|shipped| template(shipped, "", &BTreeMap::new()));
            if let Some(Err(what)) = made {
                report.add(Problem {
                    file: DATA.to_owned(),
                    line: None,
                    field: String::new(),
                    what,
                    remedy: "write what `ckecli sabakan set-template` takes".to_owned(),
                });
            }
        }
    }
}

/// The weights that operators set, by role.
async fn weights(context: &StepContext) -> Result<BTreeMap<String, f64>, StepError> {
    let key = Key::CkeWeight;
    let found = stored::read(context, &[Range::from(&key)]).await?;
    let Some(stored) = found.get(&key.to_string()) else { return Ok(BTreeMap::new()) };
    serde_json::from_slice(&stored.value).map_err(|error| {
        StepError::Failed(format!(
            "key {key} is malformed: {error}; write a JSON object of role to number"
        ))
    })
}

/// Says which role a node has, and how many of it there are to be in proportion to others.
const ROLE: &str = "cke.cybozu.com/role";
const WEIGHT: &str = "cke.cybozu.com/weight";

/// The template for `cluster`, as YAML.
///
/// In a cluster whose name begins with `stage`, machines are rebooted and repaired whatever runs on them but in name spaces
/// without the label `development`. A weight goes to the first node of its role that is no control plane; one of a role that
/// no node has changes nothing.
///
/// # Errors
/// What in the shipped template is not as it should be.
fn template(
    shipped: &str,
    cluster: &str,
    weights: &BTreeMap<String, f64>,
) -> Result<String, String> {
    let parsed: Value = serde_saphyr::from_str(shipped).map_err(|error| error.to_string())?;
    let Value::Object(mut template) = parsed else {
        return Err("it is no map".to_owned());
    };
    template.insert("name".to_owned(), json!(cluster));
    if cluster.starts_with("stage") {
        for section in ["reboot", "repair"] {
            if let Some(Value::Object(section)) = template.get_mut(section) {
                section.insert("protected_namespaces".to_owned(), not_of_development());
            }
        }
    }
    if !weights.is_empty() {
        set_weights(&mut template, weights)?;
    }
    serde_saphyr::to_string(&Value::Object(template)).map_err(|error| error.to_string())
}

fn not_of_development() -> Value {
    json!({
        "matchExpressions": [{ "key": "development", "operator": "NotIn", "values": ["true"] }]
    })
}

fn set_weights(
    template: &mut Map<String, Value>,
    weights: &BTreeMap<String, f64>,
) -> Result<(), String> {
    let Some(Value::Array(nodes)) = template.get_mut("nodes") else {
        return Err("nodes: is no list".to_owned());
    };
    let mut given: Vec<&str> = Vec::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        let wrong = |what: &str| format!("nodes[{index}]{what}");
        let Value::Object(node) = node else { return Err(wrong(": is no map")) };
        match node.get("control_plane") {
            Some(Value::Bool(true)) => continue,
            Some(Value::Bool(false)) => {}
            _ => return Err(wrong(".control_plane: is neither true nor false")),
        }
        let labels = match node.get_mut("labels") {
            None => continue,
            Some(Value::Object(labels)) => labels,
            Some(_) => return Err(wrong(".labels: is no map")),
        };
        let Some(Value::String(role)) = labels.get(ROLE) else { continue };
        let Some((role, weight)) = weights.get_key_value(role) else { continue };
        if !given.contains(&role.as_str()) {
            given.push(role);
            labels.insert(WEIGHT.to_owned(), json!(format!("{weight:.6}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = r#"
name: shipped
nodes:
- user: cybozu
  control_plane: true
  labels:
    cke.cybozu.com/role: cs
- user: cybozu
  control_plane: false
  labels:
    cke.cybozu.com/role: cs
- user: cybozu
  control_plane: false
  labels:
    cke.cybozu.com/role: ss
    cke.cybozu.com/weight: "1.000000"
reboot:
  command: ["true"]
repair:
  command: ["true"]
"#;

    fn made(cluster: &str, weights: &[(&str, f64)]) -> Value {
        let weights = weights.iter().map(|(role, weight)| ((*role).to_owned(), *weight)).collect();
        let text = template(SHIPPED, cluster, &weights).unwrap_or_else(|why| panic!("{why}"));
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn it_has_the_name_of_the_cluster_and_is_otherwise_as_shipped() {
        let mut shipped: Value = serde_saphyr::from_str(SHIPPED).expect("YAML");
        shipped["name"] = json!("dc1");
        assert_eq!(made("dc1", &[]), shipped);
        assert_eq!(made("dc1", &[("nobody", 3.0)]), shipped, "no node has the role");
    }

    #[test]
    fn a_weight_goes_to_the_first_node_of_its_role_that_is_no_control_plane() {
        let made = made("dc1", &[("cs", 18.0), ("ss", 100.0 / 3.0)]);
        assert_eq!(made["nodes"][0]["labels"][WEIGHT], Value::Null);
        assert_eq!(made["nodes"][1]["labels"][WEIGHT], json!("18.000000"));
        assert_eq!(made["nodes"][2]["labels"][WEIGHT], json!("33.333333"));
    }

    #[test]
    fn a_staging_cluster_protects_what_is_not_of_development() {
        let selector = json!({"matchExpressions":
            [{"key": "development", "operator": "NotIn", "values": ["true"]}]});
        for section in ["reboot", "repair"] {
            assert_eq!(made("stage0", &[])[section]["protected_namespaces"], selector);
            assert_eq!(made("test", &[])[section].get("protected_namespaces"), None);
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named() {
        let weights = BTreeMap::from([("cs".to_owned(), 1.0)]);
        for (shipped, expected) in [
            ("- a", "it is no map"),
            ("nodes: {}", "nodes: is no list"),
            ("nodes: [3]", "nodes[0]: is no map"),
            ("nodes: [{labels: {}}]", "nodes[0].control_plane: is neither true nor false"),
            ("nodes: [{control_plane: false, labels: 1}]", "nodes[0].labels: is no map"),
        ] {
            let why = template(shipped, "c", &weights).expect_err(shipped);
            assert_eq!(why, expected);
        }
        assert!(template("nodes: {}", "c", &BTreeMap::new()).is_ok(), "no weight, no look");
        assert!(template("a: [", "c", &weights).is_err());
    }
}
