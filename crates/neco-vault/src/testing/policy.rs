//! What a policy allows.

/// Whether one of `policies` allows a request. Of HCL it knows `path "PATH" { capabilities = ["…"] }` with `*` at the end
/// of the path.
pub(super) fn allows(policies: &[String], method: &str, path: &str) -> bool {
    let wanted: &[&str] = match method {
        "GET" => &["read"],
        "DELETE" => &["delete"],
        _ => &["create", "update"],
    };
    policies.iter().flat_map(|policy| rules(policy)).any(|(pattern, capabilities)| {
        let fits = match pattern.strip_suffix('*') {
            Some(begin) => path.starts_with(begin),
            None => path == pattern,
        };
        fits && wanted.iter().any(|wanted| capabilities.contains(&format!("\"{wanted}\"")))
    })
}

/// Each path with the text that lists what may be done there.
fn rules(policy: &str) -> Vec<(&str, &str)> {
    let blocks = policy.split("path \"").skip(1);
    let rules = blocks.filter_map(|block| {
        let (pattern, rest) = block.split_once('"')?;
        let (_, rest) = rest.split_once('{')?;
        Some((pattern, rest.split_once('}')?.0))
    });
    rules.collect()
}
