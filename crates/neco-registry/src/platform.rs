//! Which of several images is for boot servers and the machines they start.

use oci_spec::image::{Arch, Descriptor, ImageIndex, Os, Platform};

/// What an image of this system and processor is for, as people write it.
pub(crate) const OURS: &str = "linux/amd64";

/// The image of an index that is for linux/amd64; else for what the others are.
pub(crate) fn ours(index: &ImageIndex) -> Result<&Descriptor, String> {
    let entries =
        || index.manifests().iter().filter_map(|entry| Some((entry, entry.platform().as_ref()?)));
    // One without a variant runs on every such machine, one of the variant v3 does not.
    let plain = |variant: &Option<String>| matches!(variant.as_deref(), None | Some("" | "v1"));
    let found = entries().find(|(_, platform)| {
        *platform.os() == Os::Linux
            && *platform.architecture() == Arch::Amd64
            && plain(platform.variant())
    });
    found.map(|(entry, _)| entry).ok_or_else(|| {
        let names: Vec<_> = entries().map(|(_, platform)| name(platform)).collect();
        if names.is_empty() { "nothing it names".to_owned() } else { names.join(", ") }
    })
}

fn name(platform: &Platform) -> String {
    let variant =
        platform.variant().iter().map(|variant| format!("/{variant}")).collect::<String>();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> ImageIndex {
        let entries: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(number, (os, architecture, variant))| {
                let mut platform = json!({ "os": os, "architecture": architecture });
                if let Some(variant) = variant {
                    platform["variant"] = json!(variant);
                }
                json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": crate::Digest::of(&[number as u8]).to_string(),
                    "size": number,
                    "platform": platform,
                })
            })
            .collect();
        serde_json::from_value(json!({ "schemaVersion": 2, "manifests": entries }))
            .expect("an index")
    }

    #[test]
    fn the_image_for_every_amd64_machine_is_chosen() {
        let many = index(&[
            ("unknown", "unknown", None),
            ("linux", "arm64", Some("v8")),
            ("windows", "amd64", None),
            ("linux", "amd64", Some("v3")),
            ("linux", "amd64", None),
        ]);
        assert_eq!(ours(&many).expect("one").size(), 4);
    }

    #[test]
    fn what_else_there_is_is_named() {
        let others = index(&[("linux", "arm64", Some("v8")), ("windows", "amd64", None)]);
        assert_eq!(ours(&others), Err("linux/arm64/v8, windows/amd64".to_owned()));
        assert_eq!(ours(&index(&[])), Err("nothing it names".to_owned()));
    }
}
