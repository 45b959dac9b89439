//! Where everything is: the address plan of a data centre, as arithmetic on one base.
//!
//! The formulas are those of the original's boot servers, which compute `node0` from the rack number alone.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Addresses that one subnet of a rack has; its prefix length is [`SUBNET_PREFIX`].
const SUBNET: u32 = 64;

/// The prefix length of the three subnets of a rack.
pub const SUBNET_PREFIX: u8 = 26;

/// Subnets of a rack: `node0`, `node1`, `node2`.
const SUBNETS: u32 = 3;

/// The place of the top-of-rack switch in `node1` and `node2`.
const GATEWAY: u32 = 1;

/// The place of a boot server in each of the three subnets.
const BOOT_SERVER: u32 = 3;

/// The pools that addresses are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// The subnets of all racks, one after the other.
    pub node: Ipv4Net,
    /// Pairs of addresses between spines and top-of-rack switches.
    pub spine_tor: Ipv4Net,
    /// Pairs of addresses between the core and the spines.
    pub core_spine: Ipv4Net,
    /// The core and the operators.
    pub core_operation: Ipv4Net,
    /// One address for each rack, by which operators know its boot server.
    pub bastion: Ipv4Net,
    /// The core and its way out.
    pub core_internet: Ipv4Net,
    /// Hosts of the internet.
    pub internet: Ipv4Net,
}

impl Pools {
    /// Each with its key in a description.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Ipv4Net); 7] {
        [
            ("node", self.node),
            ("spine-tor", self.spine_tor),
            ("core-spine", self.core_spine),
            ("core-operation", self.core_operation),
            ("bastion", self.bastion),
            ("core-internet", self.core_internet),
            ("internet", self.internet),
        ]
    }
}

/// One of the three subnets of a rack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// The address that a server is known by; on no cable.
    Node0,
    /// Towards the first top-of-rack switch.
    Node1,
    /// Towards the second.
    Node2,
}

impl Subnet {
    /// Towards top-of-rack switch `tor`, 1 or 2.
    #[must_use]
    pub fn towards(tor: u32) -> Self {
        if tor == 1 { Self::Node1 } else { Self::Node2 }
    }

    /// As the interface is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node0 => "node0",
            Self::Node1 => "node1",
            Self::Node2 => "node2",
        }
    }
}

/// Two addresses on one cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The one nearer to the core.
    pub upper: Ipv4Addr,
    /// The other.
    pub lower: Ipv4Addr,
}

/// The addresses of a data centre with a number of racks and spines. [`Addresses::problems`] says what does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where they are taken from.
    pub pools: Pools,
    /// How many racks there are.
    pub racks: u32,
    /// How many spines there are.
    pub spines: u32,
}

/// What a pool has too little of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// The key of the pool in a description.
    pub pool: &'static str,
    /// How many addresses are asked of it.
    pub needed: u64,
    /// How many it has.
    pub has: u64,
}

impl Addresses {
    /// The pools that are too small.
    #[must_use]
    pub fn problems(&self) -> Vec<TooSmall> {
        let (racks, spines) = (u64::from(self.racks), u64::from(self.spines));
        let needed = |pool| match pool {
            "node" => u64::from(SUBNET * SUBNETS) * racks,
            "spine-tor" => 2 * 2 * racks * spines,
            "core-spine" => 2 * spines,
            "bastion" => racks,
            "core-operation" | "core-internet" => 4,
            _ => 1,
        };
        let pools = self.pools.all().into_iter();
        pools
            .map(|(pool, network)| TooSmall { pool, needed: needed(pool), has: size(network) })
            .filter(|pool| pool.has < pool.needed)
            .collect()
    }

    /// The address at `place` of a subnet.
    fn node(&self, rack: u32, subnet: Subnet, place: u32) -> Ipv4Addr {
        let subnet = match subnet {
            Subnet::Node0 => 0,
            Subnet::Node1 => 1,
            Subnet::Node2 => 2,
        };
        of(self.pools.node, SUBNET * (SUBNETS * rack + subnet) + place)
    }

    /// The boot server of a rack, in each of the three subnets.
    #[must_use]
    pub fn boot_server(&self, rack: u32, subnet: Subnet) -> Ipv4Addr {
        self.node(rack, subnet, BOOT_SERVER)
    }

    /// The side of top-of-rack switch `tor` (1 or 2) that its servers see.
    #[must_use]
    pub fn gateway(&self, rack: u32, tor: u32) -> Ipv4Addr {
        self.node(rack, Subnet::towards(tor), GATEWAY)
    }

    /// By which operators know the boot server of a rack.
    #[must_use]
    pub fn bastion(&self, rack: u32) -> Ipv4Addr {
        of(self.pools.bastion, rack)
    }

    /// The cable between spine `spine` (from 1) and top-of-rack switch `tor` (1 or 2) of a rack.
    #[must_use]
    pub fn spine_tor(&self, spine: u32, rack: u32, tor: u32) -> Pair {
        let number = (spine - 1) * 2 * self.racks + 2 * rack + (tor - 1);
        pair(self.pools.spine_tor, 2 * number)
    }

    /// The cable between the core and spine `spine` (from 1).
    #[must_use]
    pub fn core_spine(&self, spine: u32) -> Pair {
        pair(self.pools.core_spine, 2 * (spine - 1))
    }

    /// The cable between the core (upper) and the operators.
    #[must_use]
    pub fn core_operation(&self) -> Pair {
        pair(self.pools.core_operation, 1)
    }

    /// The cable between the internet (upper) and the core.
    #[must_use]
    pub fn core_internet(&self) -> Pair {
        pair(self.pools.core_internet, 1)
    }
}

fn pair(network: Ipv4Net, place: u32) -> Pair {
    Pair { upper: of(network, place), lower: of(network, place + 1) }
}

/// The address at `place` of a pool whose size was checked.
fn of(network: Ipv4Net, place: u32) -> Ipv4Addr {
    assert!(u64::from(place) < size(network), "{network} has no place {place}: problems() tells");
    Ipv4Addr::from(u32::from(network.network()) + place)
}

fn size(network: Ipv4Net) -> u64 {
    1 << (32 - u32::from(network.prefix_len()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn network(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    pub(crate) fn addresses(racks: u32) -> Addresses {
        let pools = Pools {
            node: network("10.69.0.0/20"),
            spine_tor: network("10.72.1.0/24"),
            core_spine: network("10.72.2.0/24"),
            core_operation: network("10.72.4.0/24"),
            bastion: network("10.72.48.0/24"),
            core_internet: network("10.0.0.0/24"),
            internet: network("198.18.0.0/24"),
        };
        Addresses { pools, racks, spines: 2 }
    }

    #[test]
    fn boot_servers_are_where_the_original_computes_them() {
        let plan = addresses(4);
        let of = |rack| {
            [Subnet::Node0, Subnet::Node1, Subnet::Node2]
                .map(|s| plan.boot_server(rack, s).to_string())
        };
        assert_eq!(of(0), ["10.69.0.3", "10.69.0.67", "10.69.0.131"]);
        assert_eq!(of(1), ["10.69.0.195", "10.69.1.3", "10.69.1.67"]);
        assert_eq!(of(2), ["10.69.1.131", "10.69.1.195", "10.69.2.3"]);
        assert_eq!(of(3), ["10.69.2.67", "10.69.2.131", "10.69.2.195"]);
        assert_eq!(
            [1, 2].map(|tor| plan.gateway(0, tor).to_string()),
            ["10.69.0.65", "10.69.0.129"]
        );
        assert_eq!(plan.bastion(1).to_string(), "10.72.48.1");
    }

    #[test]
    fn cables_have_the_addresses_of_the_reference_menu() {
        let plan = addresses(4);
        let pair = |pair: Pair| [pair.upper.to_string(), pair.lower.to_string()];
        assert_eq!(pair(plan.spine_tor(1, 0, 1)), ["10.72.1.0", "10.72.1.1"]);
        assert_eq!(pair(plan.spine_tor(2, 0, 1)), ["10.72.1.16", "10.72.1.17"]);
        assert_eq!(pair(plan.core_spine(2)), ["10.72.2.2", "10.72.2.3"]);
        assert_eq!(pair(plan.core_operation()), ["10.72.4.1", "10.72.4.2"]);
    }

    #[test]
    fn a_pool_that_is_too_small_is_named_with_what_it_needs() {
        let mut plan = addresses(5);
        plan.pools.node = network("10.69.0.0/24");
        assert_eq!(plan.problems(), [TooSmall { pool: "node", needed: 960, has: 256 }]);
        plan.pools.node = network("10.69.0.0/22");
        assert_eq!(plan.problems(), []);
    }
}
