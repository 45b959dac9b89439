//! Which roles there are, and where the sources of each begin (neco-daemons §7.1, §7.5).

use super::Tree;
use crate::Role;

/// The roles of a tree: folders in `roles/` that have a `site.yml`.
pub fn roles(tree: &Tree) -> Vec<Role> {
    let sites = tree.below("roles").filter_map(|path| path.strip_suffix("/site.yml"));
    // A folder whose name is no role can be asked for by no machine.
    sites.filter_map(|name| Role::new(name).ok()).collect()
}

/// Where the sources of a role begin: `site-<cluster>.yml` if there is one, else `site.yml` (neco-cd-core §9.1, step 14).
pub fn entry_point(tree: &Tree, role: &Role, cluster: &str) -> String {
    let own = format!("roles/{role}/site-{cluster}.yml");
    match tree.get(&own) {
        Some(_) => own,
        None => format!("roles/{role}/site.yml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_with_a_site_file_of_its_own_begins_there() {
        let tree = Tree::default()
            .with("roles/cs/site.yml", 0o644, "")
            .with("roles/cs/site-stage0.yml", 0o644, "")
            .with("roles/cs/files/site.yml", 0o644, "")
            .with("roles/ss/site.yml", 0o644, "")
            .with("roles/no-site/site-stage0.yml", 0o644, "")
            .with("common/site.yml", 0o644, "");
        let found = roles(&tree);
        assert_eq!(found.iter().map(Role::as_str).collect::<Vec<_>>(), ["cs", "ss"]);
        assert_eq!(entry_point(&tree, &found[0], "stage0"), "roles/cs/site-stage0.yml");
        assert_eq!(entry_point(&tree, &found[0], "prod"), "roles/cs/site.yml");
        assert_eq!(entry_point(&tree, &found[1], "stage0"), "roles/ss/site.yml");
    }
}
