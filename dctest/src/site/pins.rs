//! What the packages of boot servers that run everything pin.

use anyhow::{Context as _, Result};

/// Where it stands in a package.
pub const FILE: &str = "usr/share/neco/artifacts.toml";

const PINS: &str = include_str!("../../fixtures/full/usr/share/neco/artifacts.toml");

/// The pins with another tag for one image.
///
/// # Errors
/// There is no such image.
pub fn with_tag(image: &str, tag: &str) -> Result<String> {
    let begin = format!("[[image]]\nname = \"{image}\"\n");
    let (before, entry) = PINS.split_once(&begin).with_context(|| format!("no image {image}"))?;
    let (head, rest) = entry.split_once("tag = \"").context("an image has a tag")?;
    let (_, rest) = rest.split_once('"').context("a tag ends")?;
    Ok(format!("{before}{begin}{head}tag = \"{tag}\"{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tag_of_one_image_is_another() {
        let changed = with_tag("etcd", "9.9.9").unwrap();
        assert_eq!(changed.replace("9.9.9", "3.4.23.1"), PINS);
        assert!(changed.contains("repository = \"registry.test/etcd\"\ntag = \"9.9.9\"\n"));
        assert!(with_tag("nobody", "1").is_err());
    }
}
