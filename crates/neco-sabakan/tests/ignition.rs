//! Templates from source files (neco-daemons §7, neco-cd-core §12.5).

use neco_sabakan::ignition::{Metadata, Tree, build, check_references, entry_point, roles};
use neco_sabakan::{IgnitionTemplate, IgnitionVersion, Role};
use serde_json::{Value, json};

/// A tree with two roles, a common part, and a cluster that differs.
fn tree() -> Tree {
    Tree::default()
        .with(
            "roles/cs/site.yml",
            0o644,
            "# generated\ninclude: ../../common/common.yml\nfiles:\n  - /opt/bin/cs\n  - /etc/motd\n\
             systemd:\n  - name: cs.service\n    enabled: true\n",
        )
        .with("roles/cs/files/opt/bin/cs", 0o755, "#!/bin/sh\necho {{ .Spec.Serial }}\n")
        .with("roles/cs/files/etc/motd", 0o644, "cs\n")
        .with("roles/cs/systemd/cs.service", 0o644, "[Service]\nExecStart=/opt/bin/cs {{ Metadata \"serf.ref\" }}\n")
        .with("roles/cs/site-stage0.yml", 0o644, "include: site.yml\npasswd: ../../common/stage0.yml\n")
        .with("roles/ss/site.yml", 0o644, "version: 2.2\ninclude: ../../common/common.yml\n")
        .with(
            "common/common.yml",
            0o644,
            "version: \"2.2\"\npasswd: passwd.yml\nfiles:\n  - /etc/motd\n  - /etc/neco/version\n\
             systemd:\n  - name: ntpd.service\n    mask: true\n  - name: docker.service\n    enabled: true\n\
             networkd:\n  - 10-node0.netdev\n",
        )
        .with(
            "common/passwd.yml",
            0o644,
            "users:\n  - name: core\n    uid: 500\n    sshAuthorizedKeys:\n      - '{{ Metadata \"authorized_key\" }}'\n",
        )
        .with("common/stage0.yml", 0o644, "users: []\n")
        .with("common/files/etc/motd", 0o600, "common\n")
        .with("common/files/etc/neco/version", 0o644, b"{{ Metadata \"version\" }} ~/\xff".to_vec())
        .with("common/networkd/10-node0.netdev", 0o644, "[NetDev]\nName=node0\n")
}

fn metadata() -> Metadata {
    Metadata::default()
        .with("version", "2026.11.21-40152")
        .with("serf.ref", "ghcr.io/cybozu/serf:0.10.1.7")
        .authorized_key("ssh-ed25519 AAAA core")
}

fn built(tree: &Tree, entry: &str) -> IgnitionTemplate {
    build(tree, entry, metadata()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(tree: &Tree, entry: &str) -> Vec<String> {
    let problems = build(tree, entry, metadata()).expect_err("problems");
    problems.iter().map(|problem| problem.to_string()).collect()
}

fn references(tree: &Tree) -> Vec<String> {
    match check_references(tree) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.to_string()).collect(),
    }
}

#[test]
fn a_role_is_what_its_site_file_and_all_included_ones_name() {
    let template = built(&tree(), "roles/cs/site.yml");
    assert_eq!(template.version, IgnitionVersion::V2_2);
    let expected = json!({
        "ignition": { "version": "2.2.0" },
        "passwd": { "users": [{
            "name": "core",
            "uid": 500,
            "sshAuthorizedKeys": ["{{ Metadata \"authorized_key\" }}"],
        }] },
        "storage": { "files": [
            // The including source replaces what it names too, where it stood.
            {
                "filesystem": "root", "path": "/etc/motd", "mode": 0o644,
                "contents": { "source": "data:,cs%0A" },
            },
            {
                "filesystem": "root", "path": "/etc/neco/version", "mode": 0o644,
                "contents": { "source": "data:,%7B%7B%20Metadata%20%22version%22%20%7D%7D%20~%2F%FF" },
            },
            {
                "filesystem": "root", "path": "/opt/bin/cs", "mode": 0o755,
                "contents": { "source": "data:,%23%21%2Fbin%2Fsh%0Aecho%20%7B%7B%20.Spec.Serial%20%7D%7D%0A" },
            },
        ] },
        "systemd": { "units": [
            { "name": "ntpd.service", "mask": true },
            { "name": "docker.service", "enabled": true },
            {
                "name": "cs.service", "enabled": true,
                "contents": "[Service]\nExecStart=/opt/bin/cs {{ Metadata \"serf.ref\" }}\n",
            },
        ] },
        "networkd": { "units": [
            { "name": "10-node0.netdev", "contents": "[NetDev]\nName=node0\n" },
        ] },
    });
    assert_eq!(Value::Object(template.template), expected);
    assert_eq!(Value::Object(template.meta)["version"], "2026.11.21-40152");
}

#[test]
fn a_cluster_may_begin_elsewhere_and_replaces_passwd_as_a_whole() {
    let tree = tree();
    let cs = Role::new("cs").expect("a role");
    assert_eq!(roles(&tree).len(), 2);
    let template = built(&tree, &entry_point(&tree, &cs, "stage0"));
    assert_eq!(template.template["passwd"], json!({ "users": [] }));
    assert_eq!(template.template["storage"], built(&tree, "roles/cs/site.yml").template["storage"]);
}

#[test]
fn remote_files_and_the_later_version_are_passed_on() {
    let tree = Tree::default().with(
        "site.yml",
        0o644,
        "version: 2.3\nremote_files:\n  - name: /opt/x\n    url: '{{ MyURL }}/api/v1/assets/x'\n    mode: 0o755\n",
    );
    let template = built(&tree, "site.yml");
    assert_eq!(template.version, IgnitionVersion::V2_3);
    let expected = json!({
        "ignition": { "version": "2.3.0" },
        "storage": { "files": [{
            "filesystem": "root", "path": "/opt/x", "mode": 0o755,
            "contents": { "source": "{{ MyURL }}/api/v1/assets/x" },
        }] },
    });
    assert_eq!(Value::Object(template.template), expected);
}

#[test]
fn an_empty_source_is_an_empty_template() {
    let tree = Tree::default().with("site.yml", 0o644, "# nothing yet\n");
    let expected = json!({ "ignition": { "version": "2.2.0" } });
    assert_eq!(Value::Object(built(&tree, "site.yml").template), expected);
}

#[test]
fn every_problem_is_told_with_file_and_line() {
    let source = "include: ../nowhere.yml\npasswd: /etc/passwd\nfiles:\n  - etc/relative\n  - /missing\n  - /a/../b\n\
                  \x20 - /there\n  - /there\nsystemd:\n  - name: missing.service\n  - name: x/y\n    mask: true\n\
                  \x20 - name: both.service\n    mask: true\n    enabled: true\nnetworkd:\n  - missing.network\n\
                  version: \"3.0\"\n";
    let tree = Tree::default().with("roles/cs/site.yml", 0o644, source).with(
        "roles/cs/files/there",
        0o644,
        "a\n{{ Metadata \"nope\" }}",
    );
    let site = "roles/cs/site.yml";
    let expected = [
        "roles/cs/files/there:2: {{ Metadata \"nope\" }}: there is no metadata \"nope\"; set it, or refer to what there is",
        &format!(
            "{site}:1: include: roles/nowhere.yml does not exist; write it, or name another file"
        ),
        &format!(
            "{site}:2: passwd: \"/etc/passwd\" does not lead to a file of this tree; name a file relative to this one"
        ),
        &format!(
            "{site}:4: files[0]: \"etc/relative\" is not an absolute path without `.` and `..`; write where the file lies on machines"
        ),
        &format!(
            "{site}:5: files[1]: roles/cs/files/missing does not exist; write it, or take it off the list"
        ),
        &format!(
            "{site}:6: files[2]: \"/a/../b\" is not an absolute path without `.` and `..`; write where the file lies on machines"
        ),
        &format!("{site}:8: files[4]: /there is there twice; write it once"),
        &format!(
            "{site}:10: systemd[0]: roles/cs/systemd/missing.service does not exist, and missing.service is neither enabled nor masked; write it, or say what becomes of the unit"
        ),
        &format!(
            "{site}:11: systemd[1]: \"x/y\" is no name of a unit; write a name such as chronyd.service"
        ),
        &format!("{site}:13: systemd[2]: both.service is enabled and masked; choose one"),
        &format!(
            "{site}:17: networkd[0]: roles/cs/networkd/missing.network does not exist; write it, or take it off the list"
        ),
        &format!(
            "{site}:18: version: \"3.0\" is no version of ignition that sabakan knows; it knows 2.2 and 2.3; write one of them"
        ),
    ];
    assert_eq!(problems(&tree, site), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_line() {
    for (source, expected) in [
        ("files: [", "site.yml:1: "),
        ("files:\n  - /a\ncolour: red\n", "site.yml:3: "),
        ("systemd:\n  - enabled: true\n", "site.yml:2: "),
        ("version: [1]\n", "site.yml:1: "),
    ] {
        let tree = Tree::default().with("site.yml", 0o644, source);
        let found = problems(&tree, "site.yml");
        assert!(found.len() == 1 && found[0].starts_with(expected), "{source}: {found:?}");
        assert!(!found[0].contains(" at line "), "{found:?}");
    }
    let tree = Tree::default().with("site.yml", 0o644, b"\xff".to_vec());
    assert_eq!(problems(&tree, "site.yml"), ["site.yml: it is not UTF-8; write YAML"]);
    assert_eq!(
        problems(&Tree::default(), "site.yml"),
        ["site.yml: there is no such file; write it"]
    );
    let tree = Tree::default().with("site.yml", 0o644, "passwd: p.yml\n").with(
        "p.yml",
        0o644,
        "users:\n  - name: '{{ Nonsense }}'\n    uid: 1\nlist: [\n",
    );
    assert!(
        problems(&tree, "site.yml")[0].starts_with("p.yml:"),
        "{:?}",
        problems(&tree, "site.yml")
    );
}

#[test]
fn includes_make_no_circle_and_have_one_version() {
    let tree = Tree::default()
        .with("a.yml", 0o644, "include: b.yml\n")
        .with("b.yml", 0o644, "include: c.yml\n")
        .with("c.yml", 0o644, "\ninclude: a.yml\n")
        .with("self.yml", 0o644, "include: self.yml\n")
        .with("new.yml", 0o644, "version: 2.3\ninclude: old.yml\n")
        .with("old.yml", 0o644, "");
    let remedy = "take one of the two off";
    assert_eq!(
        problems(&tree, "a.yml"),
        [format!("c.yml:2: include: a.yml includes this file again; {remedy}")]
    );
    assert_eq!(
        problems(&tree, "self.yml"),
        [format!("self.yml:1: include: self.yml includes this file again; {remedy}")]
    );
    assert_eq!(
        problems(&tree, "new.yml"),
        [
            "new.yml:2: include: old.yml is written for ignition 2.2, and this file for 2.3; give both the same version"
        ]
    );
}

#[test]
fn a_template_whose_metadata_is_missing_cannot_be_built() {
    let without_key = Metadata::default().with("version", "1").with("serf.ref", "x");
    let problems = build(&tree(), "roles/cs/site.yml", without_key).expect_err("no key");
    assert_eq!(
        problems.to_string(),
        "common/passwd.yml: {{ Metadata \"authorized_key\" }}: there is no metadata \"authorized_key\"; set it, or \
         refer to what there is"
    );
}

#[test]
fn a_tree_in_order_has_no_loose_ends() {
    assert_eq!(references(&tree()), Vec::<String>::new());
}

#[test]
fn what_a_site_file_names_must_be_there_whichever_role_or_cluster_names_it() {
    for (gone, expected) in [
        ("common/common.yml", "common/common.yml does not exist"),
        ("common/passwd.yml", "common/passwd.yml does not exist"),
        ("common/stage0.yml", "common/stage0.yml does not exist"),
        ("common/files/etc/motd", "common/files/etc/motd does not exist"),
        ("roles/cs/files/opt/bin/cs", "roles/cs/files/opt/bin/cs does not exist"),
        ("common/networkd/10-node0.netdev", "common/networkd/10-node0.netdev does not exist"),
    ] {
        let found = references(&tree().without(gone));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{gone}: {found:#?}");
    }
    // Machines may have a unit that is enabled already.
    assert_eq!(references(&tree().without("roles/cs/systemd/cs.service")), Vec::<String>::new());
}

#[test]
fn what_lies_there_must_be_named_by_a_site_file() {
    for (path, expected) in [
        (
            "roles/cs/files/etc/loose",
            "roles/cs/files/etc/loose: no source in roles/cs that a role uses names it",
        ),
        (
            "common/systemd/loose.service",
            "common/systemd/loose.service: no source in common that a role uses names it",
        ),
        (
            "common/networkd/loose.network",
            "common/common.yml: networkd: loose.network is in common/networkd and not on the list",
        ),
    ] {
        let found = references(&tree().with(path, 0o644, "x"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{path}: {found:#?}");
    }
}

#[test]
fn what_only_one_cluster_names_is_named() {
    let one = tree()
        .with("roles/ss/site-stage0.yml", 0o644, "include: site.yml\nfiles: [/only/here]\n")
        .with("roles/ss/files/only/here", 0o644, "x");
    assert_eq!(references(&one), Vec::<String>::new());
    // But not if nobody begins there.
    let other = one.clone().without("roles/ss/site-stage0.yml").with(
        "roles/ss/other.yml",
        0o644,
        "files: [/only/here]\n",
    );
    assert_eq!(references(&other).len(), 1);
}

#[test]
fn a_source_that_includes_its_neighbour_names_networks_with_it() {
    let with = tree()
        .with(
            "common/common-stage0.yml",
            0o644,
            "include: common.yml\nnetworkd: [20-more.network]\n",
        )
        .with("common/networkd/20-more.network", 0o644, "[Match]\n")
        .with("roles/ss/site-stage0.yml", 0o644, "include: ../../common/common-stage0.yml\n");
    // The neighbour itself, which others use, does not name all.
    let found = references(&with);
    assert!(
        found.len() == 1 && found[0].starts_with("common/common.yml: networkd: 20-more.network"),
        "{found:#?}"
    );
}
