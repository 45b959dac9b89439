//! The version of a package: `YYYY.MM.DD-N`.

use std::fmt;
use std::process::Command;

use crate::exit::{Done, Failure};
use crate::run;
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
        let ask = |args: &[&str]| {
            run::capture(Command::new("git").arg("-C").arg(&workspace.root).args(args))
        };
        let day = ask(&["log", "-1", "--format=%cd", "--date=format-local:%Y.%m.%d"]);
        let count = ask(&["rev-list", "--count", "HEAD"]);
        match (day, count) {
            (Ok(day), Ok(count)) => Self::parse(&format!("{}-{}", day.trim(), count.trim())),
            _ => Err(Failure::usage("git knows no last commit here: say --version YYYY.MM.DD-N")),
        }
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
