//! Network spaces, cables between them, and the routing daemons in them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use tokio::process::{Child, Command};

use super::dirs::Dirs;
use super::orders::Link;
use crate::description::DataCentre;
use crate::host::command::{command, feed, run};
use crate::plan::address::Subnet;
use crate::plan::bird;
use crate::plan::topology::{Cable, End, Place, Topology};

const LIMIT: Duration = Duration::from_secs(30);

/// What every space is told before anything is in it. Paths there and back may differ, so nothing is dropped for coming in
/// by another interface; packets of one flow stay on one of several equal paths, and a path that is gone is not used.
const SETTINGS: [&str; 7] = [
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv4.fib_multipath_use_neigh=1",
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
];

/// A network that stands.
pub struct Network {
    topology: Topology,
    dirs: Dirs,
    /// Routing daemons; they end with it.
    _routers: Vec<Child>,
}

impl Network {
    /// Makes all spaces and cables and starts the routers. `tools` is a root in which programs of the base tree run.
    ///
    /// # Errors
    /// The kernel refuses something, or a routing daemon does not start.
    pub async fn build(centre: &DataCentre, dirs: &Dirs) -> Result<Self> {
        let topology = Topology::of(&centre.addresses);
        let spaces: String =
            topology.places.iter().map(|place| format!("netns add {}\n", place.name())).collect();
        feed(&mut command(["ip", "-batch", "-"]), &spaces, LIMIT)
            .await
            .context("making network spaces")?;
        for place in &topology.places {
            let name = place.name();
            let words = ["ip", "netns", "exec", &name, "sysctl", "--quiet", "--write"];
            run(&mut command(words.into_iter().chain(SETTINGS)), LIMIT).await?;
        }
        let cables: String = topology.cables.iter().map(laid).collect();
        feed(&mut command(["ip", "-batch", "-"]), &cables, LIMIT).await.context("laying cables")?;
        for place in &topology.places {
            let words = ["ip", "-n", &place.name(), "-batch", "-"].map(str::to_owned);
            feed(&mut command(words), &set_up(centre, &topology, *place), LIMIT)
                .await
                .with_context(|| format!("setting up {}", place.name()))?;
        }
        let mut routers = Vec::new();
        for place in topology.places.iter().filter(|place| place.is_router()) {
            routers.extend(router(centre, dirs, *place).await?);
        }
        Ok(Self { topology, dirs: dirs.clone(), _routers: routers })
    }

    /// A command in a space.
    #[must_use]
    pub fn within(space: &str, words: &[&str]) -> Command {
        command(["ip", "netns", "exec", space].into_iter().chain(words.iter().copied()))
    }

    /// A command of the base tree in a space.
    fn tool(&self, space: &str, words: &[&str]) -> Command {
        tool(&self.dirs, space, words)
    }

    /// Plugs in both cables of a machine, or pulls them: at the switches, as the machine itself may be gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn plug(&self, machine: Place, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        let ends: Vec<&End> = self.topology.other_ends(machine).collect();
        for end in ends {
            run(
                &mut command(["ip", "-n", &end.place.name(), "link", "set", &end.interface, state]),
                LIMIT,
            )
            .await?;
        }
        Ok(())
    }

    /// Changes a cable.
    ///
    /// # Errors
    /// There is no cable between the two, or the kernel refuses.
    pub async fn link(&self, one: &str, other: &str, state: Link) -> Result<()> {
        let Some(cable) = self.topology.between(one, other) else {
            let known: Vec<String> = self.topology.cables.iter().map(shown).collect();
            bail!("there is no cable between {one} and {other}; there are {}", known.join(", "));
        };
        let up = if state == Link::Down { "down" } else { "up" };
        for end in [&cable.upper, &cable.lower] {
            run(
                &mut command(["ip", "-n", &end.place.name(), "link", "set", &end.interface, up]),
                LIMIT,
            )
            .await?;
        }
        // At one end, both ways.
        let End { place, interface, .. } = &cable.upper;
        let table = format!("drop_{}", interface.replace('-', "_"));
        // Made before it is deleted, so that deleting what is not there is no error.
        let mut rules = format!("add table netdev {table}\ndelete table netdev {table}\n");
        if state == Link::Drop {
            rules.push_str(&format!("add table netdev {table}\n"));
            for (chain, hook) in [("in", "ingress"), ("out", "egress")] {
                rules.push_str(&format!(
                    "add chain netdev {table} {chain} {{ type filter hook {hook} device {interface} priority 0; policy drop; }}\n"
                ));
            }
        }
        feed(&mut self.tool(&place.name(), &["nft", "-f", "-"]), &rules, LIMIT).await.map(drop)
    }

    /// Lets a machine hear nothing of `from`, nor they of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn partition(&self, machine: Place, from: &[std::net::Ipv4Addr]) -> Result<()> {
        let table = "partition";
        let mut rules = format!("add table inet {table}\ndelete table inet {table}\n");
        if !from.is_empty() {
            let set: Vec<String> = from.iter().map(ToString::to_string).collect();
            let set = set.join(", ");
            rules.push_str(&format!("add table inet {table}\n"));
            for (hook, side) in [("input", "saddr"), ("output", "daddr")] {
                rules.push_str(&format!(
                    "add chain inet {table} {hook} {{ type filter hook {hook} priority -300; }}\n\
                     add rule inet {table} {hook} ip {side} {{ {set} }} drop\n"
                ));
            }
        }
        feed(&mut self.tool(&machine.name(), &["nft", "-f", "-"]), &rules, LIMIT).await.map(drop)
    }

    /// All cables as they were made; machines that are off stay unplugged.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn heal(&self, plugged: impl Fn(Place) -> bool) -> Result<()> {
        for cable in &self.topology.cables {
            let (upper, lower) = (cable.upper.place, cable.lower.place);
            let state = if plugged(lower) { Link::Up } else { Link::Down };
            self.link(&upper.name(), &lower.name(), state).await?;
        }
        Ok(())
    }

    /// What the routing daemon of a space says of its sessions and routes.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn told(&self, place: Place) -> Result<String> {
        let control = format!("/run/net/{}.ctl", place.name());
        let words =
            ["chroot".to_owned(), self.dirs.tools_root().display().to_string(), "birdc".to_owned()];
        let words = words
            .into_iter()
            .chain(["-s", &control, "show", "protocols", "all"].map(str::to_owned));
        run(&mut command(words), LIMIT).await
    }
}

fn shown(cable: &Cable) -> String {
    format!("{} {}", cable.upper.place.name(), cable.lower.place.name())
}

fn laid(cable: &Cable) -> String {
    let end = |end: &End| format!("name {} netns {}", end.interface, end.place.name());
    format!("link add {} type veth peer {}\n", end(&cable.upper), end(&cable.lower))
}

/// The lines by which a space gets its addresses, its interfaces and the routes that no daemon tells it.
fn set_up(centre: &DataCentre, topology: &Topology, place: Place) -> String {
    let plan = &centre.addresses;
    let mut lines = String::from("link set lo up\n");
    for end in topology.cables.iter().flat_map(|cable| [&cable.upper, &cable.lower]) {
        if end.place != place {
            continue;
        }
        if let Some(address) = end.address {
            lines.push_str(&format!("addr add {address} dev {}\n", end.interface));
        }
        // Those of machines are set up by the machines, and plugged in when they are switched on.
        let to_machine = topology.other_ends(place).any(|other| {
            matches!(other.place, Place::BootServer(_)) && other.place.name() == end.interface
        });
        if !matches!(place, Place::BootServer(_)) && !to_machine {
            lines.push_str(&format!("link set {} up\n", end.interface));
        }
    }
    match place {
        Place::Internet => {
            let hosts = [centre.internet.registry, centre.internet.releases];
            lines.extend(hosts.map(|host| format!("addr add {host}/32 dev lo\n")));
            lines.push_str(&format!("route add default via {}\n", plan.core_internet().lower));
        }
        Place::Operation => {
            lines.push_str(&format!("route add default via {}\n", plan.core_operation().upper));
        }
        _ => {}
    }
    lines
}

/// A command of the base tree in a space.
#[must_use]
pub fn tool(dirs: &Dirs, space: &str, words: &[&str]) -> Command {
    let root = dirs.tools_root().display().to_string();
    let mut all = vec!["ip", "netns", "exec", space, "chroot", &root];
    all.extend(words);
    command(all)
}

/// Starts the routing daemon of a space.
async fn router(centre: &DataCentre, dirs: &Dirs, place: Place) -> Result<Option<Child>> {
    let Some(text) = bird::configuration(&centre.addresses, centre.asn_base, &centre.timers, place)
    else {
        return Ok(None);
    };
    let (name, routers) = (place.name(), dirs.routers());
    let file = routers.join(format!("{name}.conf"));
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    let [conf, control, pid] = ["conf", "ctl", "pid"].map(|kind| format!("/run/net/{name}.{kind}"));
    let log = routers.join(format!("{name}.log"));
    let log = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    // What it has against its configuration it says at once, and then it ends.
    run(&mut tool(dirs, &name, &["bird", "-p", "-c", &conf]), LIMIT).await?;
    let child = tool(dirs, &name, &["bird", "-f", "-c", &conf, "-s", &control, "-P", &pid])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting the routing daemon of {name}"))?;
    Ok(Some(child))
}

/// Makes the root in which programs of the base tree run outside of any machine: the tree itself, with a `/run` and `hosts` of
/// its own.
///
/// # Errors
/// The kernel refuses a mount.
pub fn tools_root(dirs: &Dirs, base: &std::path::Path, hosts: &str) -> Result<()> {
    let root = dirs.tools_root();
    for dir in [&root, &dirs.routers()] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let none: Option<&str> = None;
    let bind = |from: &std::path::Path, to: &std::path::Path, flags: MsFlags| {
        mount(Some(from), to, none, MsFlags::MS_BIND | flags, none)
            .with_context(|| format!("mounting {} on {}", from.display(), to.display()))
    };
    bind(base, &root, MsFlags::empty())?;
    mount(none, &root, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none)
        .context("making the base tree read-only")?;
    for (kind, name) in [("tmpfs", "run"), ("proc", "proc")] {
        let to = root.join(name);
        mount(Some(kind), &to, Some(kind), MsFlags::empty(), none)
            .with_context(|| format!("mounting {}", to.display()))?;
    }
    bind("/dev".as_ref(), &root.join("dev"), MsFlags::MS_REC)?;
    let names = dirs.routers().join("hosts");
    fs::write(&names, hosts).with_context(|| format!("writing {}", names.display()))?;
    bind(&names, &root.join("etc/hosts"), MsFlags::empty())?;
    let net = root.join("run/net");
    fs::create_dir_all(&net).with_context(|| format!("making {}", net.display()))?;
    bind(&dirs.routers(), &net, MsFlags::empty())
}

/// The addresses by which a place is known to others, for a partition.
#[must_use]
pub fn addresses_of(centre: &DataCentre, place: Place) -> Vec<std::net::Ipv4Addr> {
    let plan = &centre.addresses;
    match place {
        Place::BootServer(rack) => {
            let nodes = [Subnet::Node0, Subnet::Node1, Subnet::Node2];
            let mut all = nodes.map(|subnet| plan.boot_server(rack, subnet)).to_vec();
            all.push(plan.bastion(rack));
            all
        }
        Place::Internet => vec![centre.internet.registry, centre.internet.releases],
        Place::Operation => vec![plan.core_operation().lower],
        Place::Core | Place::Spine(_) | Place::Tor { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::description;

    fn centre() -> DataCentre {
        description::parse(Path::new("dc.yml"), "format: 1\nname: dc0\nboot-servers: 2\n").unwrap()
    }

    #[test]
    fn a_cable_is_laid_between_spaces_at_once() {
        let topology = Topology::of(&centre().addresses);
        let cable = topology.between("rack1-tor2", "boot-1").unwrap();
        assert_eq!(
            laid(cable),
            "link add name boot-1 netns rack1-tor2 type veth peer name node2 netns boot-1\n"
        );
    }

    #[test]
    fn cables_of_machines_wait_for_power() {
        let centre = centre();
        let topology = Topology::of(&centre.addresses);
        let switch = set_up(&centre, &topology, Place::Tor { rack: 0, tor: 1 });
        assert!(switch.contains("addr add 10.69.0.65/26 dev boot-0\n"), "{switch}");
        assert!(
            switch.contains("link set spine2 up\n") && !switch.contains("link set boot-0 up"),
            "{switch}"
        );
        let server = set_up(&centre, &topology, Place::BootServer(0));
        assert_eq!(server, "link set lo up\n");
    }

    #[test]
    fn there_is_a_way_from_the_internet_and_from_operators() {
        let centre = centre();
        let topology = Topology::of(&centre.addresses);
        let internet = set_up(&centre, &topology, Place::Internet);
        assert!(internet.contains("addr add 198.18.0.10/32 dev lo\n"), "{internet}");
        assert!(internet.contains("route add default via 10.0.0.2\n"), "{internet}");
        let operation = set_up(&centre, &topology, Place::Operation);
        assert!(operation.contains("route add default via 10.72.4.1\n"), "{operation}");
    }
}
