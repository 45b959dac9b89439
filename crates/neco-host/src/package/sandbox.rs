//! The engine of the playground: a package is unpacked below a root, without dpkg's data base and without root.
//!
//! Maintainer scripts run as dpkg runs them (see the module `scripts`), and configuration files are treated like any
//! other. A record says what is there; it is written before the first file moves and after the last one, so that an
//! interruption is known and [`repair`](PackageManager::repair) can complete it. Installing and moving can be made to fail or to hang, see [`Faults`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use neco_sandbox::Faults;
use neco_schema::NecoVersion;
use serde::{Deserialize, Serialize};

use super::scripts::{self, Halt, Scripts};
use super::{Installed, PackageError, PackageManager, blocking, check_intact, unbroken};
use crate::command::{self, OnDrop};
use crate::error::Doing;
use crate::lock::{FileLock, LockError};
use crate::replace::create_dirs;
use crate::{FileError, RealFs, Root, VerifiedPackage, replace};

/// Where the record of the installed package lies below the root.
pub const SANDBOX_RECORD: &str = "/var/lib/neco/sandbox-package.json";

/// Where a package is unpacked before its files get their names.
const STAGING: &str = "/var/lib/neco/sandbox-staging";
const LOCK: &str = "/var/lib/neco/sandbox.lock";

/// How long unpacking may take.
const UNPACK_WITHIN: Duration = Duration::from_secs(600);

/// Installs by unpacking below a root.
#[derive(Clone, Debug)]
pub struct Sandbox {
    root: Root,
    faults: Faults,
    lock_within: Duration,
}

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SandboxRecord {
    package: String,
    version: NecoVersion,
    /// Whether all files have their names and the old ones are gone.
    #[serde(default = "yes")]
    complete: bool,
    /// Whether an installation that is not complete has all its files, in place or unpacked.
    #[serde(default)]
    unpacked: bool,
    /// Whether a complete installation has been got ready to run.
    #[serde(default = "yes")]
    configured: bool,
    /// The version that was last got ready to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<NecoVersion>,
    /// What the package consists of, below the root.
    #[serde(default)]
    files: BTreeSet<PathBuf>,
    #[serde(default)]
    directories: BTreeSet<PathBuf>,
    /// What the version before consisted of, while this one is not complete.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    old_files: BTreeSet<PathBuf>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    old_directories: BTreeSet<PathBuf>,
}

fn yes() -> bool {
    true
}

impl SandboxRecord {
    fn installed(&self) -> Installed {
        let state = match (self.complete, self.configured) {
            (true, true) => return Installed::Yes(self.version.clone()),
            (true, false) => "half-configured".to_owned(),
            (false, _) => "half-installed".to_owned(),
        };
        Installed::Broken { version: self.version.to_string(), state }
    }
}

impl Sandbox {
    /// A sandbox below `root`.
    pub fn new(root: Root) -> Self {
        let faults = Faults::below(root.path());
        Self { root, faults, lock_within: Duration::from_secs(60) }
    }

    /// The same, with another bound on waiting for a second process that installs.
    pub fn lock_within(self, lock_within: Duration) -> Self {
        Self { lock_within, ..self }
    }

    fn record(&self) -> Result<Option<SandboxRecord>, PackageError> {
        let path = self.root.resolve(SANDBOX_RECORD).doing("resolving", SANDBOX_RECORD)?;
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let bytes = read.doing("reading", &path)?;
                let record = serde_json::from_slice(&bytes);
                record.map(Some).map_err(|source| PackageError::Record { path, source })
            }
        }
    }

    fn write_record(&self, record: &SandboxRecord) -> Result<(), PackageError> {
        let text = serde_json::to_vec_pretty(record).map_err(|source| {
            let path = self.root.join(SANDBOX_RECORD);
            PackageError::Record { path, source }
        })?;
        replace(&RealFs, &self.root, SANDBOX_RECORD, &text, 0o644, None)?;
        Ok(())
    }

    fn staging(&self) -> Result<PathBuf, FileError> {
        self.root.resolve(STAGING).doing("resolving", STAGING)
    }

    fn lock(&self) -> Result<FileLock, PackageError> {
        let path = self.root.resolve(LOCK).doing("resolving", LOCK)?;
        create_dirs(&RealFs, path.parent().unwrap_or(self.root.path()))?;
        let lock = FileLock::exclusive(&path, self.lock_within).map_err(|error| match error {
            LockError::File(error) => error.into(),
            LockError::Held { path, within } => {
                let pid = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = format!("process {} holds {}", pid.trim(), path.display());
                PackageError::Locked { within, holder }
            }
        })?;
        // For whoever waits; on a disk that refuses it, there are worse troubles.
        let _ = std::fs::write(&path, format!("{}\n", std::process::id()));
        Ok(lock)
    }

    /// An empty directory to unpack into.
    fn clear_staging(&self) -> Result<PathBuf, FileError> {
        let staging = self.staging()?;
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.doing("removing", &staging)?,
        }
        create_dirs(&RealFs, &staging)?;
        Ok(staging)
    }

    /// Records that the unpacked package is about to replace what is there.
    fn announce(&self, package: &VerifiedPackage) -> Result<SandboxRecord, PackageError> {
        let staging = self.staging()?;
        let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
        walk(&staging, Path::new(""), &mut files, &mut directories)?;
        let mut record = SandboxRecord {
            package: package.package().to_owned(),
            version: package.version().clone(),
            complete: false,
            unpacked: true,
            configured: false,
            last: None,
            files,
            directories,
            old_files: BTreeSet::new(),
            old_directories: BTreeSet::new(),
        };
        if let Some(before) = self.record()? {
            record.last = before
                .last
                .clone()
                .or_else(|| (before.complete && before.configured).then(|| before.version.clone()));
            // An installation that was broken off may have left files of both versions.
            record.old_files = before.files.into_iter().chain(before.old_files).collect();
            record.old_directories =
                before.directories.into_iter().chain(before.old_directories).collect();
        }
        self.write_record(&record)?;
        Ok(record)
    }

    /// Gives every unpacked file its name, removes what only the old version had, and records that all is done.
    /// What was done before an interruption is not done again.
    fn complete(&self, record: SandboxRecord) -> Result<SandboxRecord, PackageError> {
        let staging = self.staging()?;
        let (mut changed, mut placed) = (BTreeSet::new(), BTreeSet::new());
        for directory in &record.directories {
            self.make_directory(&staging, directory, &mut changed)?;
        }
        for file in &record.files {
            let from = staging.join(file);
            let to = self.root.resolve_parent(file).doing("resolving", file)?;
            placed.insert(to.clone());
            match from.symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => {
                    if found.doing("looking at", &from)?.is_file() {
                        sync(&from)?;
                    }
                }
            }
            self.faults.pass_blocking(&[&format!("place /{}", file.display())])?;
            std::fs::rename(&from, &to).doing("replacing", &to)?;
            changed.extend(to.parent().map(Path::to_owned));
        }
        for file in record.old_files.difference(&record.files) {
            let path = self.root.resolve_parent(file).doing("resolving", file)?;
            if placed.contains(&path) {
                // The same file by another name, such as /lib for /usr/lib.
                continue;
            }
            match std::fs::remove_file(&path) {
                Err(error) if is_gone(&error) => {}
                removed => {
                    removed.doing("removing", &path)?;
                    changed.extend(path.parent().map(Path::to_owned));
                }
            }
        }
        // Descending, so that a directory comes after what lies in it; one that is not empty stays.
        let old_directories: Vec<_> =
            record.old_directories.difference(&record.directories).collect();
        for directory in old_directories.into_iter().rev() {
            let path = self.root.resolve_parent(directory).doing("resolving", directory)?;
            if std::fs::remove_dir(&path).is_ok() {
                changed.remove(&path);
                changed.extend(path.parent().map(Path::to_owned));
            }
        }
        for directory in &changed {
            sync(directory)?;
        }
        scripts::adopt(&self.root)?;
        let (old_files, old_directories) = (BTreeSet::new(), BTreeSet::new());
        let record = SandboxRecord { complete: true, old_files, old_directories, ..record };
        self.write_record(&record)?;
        std::fs::remove_dir_all(&staging)
            .doing("removing", &staging)
            .or_else(|error| if is_gone(&error.source) { Ok(()) } else { Err(error) })?;
        Ok(record)
    }

    /// Gets what is there ready to run.
    async fn configure(&self, record: SandboxRecord) -> Result<(), PackageError> {
        let scripts = Scripts::new(&self.root, &record.package, &record.version, None);
        if let Err(halt) = scripts.configure(record.last.as_ref()).await {
            return Err(self.halted(&record.package, halt).await);
        }
        let this = self.clone();
        let last = Some(record.version.clone());
        blocking(move || this.write_record(&SandboxRecord { configured: true, last, ..record }))
            .await
    }

    /// Why an installation did not go on, with what is there now.
    async fn halted(&self, package: &str, halt: Halt) -> PackageError {
        match (halt, self.installed(package).await) {
            (Halt::NotRun(error), _) => error.into(),
            (_, Err(error)) => error,
            (Halt::Said(output), Ok(now)) => {
                let (package, output) = (package.to_owned(), Box::new(output));
                PackageError::Failed { package, output, now }
            }
        }
    }

    fn make_directory(
        &self,
        staging: &Path,
        directory: &Path,
        changed: &mut BTreeSet<PathBuf>,
    ) -> Result<(), FileError> {
        let path = self.root.resolve(directory).doing("resolving", directory)?;
        if path.is_dir() {
            return Ok(());
        }
        let mode = staging.join(directory).metadata().map_or(0o755, |found| found.mode() & 0o7777);
        std::fs::DirBuilder::new().mode(mode).create(&path).doing("making", &path)?;
        changed.extend(path.parent().map(Path::to_owned));
        changed.insert(path);
        Ok(())
    }
}

#[async_trait]
impl PackageManager for Sandbox {
    async fn installed(&self, package: &str) -> Result<Installed, PackageError> {
        let (this, package) = (self.clone(), package.to_owned());
        blocking(move || {
            Ok(match this.record()? {
                Some(record) if record.package != package => Installed::No,
                Some(record) => record.installed(),
                None => Installed::No,
            })
        })
        .await
    }

    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        let (this, package) = (self.clone(), package.clone());
        unbroken(async move { this.install_to_the_end(&package).await }).await
    }

    async fn repair(&self) -> Result<(), PackageError> {
        let this = self.clone();
        unbroken(async move { this.repair_to_the_end().await }).await
    }
}

impl Sandbox {
    async fn install_to_the_end(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        let (this, wanted) = (self.clone(), package.clone());
        let (lock, staging, old) = blocking(move || {
            let lock = this.lock()?;
            let before = this.record()?;
            let old = before.as_ref().map(|before| (before.version.clone(), before.complete));
            if let Some(before) = before {
                if before.package != wanted.package() {
                    let package = wanted.package().to_owned();
                    return Err(PackageError::OtherPackage { holds: before.package, package });
                }
                if before.unpacked {
                    // What a repair would need is about to go.
                    this.write_record(&SandboxRecord { unpacked: false, ..before })?;
                }
            }
            scripts::forget(&this.root)?;
            Ok((lock, this.clear_staging()?, old))
        })
        .await?;
        check_intact(package).await?;
        let name = package.package();
        let scripts = Scripts::new(&self.root, name, package.version(), old);
        if let Err(halt) = scripts.take(package).await {
            return Err(self.halted(name, halt).await);
        }
        if let Err(halt) = scripts.before_unpacking().await {
            return Err(self.halted(name, halt).await);
        }
        self.faults.pass(&[&format!("unpack {}", package.package())]).await?;
        let argv =
            ["dpkg-deb", "-x", &package.path().to_string_lossy(), &staging.to_string_lossy()];
        let unpacked = command::run(&argv, &[], UNPACK_WITHIN, OnDrop::Kill).await;
        let halt = match unpacked {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(Halt::Said(output)),
            Err(error) => Some(error.into()),
        };
        if let Some(halt) = halt {
            scripts.not_unpacked().await;
            return Err(self.halted(name, halt).await);
        }
        if let Err(halt) = scripts.after_unpacking().await {
            return Err(self.halted(name, halt).await);
        }
        let (this, wanted) = (self.clone(), package.clone());
        let record = blocking(move || this.announce(&wanted).and_then(|it| this.complete(it)));
        self.configure(record.await?).await?;
        drop(lock);
        let found = self.installed(name).await?;
        if found == Installed::Yes(package.version().clone()) {
            return Ok(());
        }
        let wanted = package.version().clone();
        Err(PackageError::NotTaken { package: name.to_owned(), wanted, found })
    }

    async fn repair_to_the_end(&self) -> Result<(), PackageError> {
        let this = self.clone();
        let (_lock, unpacked) = blocking(move || {
            let lock = this.lock()?;
            let unpacked = match this.record()? {
                None => None,
                Some(record) if record.complete => Some(record).filter(|it| !it.configured),
                Some(record) if record.unpacked => Some(this.complete(record)?),
                Some(record) => {
                    let found = record.installed();
                    return Err(PackageError::NotInstalled { package: record.package, found });
                }
            };
            Ok((lock, unpacked))
        })
        .await?;
        match unpacked {
            Some(record) => self.configure(record).await,
            None => Ok(()),
        }
    }
}

/// Collects what lies below `staging/below`, as paths relative to `staging`.
fn walk(
    staging: &Path,
    below: &Path,
    files: &mut BTreeSet<PathBuf>,
    directories: &mut BTreeSet<PathBuf>,
) -> Result<(), FileError> {
    let dir = staging.join(below);
    for entry in std::fs::read_dir(&dir).doing("listing", &dir)? {
        let entry = entry.doing("listing", &dir)?;
        let path = below.join(entry.file_name());
        if entry.file_type().doing("looking at", entry.path())?.is_dir() {
            walk(staging, &path, files, directories)?;
            directories.insert(path);
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|file| file.sync_all()).doing("syncing", path)
}

/// Whether there is no such file any more: a directory of that name is somebody else's.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}
