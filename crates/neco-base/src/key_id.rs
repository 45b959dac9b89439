//! The name of a minisign key.

use std::fmt;
use std::str::FromStr;

/// The id of a key, as `minisign` prints it, but with its leading zeros: 16 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// The id as it stands in keys and signatures, the lowest byte first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// A text that is no key id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key id (16 hex digits; put zeros in front where minisign prints fewer)")]
pub struct KeyIdError(String);

impl FromStr for KeyId {
    type Err = KeyIdError;

    /// Takes both cases, and exactly 16 digits: one that was lost in copying would name another key.
    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = u64::from_str_radix(text, 16).ok().filter(|_| hex);
        id.map(Self).ok_or_else(|| KeyIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_in_both_cases_and_printed_in_one() {
        let id = KeyId::from_bytes([0x0a, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(id.to_string(), "000000000000000A");
        assert_eq!("000000000000000a".parse(), Ok(id));
        assert_eq!("000000000000000A".parse(), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused_with_a_remedy() {
        for bad in ["", "E7620F1842B4E81", "+7620F1842B4E81F", "E7620F1842B4E81FF", "xyz"] {
            let error = bad.parse::<KeyId>().expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("16 hex"), "{error}");
        }
    }
}
