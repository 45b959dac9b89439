//! Names that stand in paths of sabakan's API, checked before anything is sent.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A text that is no name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: {rule}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

impl NameError {
    pub(crate) fn of(kind: &'static str, rule: &'static str, text: String) -> Self {
        Self { text, kind, rule }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $holds:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            /// It is none.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let holds: fn(&str) -> bool = $holds;
                if holds(&text) {
                    Ok(Self(text))
                } else {
                    Err(NameError::of($kind, $rule, text))
                }
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name! {
    /// The serial of a machine (external-apis §1.2).
    Serial, "serial", "it is not empty, and holds neither a slash nor a control character", is_one_segment
}
name! {
    /// The role of a machine, which is also what ignition templates are for (external-apis §1.2, §1.6).
    Role, "role",
    "it has 1 to 63 letters, digits, `_`, `.` and `-`, and begins and ends with a letter or digit", is_label
}
name! {
    /// The id of an OS image (external-apis §1.4).
    ImageId, "id of an OS image", "it holds letters, digits, `.` and `-`",
    |text| is_one_segment(text) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
}
name! {
    /// The name of an asset (external-apis §1.5).
    AssetName, "name of an asset", "it is not empty, and holds neither a slash nor a control character",
    is_one_segment
}
name! {
    /// The id of an ignition template, which is a version (external-apis §1.6). Its order is that of texts; sabakan's
    /// is [`IgnitionId::cmp_version`].
    IgnitionId, "id of an ignition template",
    "it is a version such as `2026.11.21-40152`: numbers with dots, then perhaps `-` and letters, digits, `.` and `-`",
    |text| version(text).is_some()
}

impl AssetName {
    /// The name under which a container image is an asset: `cybozu-NAME-REPOSITORY-TAG.img`, the slashes of `repository`
    /// as dashes. `repository` is the public one, without `-secret` (neco-bootstrap-cli §5.7).
    ///
    /// # Errors
    /// The parts make no name.
    pub fn of_image(name: &str, repository: &str, tag: &str) -> Result<Self, NameError> {
        Self::new(format!("cybozu-{name}-{}-{tag}.img", repository.replace('/', "-")))
    }
}

impl Role {
    /// The role of boot servers.
    pub fn boot() -> Self {
        Self("boot".to_owned())
    }
}

impl IgnitionId {
    /// The order in which sabakan lists ids (external-apis §1.6): by number, and a version with something after the dash
    /// before the one without.
    pub fn cmp_version(&self, other: &Self) -> Ordering {
        match (version(&self.0), version(&other.0)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => self.0.cmp(&other.0),
        }
    }
}

/// Whether this is an alias of nothing when it stands in a path.
fn is_one_segment(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c.is_control())
}

/// Names in the style of Kubernetes labels (external-apis §1.2).
pub(crate) fn is_label(text: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

/// A version as it is compared.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version<'a> {
    /// Without the zeros at the end: `1.0` is `1`.
    numbers: Vec<u64>,
    suffix: Suffix<'a>,
}

/// What comes after the first dash; the variants are in the order of versions.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix<'a> {
    Before(Vec<Part<'a>>),
    None,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64),
    Text(&'a str),
}

fn version(text: &str) -> Option<Version<'_>> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, _build) = match text.split_once('+') {
        Some((_, "")) => return None,
        Some((text, build)) if build.bytes().all(is_suffix_byte) => (text, Some(build)),
        Some(_) => return None,
        None => (text, None),
    };
    let (numbers, suffix) = match text.split_once('-') {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (text, None),
    };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let mut numbers: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
    while numbers.len() > 1 && numbers.last() == Some(&0) {
        numbers.pop();
    }
    let suffix = match suffix {
        Some(suffix) => {
            let parts = suffix.split('.').map(|part| {
                let fits = !part.is_empty() && part.bytes().all(is_suffix_byte);
                fits.then(|| number(part).map_or(Part::Text(part), Part::Number))
            });
            Suffix::Before(parts.collect::<Option<_>>()?)
        }
        None => Suffix::None,
    };
    Some(Version { numbers, suffix })
}

fn is_suffix_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_place_in_a_path_are_none() {
        for bad in ["", ".", "..", "a/b", "a\nb"] {
            assert!(Serial::new(bad).is_err(), "{bad:?}");
            assert!(AssetName::new(bad).is_err(), "{bad:?}");
            assert!(ImageId::new(bad).is_err(), "{bad:?}");
            assert!(Role::new(bad).is_err(), "{bad:?}");
            assert!(IgnitionId::new(bad).is_err(), "{bad:?}");
        }
        assert!(ImageId::new("4152.2.1").is_ok() && ImageId::new("4152_2").is_err());
        let error = Role::new("-cs").expect_err("no role").to_string();
        assert!(error.starts_with("\"-cs\" is no role: it has 1 to 63 letters"), "{error}");
    }

    #[test]
    fn ids_of_templates_are_versions_and_sort_as_such() {
        let id = |text: &str| IgnitionId::new(text).unwrap_or_else(|e| panic!("{e}"));
        let ascending = [
            "1.0.0-a",
            "1.0.0",
            "1.2-3",
            "1.2-20",
            "1.2",
            "1.10",
            "2021.4.19-13965",
            "2026.11.21-40152",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(id(pair[0]).cmp_version(&id(pair[1])), Ordering::Less, "{pair:?}");
        }
        assert_eq!(id("1.0").cmp_version(&id("1.0.0")), Ordering::Equal);
        assert_eq!(id("2021.04.19-1").cmp_version(&id("2021.4.19-1")), Ordering::Equal);
        for bad in ["", "x", "1..2", "1.", "1.0-", "1 0", "1+"] {
            assert!(IgnitionId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_image_has_its_repository_and_tag_in_the_name_of_its_asset() {
        let name = AssetName::of_image("coil", "ghcr.io/cybozu-go/coil", "2.9.0").expect("a name");
        assert_eq!(name.as_str(), "cybozu-coil-ghcr.io-cybozu-go-coil-2.9.0.img");
    }
}
