//! `ckecli`: reads and writes the keys of CKE, by etcdctl(1) (external-apis §2.1).

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use neco_process::yaml::{Node, Value};
use serde_json::{Map, json};

use super::{parsed, settings, text};

const CONFIG: &str = "/etc/cke/config.yml";

/// The authority of etcd's certificate.
const CA: &str = "/usr/local/share/ca-certificates/neco.crt";

/// What CKE keeps its keys below.
const PREFIX: &str = "/cke/";

const VERSION: &str = "1.30.6";

/// The images of Kubernetes, in the order of the real ones; CKE has an etcd of its own.
const IMAGES: [&str; 7] =
    ["cke-etcd", "cke-tools", "kubernetes", "pause", "coredns", "unbound", "unbound-exporter"];

/// Where they lie.
const REGISTRY: &str = "registry.test";
const TAG: &str = "1.30.6";

/// What is said where there is no status of CKE.
const NO_STATUS: u8 = 4;

pub(super) fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["--version"] => println!("ckecli version {VERSION}"),
        ["images"] => {
            for image in IMAGES {
                println!("{REGISTRY}/{image}:{TAG}");
            }
        }
        ["sabakan", "set-template", file] => {
            let template = as_json(&settings(Path::new(file))?);
            if template["nodes"].as_array().is_none_or(|nodes| nodes.len() < 2) {
                bail!("{file}: at least two nodes are needed");
            }
            Etcd::of_this_server()?.put("sabakan/template", &template.to_string())?;
        }
        ["sabakan", "get-template"] => {
            let found = Etcd::of_this_server()?.get("sabakan/template")?;
            println!("{}", found.context("there is no template")?);
        }
        ["resource", "set", "-"] => {
            let mut all = String::new();
            std::io::stdin().read_to_string(&mut all).context("reading the standard input")?;
            let etcd = Etcd::of_this_server()?;
            // Those before one that is wrong are kept.
            for document in documents(&all) {
                etcd.put(&format!("resource/{}", resource(document)?), document)?;
            }
        }
        ["status"] => match Etcd::of_this_server()?.get("status")? {
            Some(status) => println!("{status}"),
            None => {
                eprintln!("no status");
                return Ok(ExitCode::from(NO_STATUS));
            }
        },
        ["reboot-queue" | "rq", "list", ..] => println!("null"),
        _ => bail!("this stand-in does not know `ckecli {}`", words.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The documents of a text in YAML.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("\n---").map(|part| part.trim_start_matches("---").trim());
    parts.filter(|part| part.lines().any(|line| !line.is_empty() && !line.starts_with('#')))
}

/// Where a resource of Kubernetes is kept: kind, name space if it has one, and name.
fn resource(document: &str) -> Result<String> {
    let node = parsed(Path::new("standard input"), document)?;
    let kind = text(&node, "kind").context("a resource has no kind")?;
    text(&node, "apiVersion").with_context(|| format!("a {kind} has no apiVersion"))?;
    let Value::Map(entries) = &node.value else { bail!("a resource is no mapping") };
    let about = entries.iter().find(|(key, _)| key == "metadata").map(|(_, node)| node);
    let about = about.with_context(|| format!("a {kind} has no metadata"))?;
    let name = text(about, "name").with_context(|| format!("a {kind} has no name"))?;
    Ok(match text(about, "namespace") {
        Some(space) => format!("{kind}/{space}/{name}"),
        None => format!("{kind}/{name}"),
    })
}

/// What YAML says, as JSON.
fn as_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.clone(), as_json(node)));
            entries.collect::<Map<_, _>>().into()
        }
        // JSON has whole numbers, which YAML here has not.
        Value::Number(number) => match format!("{number}").parse::<i64>() {
            Ok(whole) => json!(whole),
            Err(_) => json!(number),
        },
    }
}

/// etcd, as the configuration of CKE says.
struct Etcd {
    words: Vec<String>,
}

impl Etcd {
    fn of_this_server() -> Result<Self> {
        let config = settings(Path::new(CONFIG))?;
        let Value::Map(entries) = &config.value else { bail!("{CONFIG} is no mapping") };
        let endpoints = entries.iter().find(|(key, _)| key == "endpoints");
        let Some((_, Node { value: Value::List(endpoints), .. })) = endpoints else {
            bail!("{CONFIG} names no endpoints");
        };
        let endpoints = endpoints.iter().filter_map(|node| match &node.value {
            Value::Text(url) => Some(url.as_str()),
            _ => None,
        });
        let file =
            |key: &str| text(&config, key).with_context(|| format!("{CONFIG} does not say {key}"));
        Ok(Self {
            words: vec![
                format!("--endpoints={}", endpoints.collect::<Vec<_>>().join(",")),
                format!("--cacert={CA}"),
                format!("--cert={}", file("tls-cert-file")?),
                format!("--key={}", file("tls-key-file")?),
            ],
        })
    }

    fn get(&self, key: &str) -> Result<Option<String>> {
        let told = self.ask(&["get", "--print-value-only", &format!("{PREFIX}{key}")], "")?;
        Ok(Some(told.trim_end().to_owned()).filter(|value| !value.is_empty()))
    }

    fn put(&self, key: &str, value: &str) -> Result<()> {
        self.ask(&["put", &format!("{PREFIX}{key}")], value).map(drop)
    }

    fn ask(&self, words: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(&self.words)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting etcdctl")?;
        let mut stdin = child.stdin.take().context("etcdctl has no standard input")?;
        stdin.write_all(input.as_bytes()).context("telling etcdctl")?;
        drop(stdin);
        let output = child.wait_with_output().context("waiting for etcdctl")?;
        if !output.status.success() {
            bail!("etcdctl ends with {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_kept_by_kind_name_space_and_name() {
        let text = "# Those of all.\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\n\
            apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n  namespace: a\ndata: {}\n---\n";
        let found: Vec<String> = documents(text).map(|one| resource(one).unwrap()).collect();
        assert_eq!(found, ["Namespace/a", "ConfigMap/a/b"]);
        let error = resource("kind: Namespace\nmetadata: { name: a }\n").unwrap_err();
        assert_eq!(error.to_string(), "a Namespace has no apiVersion");
    }

    #[test]
    fn a_template_is_kept_as_json() {
        let text = "name: a\nnodes: [{ control_plane: true, labels: { x: \"1.5\" } }, 3]\nrest:\n";
        let node = parsed(Path::new("t"), text).unwrap();
        let expected = json!({
            "name": "a",
            "nodes": [{ "control_plane": true, "labels": { "x": "1.5" } }, 3],
            "rest": null,
        });
        assert_eq!(as_json(&node), expected);
    }
}
