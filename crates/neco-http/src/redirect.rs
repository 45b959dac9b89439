//! Redirects, which nobody follows blindly.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};

use crate::shown;

/// How many redirects are followed for one question.
const MAX_REDIRECTS: usize = 5;

/// Whether an answer of this status says where to ask instead.
pub fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where the answer of the last of `visited`, which redirects and has these headers, leads to. What goes along with the next
/// request is the caller's choice: nothing that is secret should, where the host is another one.
///
/// # Errors
/// Why it is not followed, as the end of a sentence: "redirects …".
pub fn next_hop(visited: &[Url], headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or("without saying where")?;
    let at = visited.last().ok_or("from nowhere")?;
    let next = at.join(location).map_err(|_| "to something that is no URL")?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(format!("to a URL of kind {:?}", next.scheme()));
    }
    if at.scheme() == "https" && next.scheme() != "https" {
        return Err(format!("from https to plain http ({})", shown(&next)));
    }
    if visited.contains(&next) {
        return Err(format!("in a loop (back to {})", shown(&next)));
    }
    if visited.len() > MAX_REDIRECTS {
        return Err(format!("more than {MAX_REDIRECTS} times"));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(visited: &[&str], to: &str) -> Result<String, String> {
        let visited: Vec<Url> = visited.iter().map(|at| at.parse().expect("a URL")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, to.parse().expect("a header"));
        next_hop(&visited, &headers).map(|url| url.to_string())
    }

    #[test]
    fn redirects_are_followed_within_bounds() {
        assert_eq!(hop(&["https://h/a"], "/b"), Ok("https://h/b".to_owned()));
        assert_eq!(hop(&["http://h/a"], "https://i/b"), Ok("https://i/b".to_owned()));
        for (visited, to, why) in [
            (&["https://h/a"][..], "http://h/b", "plain http"),
            (&["https://h/a"], "ftp://h/b", "of kind \"ftp\""),
            (&["https://h/a"], "https://[", "no URL"),
            (&["https://h/a", "https://h/b"], "/a", "in a loop"),
            (
                &[
                    "http://h/1",
                    "http://h/2",
                    "http://h/3",
                    "http://h/4",
                    "http://h/5",
                    "http://h/6",
                ],
                "/7",
                "times",
            ),
        ] {
            let refused = hop(visited, to).expect_err(to);
            assert!(refused.contains(why), "{refused}");
        }
        assert_eq!(
            next_hop(&["http://h/".parse().expect("a URL")], &HeaderMap::new()),
            Err("without saying where".to_owned())
        );
    }
}
