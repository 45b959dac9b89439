//! Bodies that go on where an earlier one ended.

use reqwest::header::{CONTENT_RANGE, HeaderMap};

/// Where a partial answer begins, and how large the whole is where that is told.
pub fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
}

fn parse(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, None)));
        for odd in ["bytes */10", "5-9/10", "bytes 5/10", "bytes a-b/c", ""] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
