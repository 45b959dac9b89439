//! What goes over the wire (external-apis §3.3).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Member, Status};

/// What stands before each request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RequestHeader {
    pub(crate) command: String,
    pub(crate) seq: u64,
}

/// What stands before each answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ResponseHeader {
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) error: Text,
}

/// The body of `handshake`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Handshake {
    pub(crate) version: i32,
}

/// The body of `auth`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Auth {
    pub(crate) auth_key: String,
}

/// The body of `tags`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tags {
    #[serde(default, deserialize_with = "nil_as_default")]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nil_as_default")]
    pub(crate) delete_tags: Vec<String>,
}

/// The body of the answer to `members`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Members {
    #[serde(default, deserialize_with = "nil_as_default")]
    pub(crate) members: Vec<WireMember>,
}

/// A member on the wire. Versions of protocols are passed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WireMember {
    pub(crate) name: Text,
    #[serde(default, deserialize_with = "nil_as_default")]
    pub(crate) addr: Bytes,
    #[serde(default)]
    pub(crate) port: u16,
    #[serde(default, deserialize_with = "nil_as_default")]
    pub(crate) tags: BTreeMap<Text, Text>,
    pub(crate) status: Text,
}

/// Bytes, which an old serf writes as a text and a new one as binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// A text, whatever bytes are in it: one odd tag must not hide all the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(pub(crate) String);

impl From<WireMember> for Member {
    fn from(WireMember { name, addr, port, tags, status }: WireMember) -> Self {
        Self {
            name: name.0,
            address: address(&addr.0),
            port,
            tags: tags.into_iter().map(|(name, value)| (name.0, value.0)).collect(),
            status: Status::from(status.0),
        }
    }
}

/// 4 bytes, or 16, which may stand for 4.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
}

fn nil_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

struct AsBytes;

impl Visitor<'_> for AsBytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsBytes).map(Self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_any(AsBytes)?;
        Ok(Self(
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member as it comes: `addr` and the tag's value already encoded.
    fn member(addr: &[u8], value: &[u8]) -> Member {
        let mut bytes = vec![0x85, 0xa4];
        bytes.extend(b"Name\xa2b0\xa4Addr");
        bytes.extend(addr);
        bytes.extend(b"\xa4Tags\x81\xa1t");
        bytes.extend(value);
        bytes.extend(b"\xa6Status\xa5alive\xabProtocolMax\x05");
        let wire: WireMember = rmp_serde::from_slice(&bytes).expect("a member");
        wire.into()
    }

    #[test]
    fn an_address_is_text_or_binary_of_either_length() {
        let v4 = [10, 69, 0, 195];
        let mut mapped = vec![0; 10];
        mapped.extend([0xff, 0xff]);
        mapped.extend(v4);
        let wrapped = |head: &[u8], bytes: &[u8]| [head, bytes].concat();
        for addr in [
            wrapped(&[0xa4], &v4),
            wrapped(&[0xc4, 4], &v4),
            wrapped(&[0xb0], &mapped),
            wrapped(&[0xc4, 16], &mapped),
        ] {
            assert_eq!(member(&addr, b"\xa1v").address, Some(v4.into()), "{addr:?}");
        }
        for none in [&[0xc0][..], &[0xa0], &[0xa1, 7], &[0xc4, 3, 1, 2, 3]] {
            assert_eq!(member(none, b"\xa1v").address, None, "{none:?}");
        }
    }

    #[test]
    fn a_tag_that_is_no_text_hides_nobody() {
        let odd = member(&[0xc0], b"\xa2\xff!");
        assert_eq!(odd.tag("t"), Some("\u{fffd}!"));
        assert_eq!((odd.name.as_str(), odd.status), ("b0", Status::Alive));
        // A long value: raw 16 of the old form, str 8 of the new one.
        let text = "x".repeat(200);
        let long = |head: &[u8]| member(&[0xc0], &[head, text.as_bytes()].concat());
        assert_eq!(long(&[0xda, 0, 200]).tag("t"), Some(text.as_str()));
        assert_eq!(long(&[0xd9, 200]).tag("t"), Some(text.as_str()));
    }
}
