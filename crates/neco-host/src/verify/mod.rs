//! Verifying a package before anything of it runs: size, digest, signature, name, version, architecture.

mod error;
mod keys;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::{PublicKey, Signature};
use neco_base::KeyId;
use neco_schema::{NecoVersion, PackageRef};
use sha2::{Digest, Sha256};

pub use self::error::{Rejection, VerifyError};
pub use self::keys::{KEY_DIRECTORIES, KeysError, TrustedKeys};
use crate::FileError;
use crate::command::{self, OnDrop, whole_complaint};
use crate::error::Doing;
use neco_base::hex;

/// How long reading the control file of a package may take.
const CONTROL_WITHIN: Duration = Duration::from_secs(60);

/// No signature file is larger; what is larger is none.
const SIGNATURE_BYTES: u64 = 16 << 10;

/// What a package has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name, `neco`.
    pub package: String,
    /// Its version.
    pub version: NecoVersion,
    /// Its architecture, `amd64`.
    pub architecture: String,
    /// Its size in bytes, where a request names it.
    pub size: Option<u64>,
    /// Its SHA-256 in hex, where a request names it.
    pub sha256: Option<String>,
}

impl Expected {
    /// The neco package of this version, its bits not pinned.
    pub fn neco(version: NecoVersion) -> Self {
        Self {
            package: "neco".to_owned(),
            version,
            architecture: "amd64".to_owned(),
            size: None,
            sha256: None,
        }
    }

    /// The same, with exactly the bits that a request names.
    pub fn pinned(self, package: &PackageRef) -> Self {
        Self { size: Some(package.size), sha256: Some(package.sha256.clone()), ..self }
    }

    /// The trusted comment that a signature of this package carries.
    pub fn trusted_comment(&self) -> String {
        format!("package={} version={} arch={}", self.package, self.version, self.architecture)
    }
}

/// Whether a package without a trusted signature may be installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsigned {
    /// Never.
    #[default]
    Refuse,
    /// If it bears no signature, or no key is trusted here to check one with. A signature that is wrong, or of a
    /// revoked or unknown key where keys are known, is still refused.
    Allow,
}

/// A package whose size, digest, signature and control file were found right: the only thing a
/// [`PackageManager`](crate::PackageManager) installs. Only [`verify_package`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPackage {
    path: PathBuf,
    package: String,
    version: NecoVersion,
    size: u64,
    sha256: String,
    key: Option<KeyId>,
}

impl VerifiedPackage {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the package.
    pub fn package(&self) -> &str {
        &self.package
    }

    /// Its version.
    pub fn version(&self) -> &NecoVersion {
        &self.version
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its SHA-256 in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The key that signed it; `None` if it was allowed without.
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Whether the file is still the one that was verified; asked right before it is used. Blocks.
    pub fn still_intact(&self) -> Result<(), VerifyError> {
        let size = size_of(&self.path)?;
        check_size(&self.path, self.size, size)?;
        let examined = examine(&self.path, &[])?;
        check_digest(&self.path, &self.sha256, &examined.sha256)
    }

    /// One that nobody verified, of the file at `path`, for tests of what is done with it.
    #[cfg(feature = "testing")]
    pub fn unverified(
        path: impl Into<PathBuf>,
        package: &str,
        version: NecoVersion,
    ) -> Result<Self, VerifyError> {
        let path = path.into();
        let Examined { size, sha256, .. } = examine(&path, &[])?;
        Ok(Self { path, package: package.to_owned(), version, size, sha256, key: None })
    }
}

/// Verifies the package at `path` with the signature files `signatures`: one that a trusted key made over these bits
/// with the right comment suffices.
///
/// Nothing of the package is parsed before its size, digest and signature are found right. The file is read once,
/// as a stream.
pub async fn verify_package(
    path: &Path,
    signatures: &[PathBuf],
    keys: &TrustedKeys,
    expected: &Expected,
    unsigned: Unsigned,
) -> Result<VerifiedPackage, VerifyError> {
    let bits = {
        let (path, signatures) = (path.to_owned(), signatures.to_owned());
        let (keys, expected) = (keys.clone(), expected.clone());
        let work = move || verify_bits(&path, &signatures, &keys, &expected, unsigned);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(FileError::new("verifying", "the package", io::Error::other(error)).into())
        })?
    };
    verify_control(path, expected).await?;
    Ok(VerifiedPackage {
        path: path.to_owned(),
        package: expected.package.clone(),
        version: expected.version.clone(),
        size: bits.size,
        sha256: bits.sha256,
        key: bits.key,
    })
}

/// Bits that were found right.
struct Bits {
    size: u64,
    sha256: String,
    key: Option<KeyId>,
}

fn verify_bits(
    path: &Path,
    signatures: &[PathBuf],
    keys: &TrustedKeys,
    expected: &Expected,
    unsigned: Unsigned,
) -> Result<Bits, VerifyError> {
    let size = size_of(path)?;
    check_size(path, expected.size.unwrap_or(size), size)?;
    let mut rejections = Vec::new();
    let mut candidates = Vec::new();
    for file in signatures {
        match read_signature(file, keys)? {
            Ok(mut found) => candidates.append(&mut found),
            Err(rejection) => rejections.push(rejection),
        }
    }
    let examined = examine(path, &candidates)?;
    let Examined { size, sha256, valid } = examined;
    check_size(path, expected.size.unwrap_or(size), size)?;
    if let Some(wanted) = &expected.sha256 {
        check_digest(path, wanted, &sha256)?;
    }
    let wanted = expected.trusted_comment();
    for (candidate, valid) in candidates.iter().zip(valid) {
        let (file, key) = (candidate.file.clone(), candidate.id);
        let found = candidate.signature.trusted_comment();
        if !valid {
            rejections.push(Rejection::Invalid { file, key });
        } else if found == wanted {
            return Ok(Bits { size, sha256, key: Some(key) });
        } else {
            let found = found.chars().take(200).collect();
            rejections.push(Rejection::Comment { file, key, expected: wanted.clone(), found });
        }
    }
    let unverifiable = |rejection: &Rejection| {
        keys.is_empty() && matches!(rejection, Rejection::UnknownKey { .. })
    };
    if !rejections.iter().all(unverifiable) {
        return Err(VerifyError::Signature { path: path.to_owned(), rejections });
    }
    // No signature, or no key to check one with.
    match unsigned {
        Unsigned::Allow => {
            tracing::warn!(path = %path.display(), "a package without trusted signature is allowed");
            Ok(Bits { size, sha256, key: None })
        }
        Unsigned::Refuse if keys.is_empty() => {
            Err(VerifyError::NoKeys { path: path.to_owned(), dirs: keys.dirs().to_owned() })
        }
        Unsigned::Refuse => Err(VerifyError::Unsigned { path: path.to_owned() }),
    }
}

/// A signature and a trusted key that may have made it.
struct Candidate {
    file: PathBuf,
    id: KeyId,
    signature: Signature,
    key: PublicKey,
}

/// The trusted keys with which a signature file is to be checked.
fn read_signature(
    file: &Path,
    keys: &TrustedKeys,
) -> Result<Result<Vec<Candidate>, Rejection>, FileError> {
    let mut text = String::new();
    let opened = File::open(file).doing("opening", file)?;
    let malformed = |why: String| Err(Rejection::Malformed { file: file.to_owned(), why });
    match opened.take(SIGNATURE_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(malformed("it is no text".to_owned()));
        }
        read => read.doing("reading", file)?,
    };
    let (id, signature) = match keys::parse_signature(&text) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(malformed(why)),
    };
    if let Some(by) = keys.revoked_by(id) {
        let (file, by) = (file.to_owned(), by.to_owned());
        return Ok(Err(Rejection::RevokedKey { file, key: id, by }));
    }
    let found: Vec<_> = keys
        .with_id(id)
        .map(|key| Candidate {
            file: file.to_owned(),
            id,
            signature: signature.clone(),
            key: key.clone(),
        })
        .collect();
    if found.is_empty() {
        let trusted = keys.ids().collect();
        return Ok(Err(Rejection::UnknownKey { file: file.to_owned(), key: id, trusted }));
    }
    // A stream verifier takes the pre-hashed form only.
    if found.iter().any(|candidate| candidate.key.verify_stream(&candidate.signature).is_err()) {
        return Ok(Err(Rejection::NotPreHashed { file: file.to_owned(), key: id }));
    }
    Ok(Ok(found))
}

/// What one pass over a file tells.
struct Examined {
    size: u64,
    sha256: String,
    /// Which of the candidates are valid signatures of it.
    valid: Vec<bool>,
}

fn examine(path: &Path, candidates: &[Candidate]) -> Result<Examined, FileError> {
    let mut file = File::open(path).doing("opening", path)?;
    let mut digest = Sha256::new();
    let mut streams: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate.key.verify_stream(&candidate.signature).ok())
        .collect();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileError::new("reading", path, error)),
        };
        size += read.len() as u64;
        digest.update(read);
        for stream in streams.iter_mut().flatten() {
            stream.update(read);
        }
    }
    let valid = streams
        .iter_mut()
        .map(|stream| stream.as_mut().is_some_and(|stream| stream.finalize().is_ok()))
        .collect();
    Ok(Examined { size, sha256: hex(&digest.finalize()), valid })
}

fn size_of(path: &Path) -> Result<u64, VerifyError> {
    let found = std::fs::metadata(path).doing("looking at", path)?;
    if found.is_file() {
        Ok(found.len())
    } else {
        let why = "it is no regular file".to_owned();
        Err(VerifyError::NotADeb { path: path.to_owned(), why })
    }
}

fn check_size(path: &Path, expected: u64, found: u64) -> Result<(), VerifyError> {
    if found == expected {
        Ok(())
    } else {
        Err(VerifyError::Size { path: path.to_owned(), expected, found })
    }
}

fn check_digest(path: &Path, expected: &str, found: &str) -> Result<(), VerifyError> {
    if found.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Err(VerifyError::Digest { path: path.to_owned(), expected, found })
    }
}

/// Compares the control file of the package with what is expected.
async fn verify_control(path: &Path, expected: &Expected) -> Result<(), VerifyError> {
    let not_a_deb = |why: &str| VerifyError::NotADeb { path: path.to_owned(), why: why.to_owned() };
    let name = path.to_str().ok_or_else(|| not_a_deb("its path is no UTF-8"))?;
    let argv = ["dpkg-deb", "-f", name, "Package", "Version", "Architecture"];
    let output = command::run(&argv, &[], CONTROL_WITHIN, OnDrop::Kill).await?;
    if !output.status.success() {
        let why = whole_complaint(&output.stderr);
        return Err(not_a_deb(why.as_deref().unwrap_or("dpkg-deb cannot read it")));
    }
    let checks = [
        ("Package", &*expected.package),
        ("Version", expected.version.as_str()),
        ("Architecture", &*expected.architecture),
    ];
    for (field, wanted) in checks {
        let prefix = format!("{field}: ");
        let found = output.stdout.lines().find_map(|line| line.strip_prefix(&prefix));
        let Some(found) = found else { return Err(not_a_deb(&format!("it has no {field}"))) };
        if found != wanted {
            return Err(VerifyError::Control {
                path: path.to_owned(),
                field,
                expected: wanted.to_owned(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}
