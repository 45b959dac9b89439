//! Sends a file: whole, in part, or not at all if the client has it.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Which bytes of a file a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// From the first up to and including the second.
    Range(u64, u64),
    Unsatisfiable,
}

/// Answers a request for `file`, whose content has the digest `sha256`.
pub(super) async fn send(
    mut file: tokio::fs::File,
    name: &str,
    size: u64,
    sha256: &str,
    request: &HeaderMap,
) -> Response {
    let etag = format!("\"{sha256}\"");
    if matches(request, IF_NONE_MATCH.as_str(), &etag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response();
    }
    let common = [
        (ETAG, etag.clone()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    let same = !request.contains_key(IF_RANGE) || matches(request, IF_RANGE.as_str(), &etag);
    let range = request.get(RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let (status, first, length) = match range.map_or(Wanted::All, |range| wanted(range, size)) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Range(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Unsatisfiable => {
            let range = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, common, range).into_response();
        }
    };
    if let Err(error) = file.seek(std::io::SeekFrom::Start(first)).await {
        tracing::warn!(name, %error, "file cannot be read");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), 256 << 10));
    let length_header = [(CONTENT_LENGTH, length.to_string())];
    let mut response = (status, common, length_header, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = format!("bytes {first}-{}/{size}", first + length - 1).parse()
    {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// Whether a header lists the ETag; a weak one counts where any will do.
pub(super) fn matches(request: &HeaderMap, header: &str, etag: &str) -> bool {
    let strong = etag.strip_prefix("W/").unwrap_or(etag);
    request.get_all(header).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|one| {
            one == "*"
                || one == etag
                || (one.strip_prefix("W/") == Some(strong) && header != "if-range")
        })
    })
}

/// Understands one range; several, or another unit, are answered with everything, as the standard allows.
fn wanted(range: &str, size: u64) -> Wanted {
    let Some((first, last)) =
        range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::All;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => Wanted::All,
        (Ok(first), last) if last.is_ok() || range.ends_with('-') => {
            if first >= size {
                Wanted::Unsatisfiable
            } else {
                Wanted::Range(first, last.unwrap_or(u64::MAX).min(size - 1))
            }
        }
        (Err(_), Ok(tail)) if first.is_empty() => {
            if tail == 0 || size == 0 {
                Wanted::Unsatisfiable
            } else {
                Wanted::Range(size.saturating_sub(tail), size - 1)
            }
        }
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_as_the_standard_says() {
        for (range, expected) in [
            ("bytes=0-", Wanted::Range(0, 9)),
            ("bytes=4-", Wanted::Range(4, 9)),
            ("bytes=4-6", Wanted::Range(4, 6)),
            ("bytes=4-99", Wanted::Range(4, 9)),
            ("bytes=9-9", Wanted::Range(9, 9)),
            ("bytes=-3", Wanted::Range(7, 9)),
            ("bytes=-99", Wanted::Range(0, 9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=6-4", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("items=0-1", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
        ] {
            assert_eq!(wanted(range, 10), expected, "{range}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn etags_match_weakly_except_for_ranges() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
        };
        assert!(matches(&headers("if-none-match", "\"a\", W/\"b\""), "if-none-match", "\"b\""));
        assert!(matches(&headers("if-none-match", "W/\"b\""), "if-none-match", "W/\"b\""));
        assert!(!matches(&headers("if-none-match", "\"a\""), "if-none-match", "\"b\""));
        assert!(!matches(&headers("if-range", "W/\"b\""), "if-range", "\"b\""));
        assert!(matches(&headers("if-range", "\"b\""), "if-range", "\"b\""));
    }
}
