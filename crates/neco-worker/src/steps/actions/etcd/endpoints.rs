//! `etcd-endpoints`: tells Neco's own programs on this server where the members of etcd are.
//!
//! `/etc/neco/config.yml` belongs to the operator, who may have written more into it than the original does: only the value
//! of `endpoints` is replaced, all other lines and comments stay as they are.

use std::io::ErrorKind;
use std::path::Path;

use neco_connect::one_line;
use neco_host::fs::{Kind, Owner};
use neco_host::{address, replace};
use neco_schema::Lrn;
use serde_json::Value;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;

/// The name in recipes.
pub(crate) const NAME: &str = "etcd-endpoints";

const KEY: &str = "endpoints";

/// Rewrites the endpoints, if they are others.
///
/// # Errors
/// Cancelled at a safe point, or the file cannot be read, understood or written.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    manages: bool,
) -> Result<(), StepError> {
    if !manages {
        context.doing("etcd is not managed on this server");
        return Ok(());
    }
    let file = neco_process::config::FILE;
    let Rewrite { text, mode, owner } = match pending(host, &context.request.servers)? {
        Pending::Rewrite(rewrite) => rewrite,
        Pending::None(why) => {
            context.doing(format!("{file} {why}"));
            return Ok(());
        }
    };
    let view = context.fence().await?;
    let what = format!("write {file}");
    context.doing(what.clone());
    context.effect_begins(&what, &view)?;
    let owner = host.root.is_system().then_some(owner);
    let written = replace(&*host.fs, &host.root, Path::new(file), text.as_bytes(), mode, owner);
    context.effect_ends(&what, &view, written.is_ok())?;
    written.map(drop).map_err(|error| StepError::failed(format!("writing {file}"), &error))
}

/// What is to be done about the configuration.
enum Pending {
    /// Nothing, because it is like this.
    None(&'static str),
    Rewrite(Rewrite),
}

/// The configuration as it should be.
struct Rewrite {
    text: String,
    mode: u32,
    owner: Owner,
}

/// Whether the endpoints would be rewritten in an update of `servers`.
///
/// # Errors
/// The file cannot be read or understood.
pub(super) fn would_change(host: &StepHost, servers: &[Lrn]) -> Result<bool, StepError> {
    Ok(matches!(pending(host, servers)?, Pending::Rewrite(_)))
}

fn pending(host: &StepHost, servers: &[Lrn]) -> Result<Pending, StepError> {
    let file = neco_process::config::FILE;
    let path = host.root.join(file);
    let endpoints =
        address::etcd_endpoints(servers).map_err(|error| StepError::Failed(one_line(&error)))?;
    let failed = |what: &str, error: std::io::Error| {
        StepError::failed(format!("{what} {}", path.display()), &error)
    };
    let found = match host.fs.metadata(&path).map_err(|error| failed("looking at", error))? {
        Some(found) if found.kind == Kind::File => found,
        // Somebody else keeps it elsewhere, or this server is told by drop-ins alone.
        _ => return Ok(Pending::None("is no file and left alone")),
    };
    let text = match host.fs.read(&path) {
        Ok(text) => String::from_utf8(text)
            .map_err(|_| StepError::Failed(format!("{file} is not UTF-8")))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Pending::None("is no file and left alone"));
        }
        Err(error) => return Err(failed("reading", error)),
    };
    let changed = with_endpoints(&text, &endpoints).map_err(|why| {
        let by_hand = endpoints.join(", ");
        StepError::Failed(format!("{file}: {why}; set its endpoints to [{by_hand}]"))
    })?;
    Ok(match changed {
        None => Pending::None("is as it should be"),
        Some(text) => Pending::Rewrite(Rewrite { text, mode: found.mode, owner: found.owner }),
    })
}

/// The configuration with these endpoints; `None` if it has them already.
fn with_endpoints(text: &str, endpoints: &[String]) -> Result<Option<String>, String> {
    let before = parsed(text)?;
    let wanted = Value::from(endpoints.to_vec());
    if before.get(KEY) == Some(&wanted) {
        return Ok(None);
    }
    let after = if text.trim_start().starts_with('{') {
        // JSON is YAML, too; it has no comments.
        let mut whole = before.clone();
        whole[KEY] = wanted.clone();
        format!("{whole:#}\n")
    } else {
        rewritten(text, endpoints)
    };
    // Whatever the file was like: nothing but the endpoints may have changed.
    let mut expected = before;
    expected[KEY] = wanted;
    if parsed(&after).as_ref() != Ok(&expected) {
        return Err("its form is not understood".to_owned());
    }
    Ok(Some(after))
}

/// The file as keys and values; an empty one has none.
fn parsed(text: &str) -> Result<Value, String> {
    // The error would show the text, which may hold a password.
    let value: Value = serde_saphyr::from_str(text).map_err(|_| "it is no YAML".to_owned())?;
    match value {
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        Value::Object(_) => Ok(value),
        _ => Err("it holds no keys".to_owned()),
    }
}

/// Replaces the lines of the top-level key, or adds it at the end.
fn rewritten(text: &str, endpoints: &[String]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut block = vec![format!("{KEY}:")];
    block.extend(endpoints.iter().map(|url| format!("  - {url}")));
    let Some(first) = lines.iter().position(|line| value_of(line).is_some()) else {
        let all = lines.iter().map(|line| (*line).to_owned()).chain(block);
        return all.collect::<Vec<_>>().join("\n") + "\n";
    };
    // What belongs to the value: lines that are set in, and items. Blank lines and comments in between do, after it not.
    let mut end = first + 1;
    let open =
        value_of(lines[first]).is_some_and(|value| value.starts_with('[') && !value.contains(']'));
    for (number, line) in lines.iter().enumerate().skip(first + 1) {
        let is_blank = line.trim().is_empty() || line.trim_start().starts_with('#');
        let belongs = line.starts_with([' ', '\t', '-']) || (open && line.starts_with(']'));
        if is_blank {
            continue;
        }
        if !belongs {
            break;
        }
        end = number + 1;
    }
    let before = lines[..first].iter().map(|line| (*line).to_owned());
    let after = lines[end..].iter().map(|line| (*line).to_owned());
    before.chain(block).chain(after).collect::<Vec<_>>().join("\n") + "\n"
}

/// What stands behind the key, if the line begins with it.
fn value_of(line: &str) -> Option<&str> {
    [KEY, "\"endpoints\"", "'endpoints'"].iter().find_map(|key| {
        let rest = line.strip_prefix(key)?.trim_start().strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim_start())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<String> {
        vec!["https://10.69.0.3:2379".to_owned(), "https://10.69.0.195:2379".to_owned()]
    }

    const BLOCK: &str = "endpoints:\n  - https://10.69.0.3:2379\n  - https://10.69.0.195:2379\n";

    #[test]
    fn only_the_endpoints_change() {
        let rows = [
            (
                "# ours\nendpoints:\n- https://a:2379\n- https://b:2379\n\n# the rest\nprefix: /neco/ # here\n",
                format!("# ours\n{BLOCK}\n# the rest\nprefix: /neco/ # here\n"),
            ),
            (
                "timeout: 2s\nendpoints: [\"https://a:2379\"] # one\ntls-ca: |\n  PEM\n  endpoints:\n",
                format!("timeout: 2s\n{BLOCK}tls-ca: |\n  PEM\n  endpoints:\n"),
            ),
            (
                "endpoints: [\n  https://a:2379,\n  # and\n  https://b:2379\n]\nprefix: /neco/\n",
                format!("{BLOCK}prefix: /neco/\n"),
            ),
            ("\"endpoints\":\n    - https://a:2379", BLOCK.to_owned()),
            ("endpoints:\nprefix: /neco/\n", format!("{BLOCK}prefix: /neco/\n")),
            ("prefix: /neco/\n", format!("prefix: /neco/\n{BLOCK}")),
            ("", BLOCK.to_owned()),
            ("# nothing yet\n", format!("# nothing yet\n{BLOCK}")),
            (
                "release:\n  endpoints: none of these\nendpoints: []\n",
                format!("release:\n  endpoints: none of these\n{BLOCK}"),
            ),
        ];
        for (before, after) in rows {
            assert_eq!(with_endpoints(before, &two()), Ok(Some(after.clone())), "{before}");
            assert_eq!(with_endpoints(&after, &two()), Ok(None), "{before}");
        }
    }

    #[test]
    fn a_file_in_json_stays_one() {
        let before = r#"{"endpoints": ["https://a:2379"], "prefix": "/neco/", "timeout": "2s"}"#;
        let after = with_endpoints(before, &two()).expect("understood").expect("changed");
        let value: Value = serde_json::from_str(&after).expect("JSON");
        let expected = serde_json::json!({"endpoints": two(), "prefix": "/neco/", "timeout": "2s"});
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_not_understood_is_left_alone_and_not_shown() {
        for text in [
            "endpoints: [\npassword: hunter2\n",
            "- https://a:2379\n",
            "hunter2",
            "base: &a [x]\nendpoints: *a\nother: *b\npassword: hunter2\n",
        ] {
            let why = with_endpoints(text, &two()).expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
