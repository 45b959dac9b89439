//! Digests as text.

use neco_base::hex;
use sha2::{Digest as _, Sha256};

/// SHA-256 (FIPS 180-4) in 64 lower-case hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
