//! Who this server is: rack number, cluster, machine id, boot id, operating system.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use neco_schema::Lrn;

use crate::Root;

/// A file that should say who this server is, and does not.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("reading {} ({remedy})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds {found:?}, not {expected} ({remedy})", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The beginning of what it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A field is missing in a file of fields.
    #[error("{} has no {field} (it comes with the operating system: reinstall base-files)", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
}

const RACK: &str = "/etc/neco/rack";
const RACK_REMEDY: &str = "write this server's logical rack number into it, such as 0";
const CLUSTER: &str = "/etc/neco/cluster";
const CLUSTER_REMEDY: &str = "write the cluster's name into it, such as stage0";
const MACHINE_ID: &str = "/etc/machine-id";
const MACHINE_ID_REMEDY: &str = "run `systemd-machine-id-setup`";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const SANDBOX_BOOT_ID: &str = "/run/neco/boot-id";
const BOOT_ID_REMEDY: &str =
    "it is the kernel's, or under a --root whoever made that root writes a UUID into it";
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const OS_RELEASE_REMEDY: &str = "it comes with the operating system: reinstall base-files";

/// This server's logical rack number, from `/etc/neco/rack`.
pub fn lrn(root: &Root) -> Result<Lrn, IdentityError> {
    let (path, text) = word(root, RACK, RACK_REMEDY)?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Lrn::new(number)),
        _ => Err(malformed(path, &text, "a decimal number from 0 to 4294967295", RACK_REMEDY)),
    }
}

/// The cluster this server belongs to, from `/etc/neco/cluster`.
pub fn cluster(root: &Root) -> Result<String, IdentityError> {
    let (path, text) = word(root, CLUSTER, CLUSTER_REMEDY)?;
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(malformed(path, &text, "one word", CLUSTER_REMEDY));
    }
    Ok(text)
}

/// The name of this host: the kernel's, or under another root what its own `/etc/hostname` says, if it has one.
pub fn hostname(root: &Root) -> io::Result<String> {
    let read = |path: &Path| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    if !root.is_system()
        && let Ok(name) = read(&root.join("/etc/hostname"))
    {
        return Ok(name);
    }
    read(Path::new("/proc/sys/kernel/hostname"))
}

/// The machine id, from `/etc/machine-id`: 32 hex digits.
pub fn machine_id(root: &Root) -> Result<String, IdentityError> {
    let (path, text) = word(root, MACHINE_ID, MACHINE_ID_REMEDY)?;
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == 32 && hex && text.bytes().any(|b| b != b'0') {
        Ok(text)
    } else {
        Err(malformed(path, &text, "32 lower-case hex digits", MACHINE_ID_REMEDY))
    }
}

/// The id of this boot: the kernel's, or what `/run/neco/boot-id` below the root says (a sandbox "boots" more
/// often than its kernel).
pub fn boot_id(root: &Root) -> Result<String, IdentityError> {
    let (path, text) = match word(root, SANDBOX_BOOT_ID, BOOT_ID_REMEDY) {
        Err(IdentityError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            // The kernel is the same under every root.
            word(&Root::system(), BOOT_ID, BOOT_ID_REMEDY)?
        }
        found => found?,
    };
    let shape = text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if shape { Ok(text) } else { Err(malformed(path, &text, "a UUID", BOOT_ID_REMEDY)) }
}

/// The fields of an `os-release` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsRelease {
    path: PathBuf,
    fields: BTreeMap<String, String>,
}

/// What operating system runs here, from `/etc/os-release` or else `/usr/lib/os-release`.
pub fn os_release(root: &Root) -> Result<OsRelease, IdentityError> {
    let [first, second] = OS_RELEASE;
    let (path, text) = match read(root, first, OS_RELEASE_REMEDY) {
        Err(IdentityError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            read(root, second, OS_RELEASE_REMEDY)?
        }
        found => found?,
    };
    Ok(OsRelease::parse(path, &text))
}

impl OsRelease {
    /// Reads the fields in `text`; lines that are no assignment are passed over, as systemd does.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Self {
        let fields = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), unquote(value)))
            .collect();
        Self { path: path.into(), fields }
    }

    /// The value of a field, such as `ID`.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// The code name of the release, such as `bookworm`.
    pub fn codename(&self) -> Result<&str, IdentityError> {
        const FIELD: &str = "VERSION_CODENAME";
        self.get(FIELD).filter(|value| !value.is_empty()).ok_or_else(|| {
            IdentityError::MissingField { path: self.path.clone(), field: FIELD.to_owned() }
        })
    }
}

/// Takes a shell value apart: quotes of both kinds, and a backslash before what it protects.
fn unquote(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut quote = None;
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => text.extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => text.push(c),
        }
    }
    text
}

fn read(root: &Root, path: &str, remedy: &'static str) -> Result<(PathBuf, String), IdentityError> {
    let named = root.join(path);
    root.resolve(path)
        .and_then(std::fs::read_to_string)
        .map(|text| (named.clone(), text))
        .map_err(|source| IdentityError::Unreadable { path: named, remedy, source })
}

fn word(root: &Root, path: &str, remedy: &'static str) -> Result<(PathBuf, String), IdentityError> {
    read(root, path, remedy).map(|(path, text)| (path, text.trim().to_owned()))
}

fn malformed(
    path: impl AsRef<Path>,
    found: &str,
    expected: &'static str,
    remedy: &'static str,
) -> IdentityError {
    let found = found.chars().take(40).collect();
    IdentityError::Malformed { path: path.as_ref().to_owned(), found, expected, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        (dir, root)
    }

    // reference/neco-cd-core.md §12.5, row "rack file, cluster file".
    #[test]
    fn rack_and_cluster_are_read_without_their_final_newline() {
        let (_dir, root) = root(&[(RACK, "1\n"), (CLUSTER, "my-cluster\n")]);
        assert_eq!(lrn(&root).expect("a number"), Lrn::new(1));
        assert_eq!(cluster(&root).expect("a name"), "my-cluster");
    }

    // reference/neco-cd-core.md §12.5, row "OS codename".
    #[test]
    fn the_code_name_of_this_machine_is_readable() {
        let release = os_release(&Root::system()).expect("every test host has one");
        assert!(!release.codename().expect("a code name").is_empty());
        assert!(release.get("ID").is_some());
    }

    #[test]
    fn a_missing_or_malformed_file_is_named_with_its_remedy() {
        let (_dir, empty) = root(&[]);
        let text = lrn(&empty).expect_err("no file").to_string();
        assert!(text.contains("/etc/neco/rack") && text.contains("rack number into it"), "{text}");
        assert!(text.contains(&empty.path().display().to_string()), "{text}");
        for bad in ["", "-1", "+1", "one", "1 2", "4294967296"] {
            let (_dir, root) = root(&[(RACK, bad)]);
            assert!(matches!(lrn(&root), Err(IdentityError::Malformed { .. })), "{bad:?}");
        }
        for bad in ["", " \n", "two words", "a\u{7}"] {
            let (_dir, root) = root(&[(CLUSTER, bad)]);
            assert!(matches!(cluster(&root), Err(IdentityError::Malformed { .. })), "{bad:?}");
        }
        for bad in ["", "uninitialized", "0123", &"0".repeat(32), &"A".repeat(32)] {
            let (_dir, root) = root(&[(MACHINE_ID, bad)]);
            let text = machine_id(&root).expect_err(bad).to_string();
            assert!(text.contains("systemd-machine-id-setup"), "{text}");
        }
    }

    #[test]
    fn machine_and_boot_are_read_under_the_root() {
        let id = "0123456789abcdef0123456789abcdef";
        let boot = "11111111-2222-3333-4444-555555555555";
        let (_dir, with) = root(&[(MACHINE_ID, id), (SANDBOX_BOOT_ID, boot)]);
        assert_eq!(machine_id(&with).expect("an id"), id);
        assert_eq!(boot_id(&with).expect("an id"), boot);
        let (_dir, without) = root(&[]);
        let kernel = std::fs::read_to_string(BOOT_ID).expect("Linux has it");
        assert_eq!(boot_id(&without).expect("the kernel's"), kernel.trim());
        let (_dir, bad) = root(&[(SANDBOX_BOOT_ID, "now")]);
        assert!(matches!(boot_id(&bad), Err(IdentityError::Malformed { .. })));
    }

    #[test]
    fn fields_of_the_operating_system_are_unquoted() {
        let text = "# a comment\nID=ubuntu\nPRETTY_NAME=\"Ubuntu \\\"22\\\" LTS\"\nVERSION_CODENAME='jammy'\nnonsense\nX=a\\ b\n";
        let release = OsRelease::parse("/etc/os-release", text);
        assert_eq!(release.codename().expect("quoted"), "jammy");
        assert_eq!(release.get("PRETTY_NAME"), Some("Ubuntu \"22\" LTS"));
        assert_eq!(release.get("X"), Some("a b"));
        assert_eq!(release.get("# a comment"), None);
        let (_dir, bare) = root(&[("/usr/lib/os-release", "ID=x\n")]);
        let text = os_release(&bare).expect("the second place").codename().expect_err("missing");
        assert!(text.to_string().contains("has no VERSION_CODENAME"), "{text}");
    }
}
