//! Servers that want to be left alone for a while.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// For how long a server wants to be left alone, as the header `Retry-After` says it: a number of seconds, or a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = http_date(after)?;
    Some(Duration::try_from(date.duration_since(server_now(headers))).unwrap_or_default())
}

/// What a server takes for now, where it shows its clock: ours may differ, and only the distance to its dates counts.
pub fn server_now(headers: &HeaderMap) -> jiff::Timestamp {
    let told = headers.get(DATE).and_then(|value| http_date(value.to_str().ok()?));
    told.unwrap_or_else(jiff::Timestamp::now)
}

fn http_date(text: &str) -> Option<jiff::Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_understood() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        assert_eq!(date.as_second(), 784_111_777);
    }

    #[test]
    fn a_wait_is_a_number_or_the_distance_to_a_date() {
        let told = |after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("a header"));
            headers.insert(RETRY_AFTER, after.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(told("7"), Some(Duration::from_secs(7)));
        assert_eq!(told("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(told("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(told("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
