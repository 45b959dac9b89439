//! Digests as text.

use sha2::{Digest as _, Sha256};

/// SHA-256 (FIPS 180-4) in 64 lower-case hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
