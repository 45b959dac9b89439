//! Paths within a tree.

/// The folder that a file lies in; empty for the tree itself.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Where `relative`, as it stands in a file in `folder`, leads within the tree. `None` where it leaves the tree or is none.
pub(crate) fn resolve(folder: &str, relative: &str) -> Option<String> {
    if relative.is_empty() || relative.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The path of `name` in `folder`.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_within_the_tree_or_nowhere() {
        let common = Some("common/common.yml".to_owned());
        assert_eq!(resolve("roles/cs", "../../common/common.yml"), common);
        assert_eq!(resolve("roles/cs", "./x//y"), Some("roles/cs/x/y".to_owned()));
        assert_eq!(resolve("", "a"), Some("a".to_owned()));
        for bad in ["", "/etc/passwd", "../../..", "../..", "../../../x"] {
            assert_eq!(resolve("roles/cs", bad), None, "{bad}");
        }
    }
}
