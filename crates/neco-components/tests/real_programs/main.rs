//! What the components generate is accepted by the programs that read it: systemd, Docker, sshd, sudo, etcd. The files are
//! the expected ones, which are embedded here, so that this runs on a machine without anything else:
//!
//! ```console
//! $ cargo test -p neco-components --test real_programs --no-run
//! $ cargo xtask dc sh boot-0 -- sh -c 'cat > /root/real_programs && chmod +x /root/real_programs' < target/debug/deps/real_programs-…
//! $ cargo xtask dc sh boot-0 -- /root/real_programs --ignored --test-threads 1
//! ```

mod etcd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toml::Table;

/// A generated file, as it is expected.
macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!("../golden/", $name)))
    };
}

/// Units of containers.
const CONTAINERS: [(&str, &str); 6] = [
    golden!("etcd/etcd-container.service"),
    golden!("promtail/promtail.service"),
    golden!("sabakan/sabakan.service"),
    golden!("serf/serf.service"),
    golden!("setup-hw/setup-hw.service"),
    golden!("vault/vault.service"),
];

/// Other units.
const UNITS: [(&str, &str); 2] = [
    golden!("setup-serf-tags/setup-serf-tags.service"),
    golden!("setup-serf-tags/setup-serf-tags.timer"),
];

/// A unit that comes with the package, or with its example of programs of others.
macro_rules! shipped {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../debian/", $name)))
    };
}

/// Units that are not generated.
const SHIPPED: [(&str, &str); 7] = [
    shipped!("lib/systemd/system/neco-updater.service"),
    shipped!("lib/systemd/system/neco-worker.service"),
    shipped!("lib/systemd/system/sabakan-state-setter.service"),
    shipped!("usr/share/doc/neco/examples/programs/units/cke-localproxy.service"),
    shipped!("usr/share/doc/neco/examples/programs/units/cke.service"),
    shipped!("usr/share/doc/neco/examples/programs/units/node-exporter.service"),
    shipped!("usr/share/doc/neco/examples/programs/units/teleport-node.service"),
];

/// What is added to a unit of a package.
const DROP_IN: (&str, &str) = golden!("etcdpasswd/10-check-certificate.conf");

const SSHD: (&str, &str) = golden!("sshd/neco.conf");
const SUDOERS: (&str, &str) = golden!("sudoers/cybozu");

/// The components that have their files validated.
const SSHD_COMPONENT: &str = include_str!("../../../../debian/usr/share/neco/components/sshd.toml");
const SUDOERS_COMPONENT: &str =
    include_str!("../../../../debian/usr/share/neco/components/sudoers.toml");

/// Programs that units start.
const PROGRAMS: [&str; 12] = [
    "/bin/mkdir",
    "/usr/bin/docker",
    "/usr/bin/ep-agent",
    "/usr/bin/neco",
    "/usr/sbin/neco-updater",
    "/usr/sbin/neco-worker",
    "/usr/bin/sabakan-state-setter",
    "/usr/local/bin/setup-serf-tags",
    "/usr/sbin/cke",
    "/usr/sbin/cke-localproxy",
    "/usr/sbin/node_exporter",
    "/usr/sbin/teleport",
];

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    fs::write(path, text).expect("writable");
}

/// A tree that has the units, and the programs that they start.
struct Tree(tempfile::TempDir);

impl Tree {
    const UNITS: &str = "etc/systemd/system";

    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let tree = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in CONTAINERS.iter().chain(&UNITS).chain(&SHIPPED) {
            tree.unit(file_name(name), text);
        }
        tree.unit("ep-agent.service", "[Service]\nExecStart=/usr/bin/ep-agent\n");
        tree.unit(&format!("ep-agent.service.d/{}", file_name(DROP_IN.0)), DROP_IN.1);
        for program in PROGRAMS {
            let path = tree.path(program.trim_start_matches('/'));
            write(&path, "");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn unit(&self, name: &str, text: &str) {
        write(&self.path(Self::UNITS).join(name), text);
    }

    /// What systemd has to say about a unit; nothing if it is good.
    fn complaints(&self, unit: &str) -> String {
        let output = output(
            Command::new("systemd-analyze")
                .arg(format!("--root={}", self.0.path().display()))
                .args(["verify", "--man=no", "--recursive-errors=no", unit]),
        );
        let said = stderr(&output);
        assert_eq!(output.status.success(), said.is_empty(), "{unit}: {}: {said}", output.status);
        said
    }
}

fn file_name(golden: &str) -> &str {
    golden.rsplit('/').next().unwrap_or(golden)
}

#[test]
#[ignore = "needs systemd 252 or later; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
fn systemd_understands_every_word_of_the_units() {
    let tree = Tree::new();
    for (name, _) in CONTAINERS.iter().chain(&UNITS).chain(&SHIPPED) {
        assert_eq!(tree.complaints(file_name(name)), "", "{name}");
    }
    assert_eq!(tree.complaints("ep-agent.service"), "", "{}", DROP_IN.0);

    let (name, text) = CONTAINERS[0];
    tree.unit(file_name(name), &text.replace("RestartSec=3s", "RestartSecs=3s"));
    assert!(tree.complaints(file_name(name)).contains("Unknown key"));
    tree.unit(&format!("ep-agent.service.d/{}", file_name(DROP_IN.0)), "[Unit]\nAfter\n");
    assert!(tree.complaints("ep-agent.service").contains("Missing '='"));
}

/// What Docker answers to the command line of a unit, whose image is not there.
fn docker_says(unit: &str) -> String {
    let unit = unit.replace("\\\n", " ");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let mut words = line.expect("a command").split_whitespace();
    let output = output(Command::new(words.next().expect("a program")).args(words));
    assert!(!output.status.success(), "the image is there: {unit}");
    stderr(&output)
}

#[test]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
fn docker_accepts_the_options_of_the_containers() {
    for (name, text) in CONTAINERS {
        let said = docker_says(text);
        assert!(said.contains("No such image: ghcr.io/cybozu"), "{name}: {said}");
    }
    let said = docker_says(&CONTAINERS[0].1.replace("--read-only", "--read-alone"));
    assert!(said.contains("unknown flag: --read-alone"), "{said}");
}

/// Has the command by which a component validates its file look at `text`.
fn validated(component: &str, text: &str) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, text).expect("writable");
    let component: Table = component.parse().expect("TOML");
    let words = component["file"][0]["validate"].as_array().expect("a command");
    let path = file.path().display().to_string();
    let words = words.iter().map(|word| word.as_str().expect("a text").to_owned());
    let words: Vec<String> =
        words.map(|word| if word == "{}" { path.clone() } else { word }).collect();
    output(Command::new(&words[0]).args(&words[1..]))
}

#[test]
#[ignore = "needs a server that runs sshd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
fn sshd_is_asked_whether_it_could_run_with_its_file() {
    let asked = |text: &str| validated(SSHD_COMPONENT, text);
    let good = asked(SSHD.1);
    assert!(good.status.success(), "{}", stderr(&good));

    let unknown = asked(&SSHD.1.replace("ForceCommand", "ForcedCommand"));
    assert!(!unknown.status.success());
    assert!(stderr(&unknown).contains("Bad configuration option: ForcedCommand"));
    let value = asked(&SSHD.1.replace("PasswordAuthentication no", "PasswordAuthentication nope"));
    assert!(!value.status.success());

    // Each is good by itself; with both of them sshd would not start.
    let site = Path::new("/etc/ssh/sshd_config.d/zz-real-programs.conf");
    fs::write(site, "AuthenticationMethods password\n").expect("a machine of its own");
    let together = asked(SSHD.1);
    fs::remove_file(site).expect("removable");
    assert!(!together.status.success());
    assert!(stderr(&together).contains("AuthenticationMethods"), "{}", stderr(&together));
}

#[test]
#[ignore = "needs sudo; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
fn visudo_accepts_who_may_use_sudo() {
    let good = validated(SUDOERS_COMPONENT, SUDOERS.1);
    assert!(good.status.success(), "{}", stderr(&good));
    let bad = validated(SUDOERS_COMPONENT, &SUDOERS.1.replace("NOPASSWD:", "NOPASSWD"));
    assert!(!bad.status.success());
}
