//! Releases and their files, as the GitHub API lists them and as an environment chose them.

use neco_schema::{NecoVersion, PackageRef, Timestamp};
use reqwest::Url;

/// A release as the API lists it: not yet judged by any environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRelease {
    /// The git tag.
    pub tag: String,
    /// Whether it is still being written; a draft is never installed.
    pub draft: bool,
    /// Whether its author marked it as not for production.
    pub prerelease: bool,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// Its files.
    pub assets: Vec<Asset>,
}

/// A release that an environment follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The version in the tag.
    pub version: NecoVersion,
    /// The git tag.
    pub tag: String,
    /// Whether its author marked it as not for production.
    pub prerelease: bool,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// Its files.
    pub assets: Vec<Asset>,
}

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The file's name; never one that leads out of a directory.
    pub name: String,
    /// Where to ask for the bytes.
    pub url: Url,
    /// The size that the API claims.
    pub size: u64,
    /// The SHA-256 that the API claims, in lower-case hex, where it claims one.
    pub sha256: Option<String>,
}

/// A signature of a package: which file, and by which key if the name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureAsset<'a> {
    /// The file.
    pub asset: &'a Asset,
    /// The key id in the name (`….minisig.<key id>`), in upper case.
    pub key_id: Option<String>,
}

impl Release {
    /// The release `listed`, holding `version`.
    pub fn new(version: NecoVersion, listed: ListedRelease) -> Self {
        let ListedRelease { tag, draft: _, prerelease, published_at, assets } = listed;
        Self { version, tag, prerelease, published_at, assets }
    }

    /// The package `name`: exactly `NAME_VERSION_amd64.deb`, else the first file that [`is_package_of`] takes.
    pub fn package(&self, name: &str) -> Option<&Asset> {
        let exact = format!("{name}_{}_amd64.deb", self.version);
        let exactly = self.assets.iter().find(|asset| asset.name == exact);
        exactly.or_else(|| self.assets.iter().find(|asset| is_package_of(&asset.name, name)))
    }

    /// The signatures of the file `package`: `….minisig` first, then each `….minisig.<key id>`.
    pub fn signatures(&self, package: &str) -> Vec<SignatureAsset<'_>> {
        let mut found: Vec<_> = self
            .assets
            .iter()
            .filter_map(|asset| {
                let rest = asset.name.strip_prefix(package)?.strip_prefix(".minisig")?;
                let key_id = match rest.strip_prefix('.') {
                    None if rest.is_empty() => None,
                    Some(id) if id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
                        Some(id.to_ascii_uppercase())
                    }
                    _ => return None,
                };
                Some(SignatureAsset { asset, key_id })
            })
            .collect();
        found.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        found
    }
}

impl Asset {
    /// What a request says about this file, where the API names a digest.
    pub fn package_ref(&self) -> Option<PackageRef> {
        let sha256 = self.sha256.clone()?;
        Some(PackageRef {
            file: self.name.clone(),
            size: self.size,
            sha256,
            unknown: Default::default(),
        })
    }
}

/// Whether `file` is a Debian package called `name`: it begins with `NAME_` and ends with `.deb`.
pub fn is_package_of(file: &str, name: &str) -> bool {
    file.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|rest| rest.ends_with(".deb"))
}

/// Whether `name` is a plain file name: it can neither hide nor lead out of the directory it is put into.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\'))
}

/// The forms of the API's JSON that this crate reads. Everything else in it is ignored.
pub(crate) mod wire {
    use reqwest::Url;
    use serde::Deserialize;

    use super::{Asset, ListedRelease, is_plain_file_name};

    #[derive(Debug, Deserialize)]
    pub(crate) struct Release {
        tag_name: String,
        #[serde(default)]
        draft: bool,
        #[serde(default)]
        prerelease: bool,
        #[serde(default)]
        published_at: Option<String>,
        #[serde(default)]
        assets: Vec<File>,
    }

    #[derive(Debug, Deserialize)]
    struct File {
        name: String,
        url: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        digest: Option<String>,
        #[serde(default)]
        state: Option<String>,
    }

    impl From<Release> for ListedRelease {
        fn from(release: Release) -> Self {
            let assets = release.assets.into_iter().filter_map(File::usable).collect();
            Self {
                tag: release.tag_name,
                draft: release.draft,
                prerelease: release.prerelease,
                published_at: release.published_at.and_then(|at| at.parse().ok()),
                assets,
            }
        }
    }

    impl File {
        /// The file, unless its upload never ended or its name could do harm.
        fn usable(self) -> Option<Asset> {
            let uploaded = self.state.as_deref().is_none_or(|state| state == "uploaded");
            let url = Url::parse(&self.url).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https"))?;
            (uploaded && is_plain_file_name(&self.name)).then(|| Asset {
                sha256: self.digest.as_deref().and_then(sha256),
                name: self.name,
                url,
                size: self.size,
            })
        }
    }

    fn sha256(digest: &str) -> Option<String> {
        let hex = digest.strip_prefix("sha256:")?;
        (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| hex.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(files: &[&str]) -> Release {
        let assets = files
            .iter()
            .map(|name| Asset {
                name: (*name).to_owned(),
                url: "https://host/file".parse().expect("a URL"),
                size: 1,
                sha256: None,
            })
            .collect();
        Release {
            version: "2021.04.19-13965".parse().expect("a version"),
            tag: "release-2021.04.19-13965".to_owned(),
            prerelease: false,
            published_at: None,
            assets,
        }
    }

    // reference/neco-cd-core.md §12.5, deb asset.
    #[test]
    fn a_package_is_found_by_its_name_and_ending() {
        let found =
            |file: &str, name: &str| release(&[file]).package(name).map(|asset| asset.name.clone());
        assert_eq!(
            found("etcdpasswd_aaa.deb", "etcdpasswd").as_deref(),
            Some("etcdpasswd_aaa.deb")
        );
        assert_eq!(found("etcdpasswd_aaa.zip", "etcdpasswd"), None);
        assert_eq!(found("etcdpasswd_aaa.deb", "neco"), None);
        assert_eq!(found("neco.deb", "neco"), None);
        assert_eq!(found("neco_1.deb.minisig", "neco"), None);
    }

    // Better than the original, which takes the first: a release may carry several architectures.
    #[test]
    fn the_package_of_the_release_itself_comes_before_others() {
        let release =
            release(&["neco_2021.04.19-13965_arm64.deb", "neco_2021.04.19-13965_amd64.deb"]);
        assert_eq!(
            release.package("neco").expect("a package").name,
            "neco_2021.04.19-13965_amd64.deb"
        );
    }

    #[test]
    fn signatures_are_found_with_and_without_a_key_id() {
        let release = release(&[
            "a.deb.minisig.0123456789abcdef",
            "a.deb.minisig",
            "a.deb",
            "a.deb.minisig.old",
            "a.deb.minisigs",
            "b.deb.minisig",
        ]);
        let found: Vec<_> = release
            .signatures("a.deb")
            .into_iter()
            .map(|found| (found.asset.name.as_str(), found.key_id))
            .collect();
        assert_eq!(
            found,
            [
                ("a.deb.minisig", None),
                ("a.deb.minisig.0123456789abcdef", Some("0123456789ABCDEF".to_owned())),
            ]
        );
    }

    #[test]
    fn harmful_and_unfinished_files_of_the_api_are_left_out() {
        let digest = "AB".repeat(32);
        let text = serde_json::json!({
            "tag_name": "release-1.0.0", "unknown": [1],
            "published_at": "2026-11-21T08:00:00Z",
            "assets": [
                { "name": "../../etc/passwd", "url": "https://host/a" },
                { "name": ".hidden", "url": "https://host/a" },
                { "name": "nowhere.deb", "url": "assets/1" },
                { "name": "local.deb", "url": "file:///etc/passwd" },
                { "name": "half.deb", "url": "https://host/a", "state": "starter" },
                { "name": "a.deb", "url": "https://host/a", "size": 3, "state": "uploaded", "digest": format!("sha256:{digest}") },
                { "name": "b.deb", "url": "https://host/a", "size": 3, "digest": "sha512:00" },
                { "name": "c.deb", "url": "https://host/a", "digest": null },
            ],
        });
        let wire: wire::Release = serde_json::from_value(text).expect("a release");
        let listed = ListedRelease::from(wire);
        let names: Vec<_> =
            listed.assets.iter().map(|a| (a.name.as_str(), a.sha256.as_deref())).collect();
        let digest = digest.to_lowercase();
        assert_eq!(names, [("a.deb", Some(digest.as_str())), ("b.deb", None), ("c.deb", None)]);
        assert!(listed.published_at.is_some());
    }
}
