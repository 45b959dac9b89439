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

    /// The images of a list with one full name a line, as `ckecli images` prints it. Each is called as the last part of its
    /// repository. A registry may have a port: the tag begins after the last colon behind the last slash.
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
        let good = !tag.is_empty() && all(tag, "._-") && all(&repository, "._-/:");
        let (name, tag, private) = (name.parse().ok()?, tag.to_owned(), false);
        good.then_some(Self { name, repository, tag, private })
    }

    /// What its archive is called among sabakan's assets, such as `cybozu-serf-ghcr.io-cybozu-serf-0.10.1.7.img`. It tells
    /// the public repository also where the private variant lies in it.
    pub fn asset_name(&self) -> String {
        format!("cybozu-{}-{}-{}.img", self.name, self.repository.replace('/', "-"), self.tag)
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
        let text =
            "ghcr.io/cybozu/hyperkube:1.30.6.1\nregistry.test:5000/cybozu/etcd:3.5\n\npause:3.10\n";
        let images = Image::list(text).unwrap_or_else(|why| panic!("{why}"));
        let parts: Vec<_> = images
            .iter()
            .map(|image| (image.name.as_str(), image.repository.as_str(), image.tag.as_str()))
            .collect();
        assert_eq!(
            parts,
            [
                ("hyperkube", "ghcr.io/cybozu/hyperkube", "1.30.6.1"),
                ("etcd", "registry.test:5000/cybozu/etcd", "3.5"),
                ("pause", "pause", "3.10"),
            ]
        );
        assert_eq!(Image::list(""), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for bad in ["ghcr.io/cybozu/etcd", "registry.test:5000/etcd", "a:b:c", "x y:1", ":1", "a:"]
        {
            let why = Image::list(&format!("ok:1\n{bad}\n")).expect_err(bad);
            assert!(why.contains(bad), "{why}");
        }
    }
}
