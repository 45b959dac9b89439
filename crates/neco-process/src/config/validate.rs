//! The third stage: from a merged tree to values that can be used, or to what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_base::Secret;

use super::report::Report;
use super::{Config, EtcdConfig, Identity, Listen, Login, Pem, ReleaseConfig, Tls, Unsigned};
use crate::duration;
use crate::root::under;
use crate::yaml::{Node, Place, Value};

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";
const DEFAULT_PREFIX: &str = "/neco/";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the API of releases, or a download, may be silent.
const DEFAULT_RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_CACHE: &str = "/var/cache/neco";
/// Where a daemon listens that does not.
const NOWHERE: &str = "none";
const DEFAULT_API_URL: &str = "https://api.github.com";

/// Checks a merged tree. What comes back is of use only if the report has no problems.
pub(super) fn validate(merged: &Node, main: &Path, root: &Path, report: &mut Report) -> Config {
    let top = Section::of(merged, "", main, report);
    let mut reader = Reader { root, main, report };
    let etcd = reader.etcd(&top);
    let release = reader.release(&top);
    let listen = reader.listen(&top);
    let cache = match reader.text(&top, "cache") {
        Some(found) => reader.path(&found),
        None => under(root, Path::new(DEFAULT_CACHE)),
    };
    reader.unknown(
        &top,
        &[
            "endpoints",
            "prefix",
            "timeout",
            "username",
            "password",
            "tls-ca",
            "tls-ca-file",
            "tls-cert",
            "tls-cert-file",
            "tls-key",
            "tls-key-file",
            "release",
            "listen",
            "cache",
        ],
    );
    Config { etcd, release, listen, cache }
}

/// The keys of one mapping.
struct Section<'a> {
    /// The key of the mapping itself, with a dot at its end; empty at the top.
    prefix: String,
    entries: &'a [(String, Node)],
}

impl<'a> Section<'a> {
    fn of(node: &'a Node, key: &str, main: &Path, report: &mut Report) -> Self {
        let prefix = if key.is_empty() { String::new() } else { format!("{key}.") };
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                debug_assert!(!key.is_empty(), "{} is a mapping at its top", main.display());
                let what = format!("is {} instead of a mapping", other.kind());
                report.problem(node.place(), key, what, "write its keys below it, indented");
                &[]
            }
        };
        Self { prefix, entries }
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, node)| node)
    }
}

/// A text that is set, and where.
struct Found<'a> {
    key: String,
    text: &'a str,
    place: Place<'a>,
}

struct Reader<'r> {
    root: &'r Path,
    main: &'r Path,
    report: &'r mut Report,
}

impl Reader<'_> {
    /// A text, unless it is unset or empty.
    fn text<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<Found<'a>> {
        let node = section.get(key)?;
        let key = format!("{}{key}", section.prefix);
        match &node.value {
            Value::Null => None,
            Value::Text(text) if text.is_empty() => None,
            Value::Text(text) => Some(Found { key, text, place: node.place() }),
            other => {
                let what = format!("is {} instead of a text", other.kind());
                let remedy = match other {
                    Value::Bool(_) | Value::Number(_) => "put it in quotes",
                    _ => "write one value after the colon",
                };
                self.report.problem(node.place(), &key, what, remedy);
                None
            }
        }
    }

    fn problem(&mut self, found: &Found<'_>, what: &str, remedy: &str) {
        // Wherever this is called the text is no secret.
        let what = format!("{:?} {what}", found.text);
        self.report.problem(found.place, &found.key, what, remedy);
    }

    fn path(&mut self, found: &Found<'_>) -> PathBuf {
        let path = Path::new(found.text);
        if !path.is_absolute() {
            self.problem(found, "is not an absolute path", "start it with /");
        }
        under(self.root, path)
    }

    fn unknown(&mut self, section: &Section<'_>, known: &[&str]) {
        for (key, node) in section.entries {
            if known.contains(&key.as_str()) {
                continue;
            }
            let plain = |key: &str| key.to_lowercase().replace(['_', '-'], "");
            let remedy = match known.iter().find(|known| plain(known) == plain(key)) {
                Some(meant) => format!("write {}{meant}", section.prefix),
                None => "remove it, or correct its name".to_owned(),
            };
            let key = format!("{}{key}", section.prefix);
            self.report.warning(node.place(), &key, "is unknown and ignored", remedy);
        }
    }

    fn etcd(&mut self, top: &Section<'_>) -> EtcdConfig {
        let endpoints = self.endpoints(top);
        let prefix = match self.text(top, "prefix") {
            None => DEFAULT_PREFIX.to_owned(),
            Some(found) => {
                if !found.text.starts_with('/') || !found.text.ends_with('/') {
                    self.problem(&found, "does not start and end in /", "write for example /neco/");
                }
                found.text.to_owned()
            }
        };
        let timeout = self.timeout(top);
        let login = self.login(top);
        let tls = self.tls(top);
        EtcdConfig { endpoints, prefix, timeout, login, tls }
    }

    fn endpoints(&mut self, top: &Section<'_>) -> Vec<String> {
        let default = || vec![DEFAULT_ENDPOINT.to_owned()];
        let example = "write for example [\"https://10.69.0.3:2379\"]";
        let Some(node) = top.get("endpoints") else { return default() };
        let list = match &node.value {
            Value::Null => return default(),
            Value::List(list) if list.is_empty() => return default(),
            Value::List(list) => list,
            other => {
                let what = format!("is {} instead of a list", other.kind());
                self.report.problem(node.place(), "endpoints", what, example);
                return default();
            }
        };
        let mut endpoints: Vec<String> = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let key = format!("endpoints[{index}]");
            let Value::Text(text) = &item.value else {
                let what = format!("is {} instead of a URL", item.value.kind());
                self.report.problem(item.place(), &key, what, example);
                continue;
            };
            let text = text.strip_suffix('/').unwrap_or(text);
            let authority = text.split_once("://").map_or(Some(text), |(scheme, rest)| {
                matches!(scheme, "http" | "https").then_some(rest)
            });
            if !authority.is_some_and(is_host_and_port) {
                let what = format!("{text:?} is not the URL of an etcd server");
                self.report.problem(item.place(), &key, what, "write https://HOST:PORT");
            } else if endpoints.iter().any(|known| known == text) {
                let what = format!("{text} stands there twice");
                self.report.warning(item.place(), &key, what, "remove one");
            } else {
                endpoints.push(text.to_owned());
            }
        }
        endpoints
    }

    fn timeout(&mut self, top: &Section<'_>) -> Duration {
        if let Some(node) = top.get("timeout")
            && matches!(&node.value, Value::Text(text) if text.is_empty())
        {
            let what = "is empty, 2s is used";
            self.report.warning(node.place(), "timeout", what, "write a duration, or remove it");
        }
        self.duration(top, "timeout", DEFAULT_TIMEOUT, "write for example 2s or 500ms")
    }

    fn duration(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: Duration,
        remedy: &str,
    ) -> Duration {
        let Some(found) = self.text(section, key) else { return default };
        match duration::parse(found.text) {
            Ok(duration) => duration,
            Err(error) => {
                self.problem(&found, &error.to_string(), remedy);
                default
            }
        }
    }

    fn login(&mut self, top: &Section<'_>) -> Option<Login> {
        match (self.text(top, "username"), self.text(top, "password")) {
            (Some(username), Some(password)) => Some(Login {
                username: username.text.to_owned(),
                password: Secret::from(password.text),
            }),
            (Some(username), None) => {
                // Not "wrong type" again: that was said when it was looked at.
                if top.get("password").is_none_or(|node| is_unset(&node.value)) {
                    self.problem(&username, "has no password", "set password too");
                }
                None
            }
            (None, Some(password)) => {
                let (what, remedy) = ("is ignored without username", "set username, or remove it");
                self.report.warning(password.place, &password.key, what, remedy);
                None
            }
            (None, None) => None,
        }
    }

    fn tls(&mut self, top: &Section<'_>) -> Option<Tls> {
        let ca = self.pem(top, "tls-ca").map(|(pem, _)| pem);
        let cert = self.pem(top, "tls-cert");
        let key = self.pem(top, "tls-key");
        let identity = match (cert, key) {
            (Some((cert, _)), Some((key, _))) => Some(Identity { cert, key: Secret::new(key) }),
            (Some((_, found)), None) => {
                self.lonely(&found, "tls-key-file");
                None
            }
            (None, Some((_, found))) => {
                self.lonely(&found, "tls-cert-file");
                None
            }
            (None, None) => None,
        };
        (ca.is_some() || identity.is_some()).then_some(Tls { ca, identity })
    }

    fn lonely(&mut self, found: &Found<'_>, other: &str) {
        let what = format!("is ignored without {other}");
        self.report.warning(found.place, &found.key, what, format!("set {other}, or remove it"));
    }

    /// A file wins over its inline twin.
    fn pem<'a>(&mut self, top: &Section<'a>, key: &str) -> Option<(Pem, Found<'a>)> {
        let inline = self.text(top, key);
        let file = self.text(top, &format!("{key}-file"));
        match (file, inline) {
            (Some(file), inline) => {
                if let Some(inline) = inline {
                    let what = format!("is ignored because {} is set", file.key);
                    self.report.warning(inline.place, &inline.key, what, "remove one of the two");
                }
                Some((Pem::File(self.path(&file)), file))
            }
            (None, Some(inline)) => {
                if !inline.text.contains("-----BEGIN ") {
                    // A key may stand there: say nothing of its text.
                    let (what, remedy) = ("is not PEM text", "use the -file key for a file's name");
                    self.report.problem(inline.place, &inline.key, what, remedy);
                }
                Some((Pem::Inline(inline.text.to_owned()), inline))
            }
            (None, None) => None,
        }
    }

    fn release(&mut self, top: &Section<'_>) -> ReleaseConfig {
        let section = match top.get("release") {
            Some(node) => Section::of(node, "release", self.main, self.report),
            None => Section { prefix: "release.".to_owned(), entries: &[] },
        };
        let owner = self.word(&section, "owner", "cybozu-go", "a GitHub owner", is_github_name);
        let repository =
            self.word(&section, "repository", "neco", "a GitHub repository", is_github_name);
        // Signatures, control files and caches of this version know one name.
        let ours = |name: &str| name == "neco";
        let package = self.word(&section, "package", "neco", "the package of this version", ours);
        let api_url = match self.text(&section, "api_url") {
            None => DEFAULT_API_URL.to_owned(),
            Some(found) => {
                let url = found.text.trim_end_matches('/');
                let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
                let odd = |c: char| c.is_whitespace() || matches!(c, '?' | '#' | '@');
                if url.contains(odd) || !authority.is_some_and(is_host_with_or_without_port) {
                    self.problem(&found, "is not a URL", "write https://HOST or http://HOST:PORT");
                }
                url.to_owned()
            }
        };
        let unsigned = match self.text(&section, "unsigned") {
            None => Unsigned::default(),
            Some(found) => match found.text {
                "allow" => Unsigned::Allow,
                "refuse" => Unsigned::Refuse,
                _ => {
                    self.problem(&found, "is neither allow nor refuse", "write one of the two");
                    Unsigned::Refuse
                }
            },
        };
        let remedy = "write for example 30s or 1m";
        let timeout = self.duration(&section, "timeout", DEFAULT_RELEASE_TIMEOUT, remedy);
        let known = ["owner", "repository", "package", "api_url", "unsigned", "timeout"];
        self.unknown(&section, &known);
        ReleaseConfig { owner, repository, package, api_url, unsigned, timeout }
    }

    fn word(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: &str,
        meaning: &str,
        is_fine: fn(&str) -> bool,
    ) -> String {
        let Some(found) = self.text(section, key) else { return default.to_owned() };
        if !is_fine(found.text) {
            let what = format!("is not the name of {meaning}");
            self.problem(&found, &what, &format!("write for example {default}"));
        }
        found.text.to_owned()
    }

    fn listen(&mut self, top: &Section<'_>) -> Listen {
        let Some(node) = top.get("listen") else { return Listen::default() };
        if !matches!(node.value, Value::Map(_)) {
            let Some(found) = self.text(top, "listen") else { return Listen::default() };
            return Listen { all: self.address(&found), each: Vec::new() };
        }
        let section = Section::of(node, "listen", self.main, self.report);
        let mut each = Vec::new();
        for (daemon, _) in section.entries {
            if let Some(found) = self.text(&section, daemon) {
                each.push((daemon.clone(), self.address(&found)));
            }
        }
        Listen { each, ..Listen::default() }
    }

    /// `None` stands for no address at all.
    fn address(&mut self, found: &Found<'_>) -> Option<String> {
        let text = found.text;
        if text == NOWHERE {
            return None;
        }
        if !is_listen_address(text) {
            let remedy = format!("write for example 127.0.0.1:10080, or {NOWHERE}");
            self.problem(found, "is not HOST:PORT", &remedy);
        } else if !is_loopback(text) {
            let what = format!("{text} can be reached from other machines, without a password");
            self.report.warning(found.place, &found.key, what, "prefer 127.0.0.1");
        }
        Some(text.to_owned())
    }
}

fn is_unset(value: &Value) -> bool {
    matches!(value, Value::Null) || matches!(value, Value::Text(text) if text.is_empty())
}

/// `HOST:PORT`, the host a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// As [`is_host_and_port`], or with port 0 for any free port.
fn is_listen_address(text: &str) -> bool {
    is_host_and_port(text) || text.strip_suffix(":0").is_some_and(is_host)
}

fn is_host_with_or_without_port(text: &str) -> bool {
    is_host(text) || is_host_and_port(text)
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return v6.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.len() <= 253 && host.chars().all(fine)
}

fn is_loopback(text: &str) -> bool {
    match text.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => text.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

fn is_github_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name.len() <= 100 && name.chars().all(fine) && !name.starts_with('.')
}
