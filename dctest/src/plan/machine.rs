//! What is written to the disk of a boot server before it is powered on for the first time.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::address::{Addresses, SUBNET_PREFIX, Subnet};
use super::bird;
use super::topology::Place;
use crate::description::{DataCentre, StubLink};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// From the root of the machine, without a slash at its beginning.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// It is a symbolic link to this.
    Link(String),
}

/// What belongs to one data centre and to no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The key that operators log in with, as a line of `authorized_keys` (sshd(8)).
    pub operator: String,
    /// The private key of the server's own sshd (openssh-key-v1).
    pub host_key: String,
    /// The certificate of the authority that the registry's certificate is signed by, PEM.
    pub authority: String,
}

/// Units that Debian's packages enable and that a boot server has no use for, or has its own of.
const MASKED: [&str; 12] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "docker-registry.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "etcd.service",
    "fstrim.timer",
    "getty@.service",
    "serf.service",
    "systemd-networkd-wait-online.service",
];

/// Controllers of cgroup v1 that a container finds mounted read-only.
const CONTROLLERS: &str = "cpu cpuacct cpuset memory devices freezer blkio pids";

/// The host name of a boot server.
#[must_use]
pub fn host_name(centre: &DataCentre, rack: u32) -> String {
    format!("{}-{}", centre.name, Place::BootServer(rack).name())
}

/// All files of the boot server of a rack.
#[must_use]
pub fn files(centre: &DataCentre, rack: u32, secrets: &Secrets) -> Vec<File> {
    let plan = &centre.addresses;
    let mut files = vec![
        text("etc/hostname", host_name(centre, rack) + "\n"),
        text("etc/hosts", hosts(centre)),
        text("etc/neco/rack", format!("{rack}\n")),
        text("etc/neco/cluster", format!("{}\n", centre.name)),
        text(
            "etc/systemd/journald.conf.d/persistent.conf",
            "[Journal]\nStorage=persistent\n".into(),
        ),
        text(
            "etc/systemd/system.conf.d/stop.conf",
            format!("[Manager]\nDefaultTimeoutStopSec={}\n", seconds(centre.limits.stop)),
        ),
        text("etc/docker/daemon.json", DOCKER.into()),
        text("etc/docker/certs.d/registry.test/ca.crt", secrets.authority.clone()),
        text(
            "etc/ssh/sshd_config.d/neco-dctest.conf",
            "PermitRootLogin prohibit-password\nUseDNS no\n".into(),
        ),
        File { mode: 0o600, ..text("etc/ssh/ssh_host_ed25519_key", secrets.host_key.clone()) },
        File {
            mode: 0o600,
            ..text("root/.ssh/authorized_keys", format!("{}\n", secrets.operator))
        },
        text("etc/systemd/system/cgroup-writable.service", writable_controllers()),
        link(
            "etc/systemd/system/sysinit.target.wants/cgroup-writable.service",
            "/etc/systemd/system/cgroup-writable.service",
        ),
        link(
            "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "/lib/systemd/system/systemd-networkd.service",
        ),
    ];
    files.extend(MASKED.map(|unit| link(&format!("etc/systemd/system/{unit}"), "/dev/null")));
    files.extend(network(centre, rack));
    if let Some(routing) =
        bird::configuration(plan, centre.asn_base, &centre.timers, Place::BootServer(rack))
    {
        files.push(text("etc/bird/bird.conf", routing));
    }
    files
}

/// Only what does not need a bridge of Docker's own: the programs of a boot server use the host's network.
const DOCKER: &str = r#"{
  "storage-driver": "overlay2",
  "bridge": "none",
  "iptables": false,
  "ip-masq": false,
  "live-restore": true,
  "log-driver": "journald"
}
"#;

fn text(path: &str, content: String) -> File {
    File { path: path.to_owned(), mode: 0o644, content: Content::Text(content) }
}

fn link(path: &str, target: &str) -> File {
    File { path: path.to_owned(), mode: 0o777, content: Content::Link(target.to_owned()) }
}

fn seconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Who is where, for machines without a name server (hosts(5)).
#[must_use]
pub fn hosts(centre: &DataCentre) -> String {
    let mut lines = String::from("127.0.0.1 localhost\n");
    let _ = writeln!(lines, "{} registry.test", centre.internet.registry);
    let _ = writeln!(lines, "{} releases.test", centre.internet.releases);
    for rack in 0..centre.addresses.racks {
        let address = centre.addresses.boot_server(rack, Subnet::Node0);
        let _ = writeln!(
            lines,
            "{address} {} {}",
            Place::BootServer(rack).name(),
            host_name(centre, rack)
        );
    }
    lines
}

/// A container sees the controllers of cgroup v1 read-only, and Docker needs to write there; on a host that has cgroup v2
/// alone there is nothing to do.
fn writable_controllers() -> String {
    format!(
        "[Unit]\nDescription=Controllers of cgroup v1 can be written to\nDefaultDependencies=no\n\
         Before=sysinit.target containerd.service docker.service\nConditionPathIsDirectory=/sys/fs/cgroup/memory\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh -c 'for c in {CONTROLLERS}; do mount -o remount,bind,rw /sys/fs/cgroup/$c; done'\n"
    )
}

/// The files of systemd-networkd (systemd.network(5), systemd.netdev(5)).
fn network(centre: &DataCentre, rack: u32) -> Vec<File> {
    let plan: &Addresses = &centre.addresses;
    let kind = match centre.stub_link {
        StubLink::Bridge => "bridge",
        StubLink::Dummy => "dummy",
    };
    let mut files = Vec::new();
    for (name, address) in
        [("node0", plan.boot_server(rack, Subnet::Node0)), ("bastion", plan.bastion(rack))]
    {
        files.push(text(
            &format!("etc/systemd/network/10-{name}.netdev"),
            format!("[NetDev]\nName={name}\nKind={kind}\n"),
        ));
        let settings = "LinkLocalAddressing=no\nConfigureWithoutCarrier=yes\n";
        files.push(text(
            &format!("etc/systemd/network/10-{name}.network"),
            of(name, address, 32, settings),
        ));
    }
    for tor in [1, 2] {
        let subnet = Subnet::towards(tor);
        let (name, address) = (subnet.name(), plan.boot_server(rack, subnet));
        let settings = "LinkLocalAddressing=no\n";
        files.push(text(
            &format!("etc/systemd/network/10-{name}.network"),
            of(name, address, SUBNET_PREFIX, settings),
        ));
    }
    files
}

fn of(name: &str, address: Ipv4Addr, prefix: u8, settings: &str) -> String {
    // Addresses of cables are for the neighbours alone: nobody is to choose them as a source for others.
    let scope = if prefix == 32 { "" } else { "Scope=link\n" };
    format!(
        "[Match]\nName={name}\n\n[Network]\n{settings}\n[Address]\nAddress={address}/{prefix}\n{scope}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::description;

    fn centre() -> DataCentre {
        let text = "format: 1\nname: dc0\nboot-servers: 3\nspare-boot-servers: 1\n";
        description::parse(Path::new("dc.yml"), text).unwrap()
    }

    fn of_rack(rack: u32) -> Vec<File> {
        let secrets = Secrets {
            operator: "ssh-ed25519 AAAA operator".into(),
            host_key: "private".into(),
            authority: "certificate".into(),
        };
        files(&centre(), rack, &secrets)
    }

    fn content(files: &[File], path: &str) -> String {
        let file =
            files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
        match &file.content {
            Content::Text(text) | Content::Link(text) => text.clone(),
        }
    }

    #[test]
    fn a_server_knows_its_rack_its_names_and_its_addresses() {
        let files = of_rack(1);
        assert_eq!(content(&files, "etc/neco/rack"), "1\n");
        assert_eq!(content(&files, "etc/hostname"), "dc0-boot-1\n");
        assert!(content(&files, "etc/hosts").contains("10.69.2.67 boot-3 dc0-boot-3\n"));
        let node0 = content(&files, "etc/systemd/network/10-node0.network");
        assert!(node0.contains("Address=10.69.0.195/32\n") && !node0.contains("Scope"), "{node0}");
        let node2 = content(&files, "etc/systemd/network/10-node2.network");
        assert!(node2.contains("Address=10.69.1.67/26\nScope=link\n"), "{node2}");
        assert!(
            content(&files, "etc/systemd/network/10-bastion.network").contains("10.72.48.1/32")
        );
    }

    #[test]
    fn what_is_secret_is_read_by_its_owner_alone() {
        let files = of_rack(0);
        let modes = |path: &str| files.iter().find(|file| file.path == path).unwrap().mode;
        assert_eq!(modes("etc/ssh/ssh_host_ed25519_key"), 0o600);
        assert_eq!(modes("root/.ssh/authorized_keys"), 0o600);
    }

    #[test]
    fn no_file_is_written_twice_and_docker_is_told_in_json() {
        let files = of_rack(2);
        let paths: BTreeSet<_> = files.iter().map(|file| &file.path).collect();
        assert_eq!(paths.len(), files.len());
        let told: serde_json::Value =
            serde_json::from_str(&content(&files, "etc/docker/daemon.json")).unwrap();
        assert_eq!(told["storage-driver"], "overlay2");
    }
}
