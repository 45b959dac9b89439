//! Keys and signatures of releases, in the minisign format, pre-hashed; all of it blocks.
//!
//! A signature covers the package's bytes and its trusted comment, which names package, version and architecture:
//! an old, rightly signed package cannot be passed off as a newer one.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, PublicKey, SecretKeyBox};
use neco_base::{KeyId, Secret};
use neco_schema::NecoVersion;

use super::publish::package_name;
use super::{ARCHITECTURE, MirrorError, PACKAGE, sync_directory, write_durably};

fn id_of(number: &[u8]) -> KeyId {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&number[..8]);
    KeyId::from_bytes(bytes)
}

/// How a secret key lies on disk.
#[derive(Clone, Debug)]
pub enum Protection {
    /// Encrypted with a password.
    Password(Secret),
    /// In clear: whoever reads the file can sign.
    Unencrypted,
}

/// A key that signs. It is never shown.
pub struct SigningKey {
    secret: minisign::SecretKey,
    id: KeyId,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A signature that was or will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Where it is.
    pub path: PathBuf,
    /// By which key.
    pub key: KeyId,
    /// What it vouches for.
    pub trusted_comment: String,
}

/// What the signature of a version vouches for, exactly.
pub fn trusted_comment(version: &NecoVersion) -> String {
    format!("package={PACKAGE} version={version} arch={ARCHITECTURE}")
}

/// Makes a pair of keys. Existing files are not overwritten; the secret one is readable by its owner alone.
pub fn generate_key(
    secret: &Path,
    public: &Path,
    protection: &Protection,
) -> Result<KeyId, MirrorError> {
    if secret == public {
        return Err(key_error(secret, "secret and public key need different files"));
    }
    let pair = match protection {
        Protection::Password(password) => {
            KeyPair::generate_encrypted_keypair(Some(password.reveal().to_owned()))
        }
        Protection::Unencrypted => KeyPair::generate_unencrypted_keypair(),
    };
    let pair =
        pair.map_err(|error| key_error(secret, &format!("no key could be made: {error}")))?;
    // The id is part of what a password encrypts: the public half has it in clear.
    let id = id_of(pair.pk.keynum());
    let secret_text = pair
        .sk
        .to_box(Some(&format!("neco release key {id}, secret")))
        .map_err(|_| key_error(secret, "the key cannot be written"))?
        .into_string();
    let public_text =
        pair.pk.to_box().map_err(|_| key_error(public, "the key cannot be written"))?;
    write_new(secret, secret_text.as_bytes(), 0o600)?;
    let written = write_new(public, public_text.into_string().as_bytes(), 0o644);
    if written.is_err() {
        let _ = std::fs::remove_file(secret);
    }
    written.map(|()| id)
}

impl SigningKey {
    /// Reads a secret key; `password` is for one that is encrypted.
    pub fn load(path: &Path, password: Option<&Secret>) -> Result<Self, MirrorError> {
        let text = std::fs::read_to_string(path).map_err(MirrorError::io("reading", path))?;
        let boxed = || SecretKeyBox::from(text.clone());
        let secret = match boxed().into_unencrypted_secret_key() {
            Ok(secret) => secret,
            // The library tells these cases apart only in words.
            Err(error) if error.to_string().contains("might be encrypted") => {
                let password = password.ok_or_else(|| {
                    key_error(
                        path,
                        "the secret key is encrypted; give its password in a file or on stdin",
                    )
                })?;
                boxed()
                    .into_secret_key(Some(password.reveal().to_owned()))
                    .map_err(|_| key_error(path, "the password does not open the secret key"))?
            }
            Err(_) => without_checksum(&text).ok_or_else(|| {
                key_error(path, "this is no minisign secret key, or it is damaged")
            })?,
        };
        let id = id_of(secret.keynum());
        Ok(Self { secret, id })
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The public key, as the content of a `.pub` file.
    pub fn public_key(&self) -> Result<String, MirrorError> {
        let text = PublicKey::from_secret_key(&self.secret).and_then(|public| public.to_box());
        text.map(|text| text.into_string())
            .map_err(|_| key_error(Path::new(PACKAGE), "the public key cannot be computed"))
    }
}

/// Signs the package `deb` as `version`.
///
/// The signature goes to `DEB.minisig`, or, if another key's signature lies there, to `DEB.minisig.<key id>`: so a
/// release that introduces a new key carries both. A signature by the same key is replaced.
pub fn sign(deb: &Path, key: &SigningKey, version: &NecoVersion) -> Result<Signed, MirrorError> {
    let signed = signature_of(deb, key, version)?;
    let file = std::fs::File::open(deb).map_err(MirrorError::io("reading", deb))?;
    let untrusted = format!("signature of {PACKAGE} by release key {}", key.id);
    let comment = Some(signed.trusted_comment.as_str());
    let signature = PublicKey::from_secret_key(&key.secret).and_then(|public| {
        // With the public half the library checks its own work.
        minisign::sign(Some(&public), &key.secret, file, comment, Some(&untrusted))
    });
    let signature =
        signature.map_err(|error| key_error(deb, &format!("signing failed: {error}")))?;
    write_durably(&signed.path, signature.into_string().as_bytes(), 0o644)?;
    Ok(signed)
}

/// What [`sign`] would write, and where.
pub fn signature_of(
    deb: &Path,
    key: &SigningKey,
    version: &NecoVersion,
) -> Result<Signed, MirrorError> {
    let (name, named) = package_name(deb)?;
    if named != *version {
        return Err(MirrorError::OtherVersion {
            what: "the order to sign".to_owned(),
            expected: named.to_string(),
            found: version.to_string(),
        });
    }
    deb.metadata().map_err(MirrorError::io("reading", deb))?;
    let path = destination(&deb.with_file_name(format!("{name}.minisig")), key.id)?;
    Ok(Signed { path, key: key.id, trusted_comment: trusted_comment(version) })
}

/// A key that was made by `minisign -G -W`: version 0.11 leaves the checksum of an unencrypted key empty, and the
/// library takes that for damage. What is damaged in truth shows when it signs.
fn without_checksum(text: &str) -> Option<minisign::SecretKey> {
    const LENGTH: usize = 158;
    const CHECKSUM: usize = 32;
    let bytes = STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    let unencrypted = bytes.get(..6)? == b"Ed\0\0B2";
    let empty = bytes.len() == LENGTH && bytes[LENGTH - CHECKSUM..].iter().all(|byte| *byte == 0);
    minisign::SecretKey::from_bytes(&bytes).ok().filter(|_| unencrypted && empty)
}

fn destination(plain: &Path, id: KeyId) -> Result<PathBuf, MirrorError> {
    match std::fs::read_to_string(plain) {
        Ok(text) => {
            let by = minisign::SignatureBox::from_string(&text).ok();
            if by.is_some_and(|there| id_of(there.keynum()) == id) {
                return Ok(plain.to_owned());
            }
            let mut path = plain.as_os_str().to_owned();
            path.push(format!(".{id}"));
            Ok(path.into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(plain.to_owned()),
        Err(error) => Err(MirrorError::io("reading", plain)(error)),
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), MirrorError> {
    let directory = crate::part::parent(path);
    std::fs::create_dir_all(directory).map_err(MirrorError::io("creating", directory))?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            key_error(path, "exists already; a key is not overwritten, name another file")
        }
        _ => MirrorError::io("writing", path)(error),
    })?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(source) = written {
        let _ = std::fs::remove_file(path);
        return Err(MirrorError::io("writing", path)(source));
    }
    sync_directory(directory)
}

fn key_error(path: &Path, problem: &str) -> MirrorError {
    MirrorError::Key { path: path.to_owned(), problem: problem.to_owned() }
}
