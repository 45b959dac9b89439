//! What templates may refer to (neco-daemons §7.4).

use std::net::Ipv4Addr;

use neco_schema::NecoVersion;
use serde_json::{Map, Value};

use crate::AssetName;

/// The values of `Metadata` in the texts of templates (neco-daemons §7.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// What every template may refer to: the version of the request, its boot servers' addresses, and two settings, which are
    /// empty where they are not set.
    pub fn new(
        version: &NecoVersion,
        boot_servers: &[Ipv4Addr],
        proxy_url: Option<&str>,
        external_ip_address_block: Option<&str>,
    ) -> Self {
        let servers: Vec<_> = boot_servers.iter().map(Ipv4Addr::to_string).collect();
        Self::default()
            .with("version", version.to_string())
            .with("boot_servers", servers)
            .with("proxy_url", proxy_url.unwrap_or_default())
            .with("external_ip_address_block", external_ip_address_block.unwrap_or_default())
    }

    /// The same with the key that machines let in. Without one, a template that refers to it cannot be built.
    #[must_use]
    pub fn authorized_key(self, key: &str) -> Self {
        self.with("authorized_key", key)
    }

    /// The same with a container image: `NAME.img` is its asset, `NAME.ref` its full name.
    #[must_use]
    pub fn image(self, name: &str, asset: &AssetName, reference: &str) -> Self {
        self.with(format!("{name}.img"), asset.as_str()).with(format!("{name}.ref"), reference)
    }

    /// The same with a container image of CKE: `cke:NAME.img` and `cke:NAME.ref`.
    #[must_use]
    pub fn cke_image(self, name: &str, asset: &AssetName, reference: &str) -> Self {
        self.image(&format!("cke:{name}"), asset, reference)
    }

    /// The same with another value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Whether there is a value.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// As it is sent.
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

impl From<Map<String, Value>> for Metadata {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_not_set_are_empty_and_a_key_that_is_not_set_is_absent() {
        let version = "2026.11.21-40152".parse().expect("a version");
        let asset = AssetName::of_image("coil", "ghcr.io/cybozu-go/coil", "2.9.0").expect("a name");
        let metadata =
            Metadata::new(&version, &[Ipv4Addr::new(10, 69, 0, 3)], None, Some("10.0.0.0/8"))
                .image("serf", &asset, "ghcr.io/cybozu/serf:1")
                .cke_image("etcd", &asset, "ghcr.io/cybozu/etcd:1");
        assert!(!metadata.contains("authorized_key"));
        assert!(metadata.clone().authorized_key("ssh-ed25519 x").contains("authorized_key"));
        let map = Value::Object(metadata.into_map());
        assert_eq!(map["proxy_url"], "");
        assert_eq!(map["boot_servers"][0], "10.69.0.3");
        assert_eq!(map["cke:etcd.img"], "cybozu-coil-ghcr.io-cybozu-go-coil-2.9.0.img");
        assert_eq!(map["serf.ref"], "ghcr.io/cybozu/serf:1");
        assert_eq!(map["version"], "2026.11.21-40152");
    }
}
