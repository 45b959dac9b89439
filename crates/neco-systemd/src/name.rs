//! Names of units.

use serde::{Deserialize, Serialize};

/// The full name of a unit, such as `vault.service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// A text that is no full name of a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a unit name (write it with its type, such as vault.service)")]
pub struct UnitNameError {
    text: String,
}

impl UnitName {
    const TYPES: [&str; 9] =
        ["service", "timer", "socket", "target", "mount", "path", "slice", "scope", "swap"];

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type, such as `service`.
    pub fn unit_type(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }
}

impl std::str::FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let good = text.len() <= 255
            && text.chars().all(plain)
            && text
                .rsplit_once('.')
                .is_some_and(|(stem, kind)| !stem.is_empty() && Self::TYPES.contains(&kind));
        if good { Ok(Self(text.to_owned())) } else { Err(UnitNameError { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for UnitName {
    type Error = UnitNameError;

    fn try_from(text: String) -> Result<Self, UnitNameError> {
        text.parse()
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl std::fmt::Display for UnitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_stem_and_a_known_type() {
        for good in ["vault.service", "a-b_c.timer", "getty@tty1.service", "dev-\\x2d.swap"] {
            assert_eq!(good.parse::<UnitName>().map(String::from), Ok(good.to_owned()));
        }
        for bad in
            ["", "vault", ".service", "a b.service", "../x.service", "vault.servic", "a/b.service"]
        {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
    }
}
