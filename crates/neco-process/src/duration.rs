//! Durations as Go writes them: `1h30m`, `2s`, `500ms`, `1.5h`.

use std::time::Duration;

/// Go's durations are signed 64-bit nanoseconds; longer ones could not be read there.
const LONGEST: u128 = i64::MAX as u128;

/// Why a text is not a duration that one can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It does not follow the grammar.
    #[error("is not a duration")]
    Malformed,
    /// A number stands without its unit.
    #[error("has a number without a unit (ns, us, ms, s, m or h)")]
    NoUnit,
    /// It is zero or less.
    #[error("is not more than nothing")]
    NotPositive,
    /// It is longer than 292 years.
    #[error("is too long")]
    TooLong,
}

/// Reads a positive duration: numbers with a unit each, fractions allowed.
///
/// # Errors
/// What is wrong with it, to be put after the text itself.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Err(DurationError::NotPositive);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, after) = take_part(rest)?;
        total += nanos;
        if total > LONGEST {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    match u64::try_from(total) {
        Ok(nanos) if nanos > 0 && !negative => Ok(Duration::from_nanos(nanos)),
        Ok(_) => Err(DurationError::NotPositive),
        Err(_) => Err(DurationError::TooLong),
    }
}

/// One number with its unit in nanoseconds, and what follows.
fn take_part(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let nanos: u128 = match unit {
        "ns" => 1,
        // The micro sign and the Greek letter mu look the same.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(DurationError::NoUnit),
        _ => return Err(DurationError::Malformed),
    };
    let mut value: u128 = 0;
    for digit in whole.bytes() {
        value = value * 10 + u128::from(digit - b'0');
        if value * nanos > LONGEST {
            return Err(DurationError::TooLong);
        }
    }
    value *= nanos;
    let mut place = nanos;
    for digit in fraction.bytes() {
        place /= 10;
        value += u128::from(digit - b'0') * place;
    }
    Ok((value, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, nanos) in [
            ("2s", 2_000_000_000),
            ("500ms", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h0m0.5s", 3_600_500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+1ns", 1),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_waited_for() {
        for (text, error) in [
            ("", DurationError::Malformed),
            ("2", DurationError::NoUnit),
            ("1h30", DurationError::NoUnit),
            ("2x", DurationError::Malformed),
            ("2 s", DurationError::Malformed),
            ("s", DurationError::Malformed),
            (".s", DurationError::Malformed),
            ("1d", DurationError::Malformed),
            ("-", DurationError::Malformed),
            ("0", DurationError::NotPositive),
            ("0s", DurationError::NotPositive),
            ("0.1ns", DurationError::NotPositive),
            ("-2s", DurationError::NotPositive),
            ("2562047h47m16.854775808s", DurationError::TooLong),
            ("99999999999999999999999999999999999999999h", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
