//! The version of a package: `YYYY.MM.DD-N`.

use std::fmt;

use crate::exit::{Done, Failure};
use crate::git;
use crate::workspace::Workspace;

/// A version that Neco's releases may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn parse(text: &str) -> Done<Self> {
        if well_formed(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Failure::usage(format!(
                "`{text}` is no version: it must be YYYY.MM.DD-N, for example 2026.11.21-40152"
            )))
        }
    }

    /// The day of the last commit, and the number of commits up to it.
    pub(crate) fn of_last_commit(workspace: &Workspace) -> Done<Self> {
        let day =
            git::ask(workspace, &["log", "-1", "--format=%cd", "--date=format-local:%Y.%m.%d"]);
        let count = git::ask(workspace, &["rev-list", "--count", "HEAD"]);
        match (day, count) {
            (Ok(day), Ok(count)) => Self::parse(&format!("{day}-{count}")),
            _ => Err(Failure::usage("git knows no last commit here: say --version YYYY.MM.DD-N")),
        }
    }

    /// Its day, as `YYYY-MM-DD`.
    pub(crate) fn date(&self) -> String {
        self.0.split('-').next().unwrap_or_default().replace('.', "-")
    }

    /// When its day began, in seconds since 1970, UTC.
    pub(crate) fn day(&self) -> u64 {
        let mut parts = self.0.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        let (year, month, day): (u64, u64, u64) = (next(), next(), next());
        // Days since 1 March of the year 0: leap days come last.
        let (year, month) =
            if month > 2 { (year, month - 3) } else { (year.max(1) - 1, month + 9) };
        let days =
            365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        days.saturating_sub(719_468) * 86_400
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn well_formed(text: &str) -> bool {
    let Some((day, number)) = text.split_once('-') else { return false };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = day.split('.').collect();
    let [year, month, of_month] = parts[..] else { return false };
    let within = |part: &str, length, range: std::ops::RangeInclusive<u32>| {
        part.len() == length && digits(part) && part.parse().is_ok_and(|n| range.contains(&n))
    };
    within(year, 4, 1..=9999)
        && within(month, 2, 1..=12)
        && within(of_month, 2, 1..=31)
        && digits(number)
        && number.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn accepts_what_releases_carry() {
        for text in ["2026.11.21-40152", "2021.04.19-13965", "2026.01.31-1"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn tells_when_its_day_began() {
        for (text, day) in [
            ("2026.11.21-40152", 1_795_219_200),
            ("2024.02.29-1", 1_709_164_800),
            ("2024.03.01-1", 1_709_251_200),
            ("1970.01.01-1", 0),
            ("0001.01.01-1", 0),
        ] {
            assert_eq!(Version::parse(text).unwrap().day(), day, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else_with_one_clear_line() {
        for text in [
            "",
            "2026.11.21",
            "2026.11.21-",
            "2026.13.01-1",
            "2026.00.01-1",
            "2026.1.21-1",
            "2026.11.32-1",
            "26.11.21-1",
            "2026.11.21-1a",
            "2026.11.21-1-2",
            "2026.11-1",
            "v2026.11.21-1",
            "2026.+1.21-1",
            "2026.11.21-1\n",
            "../../etc-1",
        ] {
            let failure = Version::parse(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.message.contains("must be YYYY.MM.DD-N"), "{}", failure.message);
        }
    }
}
