//! The keys that releases are signed with: which are trusted here, and which are dead.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{PublicKey, Signature};
use neco_base::{KeyId, KeyIdError};

use crate::error::Doing;
use crate::{FileError, Root};

/// Where keys lie below the root: those of the package, those of the site.
pub const KEY_DIRECTORIES: [&str; 2] = ["/usr/share/neco/release-keys", "/etc/neco/release-keys"];

/// The file beside the keys that lists dead ones.
const REVOKED: &str = "revoked";

/// The id in the second line of a public key or a signature: algorithm (2 bytes), id (8 bytes), and so on, in base64.
fn id_in(text: &str) -> Option<KeyId> {
    let bytes = BASE64_STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    Some(KeyId::from_bytes(bytes.get(2..10)?.try_into().ok()?))
}

/// Why the trusted keys are not known. Nothing is verified then: a key that cannot be read might be a revoked one.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or directory cannot be read.
    #[error("the release keys cannot be read")]
    File(#[from] FileError),
    /// A key file holds something else.
    #[error(
        "{} is no minisign public key: {why} (expected two lines, as `minisign -G` writes them; \
         replace or remove the file)",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// A list of revoked keys holds something else.
    #[error("{}:{line}: revoked keys stand here one a line", path.display())]
    Revoked {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What stands there.
        #[source]
        source: KeyIdError,
    },
}

/// The keys that are trusted, and the ids of those that are not any more.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<(KeyId, PublicKey)>,
    revoked: BTreeMap<KeyId, PathBuf>,
    dirs: Vec<PathBuf>,
}

impl TrustedKeys {
    /// The keys of the package and of the site, `*.pub` in [`KEY_DIRECTORIES`], without those that `revoked`
    /// in either directory lists.
    pub fn load(root: &Root) -> Result<Self, KeysError> {
        let mut keys = Self::default();
        for dir in KEY_DIRECTORIES {
            let resolved = root.resolve(dir).doing("resolving", root.join(dir))?;
            keys.load_dir(root, &resolved)?;
        }
        let Self { keys: all, revoked, .. } = &mut keys;
        all.retain(|(id, _)| !revoked.contains_key(id));
        Ok(keys)
    }

    /// The ids of the trusted keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The file that revokes a key.
    pub fn revoked_by(&self, id: KeyId) -> Option<&Path> {
        self.revoked.get(&id).map(PathBuf::as_path)
    }

    /// Where keys were looked for.
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The trusted keys with this id; an id is chosen by whoever makes the key, so there may be several.
    pub(super) fn with_id(&self, id: KeyId) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().filter(move |(own, _)| *own == id).map(|(_, key)| key)
    }

    fn load_dir(&mut self, root: &Root, dir: &Path) -> Result<(), KeysError> {
        self.dirs.push(dir.to_owned());
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.doing("listing", dir)?,
        };
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .doing("listing", dir)?;
        paths.sort();
        for path in paths {
            // A link inside the root may point anywhere inside the root.
            let below = path.strip_prefix(root.path()).unwrap_or(&path);
            let real = root.resolve(below).doing("resolving", &path)?;
            if path.extension().is_some_and(|extension| extension == "pub") {
                let text = std::fs::read_to_string(real).doing("reading", &path)?;
                self.keys.push(parse_key(&path, &text)?);
            } else if path.file_name().is_some_and(|name| name == REVOKED) {
                let text = std::fs::read_to_string(real).doing("reading", &path)?;
                self.load_revoked(&path, &text)?;
            }
        }
        Ok(())
    }

    fn load_revoked(&mut self, path: &Path, text: &str) -> Result<(), KeysError> {
        for (line, text) in (1..).zip(text.lines()) {
            let id = text.split('#').next().unwrap_or_default().trim();
            if !id.is_empty() {
                let id = id.parse().map_err(|source| {
                    let path = path.to_owned();
                    KeysError::Revoked { path, line, source }
                })?;
                self.revoked.insert(id, path.to_owned());
            }
        }
        Ok(())
    }
}

fn parse_key(path: &Path, text: &str) -> Result<(KeyId, PublicKey), KeysError> {
    let malformed = |why: String| KeysError::Key { path: path.to_owned(), why };
    let key = PublicKey::decode(text).map_err(|error| malformed(error.to_string()))?;
    let id = id_in(text).ok_or_else(|| malformed("it has no key id".to_owned()))?;
    Ok((id, key))
}

/// A signature and the id of the key that claims to have made it.
pub(super) fn parse_signature(text: &str) -> Result<(KeyId, Signature), String> {
    let signature = Signature::decode(text).map_err(|error| error.to_string())?;
    let id = id_in(text).ok_or("it has no key id")?;
    Ok((id, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "untrusted comment: minisign public key E7620F1842B4E81F\n\
                       RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
    const ID: &str = "E7620F1842B4E81F";

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("room");
            std::fs::write(path, text).expect("room");
        }
        (dir, root)
    }

    #[test]
    fn a_key_id_is_printed_as_minisign_prints_it() {
        let (id, _) = parse_key(Path::new("x.pub"), KEY).expect("a key");
        assert_eq!(id.to_string(), ID);
        assert_eq!(ID.to_lowercase().parse(), Ok(id));
    }

    #[test]
    fn keys_of_both_directories_are_trusted_and_a_missing_directory_holds_none() {
        let (_dir, none) = root(&[]);
        assert!(TrustedKeys::load(&none).expect("nothing to fail").is_empty());
        for dir in KEY_DIRECTORIES {
            let (_dir, one) =
                root(&[(&format!("{dir}/a.pub"), KEY), (&format!("{dir}/README"), "x")]);
            let keys = TrustedKeys::load(&one).expect("a key");
            assert_eq!(keys.ids().map(|id| id.to_string()).collect::<Vec<_>>(), [ID]);
        }
    }

    #[test]
    fn either_directory_revokes_the_keys_of_both() {
        let [package, site] = KEY_DIRECTORIES;
        for (of_key, of_list) in [(package, site), (site, package), (site, site)] {
            let list = format!("# lost\n\n  {}   # on a train\n", ID.to_lowercase());
            let (_dir, root) =
                root(&[(&format!("{of_key}/a.pub"), KEY), (&format!("{of_list}/revoked"), &list)]);
            let keys = TrustedKeys::load(&root).expect("keys");
            assert!(keys.is_empty());
            let by = keys.revoked_by(ID.parse().expect("an id")).expect("revoked");
            assert_eq!(by, root.join(of_list).join("revoked"));
        }
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let dir = KEY_DIRECTORIES[1];
        for bad in ["", "untrusted comment: x\n", "a\nnot base64!\n", "a\nAAAA\n"] {
            let (_dir, root) = root(&[(&format!("{dir}/bad.pub"), bad)]);
            let error = TrustedKeys::load(&root).expect_err(bad).to_string();
            assert!(error.contains("bad.pub is no minisign public key"), "{error}");
        }
        let (_dir, root) = root(&[(&format!("{dir}/revoked"), "# x\nE7620F18\n")]);
        let error = TrustedKeys::load(&root).expect_err("too short").to_string();
        assert!(error.contains("release-keys/revoked:2:"), "{error}");
    }
}
