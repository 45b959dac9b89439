//! Times, durations, amounts, lines of files and tables as people read them.

use std::time::Duration;

use neco_schema::Timestamp;

/// A line of a file as it is, but for what could change the terminal.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

/// A moment without its fraction, such as `2026-11-21T08:00:00Z`.
pub fn moment(at: Timestamp) -> String {
    format!("{:.0}", at.get())
}

/// A moment, and how long ago it was.
pub fn since(at: Timestamp, now: Timestamp) -> String {
    if at.is_zero() {
        return "an unknown time".to_owned();
    }
    format!("{} ({})", moment(at), ago(at, now))
}

/// How long ago a moment was; clocks of two servers may differ.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.seconds_since(at)) {
        Ok(seconds) => format!("{} ago", span(Duration::from_secs(seconds))),
        Err(_) => "just now".to_owned(),
    }
}

/// A span in its two largest units, such as `3h 5m`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A duration as Go prints it, such as `1h0m0s`, `1m0s`, `1.5s` or `5ms`: what the original shows.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let decimal = |nanos: u128, unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let whole = nanos / unit;
        if fraction.is_empty() { format!("{whole}") } else { format!("{whole}.{fraction}") }
    };
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// An amount of bytes, such as `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = count as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

/// A bar of `width` characters, as full as `done` is of `total`.
pub fn bar(done: u64, total: u64, width: usize) -> String {
    let share = if total == 0 { 0.0 } else { done.min(total) as f64 / total as f64 };
    let full = (share * width as f64).floor() as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(width - full))
}

/// A text on one line, without characters that would move a terminal's cursor.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Rows with aligned columns, two spaces between them; no spaces at the ends of lines.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (3_600_000_000_000, "1h0m0s"),
            (60_000_000_000, "1m0s"),
            (5_430_500_000_000, "1h30m30.5s"),
            (1_500_000_000, "1.5s"),
            (5_000_000, "5ms"),
            (1_500, "1.5µs"),
            (7, "7ns"),
            (0, "0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (61, "1m 1s"), (3_599, "59m 59s"), (7_260, "2h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_bar_is_full_at_the_end_only() {
        assert_eq!(bar(0, 18, 6), "[------]");
        assert_eq!(bar(17, 18, 6), "[#####-]");
        assert_eq!(bar(18, 18, 6), "[######]");
        assert_eq!(bar(30, 18, 6), "[######]");
        assert_eq!(bar(1, 0, 6), "[------]");
    }

    #[test]
    fn a_clock_that_is_behind_does_not_show_the_future() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(ago(at("2026-11-21T08:00:10Z"), at("2026-11-21T08:00:00Z")), "just now");
        assert_eq!(since(Timestamp::ZERO, at("2026-11-21T08:00:00Z")), "an unknown time");
        assert_eq!(
            since(at("2026-11-21T08:00:00.5Z"), at("2026-11-21T08:01:30Z")),
            "2026-11-21T08:00:00Z (1m 30s ago)"
        );
    }

    #[test]
    fn text_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{7}c\n"), "a b [2J c");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(12_897_485), "12.3 MiB");
    }
}
