//! Points in time as they stand in etcd values.

use serde::{Deserialize, Serialize};

/// A point in time with nanoseconds, in the years 1 to 9999: what the original's encoder can write.
///
/// Written in UTC, RFC 3339, trailing zeros of the fraction dropped. Any offset is read. The Go zero time
/// `0001-01-01T00:00:00Z` is [`Timestamp::ZERO`] and means "not set".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(jiff::Timestamp);

/// A text or a moment that is no [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 time between the years 1 and 9999")]
pub struct TimestampError {
    text: String,
}

const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_207_200;

impl Timestamp {
    /// The zero time of the original: "not set".
    pub const ZERO: Self = Self(jiff::Timestamp::constant(FIRST_SECOND, 0));

    /// The moment `at`, if its year is between 1 and 9999.
    pub fn new(at: jiff::Timestamp) -> Result<Self, TimestampError> {
        if (FIRST_SECOND..=LAST_SECOND).contains(&at.as_second()) {
            Ok(Self(at))
        } else {
            Err(TimestampError { text: at.to_string() })
        }
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z, clamped to the range of the type.
    pub fn from_unix(seconds: i64) -> Self {
        Self(jiff::Timestamp::constant(seconds.clamp(FIRST_SECOND, LAST_SECOND), 0))
    }

    /// The moment as the time library has it.
    pub fn get(self) -> jiff::Timestamp {
        self.0
    }

    /// Whether this is the zero time.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The form with exactly nine fraction digits, in UTC: sorts as text like the times themselves. Used in the
    /// identity of a request and in history keys.
    pub fn fixed(self) -> String {
        format!("{:.9}", self.0)
    }

    /// One nanosecond later, or the same at the end of the range.
    pub fn next(self) -> Self {
        self.plus_nanos(1)
    }

    /// `nanos` nanoseconds later, or the same at the end of the range.
    pub fn plus_nanos(self, nanos: i64) -> Self {
        let later = self.0.checked_add(jiff::SignedDuration::from_nanos(nanos)).ok();
        later.and_then(|at| Self::new(at).ok()).unwrap_or(self)
    }

    /// Seconds from `earlier` to this moment; negative when it lies before.
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.as_second() - earlier.0.as_second()
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError { text: text.to_owned() };
        if !strict_shape(text.as_bytes()) {
            return Err(error());
        }
        Self::new(text.parse().map_err(|_| error())?).map_err(|_| error())
    }
}

/// RFC 3339 as Go's decoder takes it: `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)` in upper case.
fn strict_shape(text: &[u8]) -> bool {
    let Some((head, tail)) = text.split_at_checked(19) else { return false };
    let shape = head.iter().zip(b"0000-00-00T00:00:00").all(|(&have, &want)| match want {
        b'0' => have.is_ascii_digit(),
        other => have == other,
    });
    let fraction = match tail.first() {
        Some(b'.') => 1 + tail[1..].iter().take_while(|b| b.is_ascii_digit()).count(),
        _ => 0,
    };
    let zone = &tail[fraction..];
    let offset = zone.len() == 6
        && matches!(zone[0], b'+' | b'-')
        && zone[3] == b':'
        && [1, 2, 4, 5].iter().all(|&at| zone[at].is_ascii_digit());
    shape && fraction != 1 && fraction <= 10 && (zone == b"Z" || offset)
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_written_form_is_utc_with_trailing_zeros_dropped() {
        assert_eq!(
            at("2026-11-21T17:00:00.120000000+09:00").to_string(),
            "2026-11-21T08:00:00.12Z"
        );
        assert_eq!(at("2026-11-21T08:00:00Z").to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(at("0001-01-01T00:00:00Z"), Timestamp::ZERO);
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(
            at("9999-12-30T21:59:59.999999999Z").to_string(),
            "9999-12-30T21:59:59.999999999Z"
        );
    }

    #[test]
    fn the_fixed_form_sorts_like_time() {
        assert_eq!(at("2026-11-21T08:00:00Z").fixed(), "2026-11-21T08:00:00.000000000Z");
        assert!(at("2026-11-21T08:00:00Z").fixed() < at("2026-11-21T08:00:00Z").next().fixed());
    }

    #[test]
    fn anything_but_strict_rfc_3339_is_refused() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21 08:00:00Z",
            "2026-11-21T08:00:00",
            "2026-11-21t08:00:00z",
            "2026-11-21T08:00:00.Z",
            "2026-11-21T08:00Z",
            "2026-13-21T08:00:00Z",
            "2026-11-21T08:00:00+0900",
            "2026-11-21T08:00:00Z[UTC]",
            "0000-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?}");
        }
    }
}
