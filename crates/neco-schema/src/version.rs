//! Neco versions: the text in tags, requests and packages, and how two of them compare.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::wire::excerpt;

/// A version of the Neco package, such as `2021.04.19-13965`.
///
/// Any version that the original accepts on the wire is accepted (`1.0.0` too): dot-separated decimal
/// segments, then an optional hyphen and a pre-release of dot-separated parts, then optional `+` metadata. The text is kept
/// as it was written; equality is equality of the text. [`NecoVersion::precedence`] orders versions, and
/// [`ReleaseVersion`] is the strict form of releases.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NecoVersion(String);

/// A text that is no version, or not one of the strict release form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not a version at all.
    #[error("{0:?} is not a version (expected something like 2021.04.19-13965)")]
    Malformed(String),
    /// A version, but not `YYYY.MM.DD-BUILD`.
    #[error("{0:?} is not a release version (expected YYYY.MM.DD-BUILD, such as 2021.04.19-13965)")]
    NotARelease(String),
}

impl NecoVersion {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version in a release tag: what follows the first hyphen, or the whole tag where there is none.
    ///
    /// `release-2021.04.19-13965` gives `2021.04.19-13965`.
    pub fn from_tag(tag: &str) -> Result<Self, VersionError> {
        tag.split_once('-').map_or(tag, |(_, version)| version).parse()
    }

    /// Orders two versions as the original's version library does: missing segments count as 0, numeric
    /// pre-release parts compare as integers and rank below others, a version without pre-release outranks the
    /// same with one, metadata does not count.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let (a, b) = (Parts::of(&self.0), Parts::of(&other.0));
        let longest = a.segments.len().max(b.segments.len());
        let segment = |parts: &Parts, at: usize| parts.segments.get(at).copied().unwrap_or(0);
        (0..longest)
            .map(|at| segment(&a, at).cmp(&segment(&b, at)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| match (a.pre.is_empty(), b.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_pre_release(&a.pre, &b.pre),
            })
    }

    /// The strict form of this version.
    pub fn release(&self) -> Result<ReleaseVersion, VersionError> {
        ReleaseVersion::parse(&self.0)
    }

    /// Whether going from `current` to this version is an upgrade.
    ///
    /// For two release versions the rule is the original's: the date must not go back and the build must grow.
    /// For anything else [`precedence`](Self::precedence) decides.
    pub fn is_newer_than(&self, current: &Self) -> bool {
        match (self.release(), current.release()) {
            (Ok(new), Ok(old)) => new.is_newer_than(&old),
            _ => self.precedence(current).is_gt(),
        }
    }
}

impl std::str::FromStr for NecoVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError::Malformed(excerpt(text));
        let (body, metadata) =
            text.split_once('+').map_or((text, None), |(body, meta)| (body, Some(meta)));
        let (numbers, pre) =
            body.split_once('-').map_or((body, None), |(numbers, pre)| (numbers, Some(pre)));
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'~')
        };
        let digits = |part: &str| {
            !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit())
        };
        let well_formed = text.len() <= 128
            && numbers.split('.').all(digits)
            && pre.is_none_or(|pre| pre.split('.').all(word))
            && metadata.is_none_or(|meta| meta.split('.').all(word));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(malformed()) }
    }
}

impl TryFrom<String> for NecoVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<NecoVersion> for String {
    fn from(version: NecoVersion) -> Self {
        version.0
    }
}

impl std::fmt::Display for NecoVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

struct Parts<'a> {
    segments: Vec<u64>,
    pre: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let body = text.split_once('+').map_or(text, |(body, _)| body);
        let (numbers, pre) =
            body.split_once('-').map_or((body, None), |(numbers, pre)| (numbers, Some(pre)));
        Self {
            segments: numbers.split('.').filter_map(|part| part.parse().ok()).collect(),
            pre: pre.map(|pre| pre.split('.').collect()).unwrap_or_default(),
        }
    }
}

fn compare_pre_release(a: &[&str], b: &[&str]) -> Ordering {
    for (left, right) in a.iter().zip(b) {
        let order = match (left.parse::<u64>(), right.parse::<u64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// The strict form of a release: a calendar date and a build number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseVersion {
    /// The day of the release, as a UTC date.
    pub date: jiff::civil::Date,
    /// The build number.
    pub build: u64,
}

impl ReleaseVersion {
    /// Parses `YYYY.MM.DD-BUILD`.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        Self::parts(text).ok_or_else(|| VersionError::NotARelease(text.to_owned()))
    }

    fn parts(text: &str) -> Option<Self> {
        let (date, build) = text.split_once('-')?;
        let digits =
            |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
        let mut fields = date.split('.');
        let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return None;
        }
        if build.is_empty() || !build.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let date =
            jiff::civil::Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
                .ok()?;
        Some(Self { date, build: build.parse().ok()? })
    }

    /// Whether this release follows `current`: the date does not go back and the build grows.
    pub fn is_newer_than(&self, current: &Self) -> bool {
        self.date >= current.date && self.build > current.build
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> NecoVersion {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    // reference/neco-cd-core.md §12.3, first two rows.
    #[test]
    fn a_release_version_is_a_date_and_a_build() {
        let parsed = version("2021.04.19-13965").release();
        assert_eq!(
            parsed,
            Ok(ReleaseVersion { date: jiff::civil::date(2021, 4, 19), build: 13965 })
        );
        for bad in ["2021.04.19", "20210419-13965", "2021.04.19-abc", "2021.04.31-1", "1.2.3"] {
            assert!(ReleaseVersion::parse(bad).is_err(), "{bad}");
        }
    }

    // reference/neco-cd-core.md §12.3, last two rows.
    #[test]
    fn newer_needs_a_date_that_does_not_go_back_and_a_larger_build() {
        let current = version("2021.04.19-13965");
        assert!(version("2021.04.20-13966").is_newer_than(&current));
        assert!(version("2021.04.19-13966").is_newer_than(&current));
        assert!(!version("2021.04.18-13964").is_newer_than(&current));
        assert!(!version("2021.04.19-13964").is_newer_than(&current));
        assert!(!version("2021.04.20-13965").is_newer_than(&current));
    }

    #[test]
    fn precedence_follows_the_wire_rules() {
        let order = |a: &str, b: &str| version(a).precedence(&version(b));
        assert_eq!(order("1.0", "1.0.0"), Ordering::Equal);
        assert_eq!(order("1.0.0", "1.0.0-1"), Ordering::Greater);
        assert_eq!(order("1.0.0-9", "1.0.0-10"), Ordering::Less);
        assert_eq!(order("1.0.0-9", "1.0.0-a"), Ordering::Less);
        assert_eq!(order("2021.04.19-1", "2021.4.19-1"), Ordering::Equal);
        assert_eq!(order("1.0.0+a", "1.0.0+b"), Ordering::Equal);
        assert_eq!(order("1.1.0", "1.0.9"), Ordering::Greater);
    }

    #[test]
    fn a_tag_is_cut_at_its_first_hyphen() {
        assert_eq!(
            NecoVersion::from_tag("release-2021.04.19-13965"),
            Ok(version("2021.04.19-13965"))
        );
        assert_eq!(NecoVersion::from_tag("1.0.0"), Ok(version("1.0.0")));
        assert!(NecoVersion::from_tag("release-").is_err());
    }

    #[test]
    fn text_that_could_break_a_key_or_a_path_is_no_version() {
        for bad in ["", "1/2", "../1", "1.0.0 ", "1..0", "v1.0", "1.0-", "latest", "1.0\n"] {
            assert!(bad.parse::<NecoVersion>().is_err(), "{bad:?}");
        }
    }
}
