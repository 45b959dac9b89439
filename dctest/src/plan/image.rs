//! Container images made of a few programs: what a registry is told of them (OCI image specification 1.0, in the form of
//! Docker's image manifest version 2, schema 2, which every engine takes).

use serde_json::json;

use crate::digest::sha256;

/// An image to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it is pulled, after the registry's name.
    pub name: String,
    /// Which one of that name.
    pub tag: String,
    /// Programs of the base tree, by their absolute paths. Their libraries come along.
    pub files: Vec<String>,
    /// Programs of whoever runs the data centre. Their libraries are those of the base tree.
    pub given: Vec<Given>,
    /// What it installs for use outside of containers.
    pub install_tools: Option<InstallTools>,
}

/// A program that is not in the base tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it lies in the image.
    pub path: String,
    /// As it is called in the folder of such programs.
    pub program: String,
}

/// How an image installs programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallTools {
    /// Where it has the program that installs.
    pub path: String,
    /// Which of its programs are installed.
    pub tools: Vec<String>,
    /// Where a container finds the folder for them.
    pub to: String,
}

impl InstallTools {
    /// The folder where nothing else is said.
    pub const TO: &str = "/host/usr/local/bin";
}

impl Image {
    /// What a container of it runs: the first of its programs.
    #[must_use]
    pub fn entry(&self) -> Option<&str> {
        let given = self.given.iter().map(|given| given.path.as_str());
        self.files.iter().map(String::as_str).chain(given).next()
    }

    /// The program that installs: its path and its text.
    #[must_use]
    pub fn installer(&self) -> Option<(&str, String)> {
        let InstallTools { path, tools, to } = self.install_tools.as_ref()?;
        Some((path, format!("#!/bin/sh\nexec cp {} {to}/\n", tools.join(" "))))
    }

    /// All programs of the base tree that it needs.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        let for_installer = ["/bin/sh", "/bin/cp"].map(str::to_owned);
        let for_installer = self.install_tools.iter().flat_map(|_| for_installer.clone());
        self.files.iter().cloned().chain(for_installer).collect()
    }
}

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The name of some bytes in a registry.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// The configuration of an image whose only layer has this digest before it was compressed.
#[must_use]
pub fn configuration(image: &Image, layer: &str) -> Vec<u8> {
    let entrypoint: Vec<&str> = image.entry().into_iter().collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
    .to_string()
    .into_bytes()
}

/// The manifest of an image of a configuration and a compressed layer.
#[must_use]
pub fn manifest(configuration: &[u8], layer: &[u8]) -> Vec<u8> {
    let part = |kind: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.docker.{kind}"),
            "size": bytes.len(),
            "digest": digest(bytes),
        })
    };
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part("container.image.v1+json", configuration),
        "layers": [part("image.rootfs.diff.tar.gzip", layer)],
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_manifest_names_its_parts_by_digest_and_size() {
        let image = Image {
            name: "etcd".into(),
            tag: "1".into(),
            files: vec!["/usr/bin/etcd".into(), "/usr/bin/etcdctl".into()],
            given: vec![Given { path: "/bin/more".into(), program: "more".into() }],
            install_tools: Some(InstallTools {
                path: "/install".into(),
                tools: vec!["/usr/bin/etcdctl".into(), "/bin/more".into()],
                to: "/host".into(),
            }),
        };
        let programs = ["/usr/bin/etcd", "/usr/bin/etcdctl", "/bin/sh", "/bin/cp"];
        assert_eq!(image.programs(), programs);
        let text = "#!/bin/sh\nexec cp /usr/bin/etcdctl /bin/more /host/\n".to_owned();
        assert_eq!(image.installer(), Some(("/install", text)));
        let configuration = configuration(&image, "sha256:00");
        let told: Value = serde_json::from_slice(&configuration).unwrap();
        assert_eq!(told["config"]["Entrypoint"], json!(["/usr/bin/etcd"]));
        assert_eq!(told["rootfs"]["diff_ids"], json!(["sha256:00"]));
        let given = Image { files: Vec::new(), ..image.clone() };
        assert_eq!(given.entry(), Some("/bin/more"));
        let told: Value = serde_json::from_slice(&manifest(&configuration, b"layer")).unwrap();
        assert_eq!(told["config"]["digest"], digest(&configuration));
        assert_eq!(told["layers"][0]["size"], 5);
        assert_eq!(
            digest(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
