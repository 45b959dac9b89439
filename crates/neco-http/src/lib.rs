//! The manners of outgoing HTTP that all of Neco's clients have.
//!
//! - [`client`] begins a client that goes through a proxy where there is one, follows no redirect by itself, and tells
//!   nobody where it came from.
//! - [`shown`] is an address as it may stand in logs and errors.
//! - [`is_loopback`] says whether an address stays on this machine.
//! - [`read_capped`] reads a body that is no larger than it may be.
//! - [`next_hop`] says where a redirect leads, if it is followed; [`next_page`] where a list goes on, [`content_range`] where
//!   a body does, [`retry_after`] when to ask again.
//!
//! What is asked, how long to wait and what a refusal means is the business of each client.

mod body;
mod link;
mod range;
mod redirect;
mod retry_after;

use std::sync::Once;

pub use body::{BodyError, read_capped};
pub use link::next_page;
pub use range::content_range;
pub use redirect::{is_redirect, next_hop};
pub use reqwest::Url;
pub use retry_after::{retry_after, server_now};

/// Begins a client that asks `to`, through `proxy` if there is one. It follows no redirect and tells nobody where it came
/// from: what goes along with a request, and what stands in its address, is for one host alone.
///
/// # Errors
/// The proxy is none.
pub fn client(to: &Url, proxy: Option<&Url>) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    install_crypto();
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).referer(false);
    Ok(match proxy {
        Some(proxy) => client.proxy(reqwest::Proxy::all(proxy.clone())?),
        // Proxy variables of the environment are meant for the world outside.
        None if is_loopback(to) => client.no_proxy(),
        None => client,
    })
}

/// `url` without what may be secret in it: user, password, query, fragment.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Whether `url` leads to this machine itself.
pub fn is_loopback(url: &Url) -> bool {
    // A host in brackets is an IPv6 address.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The TLS library needs one provider of cryptography per process; another part may have installed it already.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn nothing_secret_of_an_address_is_shown() {
        let secret = url("https://user:pw@host/path?X-Amz-Signature=abc#f");
        assert_eq!(shown(&secret), "https://host/path");
    }

    #[test]
    fn loopback_is_told_by_name_and_by_both_kinds_of_address() {
        for own in
            ["http://127.0.0.1:80/", "http://127.8.8.8/", "http://[::1]:1/", "https://localhost/"]
        {
            assert!(is_loopback(&url(own)), "{own}");
        }
        for other in ["http://10.69.0.3/", "http://localhost.example/", "http://[fe80::1]/"] {
            assert!(!is_loopback(&url(other)), "{other}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_refused() {
        assert!(client(&url("https://host/"), Some(&url("http://proxy:3128"))).is_ok());
        assert!(client(&url("https://host/"), Some(&url("mailto:somebody"))).is_err());
    }
}
