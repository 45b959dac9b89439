//! SHA-256 over contents and over structures.

use neco_base::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of some content, in hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(String);

impl ContentDigest {
    /// The digest of `content`, as `sha256sum` prints it.
    pub fn of(content: impl AsRef<[u8]>) -> Self {
        Self(hex(&Sha256::digest(content.as_ref())))
    }

    /// A digest that was computed before, such as one from the journal; it equals no other if it is none.
    pub fn claimed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// Hashes a list of parts so that different lists have different digests: each part follows its length.
#[derive(Clone, Default)]
pub(crate) struct Parts(Sha256);

impl Parts {
    /// Begins with `what` is hashed, so that lists of different meaning differ.
    pub(crate) fn new(what: &str) -> Self {
        Self::default().part(what)
    }

    pub(crate) fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    pub(crate) fn digest(self) -> ContentDigest {
        ContentDigest(hex(&self.0.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_digest_is_that_of_sha256sum() {
        assert_eq!(
            ContentDigest::of("abc").as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_matters() {
        let digest = |parts: &[&str]| {
            parts.iter().fold(Parts::new("test"), |sum, part| sum.part(part)).digest()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
    }
}
