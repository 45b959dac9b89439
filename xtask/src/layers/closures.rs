//! What is linked in the end: outside crates and features, from `cargo tree`.

use crate::build::SHIPPED;
use crate::exit::Done;
use crate::run;
use crate::workspace::Workspace;

/// The crate that decides has never heard of sockets, timers or tasks.
const PURE: &str = "neco-plan";

/// Crates that would end that.
const RUNTIMES: [&str; 6] = ["tokio", "mio", "async-std", "smol", "async-io", "etcd-client"];

pub(super) fn check(workspace: &Workspace) -> Done<Vec<String>> {
    let mut violations = runtimes_in(PURE, &tree(workspace, PURE, "normal,build")?);
    for binary in SHIPPED {
        let tree = tree(workspace, binary, "normal,build,features")?;
        violations.extend(testing_in(binary, &tree));
    }
    Ok(violations)
}

fn tree(workspace: &Workspace, package: &str, edges: &str) -> Done<String> {
    let mut command = workspace.cargo();
    command.args(["tree", "--offline", "--prefix", "none"]);
    command.args(["--package", package, "--edges", edges]);
    run::capture(&mut command)
}

/// The lines of the tree are `NAME vVERSION …`.
fn runtimes_in(package: &str, tree: &str) -> Vec<String> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| RUNTIMES.contains(name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| {
            format!(
                "{package} is pure, but {name} is beneath it: `cargo tree -p {package} -i {name}`"
            )
        })
        .collect()
}

/// Features are lines like `neco-store feature "testing"`.
fn testing_in(binary: &str, tree: &str) -> Vec<String> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_once(r#" feature "testing""#))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("neco"))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| format!("{binary} is shipped, but built with the feature `testing` of {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_beneath_the_pure_crate_is_found() {
        let sound =
            "neco-plan v0.1.0 (/tree/crates/neco-plan)\nserde v1.0.229\nserde_json v1.0.154\n";
        assert_eq!(runtimes_in("neco-plan", sound), Vec::<String>::new());
        let planted =
            format!("{sound}tokio-macros v2.6.0 (proc-macro)\ntokio v1.54.0\ntokio v1.54.0\n");
        let complaints = runtimes_in("neco-plan", &planted);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("neco-plan is pure, but tokio is"), "{}", complaints[0]);
    }

    #[test]
    fn the_feature_testing_in_a_shipped_binary_is_found() {
        let sound = "neco-worker v0.1.0 (/tree)\nneco-store feature \"default\"\n\
                     outside feature \"testing\"\n";
        assert_eq!(testing_in("neco-worker", sound), Vec::<String>::new());
        let planted = format!("{sound}neco-store feature \"testing\"\nneco-store v0.1.0\n");
        assert_eq!(
            testing_in("neco-worker", &planted),
            ["neco-worker is shipped, but built with the feature `testing` of neco-store"]
        );
    }
}
