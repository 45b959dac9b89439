//! Container images.

use neco_toml::{Fields, Name};
use serde::Serialize;

use crate::artifacts::word;

/// A container image with its pinned tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// What components and steps call it.
    pub name: Name,
    /// Where it lies, such as `ghcr.io/cybozu/serf`.
    pub repository: String,
    /// Its tag, such as `0.10.1.7`.
    pub tag: String,
    /// Whether a private variant lies beside it, in the repository of the same name with `-secret` at its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
}

impl Image {
    /// The full name, such as `ghcr.io/cybozu/serf:0.10.1.7`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// The full name of its private variant, where it has one; its own otherwise.
    pub fn private_reference(&self) -> String {
        if self.private {
            format!("{}-secret:{}", self.repository, self.tag)
        } else {
            self.reference()
        }
    }

    /// What its archive is called among sabakan's assets, such as `cybozu-serf-ghcr.io-cybozu-serf-0.10.1.7.img`. It tells
    /// the public repository also where the private variant lies in it.
    pub fn asset_name(&self) -> String {
        asset_name(self.name.as_str(), &self.repository, &self.tag)
    }

    pub(crate) fn read(entry: &Fields<'_>) -> Option<Self> {
        let name = entry.required_parsed("name", "name the image, such as \"serf\"");
        let remedy = "write the repository, such as \"ghcr.io/cybozu/serf\"";
        let repository = word(entry, "repository", "._-/:", remedy);
        let tag = word(entry, "tag", "._-", "write the tag, such as \"0.10.1.7\"");
        let private = entry.boolean("private").unwrap_or(false);
        Some(Self {
            name: name?.value,
            repository: repository?.to_owned(),
            tag: tag?.to_owned(),
            private,
        })
    }
}

/// An image that another program wants to have, as it lists it. Its name is one of that program's, such as
/// `unbound_exporter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    /// The last part of its repository.
    pub name: String,
    /// Where it lies, such as `ghcr.io/cybozu/etcd`.
    pub repository: String,
    /// Its tag.
    pub tag: String,
}

impl ListedImage {
    /// The images of a list with one full name a line, as `ckecli images` prints it. A registry may have a port: the tag
    /// begins after the last colon behind the last slash.
    ///
    /// # Errors
    /// The line that names no image.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| Self::of(line).ok_or_else(|| format!("{line:?} is no image"))).collect()
    }

    fn of(line: &str) -> Option<Self> {
        let base = line.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = line[base..].split_once(':')?;
        let all = |text: &str, more: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let repository = format!("{}{name}", &line[..base]);
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let good = begins && !tag.is_empty() && all(tag, "._-") && all(&repository, "._-/:");
        good.then(|| Self { name: name.to_owned(), repository, tag: tag.to_owned() })
    }

    /// The full name, such as `ghcr.io/cybozu/etcd:3.5.15.1`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// What its archive is called among sabakan's assets.
    pub fn asset_name(&self) -> String {
        asset_name(&self.name, &self.repository, &self.tag)
    }
}

fn asset_name(name: &str, repository: &str, tag: &str) -> String {
    format!("cybozu-{name}-{}-{tag}.img", repository.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_called_as_its_image() {
        let image = Image {
            name: "setup-hw".parse().expect("a name"),
            repository: "ghcr.io/cybozu-go/setup-hw".to_owned(),
            tag: "1.20.1".to_owned(),
            private: true,
        };
        assert_eq!(image.asset_name(), "cybozu-setup-hw-ghcr.io-cybozu-go-setup-hw-1.20.1.img");
        assert_eq!(image.reference(), "ghcr.io/cybozu-go/setup-hw:1.20.1");
        assert_eq!(image.private_reference(), "ghcr.io/cybozu-go/setup-hw-secret:1.20.1");
        let public = Image { private: false, ..image };
        assert_eq!(public.private_reference(), public.reference());
    }

    #[test]
    fn a_line_is_an_image() {
        let text = "ghcr.io/cybozu/unbound_exporter:0.4\nregistry.test:5000/cybozu/etcd:3.5\n\npause:3.10\n";
        let images = ListedImage::list(text).unwrap_or_else(|why| panic!("{why}"));
        let parts: Vec<_> = images
            .iter()
            .map(|image| (image.name.as_str(), image.repository.as_str(), image.tag.as_str()))
            .collect();
        assert_eq!(
            parts,
            [
                ("unbound_exporter", "ghcr.io/cybozu/unbound_exporter", "0.4"),
                ("etcd", "registry.test:5000/cybozu/etcd", "3.5"),
                ("pause", "pause", "3.10"),
            ]
        );
        assert_eq!(ListedImage::list(""), Ok(Vec::new()));
        let asset = "cybozu-unbound_exporter-ghcr.io-cybozu-unbound_exporter-0.4.img";
        assert_eq!(images[0].asset_name(), asset);
        assert_eq!(images[1].reference(), "registry.test:5000/cybozu/etcd:3.5");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for bad in ["ghcr.io/cybozu/etcd", "registry.test:5000/etcd", "a:b:c", "x y:1", ":1", "a:"]
        {
            let why = ListedImage::list(&format!("ok:1\n{bad}\n")).expect_err(bad);
            assert!(why.contains(bad), "{why}");
        }
    }
}
