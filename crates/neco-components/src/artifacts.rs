//! The images that a boot server runs, from `artifacts.toml`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Name;
use crate::fields::{Document, Fields};
use crate::problem::Report;

/// A container image with its pinned tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// What components and steps call it.
    pub name: Name,
    /// Where it lies, such as `ghcr.io/cybozu/serf`.
    pub repository: String,
    /// Its tag, such as `0.10.1.7`.
    pub tag: String,
}

impl Image {
    /// The full name, such as `ghcr.io/cybozu/serf:0.10.1.7`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// Reads all images of `artifacts.toml`.
    pub(crate) fn read_all(document: Document<'_>, report: &Report) -> BTreeMap<Name, Self> {
        let mut images = BTreeMap::new();
        let Some(table) = document.parse(report) else { return images };
        let fields = Fields::of(document, &table, report);
        for entry in fields.tables("image") {
            if let Some(image) = Self::read(&entry) {
                if images.contains_key(&image.name) {
                    let what = format!("image {} stands here twice", image.name);
                    entry.problem("name", &what, "remove one of them");
                }
                images.insert(image.name.clone(), image);
            }
            entry.finish();
        }
        fields.finish();
        images
    }

    fn read(entry: &Fields<'_>) -> Option<Self> {
        let word = |field, more: &str, remedy: &str| {
            let found = entry.required(field, remedy)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            let good = found.value.starts_with(|c: char| c.is_ascii_alphanumeric())
                && found.value.chars().all(plain);
            if !good {
                entry.problem(field, &format!("{:?} cannot be used", found.value), remedy);
            }
            good.then(|| found.value.to_owned())
        };
        let name = entry.required_parsed("name", "name the image, such as \"serf\"");
        let repository =
            word("repository", "._-/:", "write the repository, such as \"ghcr.io/cybozu/serf\"");
        let tag = word("tag", "._-", "write the tag, such as \"0.10.1.7\"");
        Some(Self { name: name?.value, repository: repository?, tag: tag? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_repository_and_a_tag() {
        let text = "format = 1\n[[image]]\nname = \"serf\"\nrepository = \"ghcr.io/cybozu/serf\"\ntag = \"0.10.1.7\"\n";
        let report = Report::default();
        let images = Image::read_all(Document { file: "artifacts.toml", text }, &report);
        let images = report.conclude(images).expect("no problem");
        assert_eq!(images["serf"].reference(), "ghcr.io/cybozu/serf:0.10.1.7");
    }

    #[test]
    fn bad_images_are_reported_together() {
        let text = "format = 1\n[[image]]\nname = \"serf\"\nrepository = \"a b\"\n[[image]]\nname = \"x\"\nrepository = \"x\"\ntag = \"1\"\n[[image]]\nname = \"x\"\nrepository = \"x\"\ntag = \"2\"\n";
        let report = Report::default();
        Image::read_all(Document { file: "artifacts.toml", text }, &report);
        let problems = report.conclude(()).expect_err("problems");
        let lines: Vec<_> =
            problems.iter().map(|problem| (problem.line, problem.field.as_str())).collect();
        assert_eq!(
            lines,
            [
                (Some(2), "image[1].tag"),
                (Some(4), "image[1].repository"),
                (Some(10), "image[3].name")
            ]
        );
    }
}
