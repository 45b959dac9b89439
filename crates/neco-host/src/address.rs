//! The address plan: everything about a boot server that follows from its logical rack number.

use std::net::Ipv4Addr;

use neco_schema::Lrn;

/// Where the plan begins.
const BASE: u32 = u32::from_be_bytes([10, 69, 0, 0]);
/// Addresses of one rack.
const PER_RACK: u32 = 192;
/// The boot server's own address within its rack.
const NODE0_OFFSET: u32 = 3;
/// The last address of the private network the plan lies in.
const LAST: u32 = u32::from_be_bytes([10, 255, 255, 255]);

/// A logical rack number without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "rack {lrn} has no address: the plan 10.69.0.0 + 192 * LRN + 3 ends at 10.255.255.255 (LRN {}); \
     check /etc/neco/rack and the registered boot servers",
    (LAST - BASE - NODE0_OFFSET) / PER_RACK
)]
pub struct AddressError {
    /// The number.
    pub lrn: Lrn,
}

/// The boot server's own address: 10.69.0.0 + 192 × LRN + 3.
pub fn node0(lrn: Lrn) -> Result<Ipv4Addr, AddressError> {
    lrn.get()
        .checked_mul(PER_RACK)
        .and_then(|offset| offset.checked_add(BASE + NODE0_OFFSET))
        .filter(|&address| address <= LAST)
        .map(Ipv4Addr::from)
        .ok_or(AddressError { lrn })
}

/// Where the boot server's etcd member answers clients.
pub fn etcd_endpoint(lrn: Lrn) -> Result<String, AddressError> {
    node0(lrn).map(|address| format!("https://{address}:2379"))
}

/// Where the etcd members of these boot servers answer clients, in the given order.
pub fn etcd_endpoints(lrns: &[Lrn]) -> Result<Vec<String>, AddressError> {
    lrns.iter().map(|&lrn| etcd_endpoint(lrn)).collect()
}

/// Where the boot server's etcd member answers other members.
pub fn etcd_peer_url(lrn: Lrn) -> Result<String, AddressError> {
    node0(lrn).map(|address| format!("https://{address}:2380"))
}

/// The name of the boot server's etcd member.
pub fn etcd_member_name(lrn: Lrn) -> String {
    format!("boot-{lrn}")
}

#[cfg(test)]
mod tests {
    use super::*;

    // reference/neco-cd-core.md §2.6, row "node0 address".
    #[test]
    fn the_first_address_follows_from_the_rack_number() {
        for (lrn, want) in [
            (0, [10, 69, 0, 3]),
            (1, [10, 69, 0, 195]),
            (2, [10, 69, 1, 131]),
            (3, [10, 69, 2, 67]),
        ] {
            assert_eq!(node0(Lrn::new(lrn)), Ok(Ipv4Addr::from(want)), "LRN {lrn}");
        }
    }

    #[test]
    fn a_rack_beyond_the_plan_has_no_address() {
        let last = (LAST - BASE - NODE0_OFFSET) / PER_RACK;
        assert_eq!(node0(Lrn::new(last)), Ok(Ipv4Addr::from([10, 255, 255, 195])));
        for lrn in [last + 1, u32::MAX / PER_RACK, u32::MAX / PER_RACK + 1, u32::MAX] {
            assert_eq!(node0(Lrn::new(lrn)), Err(AddressError { lrn: Lrn::new(lrn) }));
        }
        let text = AddressError { lrn: Lrn::new(u32::MAX) }.to_string();
        assert!(text.contains("4294967295") && text.contains("/etc/neco/rack"), "{text}");
    }

    #[test]
    fn etcd_is_found_by_rack_numbers_in_the_given_order() {
        let lrns = [2, 0, 1].map(Lrn::new);
        assert_eq!(
            etcd_endpoints(&lrns).expect("small numbers"),
            ["https://10.69.1.131:2379", "https://10.69.0.3:2379", "https://10.69.0.195:2379"]
        );
        assert_eq!(etcd_peer_url(Lrn::new(1)).as_deref(), Ok("https://10.69.0.195:2380"));
        assert_eq!(etcd_member_name(Lrn::new(1)), "boot-1");
        assert!(etcd_endpoints(&[Lrn::new(0), Lrn::new(u32::MAX)]).is_err());
    }
}
