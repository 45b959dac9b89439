//! Logical rack numbers: the identity of a boot server.

use serde::{Deserialize, Serialize};

/// The logical rack number of a boot server: an integer from 0 to 4294967295, ordered as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lrn(u32);

/// A text that is no logical rack number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a logical rack number (a decimal integer from 0 to 4294967295 without padding)"
)]
pub struct LrnError {
    text: String,
}

impl Lrn {
    /// The logical rack number `number`.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Lrn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Lrn {
    type Err = LrnError;

    /// Accepts decimal digits without sign or padding, as they stand in keys.
    fn from_str(text: &str) -> Result<Self, LrnError> {
        let plain = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        match text.parse() {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(LrnError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_plain_decimal_numbers_only() {
        assert_eq!("10".parse(), Ok(Lrn::new(10)));
        assert_eq!("0".parse(), Ok(Lrn::new(0)));
        for bad in ["", "-1", "+1", "01", "a", "1 ", "4294967296"] {
            assert!(bad.parse::<Lrn>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn order_is_numeric() {
        assert!(Lrn::new(2) < Lrn::new(10));
    }
}
