//! Full names of container images.

use serde::{Deserialize, Serialize};

/// The full name of an image with its tag, such as `ghcr.io/cybozu/serf:0.10.1.7`.
///
/// Two names are the same image only if their texts are equal; a tag is never assumed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(String);

/// A text that is no full name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a full image name (write repository and tag, such as ghcr.io/cybozu/serf:0.10.1.7)"
)]
pub struct ImageRefError {
    text: String,
}

impl ImageRef {
    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the tag.
    pub fn repository(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(repository, _)| repository)
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(_, tag)| tag)
    }

    /// The host of the registry, with its port if it has one. As with Docker, a first part without dot and port belongs to
    /// a path in Docker's public registry.
    pub fn registry(&self) -> &str {
        match self.repository().split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => "docker.io",
        }
    }
}

impl std::str::FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let word = |part: &str, more: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let good = text.len() <= 512
            && text.rsplit_once(':').is_some_and(|(repository, tag)| {
                tag.len() <= 128
                    && word(tag, "_.-")
                    && repository.split('/').all(|part| word(part, "_.-:"))
            });
        if good { Ok(Self(text.to_owned())) } else { Err(ImageRefError { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageRefError;

    fn try_from(text: String) -> Result<Self, ImageRefError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.0
    }
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_repository_and_a_tag() {
        let image: ImageRef = "registry.example:5000/cybozu/etcd:3.5.15.1".parse().expect("a name");
        assert_eq!(image.repository(), "registry.example:5000/cybozu/etcd");
        assert_eq!(image.tag(), "3.5.15.1");
        for (text, registry) in [
            ("registry.example:5000/cybozu/etcd:1", "registry.example:5000"),
            ("ghcr.io/cybozu/etcd:1", "ghcr.io"),
            ("localhost/etcd:1", "localhost"),
            ("cybozu/etcd:1", "docker.io"),
            ("etcd:1", "docker.io"),
        ] {
            assert_eq!(text.parse::<ImageRef>().expect("a name").registry(), registry, "{text}");
        }
        for bad in [
            "",
            "etcd",
            "ghcr.io/a/b",
            "a b:1",
            ":1",
            "a/:1",
            "a:",
            "/a:1",
            "localhost:5000/a",
            "-v:1",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?}");
        }
    }
}
