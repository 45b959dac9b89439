//! Images of a few Debian programs, as a registry takes them (Docker's image manifest version 2, schema 2).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::tools::output;

/// The programs: where they lie in an image, and what they are on this machine.
const PROGRAMS: [(&str, &str); 7] = [
    ("sh", "/bin/sh"),
    ("sleep", "/bin/sleep"),
    ("cat", "/bin/cat"),
    ("true", "/bin/true"),
    ("false", "/bin/false"),
    ("install-tools", "/bin/true"),
    ("id", "/usr/bin/id"),
];

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The parts of an image that can be pushed.
pub(crate) struct Image {
    pub(crate) configuration: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", neco_base::hex(&Sha256::digest(bytes)))
}

/// A layer of the programs, packed and then compressed.
pub(crate) fn programs(dir: &Path) -> Vec<u8> {
    let tree = dir.join("programs");
    let mut files: BTreeSet<(String, String)> =
        PROGRAMS.iter().map(|(name, from)| (format!("bin/{name}"), (*from).to_owned())).collect();
    for (_, from) in PROGRAMS {
        let told = output("ldd", &[from]);
        let paths =
            told.lines().filter_map(|line| line.rsplit("=> ").next()?.split_whitespace().next());
        for path in paths.filter(|path| path.starts_with('/')) {
            files.insert((path.trim_start_matches('/').to_owned(), path.to_owned()));
        }
    }
    for (to, from) in files {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(from, to).expect("copied");
    }
    tar(dir, &tree)
}

/// A layer of `size` bytes that cannot be compressed.
pub(crate) fn ballast(dir: &Path, size: usize) -> Vec<u8> {
    let tree = dir.join("ballast");
    fs::create_dir_all(&tree).expect("made");
    // An xorshift generator: nothing of it repeats, and it is the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(tree.join("ballast"), bytes).expect("written");
    tar(dir, &tree)
}

fn tar(dir: &Path, tree: &Path) -> Vec<u8> {
    let file = dir.join("layer.tar");
    let (tree, to) = (tree.display().to_string(), file.display().to_string());
    output(
        "tar",
        &["--owner=0", "--group=0", "--create", "--file", &to, "--directory", &tree, "."],
    );
    fs::read(file).expect("a layer")
}

/// An image of layers that are not compressed; `tag` makes it differ from others.
pub(crate) fn image(layers: &[Vec<u8>], tag: &str) -> Image {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let configuration = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Cmd": ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
            "Env": ["PATH=/bin"],
            "User": "7",
            "Labels": { "tag": tag },
        },
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
    .to_string()
    .into_bytes();
    let part = |kind: &str, bytes: &[u8]| {
        let kind = format!("application/vnd.docker.{kind}");
        json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) })
    };
    let described: Vec<_> =
        layers.iter().map(|layer| part("image.rootfs.diff.tar", layer)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part("container.image.v1+json", &configuration),
        "layers": described,
    })
    .to_string()
    .into_bytes();
    Image { configuration, layers: layers.to_vec(), manifest }
}
