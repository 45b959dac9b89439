//! Identities that are functions of other data.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{Lrn, NecoVersion, Timestamp};

/// The identity of a request: the first 16 hex digits of SHA-256 over version, time and servers.
///
/// It is computed, not stored, so that a request which the original wrote, or rewrote to stop it, has the same one.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// The identity of a request for `version` by `servers`, started at `started_at`.
    ///
    /// Hashed is `version LF time LF servers`: the time in UTC with nine fraction digits, the servers ascending as
    /// numbers, decimal, joined by commas, without a final line feed.
    pub fn of(version: &NecoVersion, started_at: Timestamp, servers: &[Lrn]) -> Self {
        let mut sorted = servers.to_vec();
        sorted.sort_unstable();
        let mut text = format!("{version}\n{}\n", started_at.fixed());
        for (at, lrn) in sorted.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Writing to a text does not fail.
            let _ = write!(text, "{comma}{}", lrn.get());
        }
        Self(hex(&Sha256::digest(text)[..8]))
    }

    /// The identity that a stored text claims to be; compare it with a computed one before trusting it.
    pub fn claimed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The 16 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// The digest of everything that decides what a step does: recipe, components, templates.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct RecipeDigest(pub String);

impl std::fmt::Display for RecipeDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// Called for every decision, so without the detour over a formatter.
fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_one_of_the_design() {
        let version = "2026.11.21-40152".parse().expect("a version");
        let started_at = "2026-11-21T08:00:00.000000000Z".parse().expect("a time");
        let servers = [Lrn::new(2), Lrn::new(0), Lrn::new(1)];
        assert_eq!(RequestId::of(&version, started_at, &servers).as_str(), "43eef0a3d1a72173");
    }
}
