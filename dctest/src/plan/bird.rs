//! What the routing daemons are told: the configuration of BIRD 2 (bird.network.cz, user's guide) for each router and server.
//!
//! The core offers a way out, spines pass everything on, the switches of a rack reflect what its server announces, and a
//! server announces the addresses that it is known by. Equal paths are used side by side.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::address::{Addresses, Subnet};
use super::topology::Place;

/// How quickly routing notices and recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between the start of a session and its first try.
    pub connect_delay: Duration,
    /// Between tries.
    pub connect_retry: Duration,
    /// A neighbour that is not heard of so long is gone.
    pub hold: Duration,
    /// How often a neighbour is told of.
    pub keepalive: Duration,
    /// How a silent cable is noticed sooner; off if absent.
    pub bfd: Option<Bfd>,
}

/// Bidirectional forwarding detection (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Between two packets.
    pub interval: Duration,
    /// So many lost ones in a row are a broken cable.
    pub multiplier: u32,
}

/// One router, as far as its daemon has to know.
struct Router {
    id: Ipv4Addr,
    system: u32,
    /// Protocols of its own beside the sessions.
    sources: String,
    /// With which attributes its packets leave it.
    preferred_source: Option<Ipv4Addr>,
    /// What it passes on to the neighbours of a kind.
    kinds: Vec<Kind>,
    sessions: Vec<Session>,
}

/// Neighbours that are treated alike.
struct Kind {
    name: &'static str,
    options: &'static str,
    /// The filter of what they are told.
    export: &'static str,
}

struct Session {
    neighbour: Place,
    address: Ipv4Addr,
    system: u32,
    kind: &'static str,
}

/// What routers tell one another.
const LEARNT: &str = "source = RTS_BGP";
const SPINES: &str = "spines_and_switches";
const MEMBERS: &str = "members";

/// The configuration of the BIRD at `place`; nothing where none runs. `base` is the number that autonomous systems are
/// counted from.
#[must_use]
pub fn configuration(plan: &Addresses, base: u32, timers: &Timers, place: Place) -> Option<String> {
    router(plan, Systems { base }, place).map(|router| router.written(timers))
}

fn router(plan: &Addresses, systems: Systems, place: Place) -> Option<Router> {
    let racks = 0..plan.racks;
    let spines = 1..=plan.spines;
    let fabric = |export| vec![Kind { name: SPINES, options: "", export }];
    let to = |neighbour, address, system, kind| Session { neighbour, address, system, kind };
    Some(match place {
        Place::Internet | Place::Operation => return None,
        Place::Core => Router {
            id: plan.core_operation().upper,
            system: systems.core(),
            sources: format!(
                "protocol static {{\n    ipv4;\n    route 0.0.0.0/0 via {};\n}}\n",
                plan.core_internet().upper
            ),
            preferred_source: None,
            kinds: fabric("source = RTS_STATIC"),
            sessions: spines
                .map(|n| to(Place::Spine(n), plan.core_spine(n).lower, systems.spine(), SPINES))
                .collect(),
        },
        Place::Spine(spine) => {
            let core = to(Place::Core, plan.core_spine(spine).upper, systems.core(), SPINES);
            let switches =
                racks.flat_map(|rack| [1, 2].map(|tor| (rack, tor))).map(|(rack, tor)| {
                    let pair = plan.spine_tor(spine, rack, tor);
                    to(Place::Tor { rack, tor }, pair.lower, systems.rack(rack), SPINES)
                });
            Router {
                id: plan.core_spine(spine).lower,
                system: systems.spine(),
                sources: String::new(),
                preferred_source: None,
                kinds: fabric(LEARNT),
                sessions: std::iter::once(core).chain(switches).collect(),
            }
        }
        Place::Tor { rack, tor } => {
            let system = systems.rack(rack);
            let member = plan.boot_server(rack, Subnet::towards(tor));
            let mut kinds = fabric(LEARNT);
            // What the switch itself is connected to is no member's business.
            let options = "    direct;\n    rr client;\n    passive;\n";
            kinds.push(Kind { name: MEMBERS, options, export: LEARNT });
            let upwards = spines.map(|n| {
                to(Place::Spine(n), plan.spine_tor(n, rack, tor).upper, systems.spine(), SPINES)
            });
            let member = to(Place::BootServer(rack), member, system, MEMBERS);
            Router {
                id: plan.gateway(rack, tor),
                system,
                sources: String::new(),
                preferred_source: None,
                kinds,
                sessions: upwards.chain([member]).collect(),
            }
        }
        Place::BootServer(rack) => {
            let system = systems.rack(rack);
            let switch =
                |tor| to(Place::Tor { rack, tor }, plan.gateway(rack, tor), system, SPINES);
            let own = plan.boot_server(rack, Subnet::Node0);
            Router {
                id: own,
                system,
                sources: "protocol direct {\n    ipv4;\n    interface \"node0\", \"bastion\";\n}\n"
                    .to_owned(),
                preferred_source: Some(own),
                kinds: vec![Kind {
                    name: SPINES,
                    options: "    direct;\n",
                    export: "source = RTS_DEVICE",
                }],
                sessions: [1, 2].map(switch).into(),
            }
        }
    })
}

impl Router {
    fn written(&self, timers: &Timers) -> String {
        let mut text = format!(
            "log stderr all;\nrouter id {};\n\nprotocol device {{\n    scan time 10;\n}}\n",
            self.id
        );
        if let Some(bfd) = &timers.bfd {
            let (interval, multiplier) = (bfd.interval.as_millis(), bfd.multiplier);
            let _ = write!(
                text,
                "\nprotocol bfd {{\n    interface \"*\" {{\n        min rx interval {interval} ms;\n        \
                 min tx interval {interval} ms;\n        multiplier {multiplier};\n    }};\n}}\n"
            );
        }
        let source =
            self.preferred_source.map(|source| format!("            krt_prefsrc = {source};\n"));
        let _ = write!(
            text,
            "\nprotocol kernel {{\n    merge paths on;\n    ipv4 {{\n        export filter {{\n            \
             if source = RTS_DEVICE then reject;\n{}            accept;\n        }};\n    }};\n}}\n",
            source.unwrap_or_default()
        );
        if !self.sources.is_empty() {
            let _ = write!(text, "\n{}", self.sources);
        }
        for kind in &self.kinds {
            let _ = write!(
                text,
                "\ntemplate bgp {} {{\n    local as {};\n{}    connect delay time {};\n    connect retry time {};\n    \
                 error wait time 1,4;\n    hold time {};\n    keepalive time {};\n    check link on;\n    bfd {};\n    \
                 ipv4 {{\n        import all;\n        export where {};\n        next hop self;\n    }};\n}}\n",
                kind.name,
                self.system,
                kind.options,
                timers.connect_delay.as_secs(),
                timers.connect_retry.as_secs(),
                timers.hold.as_secs(),
                timers.keepalive.as_secs(),
                if timers.bfd.is_some() { "on" } else { "off" },
                kind.export,
            );
        }
        for Session { neighbour, address, system, kind } in &self.sessions {
            // A name with a dash is quoted.
            let name = neighbour.name();
            let _ = write!(
                text,
                "\nprotocol bgp '{name}' from {kind} {{\n    neighbor {address} as {system};\n}}\n"
            );
        }
        text
    }
}

/// The numbers of autonomous systems (RFC 4271), counted from a base as the original does.
#[derive(Clone, Copy, Debug)]
struct Systems {
    base: u32,
}

impl Systems {
    fn core(self) -> u32 {
        self.base - 3
    }

    fn spine(self) -> u32 {
        self.base - 1
    }

    fn rack(self, rack: u32) -> u32 {
        self.base + rack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::address::tests::addresses;

    fn timers() -> Timers {
        let [connect_delay, connect_retry, hold, keepalive] = [1, 3, 9, 3].map(Duration::from_secs);
        let bfd = Some(Bfd { interval: Duration::from_millis(100), multiplier: 3 });
        Timers { connect_delay, connect_retry, hold, keepalive, bfd }
    }

    fn told(place: Place) -> String {
        configuration(&addresses(3), 64_600, &timers(), place).unwrap()
    }

    fn sessions(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.trim().strip_prefix("neighbor ")).collect()
    }

    #[test]
    fn sessions_are_those_of_the_reference_menu() {
        assert_eq!(sessions(&told(Place::Core)), ["10.72.2.1 as 64599;", "10.72.2.3 as 64599;"]);
        let spine = told(Place::Spine(1));
        assert_eq!(sessions(&spine).len(), 7);
        assert_eq!(sessions(&spine)[..2], ["10.72.2.0 as 64597;", "10.72.1.1 as 64600;"]);
        assert!(spine.contains("local as 64599;"));
        let switch = told(Place::Tor { rack: 1, tor: 2 });
        assert_eq!(
            sessions(&switch),
            ["10.72.1.6 as 64599;", "10.72.1.18 as 64599;", "10.69.1.67 as 64601;"]
        );
        let server = told(Place::BootServer(1));
        assert_eq!(sessions(&server), ["10.69.1.1 as 64601;", "10.69.1.65 as 64601;"]);
    }

    #[test]
    fn a_server_announces_its_own_addresses_and_leaves_by_node0() {
        let server = told(Place::BootServer(2));
        assert!(server.contains("interface \"node0\", \"bastion\";"), "{server}");
        assert!(server.contains("export where source = RTS_DEVICE;"), "{server}");
        assert!(server.contains("krt_prefsrc = 10.69.1.131;"), "{server}");
        assert!(!told(Place::Spine(1)).contains("krt_prefsrc"));
    }

    #[test]
    fn nothing_asks_for_detection_where_it_is_off() {
        let slow = Timers { bfd: None, ..timers() };
        let text = configuration(&addresses(3), 64_600, &slow, Place::Core).unwrap();
        assert!(!text.contains("protocol bfd") && text.contains("    bfd off;"), "{text}");
        assert!(told(Place::Core).contains("protocol bfd {"));
    }

    #[test]
    fn a_template_stands_before_its_sessions() {
        let switch = told(Place::Tor { rack: 0, tor: 1 });
        for kind in [SPINES, MEMBERS] {
            let defined = switch.find(&format!("template bgp {kind}")).unwrap();
            let used = switch.find(&format!("from {kind}")).unwrap();
            assert!(defined < used, "{switch}");
        }
    }

    #[test]
    fn where_no_router_is_none_is_told_anything() {
        for place in [Place::Internet, Place::Operation] {
            assert_eq!(configuration(&addresses(3), 64_600, &timers(), place), None);
        }
    }
}
