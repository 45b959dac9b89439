//! Versions as tags and channels write them.

use std::cmp::Ordering;
use std::fmt;

/// A version such as `3.5.15.1`, `v1.4.9`, `1.16.0-rc.1` or `4152.2.1`: any count of numbers, and what makes it a pre-release.
///
/// It keeps the text it was read from, so two that are written differently can have the same [`precedence`](Self::precedence).
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    with_v: bool,
    numbers: Vec<u64>,
    /// Parts between dots; none for a version that is final.
    pre: Vec<Vec<Chunk>>,
}

/// A run of digits, or of anything else: `rc10` comes after `rc9`, and what is a number alone before what has letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chunk {
    Number(u64),
    Text(String),
}

impl Version {
    /// Reads a text; `None` if it is no version. What stands behind a `+` says how it was built and decides nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, build) = match text.split_once('+') {
            Some((body, build)) => (body, Some(build)),
            None => (text, None),
        };
        if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
            return None;
        }
        let with_v = body.starts_with('v');
        let body = body.strip_prefix('v').unwrap_or(body);
        let end = body.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(body.len());
        let (numbers, rest) = body.split_at(end);
        let numbers: Option<Vec<u64>> = numbers.split('.').map(number).collect();
        let pre = match rest.strip_prefix('-').unwrap_or(rest) {
            "" if rest.is_empty() => Vec::new(),
            pre if pre.split('.').all(is_identifier) => {
                pre.split('.').map(chunks).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(Self { text: text.to_owned(), with_v, numbers: numbers?, pre })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many numbers it has: two in `2.8`, which is not a version but the newest one of a branch.
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Its first number.
    pub fn major(&self) -> u64 {
        self.numbers[0]
    }

    /// Whether it is to come before the final one of the same numbers.
    pub fn is_prerelease(&self) -> bool {
        !self.pre.is_empty()
    }

    /// Which of two is newer. Numbers that are missing count as zero; a pre-release comes before the final one.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let count = self.numbers.len().max(other.numbers.len());
        let at = |version: &Self, index: usize| version.numbers.get(index).copied().unwrap_or(0);
        let numbers = (0..count).map(|index| at(self, index).cmp(&at(other, index)));
        let numbers = numbers.fold(Ordering::Equal, Ordering::then);
        let is_final = |version: &Self| version.pre.is_empty();
        numbers.then(is_final(self).cmp(&is_final(other))).then_with(|| self.pre.cmp(&other.pre))
    }

    /// Whether it is written as `other` is, rather than with a `v` more or with another count of numbers.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.with_v == other.with_v && self.numbers.len() == other.numbers.len()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.parse().ok()
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn chunks(identifier: &str) -> Option<Vec<Chunk>> {
    let bytes = identifier.as_bytes();
    bytes
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
        .map(|run| {
            let run = std::str::from_utf8(run).ok()?;
            match run.starts_with(|c: char| c.is_ascii_digit()) {
                true => number(run).map(Chunk::Number),
                false => Some(Chunk::Text(run.to_owned())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text} is a version"))
    }

    // neco-cd-core §7.4 and neco-bootstrap-cli §8.2: what parses as a version.
    #[test]
    fn the_forms_of_tags_are_read() {
        for (text, count, major, pre) in [
            ("3.5.15.1", 4, 3, false),
            ("2.8.0", 3, 2, false),
            ("2.8", 2, 2, false),
            ("v1.4.9", 3, 1, false),
            ("4152.2.1", 3, 4152, false),
            ("2021.99.0+nightly-1", 3, 2021, false),
            ("1.16.0-rc.1", 3, 1, true),
            ("1.2.3.4-amd64", 4, 1, true),
            ("1.2.3rc1", 3, 1, true),
            ("0404", 1, 404, false),
        ] {
            let version = version(text);
            assert_eq!(
                (version.count(), version.major(), version.is_prerelease()),
                (count, major, pre),
                "{text}"
            );
            assert_eq!(version.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "v",
            "latest",
            "main",
            "1.",
            "1..2",
            ".1",
            "1.2.x",
            "1.2.3-",
            "1.2.3-a..b",
            "1.2.3_a",
            "V1.2.3",
            "vv1.2.3",
            "1.2.3 ",
            "1.2.3+",
            "1.2.3+a+b",
            "99999999999999999999.1.1",
            "1.2.3-99999999999999999999",
            "sha256-0a1b.sig",
            "-1.2.3",
            "+1.2.3",
            "1.2.3-ä",
        ] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn newer_ones_come_after_older_ones() {
        let ascending = [
            "0.10.1.7",
            "1.2.3-1",
            "1.2.3-2",
            "1.2.3-alpha",
            "1.2.3-alpha.1",
            "1.2.3-rc9",
            "1.2.3-rc10",
            "1.2.3",
            "1.2.3.1-rc.1",
            "1.2.3.1",
            "1.2.3.10",
            "1.10.0",
            "v2.0.0",
            "10.0.0",
        ];
        for (index, older) in ascending.iter().enumerate() {
            for newer in &ascending[index + 1..] {
                let order = version(older).precedence(&version(newer));
                assert_eq!(order, Ordering::Less, "{older} {newer}");
            }
        }
        for (one, same) in
            [("1.2.3", "v1.2.3"), ("1.2.3", "1.2.3.0"), ("1.2", "1.2.0"), ("1.02.3", "1.2.3+b")]
        {
            assert_eq!(version(one).precedence(&version(same)), Ordering::Equal, "{one} {same}");
        }
        assert!(!version("1.2.3").looks_like(&version("v1.2.3")));
        assert!(!version("1.2.3").looks_like(&version("1.2.3.0")));
        assert!(version("1.2.3").looks_like(&version("9.9.9-rc1")));
    }

    fn any_version() -> impl Strategy<Value = Version> {
        "v?[0-3](\\.[0-3]){0,3}(-(rc|[0-2])[0-2]{0,2}(\\.[0-2a])?)?".prop_map(|text| version(&text))
    }

    proptest! {
        #[test]
        fn no_three_versions_go_round_in_a_circle(
            a in any_version(), b in any_version(), c in any_version()
        ) {
            prop_assert_eq!(a.precedence(&b), b.precedence(&a).reverse());
            if a.precedence(&b).is_le() && b.precedence(&c).is_le() {
                prop_assert!(a.precedence(&c).is_le());
            }
        }

        #[test]
        fn no_text_is_too_much(text in "\\PC{0,40}") {
            if let Some(version) = Version::parse(&text) {
                prop_assert_eq!(version.as_str(), text);
                prop_assert!(version.count() >= 1);
            }
        }
    }
}
