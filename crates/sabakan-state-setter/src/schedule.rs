//! When something is due, by the five fields of cron or in intervals (neco-daemons §3.2). Pure: the time is an argument.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Times that come again and again.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    times: Times,
}

#[derive(Clone, Debug)]
enum Times {
    Every(SignedDuration),
    At { cron: Box<Cron>, zone: TimeZone },
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        let zone = |times: &Times| match times {
            Times::Every(_) => None,
            Times::At { zone, .. } => Some(zone.clone()),
        };
        self.text == other.text && zone(&self.times) == zone(&other.times)
    }
}

impl Schedule {
    /// Reads five fields of cron, a descriptor such as `@daily`, or `@every DURATION` (whole seconds at least). Times of the
    /// day are those of `zone`, unless the text begins with `CRON_TZ=ZONE` or `TZ=ZONE`.
    ///
    /// # Errors
    /// What is wrong with it, to be put after the text itself.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let whole = text.trim().to_owned();
        let named = whole.strip_prefix("CRON_TZ=").or_else(|| whole.strip_prefix("TZ="));
        let (zone, fields) = match named {
            None => (zone.clone(), whole.as_str()),
            Some(rest) => {
                let (name, fields) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let zone = TimeZone::get(name)
                    .map_err(|_| format!("names the time zone {name:?}, which is unknown"))?;
                (zone, fields.trim())
            }
        };
        if let Some(interval) = fields.strip_prefix("@every ") {
            let every = neco_process::duration::parse(interval.trim())
                .map_err(|error| format!("has an interval that {error}"))?;
            if every < Duration::from_secs(1) {
                return Err("has an interval of less than a second".to_owned());
            }
            let times =
                Times::Every(SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX));
            return Ok(Self { text: whole, times });
        }
        let count = fields.split_whitespace().count();
        if !fields.starts_with('@') && count != 5 {
            return Err(format!(
                "has {count} fields instead of five (minute, hour, day of month, month, day of week)"
            ));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron =
            parser.build().parse(fields).map_err(|error| format!("is no schedule: {error}"))?;
        Ok(Self { text: whole, times: Times::At { cron: Box::new(cron), zone } })
    }

    /// The first time after `now`; `None` where there is none in sight.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Every(every) => now.checked_add(*every).ok(),
            Times::At { cron, zone } => {
                let next = cron.find_next_occurrence(&now.to_zoned(zone.clone()), false).ok()?;
                Some(next.timestamp())
            }
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokyo() -> TimeZone {
        TimeZone::get("Asia/Tokyo").expect("a zone")
    }

    fn next(text: &str, now: &str) -> String {
        let schedule = Schedule::parse(text, &tokyo()).unwrap_or_else(|why| panic!("{text} {why}"));
        let next = schedule.next(now.parse().expect("a time"));
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_after_now() {
        for (text, now, expected) in [
            ("0 11 * * *", "2026-11-22T01:59:59Z", "2026-11-22T02:00:00Z"),
            ("0 11 * * *", "2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z"),
            ("CRON_TZ=UTC 0 11 * * *", "2026-11-22T02:00:00Z", "2026-11-22T11:00:00Z"),
            ("TZ=UTC @daily", "2026-11-22T02:00:00Z", "2026-11-23T00:00:00Z"),
            ("0 9 * * 1-5", "2026-11-20T23:00:00Z", "2026-11-23T00:00:00Z"),
            ("@every 1h30m", "2026-11-22T02:00:00Z", "2026-11-22T03:30:00Z"),
            (" 30 2 29 2 * ", "2026-11-22T02:00:00Z", "2028-02-28T17:30:00Z"),
        ] {
            assert_eq!(next(text, now), expected, "{text} after {now}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_told_why() {
        for (text, why) in [
            ("", "0 fields instead of five"),
            ("0 11 * *", "4 fields instead of five"),
            ("0 0 11 * * *", "6 fields instead of five"),
            ("61 11 * * *", "is no schedule"),
            ("*/0 * * * *", "is no schedule"),
            ("@sometimes", "is no schedule"),
            ("@every", "is no schedule"),
            ("@every soon", "an interval that is not a duration"),
            ("@every 10ms", "less than a second"),
            ("TZ=Mars/Base 0 11 * * *", "\"Mars/Base\", which is unknown"),
            ("TZ=UTC", "0 fields"),
        ] {
            let error = Schedule::parse(text, &tokyo()).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
