//! Listen addresses: `http://HOST:PORT` and `https://HOST:PORT`, nothing else.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One listener of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// 0 until a port is chosen.
    pub(crate) port: u16,
}

impl ListenUrl {
    pub(crate) fn loopback(tls: bool) -> Self {
        Self { tls, host: "127.0.0.1".to_owned(), port: 0 }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.address().is_some_and(|a| a.is_loopback())
    }

    /// Whether it listens on every address, so that nobody can be told to connect to it.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.address().is_some_and(|a| a.is_unspecified())
    }

    /// Whether both would bind the same socket.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        let same_host = self.address() == other.address() && self.address().is_some()
            || self.host == other.host
            || self.is_unspecified()
            || other.is_unspecified();
        self.port != 0 && self.port == other.port && same_host
    }

    fn address(&self) -> Option<IpAddr> {
        if self.host == "localhost" {
            return Some(IpAddr::from([127, 0, 0, 1]));
        }
        self.host.parse().ok()
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?} {what}, write http://HOST:PORT"));
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None => return wrong("has no scheme"),
        };
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return wrong("is neither http nor https"),
        };
        if rest.contains(['/', '?', '#', '@', ',', ' ']) {
            return wrong("has more than a host and a port");
        }
        let Some((host, port)) = rest.rsplit_once(':') else { return wrong("has no port") };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6()) => v6,
            Some(_) => return wrong("has a malformed IPv6 address"),
            None if host.contains(':') => return wrong("has an IPv6 address without brackets"),
            None if host.is_empty() => return wrong("has no host"),
            None => host,
        };
        match port.parse() {
            Ok(port) => Ok(Self { tls, host: host.to_owned(), port }),
            Err(_) => wrong("has a port that is not 0 to 65535"),
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ListenUrl {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["http://127.0.0.1:0", "https://[::1]:2379", "http://localhost:65535"] {
            assert_eq!(url(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "127.0.0.1:2379",
            "unix://x:1",
            "http://h",
            "http://h:1/x",
            "http://::1:2379",
            "http://[1.2.3.4]:1",
            "http://:1",
            "http://h:65536",
            "http://a:1,http://b:1",
        ] {
            assert!(text.parse::<ListenUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn sees_collisions_through_different_spellings() {
        assert!(url("http://localhost:1").collides_with(&url("http://127.0.0.1:1")));
        assert!(url("http://0.0.0.0:1").collides_with(&url("http://127.0.0.1:1")));
        assert!(url("https://db:1").collides_with(&url("http://db:1")));
        assert!(!url("http://127.0.0.1:1").collides_with(&url("http://127.0.0.1:2")));
        assert!(!url("http://127.0.0.1:0").collides_with(&url("http://127.0.0.1:0")));
        assert!(!url("http://127.0.0.1:1").collides_with(&url("http://127.0.0.2:1")));
    }
}
