//! Which network spaces there are, and the cables between them.
//!
//! Internet, core and operators are one each; two top-of-rack switches serve a rack, and every spine is cabled to every
//! switch. An interface is called by what is at the other end of its cable, so that commands that break one read well; those
//! of boot servers are called `node1` and `node2`, as on real ones.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::address::{Addresses, Pair, SUBNET_PREFIX, Subnet};

/// What a network space is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Everything beyond the data centre; there is no way further.
    Internet,
    /// Where operators sit.
    Operation,
    /// The border of the data centre.
    Core,
    /// One of the spines, from 1.
    Spine(u32),
    /// A top-of-rack switch.
    Tor {
        /// Whose, from 0.
        rack: u32,
        /// 1 or 2.
        tor: u32,
    },
    /// The boot server of a rack, from 0.
    BootServer(u32),
}

impl Place {
    /// The name of the space: at most 15 characters, as it names interfaces, too (`IFNAMSIZ`, netdevice(7)).
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Internet => "internet".to_owned(),
            Self::Operation => "operation".to_owned(),
            Self::Core => "core".to_owned(),
            Self::Spine(number) => format!("spine{number}"),
            Self::Tor { rack, tor } => format!("rack{rack}-tor{tor}"),
            Self::BootServer(rack) => format!("boot-{rack}"),
        }
    }

    /// Whether it forwards packets for others and runs a routing daemon outside of any machine.
    #[must_use]
    pub fn is_router(self) -> bool {
        matches!(self, Self::Core | Self::Spine(_) | Self::Tor { .. })
    }
}

/// One end of a cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where.
    pub place: Place,
    /// The interface.
    pub interface: String,
    /// Its address; nothing where the machine itself sets it.
    pub address: Option<Ipv4Net>,
}

/// A cable: what goes in at one end comes out at the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cable {
    /// The end nearer to the core.
    pub upper: End,
    /// The other.
    pub lower: End,
}

/// All places and cables of a data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// In the order in which they are made.
    pub places: Vec<Place>,
    /// In the order in which they are made.
    pub cables: Vec<Cable>,
}

impl Topology {
    /// The leaf-spine network of a data centre.
    #[must_use]
    pub fn of(plan: &Addresses) -> Self {
        let spines = 1..=plan.spines;
        let racks = 0..plan.racks;
        let tors: Vec<(u32, u32)> = racks.clone().flat_map(|rack| [(rack, 1), (rack, 2)]).collect();
        let places = [Place::Internet, Place::Operation, Place::Core]
            .into_iter()
            .chain(spines.clone().map(Place::Spine))
            .chain(tors.iter().map(|&(rack, tor)| Place::Tor { rack, tor }))
            .chain(racks.map(Place::BootServer))
            .collect();

        let mut cables = vec![
            cable(
                Place::Internet,
                Place::Core,
                plan.core_internet(),
                plan.pools.core_internet.prefix_len(),
            ),
            cable(
                Place::Core,
                Place::Operation,
                plan.core_operation(),
                plan.pools.core_operation.prefix_len(),
            ),
        ];
        cables.extend(
            spines
                .clone()
                .map(|spine| cable(Place::Core, Place::Spine(spine), plan.core_spine(spine), 31)),
        );
        for spine in spines {
            cables.extend(tors.iter().map(|&(rack, tor)| {
                let switch = Place::Tor { rack, tor };
                cable(Place::Spine(spine), switch, plan.spine_tor(spine, rack, tor), 31)
            }));
        }
        cables.extend(tors.iter().map(|&(rack, tor)| {
            let (switch, server) = (Place::Tor { rack, tor }, Place::BootServer(rack));
            let gateway = with_prefix(plan.gateway(rack, tor), SUBNET_PREFIX);
            Cable {
                upper: End { place: switch, interface: server.name(), address: Some(gateway) },
                lower: End {
                    place: server,
                    interface: Subnet::towards(tor).name().to_owned(),
                    address: None,
                },
            }
        }));
        Self { places, cables }
    }

    /// The cable between two places, whichever is named first.
    #[must_use]
    pub fn between(&self, one: &str, other: &str) -> Option<&Cable> {
        self.cables.iter().find(|cable| {
            let (upper, lower) = (cable.upper.place.name(), cable.lower.place.name());
            (upper == one && lower == other) || (upper == other && lower == one)
        })
    }

    /// The ends of all cables of a place that are elsewhere.
    pub fn other_ends(&self, place: Place) -> impl Iterator<Item = &End> {
        self.cables.iter().filter_map(move |cable| match (&cable.upper, &cable.lower) {
            (here, there) | (there, here) if here.place == place => Some(there),
            _ => None,
        })
    }
}

fn cable(upper: Place, lower: Place, pair: Pair, prefix: u8) -> Cable {
    Cable {
        upper: End {
            place: upper,
            interface: lower.name(),
            address: Some(with_prefix(pair.upper, prefix)),
        },
        lower: End {
            place: lower,
            interface: upper.name(),
            address: Some(with_prefix(pair.lower, prefix)),
        },
    }
}

fn with_prefix(address: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new(address, prefix).unwrap_or_else(|_| unreachable!("{prefix} is at most 32"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::address::tests::addresses;

    #[test]
    fn every_rack_hangs_on_two_switches_and_every_switch_on_all_spines() {
        let topology = Topology::of(&addresses(3));
        // internet, operation, core, 2 spines, 6 switches, 3 boot servers
        assert_eq!(topology.places.len(), 14);
        // internet, operation, 2 to the spines, 12 to the switches, 6 to the boot servers
        assert_eq!(topology.cables.len(), 22);
        for rack in 0..3 {
            let ends = topology.other_ends(Place::BootServer(rack));
            let names: Vec<_> = ends.map(|end| end.place.name()).collect();
            assert_eq!(names, [format!("rack{rack}-tor1"), format!("rack{rack}-tor2")]);
        }
        assert_eq!(topology.other_ends(Place::Tor { rack: 1, tor: 2 }).count(), 3);
        assert_eq!(topology.other_ends(Place::Core).count(), 4);
    }

    #[test]
    fn no_address_and_no_interface_is_there_twice_and_names_fit() {
        let topology = Topology::of(&addresses(5));
        let ends = || topology.cables.iter().flat_map(|cable| [&cable.upper, &cable.lower]);
        let addresses: Vec<_> =
            ends().filter_map(|end| end.address).map(|net| net.addr()).collect();
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
        let interfaces: BTreeSet<_> = ends().map(|end| (end.place, &end.interface)).collect();
        assert_eq!(interfaces.len(), 2 * topology.cables.len());
        assert!(ends().all(|end| end.interface.len() <= 15), "longer than IFNAMSIZ");
    }

    #[test]
    fn a_cable_is_found_by_its_ends_in_any_order() {
        let topology = Topology::of(&addresses(3));
        let cable = topology.between("boot-1", "rack1-tor2").unwrap();
        assert_eq!(
            (cable.upper.interface.as_str(), cable.lower.interface.as_str()),
            ("boot-1", "node2")
        );
        assert_eq!(cable.upper.address.unwrap().to_string(), "10.69.1.65/26");
        assert_eq!(topology.between("rack1-tor2", "boot-1"), Some(cable));
        assert_eq!(topology.between("boot-1", "rack0-tor1"), None);
    }
}
