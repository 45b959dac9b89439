//! Release windows: when a release that was seen may be installed. Pure: all times are arguments.
//!
//! The original's window is the minute *before* each time of the schedule, and only a poll that happens to fall into
//! it finds the release. Here a release becomes due at the first time of the schedule at or after the moment it was
//! first seen, and stays due for a configured while, so that no length of poll interval can miss it; if it could not
//! be installed then, it is due again at the next time. `* * * * *` is always open, as in the original.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use neco_schema::{Timestamp, abridged};

/// How much of a wrong value stands in a message.
const SHOWN: usize = 60;

/// The times of the setting `release-time`.
#[derive(Clone, Debug)]
pub struct ReleaseWindows {
    schedules: Vec<Schedule>,
}

/// Whether a release may be installed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// It may.
    Open,
    /// Not now.
    Closed {
        /// When it will be due; `None` if there is no such time in sight.
        next: Option<Timestamp>,
    },
}

/// Why a `release-time` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The time zone is unknown.
    #[error("release-timezone {zone:?} is no known time zone; use an IANA name such as Asia/Tokyo")]
    Zone {
        /// The name as given.
        zone: String,
        /// What the time zone database says.
        #[source]
        source: jiff::Error,
    },
    /// A line is no schedule.
    #[error("line {line} ({text:?}): {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line as given.
        text: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a line of a `release-time`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing on it.
    #[error("the line is empty; remove it, or unset release-time to install at any time")]
    Empty,
    /// An interval has no times of its own.
    #[error("@every has no fixed times of day; write five fields, such as */30 * * * *")]
    Every,
    /// A word after `@` that means nothing.
    #[error(
        "unknown descriptor; known are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
    )]
    Descriptor,
    /// Too many or too few fields.
    #[error("{0} fields instead of five (minute, hour, day of month, month, day of week)")]
    FieldCount(usize),
    /// A letter that other cron implementations do not know.
    #[error("{0:?} is an extension that standard cron does not have")]
    Extension(char),
    /// A field is out of range or malformed.
    #[error("{0}")]
    Field(String),
    /// The zone before the fields is unknown.
    #[error("{0:?} is no known time zone")]
    Zone(String),
    /// Such a day never comes.
    #[error("it never comes: there is no such date")]
    Never,
}

#[derive(Clone, Debug)]
enum Schedule {
    Always,
    At { cron: Box<Cron>, zone: TimeZone },
}

impl ReleaseWindows {
    /// No restriction: what holds when `release-time` is not set.
    pub fn always() -> Self {
        Self { schedules: vec![Schedule::Always] }
    }

    /// Reads `release-time` (one schedule a line) and `release-timezone`.
    ///
    /// A line has the five fields of standard cron or is a descriptor such as `@daily`, and may begin with
    /// `CRON_TZ=ZONE` or `TZ=ZONE`.
    pub fn parse(lines: &str, zone: &str) -> Result<Self, WindowError> {
        let zone = TimeZone::get(zone)
            .map_err(|source| WindowError::Zone { zone: abridged(zone, SHOWN), source })?;
        let schedules = lines.split('\n').enumerate().map(|(index, text)| {
            Schedule::parse(text, &zone).map_err(|problem| WindowError::Line {
                line: index + 1,
                text: abridged(text.trim(), SHOWN),
                problem,
            })
        });
        Ok(Self { schedules: schedules.collect::<Result<_, _>>()? })
    }

    /// Whether a release that was first seen at `seen` may be installed at `now`.
    pub fn state(&self, seen: Timestamp, now: Timestamp, window: Duration) -> WindowState {
        if self.schedules.iter().any(|schedule| schedule.is_open(seen, now, window)) {
            return WindowState::Open;
        }
        let next = self.schedules.iter().filter_map(|schedule| schedule.next(seen, now)).min();
        WindowState::Closed { next }
    }
}

impl Schedule {
    fn parse(text: &str, zone: &TimeZone) -> Result<Self, Problem> {
        let text = text.trim();
        let (zone, text) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="))
        {
            Some(rest) => {
                let (name, rest) = rest.split_once(char::is_whitespace).ok_or(Problem::Empty)?;
                let zone = TimeZone::get(name).map_err(|_| Problem::Zone(abridged(name, SHOWN)))?;
                (zone, rest.trim())
            }
            None => (zone.clone(), text),
        };
        let expression = five_fields(text)?;
        if expression.split(' ').all(|field| field == "*") {
            return Ok(Self::Always);
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron =
            parser.parse(&expression).map_err(|error| Problem::Field(one_fragment(&error)))?;
        // Whether it ever comes does not depend on where the search begins.
        let origin = jiff::Timestamp::UNIX_EPOCH.to_zoned(zone.clone());
        cron.find_next_occurrence(&origin, false).map_err(|_| Problem::Never)?;
        Ok(Self::At { cron: Box::new(cron), zone })
    }

    /// The last opening at or before `now` decides: an earlier one closes earlier.
    fn is_open(&self, seen: Timestamp, now: Timestamp, window: Duration) -> bool {
        let Self::At { cron, zone } = self else { return true };
        let Ok(opening) = cron.find_previous_occurrence(&now.get().to_zoned(zone.clone()), true)
        else {
            return false;
        };
        let opening = opening.timestamp();
        let open_for = now.get().duration_since(opening);
        opening >= seen.get() && open_for.unsigned_abs() < window
    }

    fn next(&self, seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let Self::At { cron, zone } = self else { return None };
        // Another server's clock may be ahead: what it saw later than now is due at its first opening after that.
        let (from, inclusive) = if seen > now { (seen, true) } else { (now, false) };
        let next = cron.find_next_occurrence(&from.get().to_zoned(zone.clone()), inclusive).ok()?;
        Timestamp::new(next.timestamp()).ok()
    }
}

/// The line as five fields with one space between them.
fn five_fields(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.starts_with('@') {
        let word = text.to_ascii_lowercase();
        return match word.split_whitespace().next().unwrap_or_default() {
            "@every" => Err(Problem::Every),
            _ => match word.as_str() {
                "@yearly" | "@annually" => Ok("0 0 1 1 *".to_owned()),
                "@monthly" => Ok("0 0 1 * *".to_owned()),
                "@weekly" => Ok("0 0 * * 0".to_owned()),
                "@daily" | "@midnight" => Ok("0 0 * * *".to_owned()),
                "@hourly" => Ok("0 * * * *".to_owned()),
                _ => Err(Problem::Descriptor),
            },
        };
    }
    let fields: Vec<String> = text.split_whitespace().map(str::to_ascii_uppercase).collect();
    if fields.len() != 5 {
        return Err(Problem::FieldCount(fields.len()));
    }
    for field in &fields {
        // The parser would take these, but daemons of the original that read the same setting would not.
        let plain =
            ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
                .into_iter()
                .chain(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"])
                .fold(field.clone(), |field, name| field.replace(name, ""));
        if let Some(extension) = plain.chars().find(|c| matches!(c, 'L' | 'W' | '#' | '+')) {
            return Err(Problem::Extension(extension));
        }
    }
    Ok(fields.join(" "))
}

/// The parser's message as a fragment of ours.
fn one_fragment(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    match error {
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => {
            let mut characters = text.trim_end_matches('.').chars();
            let first = characters.next().map(|c| c.to_ascii_lowercase());
            abridged(&first.into_iter().chain(characters).collect::<String>(), 2 * SHOWN)
        }
        other => abridged(&other.to_string(), 2 * SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn windows(lines: &str) -> ReleaseWindows {
        ReleaseWindows::parse(lines, "Asia/Tokyo").unwrap_or_else(|e| panic!("{e}"))
    }

    fn closed_until(text: &str) -> WindowState {
        WindowState::Closed { next: Some(at(text)) }
    }

    fn problem(lines: &str) -> (usize, Problem) {
        match ReleaseWindows::parse(lines, "Asia/Tokyo") {
            Err(WindowError::Line { line, problem, .. }) => (line, problem),
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    #[test]
    fn a_release_is_due_from_the_first_opening_after_it_was_seen_for_the_length_of_the_window() {
        // 10:00 in Tokyo is 01:00 UTC.
        let windows = windows("0 10 * * *");
        let seen = at("2026-11-20T12:34:56Z");
        let state = |now: &str| windows.state(seen, at(now), HOUR);
        assert_eq!(state("2026-11-20T12:35:00Z"), closed_until("2026-11-21T01:00:00Z"));
        assert_eq!(state("2026-11-21T00:59:59.9Z"), closed_until("2026-11-21T01:00:00Z"));
        assert_eq!(state("2026-11-21T01:00:00Z"), WindowState::Open);
        assert_eq!(state("2026-11-21T01:59:59.9Z"), WindowState::Open);
        assert_eq!(state("2026-11-21T02:00:00Z"), closed_until("2026-11-22T01:00:00Z"));
        // Missed once, due again the next day.
        assert_eq!(state("2026-11-22T01:30:00Z"), WindowState::Open);
    }

    #[test]
    fn a_release_seen_inside_a_window_waits_for_the_next() {
        let windows = windows("0 10 * * *");
        let seen = at("2026-11-21T01:00:01Z");
        assert_eq!(
            windows.state(seen, at("2026-11-21T01:10:00Z"), HOUR),
            closed_until("2026-11-22T01:00:00Z")
        );
        // Seen at the opening itself counts.
        assert_eq!(
            windows.state(at("2026-11-21T01:00:00Z"), at("2026-11-21T01:10:00Z"), HOUR),
            WindowState::Open
        );
    }

    #[test]
    fn every_minute_and_no_setting_at_all_are_always_open() {
        let seen = at("2026-11-21T01:00:01Z");
        for windows in [windows("* * * * *"), windows("  *  *\t* * * "), ReleaseWindows::always()] {
            for now in ["2026-11-21T01:00:01Z", "2026-11-21T01:00:02Z", "2026-11-20T01:00:00Z"] {
                assert_eq!(windows.state(seen, at(now), Duration::from_secs(1)), WindowState::Open);
            }
        }
    }

    #[test]
    fn any_of_several_lines_opens_and_the_nearest_is_next() {
        let windows = windows("0 10 * * MON-FRI\n0 22 * * *");
        // 2026-11-21 is a Saturday: only the second line holds.
        let seen = at("2026-11-20T20:00:00Z");
        assert_eq!(
            windows.state(seen, at("2026-11-21T01:30:00Z"), HOUR),
            closed_until("2026-11-21T13:00:00Z")
        );
        assert_eq!(windows.state(seen, at("2026-11-21T13:30:00Z"), HOUR), WindowState::Open);
    }

    #[test]
    fn what_another_server_saw_in_our_future_is_due_after_that() {
        let windows = windows("0 10 * * *");
        let seen = at("2026-11-21T03:00:00Z");
        assert_eq!(
            windows.state(seen, at("2026-11-21T01:10:00Z"), HOUR),
            closed_until("2026-11-22T01:00:00Z")
        );
    }

    #[test]
    fn a_time_that_a_clock_change_leaves_out_still_comes_once() {
        let windows = ReleaseWindows::parse("30 2 * * *", "America/New_York").expect("windows");
        // On 2026-03-08 the clock goes from 02:00 EST to 03:00 EDT, 07:00 UTC.
        let seen = at("2026-03-07T12:00:00Z");
        let WindowState::Closed { next: Some(next) } =
            windows.state(seen, at("2026-03-08T06:59:00Z"), HOUR)
        else {
            panic!("open too early");
        };
        assert!(next >= at("2026-03-08T07:00:00Z") && next <= at("2026-03-08T07:30:00Z"), "{next}");
        assert_eq!(windows.state(seen, next, HOUR), WindowState::Open);
    }

    #[test]
    fn a_line_may_name_its_own_zone() {
        let windows = windows("CRON_TZ=UTC 0 10 * * *");
        assert_eq!(
            windows.state(at("2026-11-21T00:00:00Z"), at("2026-11-21T00:30:00Z"), HOUR),
            closed_until("2026-11-21T10:00:00Z")
        );
        assert_eq!(problem("TZ=Mars/Olympus 0 1 * * *"), (1, Problem::Zone("Mars/Olympus".into())));
    }

    #[test]
    fn descriptors_are_understood() {
        for (word, now, next) in [
            ("@hourly", "2026-11-21T01:30:00Z", "2026-11-21T02:00:00Z"),
            ("@daily", "2026-11-21T01:30:00Z", "2026-11-21T15:00:00Z"),
            ("@midnight", "2026-11-21T01:30:00Z", "2026-11-21T15:00:00Z"),
            ("@Weekly", "2026-11-21T01:30:00Z", "2026-11-21T15:00:00Z"),
            ("@monthly", "2026-11-21T01:30:00Z", "2026-11-30T15:00:00Z"),
            ("@yearly", "2026-11-21T01:30:00Z", "2026-12-31T15:00:00Z"),
            ("@annually", "2026-11-21T01:30:00Z", "2026-12-31T15:00:00Z"),
        ] {
            let state = windows(word).state(at(now), at(now), HOUR);
            assert_eq!(state, closed_until(next), "{word}");
        }
    }

    #[test]
    fn a_line_that_cannot_hold_is_named_with_its_reason() {
        let field = |lines: &str| matches!(problem(lines), (_, Problem::Field(_)));
        assert_eq!(problem("0 1 * * *\n"), (2, Problem::Empty));
        assert_eq!(problem(""), (1, Problem::Empty));
        assert_eq!(problem("@every 5m"), (1, Problem::Every));
        assert_eq!(problem("@EVERY 1h"), (1, Problem::Every));
        assert_eq!(problem("0 0 * * *\n@reboot"), (2, Problem::Descriptor));
        assert_eq!(problem("0 0 10 * * *"), (1, Problem::FieldCount(6)));
        assert_eq!(problem("0 0 * *"), (1, Problem::FieldCount(4)));
        assert_eq!(problem("0 0 30 2 *"), (1, Problem::Never));
        assert_eq!(problem("0 0 31 4,6,9,11 *"), (1, Problem::Never));
        assert_eq!(problem("0 0 L * *"), (1, Problem::Extension('L')));
        assert_eq!(problem("0 0 * * MON#2"), (1, Problem::Extension('#')));
        assert_eq!(problem("0 0 15W * *"), (1, Problem::Extension('W')));
        assert!(field("60 * * * *") && field("*/0 * * * *") && field("0 24 * * *"));
        assert!(field("0 0 * 13 *") && field("x * * * *"));
        // The day of the week is another way to match: these come.
        for fine in ["0 0 29 2 *", "0 0 30 2 MON", "0 0 * JUL WED", "0 0 ? * *"] {
            windows(fine);
        }
    }

    #[test]
    fn messages_are_one_line_with_place_and_remedy() {
        let message = |lines: &str, zone: &str| {
            ReleaseWindows::parse(lines, zone).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(
            message("0 1 * * *\n0 0 10 * * *", "Asia/Tokyo"),
            "line 2 (\"0 0 10 * * *\"): 6 fields instead of five (minute, hour, day of month, month, day of week)"
        );
        assert_eq!(
            message("* * * * *", "Mars/Olympus"),
            "release-timezone \"Mars/Olympus\" is no known time zone; use an IANA name such as Asia/Tokyo"
        );
    }
}
