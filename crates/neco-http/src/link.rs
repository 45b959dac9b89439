//! Lists that come page by page.

use reqwest::header::{HeaderMap, LINK};

/// Where the next page is, as the headers of this one say it: an address, or one relative to this page's.
pub fn next_page(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(LINK).iter().filter_map(|value| next_link(value.to_str().ok()?)).next()
}

/// The target of `rel="next"` in a Link header.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        // The parameters reach to the next link, which begins with `<`.
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split_whitespace().any(|rel| rel == "next")
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_the_links() {
        let both = r#"<https://h/r?page=1>; rel="prev", <https://h/r?page=3>; rel="next", <https://h/r?page=9>; rel="last""#;
        assert_eq!(next_link(both), Some("https://h/r?page=3"));
        assert_eq!(next_link(r#"<https://h/r?page=9>; rel="last""#), None);
        assert_eq!(next_link("<x>; title=\"a\"; rel=next"), Some("x"));
        for odd in ["", "<", "<x", "rel=next", "<x>", ">;rel=next<"] {
            assert_eq!(next_link(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_page_may_have_several_headers_of_links() {
        let mut headers = HeaderMap::new();
        assert_eq!(next_page(&headers), None);
        headers.append(LINK, "<p>; rel=prev".parse().expect("a header"));
        headers.append(LINK, "<n>; rel=next".parse().expect("a header"));
        assert_eq!(next_page(&headers), Some("n"));
    }
}
