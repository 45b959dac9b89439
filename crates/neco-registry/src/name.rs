//! Names of repositories and images.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Docker's public registry, as images name it.
const HUB: &str = "docker.io";
/// Other names of it.
const HUB_TOO: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
/// Where it answers.
const HUB_HOST: &str = "registry-1.docker.io";
/// Whose the images without an owner are there.
const HUB_OWNER: &str = "library";

/// A repository in a registry, such as `ghcr.io/cybozu/serf`.
///
/// As with Docker, a first part without dot and port belongs to a path in Docker's public registry, `docker.io`, and a name
/// alone there is one of `library`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// An image in a repository, by its tag or by the digest of its manifest: `ghcr.io/cybozu/serf:0.10.1.7`. A tag is never
/// assumed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: Repository,
    reference: Reference,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reference {
    Tag(String),
    Digest(Digest),
}

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct NameError {
    text: String,
    what: &'static str,
}

impl Repository {
    /// The registry's host, with its port if it has one, such as `ghcr.io`: what logins are known by.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name within the registry, such as `cybozu/serf`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The image with this tag.
    ///
    /// # Errors
    /// `tag` is none.
    pub fn tagged(&self, tag: &str) -> Result<ImageName, NameError> {
        let good = tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !good {
            return Err(NameError { text: tag.to_owned(), what: "tag" });
        }
        Ok(ImageName { repository: self.clone(), reference: Reference::Tag(tag.to_owned()) })
    }

    /// The image whose manifest has this digest.
    pub fn with_digest(&self, digest: Digest) -> ImageName {
        ImageName { repository: self.clone(), reference: Reference::Digest(digest) }
    }

    /// The host that answers for the registry.
    pub(crate) fn host(&self) -> &str {
        if self.registry == HUB { HUB_HOST } else { &self.registry }
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (registry, path) = match text.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, text),
        };
        let registry = if HUB_TOO.contains(&registry) { HUB } else { registry };
        let path = match registry {
            HUB if !path.contains('/') => format!("{HUB_OWNER}/{path}"),
            _ => path.to_owned(),
        };
        if is_host(registry) && path.len() <= 255 && path.split('/').all(is_path_part) {
            Ok(Self { registry: registry.to_owned(), path })
        } else {
            let what = "full name of a repository (write it like ghcr.io/cybozu/serf)";
            Err(NameError { text: text.to_owned(), what })
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl ImageName {
    /// Where it lies.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Its tag, where it is named by one.
    pub fn tag(&self) -> Option<&str> {
        match &self.reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        }
    }

    /// The digest of its manifest, where it is named by that.
    pub fn digest(&self) -> Option<Digest> {
        match &self.reference {
            Reference::Tag(_) => None,
            Reference::Digest(digest) => Some(*digest),
        }
    }

    /// What it is called within its repository.
    pub(crate) fn reference(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => tag.clone(),
            Reference::Digest(digest) => digest.to_string(),
        }
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError {
            text: text.to_owned(),
            what: "full name of an image (write it with its tag, like ghcr.io/cybozu/serf:0.10.1.7)",
        };
        if let Some((repository, digest)) = text.split_once('@') {
            let repository: Repository = repository.parse().map_err(|_| bad())?;
            return Ok(repository.with_digest(digest.parse().map_err(|_| bad())?));
        }
        let (repository, tag) = text.rsplit_once(':').ok_or_else(bad)?;
        let repository: Repository = repository.parse().map_err(|_| bad())?;
        repository.tagged(tag).map_err(|_| bad())
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Reference::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Reference::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

/// A host name, an address, or an IPv6 address in brackets; with a port or without one.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let edge = |c: char| c.is_ascii_alphanumeric();
            label.starts_with(edge)
                && label.ends_with(edge)
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    good_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Lower-case words, separated by one dot, one or two underscores, or any number of dashes.
fn is_path_part(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let inside = bytes.split(word).filter(|separator| !separator.is_empty());
    bytes.first().is_some_and(word)
        && bytes.last().is_some_and(word)
        && inside.into_iter().all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(text: &str) -> Repository {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_repository_is_a_registry_and_a_path() {
        for (text, registry, path, host) in [
            ("ghcr.io/cybozu/etcd", "ghcr.io", "cybozu/etcd", "ghcr.io"),
            ("registry.test:5000/a/b/c", "registry.test:5000", "a/b/c", "registry.test:5000"),
            ("localhost/etcd", "localhost", "etcd", "localhost"),
            ("[::1]:5000/etcd", "[::1]:5000", "etcd", "[::1]:5000"),
            ("etcd", "docker.io", "library/etcd", "registry-1.docker.io"),
            ("cybozu/etcd", "docker.io", "cybozu/etcd", "registry-1.docker.io"),
            ("docker.io/etcd", "docker.io", "library/etcd", "registry-1.docker.io"),
            ("index.docker.io/cybozu/etcd", "docker.io", "cybozu/etcd", "registry-1.docker.io"),
            ("ghcr.io/a.b/c_d/e__f/g---h/0", "ghcr.io", "a.b/c_d/e__f/g---h/0", "ghcr.io"),
        ] {
            let repository = repository(text);
            assert_eq!((repository.registry(), repository.path()), (registry, path), "{text}");
            assert_eq!(repository.host(), host, "{text}");
            assert_eq!(repository.to_string().parse(), Ok(repository), "{text}");
        }
    }

    #[test]
    fn an_image_has_a_tag_or_a_digest() {
        let image: ImageName = "registry.test:5000/cybozu/etcd:3.5.15.1".parse().expect("a name");
        assert_eq!(image.tag(), Some("3.5.15.1"));
        assert_eq!(image.repository(), &repository("registry.test:5000/cybozu/etcd"));
        let digest = Digest::of(b"abc");
        let image: ImageName = format!("ghcr.io/etcd@{digest}").parse().expect("a name");
        assert_eq!((image.tag(), image.digest()), (None, Some(digest)));
        assert_eq!(image.to_string().parse(), Ok(image));
    }

    #[test]
    fn what_would_change_the_question_is_no_name() {
        for bad in [
            "",
            "/",
            "ghcr.io/",
            "ghcr.io//a",
            "ghcr.io/a/../b",
            "ghcr.io/a/..",
            "ghcr.io/A",
            "ghcr.io/a?x",
            "ghcr.io/a#x",
            "ghcr.io/a%2fb",
            "ghcr.io/a___b",
            "ghcr.io/a..b",
            "ghcr.io/a-",
            "ghcr.io/_a",
            "user@ghcr.io/a",
            "ghcr..io/a",
            "ghcr.io:0/a",
            "ghcr.io:x/a",
            "[::g]/a",
            "a b",
            &format!("ghcr.io/{}", "a".repeat(256)),
        ] {
            let error = bad.parse::<Repository>().expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
        for bad in [
            "etcd",
            "ghcr.io/a",
            "ghcr.io/a:",
            "ghcr.io/a:.b",
            "ghcr.io/a:b/c",
            "a@sha256:0",
            "localhost:5000/a",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
    }
}
