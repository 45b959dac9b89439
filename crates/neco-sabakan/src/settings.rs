//! What can be set in sabakan (external-apis §1.3).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::name::NameError;
use crate::wire::null_as_default;

/// How addresses are given to machines (external-apis §1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IpamConfig {
    /// How many machines there may be in a rack, the boot server not counted.
    pub max_nodes_in_rack: u32,
    /// Where node addresses are taken from.
    #[serde(rename = "node-ipv4-pool")]
    pub node_ipv4_pool: Ipv4Net,
    /// Where in the pool they begin.
    #[serde(
        rename = "node-ipv4-offset",
        default,
        with = "crate::wire::address",
        skip_serializing_if = "Option::is_none"
    )]
    pub node_ipv4_offset: Option<Ipv4Addr>,
    /// How many bits of addresses a range has.
    #[serde(rename = "node-ipv4-range-size")]
    pub node_ipv4_range_size: u32,
    /// The length of the mask of a range.
    #[serde(rename = "node-ipv4-range-mask")]
    pub node_ipv4_range_mask: u32,
    /// How many addresses each machine has.
    pub node_ip_per_node: u32,
    /// The index of the boot server in its rack.
    pub node_index_offset: u32,
    /// The gateway of a range, counted from its beginning.
    pub node_gateway_offset: u32,
    /// Where addresses of management controllers are taken from.
    #[serde(rename = "bmc-ipv4-pool")]
    pub bmc_ipv4_pool: Ipv4Net,
    /// Where in the pool they begin.
    #[serde(
        rename = "bmc-ipv4-offset",
        default,
        with = "crate::wire::address",
        skip_serializing_if = "Option::is_none"
    )]
    pub bmc_ipv4_offset: Option<Ipv4Addr>,
    /// How many bits of addresses a range has.
    #[serde(rename = "bmc-ipv4-range-size")]
    pub bmc_ipv4_range_size: u32,
    /// The length of the mask of a range.
    #[serde(rename = "bmc-ipv4-range-mask")]
    pub bmc_ipv4_range_mask: u32,
    /// The gateway of a range, counted from its beginning.
    #[serde(rename = "bmc-ipv4-gateway-offset")]
    pub bmc_ipv4_gateway_offset: u32,
}

/// How machines learn their addresses at boot (external-apis §1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DhcpConfig {
    /// For how many minutes; 0 means 60.
    #[serde(default)]
    pub lease_minutes: u32,
    /// The servers of names.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<Ipv4Addr>,
    /// Not used by sabakan any more, and kept.
    #[serde(default)]
    pub gateway_offset: u32,
}

/// What machines boot their kernel with (external-apis §1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelParams(String);

impl KernelParams {
    const MAX: usize = 4096;

    /// Checks parameters: at most 4096 printable characters of ASCII.
    ///
    /// # Errors
    /// They are more, or hold something else.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let fits =
            text.len() <= Self::MAX && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if fits {
            Ok(Self(text))
        } else {
            let rule = "they are at most 4096 printable characters of ASCII";
            Err(NameError::of("list of kernel parameters", rule, text))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dhcp_file_of_the_package_is_understood() {
        let shipped = include_str!("../../../debian/usr/share/neco/dhcp.json");
        let config: DhcpConfig = serde_json::from_str(shipped).expect("a configuration");
        let expected = DhcpConfig { lease_minutes: 60, gateway_offset: 1, dns_servers: vec![] };
        assert_eq!(config, expected);
        let null: DhcpConfig = serde_json::from_str(r#"{"dns-servers":null}"#).expect("read");
        assert_eq!(null, DhcpConfig::default());
    }

    #[test]
    fn offsets_that_are_not_given_are_none() {
        let text = r#"{"max-nodes-in-rack":28,"node-ipv4-pool":"10.69.0.0/16","node-ipv4-offset":"",
            "node-ipv4-range-size":6,"node-ipv4-range-mask":26,"node-ip-per-node":3,"node-index-offset":3,
            "node-gateway-offset":1,"bmc-ipv4-pool":"10.72.17.0/20","bmc-ipv4-offset":"0.0.1.0",
            "bmc-ipv4-range-size":5,"bmc-ipv4-range-mask":20,"bmc-ipv4-gateway-offset":1}"#;
        let config: IpamConfig = serde_json::from_str(text).expect("a configuration");
        assert_eq!(config.node_ipv4_offset, None);
        assert_eq!(config.bmc_ipv4_offset, Some(Ipv4Addr::new(0, 0, 1, 0)));
        let written = serde_json::to_value(&config).expect("JSON");
        assert_eq!(written.get("node-ipv4-offset"), None);
        assert_eq!(written["bmc-ipv4-offset"], "0.0.1.0");
        assert_eq!(written["max-nodes-in-rack"], 28);
    }

    #[test]
    fn kernel_parameters_are_one_printable_line() {
        assert!(KernelParams::new("console=ttyS0 quiet").is_ok());
        for bad in ["a\nb", "ä", &"x".repeat(4097)] {
            assert!(KernelParams::new(bad).is_err(), "{bad}");
        }
    }
}
