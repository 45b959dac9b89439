//! Maintainer scripts of a sandbox's package, called in the order and with the words of dpkg (Debian Policy, chapter 6).
//!
//! They run as whoever runs the sandbox, and are told in `DPKG_ROOT` where its root is, as by
//! `dpkg --root=… --force-script-chrootless`: a script that heeds it leaves the machine around the sandbox alone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_schema::NecoVersion;

use crate::command::{self, OnDrop};
use crate::error::Doing;
use crate::replace::create_dirs;
use crate::{CommandError, CommandOutput, FileError, RealFs, Root, VerifiedPackage};

/// Where the scripts of the installed package lie.
const KEPT: &str = "/var/lib/neco/sandbox-scripts";
/// Where those of a package lie that is being installed.
const COMING: &str = "/var/lib/neco/sandbox-scripts.new";
/// How long one script may take; after that it is killed.
const WITHIN: Duration = Duration::from_secs(900);

/// The scripts of an installation: those of the version that is there, and those of the one that comes.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    root: Root,
    package: String,
    new: NecoVersion,
    /// The version that is there, and whether it was ever complete.
    old: Option<(NecoVersion, bool)>,
}

/// Why an installation does not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// A script failed, or the package is none.
    Said(CommandOutput),
    /// It could not be run to its end.
    NotRun(CommandError),
}

impl From<CommandError> for Halt {
    fn from(error: CommandError) -> Self {
        Self::NotRun(error)
    }
}

/// Which of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Old,
    New,
}

/// How far an installation came that is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Prerm,
    Preinst,
    Postrm,
}

impl Scripts {
    /// Those of `package` over `old`.
    pub(super) fn new(
        root: &Root,
        package: &str,
        new: &NecoVersion,
        old: Option<(NecoVersion, bool)>,
    ) -> Self {
        Self { root: root.clone(), package: package.to_owned(), new: new.clone(), old }
    }

    /// Takes the scripts out of a package.
    pub(super) async fn take(&self, package: &VerifiedPackage) -> Result<(), Halt> {
        let dir = self.root.join(COMING);
        let argv = ["dpkg-deb", "-e", &package.path().to_string_lossy(), &dir.to_string_lossy()];
        let output = command::run(&argv, &[], WITHIN, OnDrop::Kill).await?;
        if output.status.success() { Ok(()) } else { Err(Halt::Said(output)) }
    }

    /// The old version makes room and the new one prepares itself; if one of them refuses, what was done is taken back.
    pub(super) async fn before_unpacking(&self) -> Result<(), Halt> {
        let new = self.new.as_str();
        if let Some((old, true)) = &self.old
            && let Err(halt) = self.either("prerm", &["upgrade", new], old).await
        {
            self.take_back(Reached::Prerm).await;
            return Err(halt);
        }
        let prepared = match &self.old {
            Some((old, _)) => self.call(Of::New, "preinst", &["upgrade", old.as_str(), new]).await,
            None => self.call(Of::New, "preinst", &["install"]).await,
        };
        if prepared.is_err() {
            self.take_back(Reached::Preinst).await;
        }
        prepared.map(drop)
    }

    /// The new version could not be unpacked.
    pub(super) async fn not_unpacked(&self) {
        self.take_back(Reached::Preinst).await;
    }

    /// The old version leaves.
    pub(super) async fn after_unpacking(&self) -> Result<(), Halt> {
        let Some((old, _)) = &self.old else { return Ok(()) };
        let left = self.either("postrm", &["upgrade", self.new.as_str()], old).await;
        if left.is_err() {
            self.take_back(Reached::Postrm).await;
        }
        left
    }

    /// The version that is there now gets ready to run; `last` is the one that did so before.
    pub(super) async fn configure(&self, last: Option<&NecoVersion>) -> Result<(), Halt> {
        // Where there was none, dpkg says so with an empty word.
        let words = ["configure", last.map_or("", NecoVersion::as_str)];
        self.call(Of::Old, "postinst", &words).await.map(drop)
    }

    /// Asks the old version; where its script fails, the new one's may still know better.
    async fn either(&self, script: &str, words: &[&str], old: &NecoVersion) -> Result<(), Halt> {
        let Err(halt) = self.call(Of::Old, script, words).await else { return Ok(()) };
        let words = ["failed-upgrade", old.as_str(), self.new.as_str()];
        match self.call(Of::New, script, &words).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(halt),
        }
    }

    /// Tells both versions that nothing comes of it.
    async fn take_back(&self, reached: Reached) {
        let new = self.new.as_str();
        let Some((old, was_complete)) = &self.old else {
            return self.call_anyway(Of::New, "postrm", &["abort-install"]).await;
        };
        if reached >= Reached::Postrm {
            self.call_anyway(Of::Old, "preinst", &["abort-upgrade", new]).await;
        }
        if reached >= Reached::Preinst {
            self.call_anyway(Of::New, "postrm", &["abort-upgrade", old.as_str(), new]).await;
        }
        if *was_complete {
            self.call_anyway(Of::Old, "postinst", &["abort-upgrade", new]).await;
        }
    }

    async fn call_anyway(&self, of: Of, script: &str, words: &[&str]) {
        if let Err(halt) = self.call(of, script, words).await {
            tracing::warn!(
                script,
                ?words,
                ?halt,
                "a script failed while an installation is taken back"
            );
        }
    }

    /// Calls a script; says whether there is one.
    async fn call(&self, of: Of, script: &str, words: &[&str]) -> Result<bool, Halt> {
        let path = self.root.join(if of == Of::Old { KEPT } else { COMING }).join(script);
        if !path.is_file() {
            return Ok(false);
        }
        let program = path.to_string_lossy();
        let argv: Vec<&str> = std::iter::once(&*program).chain(words.iter().copied()).collect();
        let root = self.root.path().to_string_lossy();
        let env = [
            ("DPKG_ROOT", &*root),
            ("DPKG_MAINTSCRIPT_PACKAGE", &self.package),
            ("DPKG_MAINTSCRIPT_NAME", script),
        ];
        let output = command::run(&argv, &env, WITHIN, OnDrop::Leave).await?;
        if output.status.success() { Ok(true) } else { Err(Halt::Said(output)) }
    }
}

/// Forgets the scripts of an installation that came to nothing. Blocks.
pub(super) fn forget(root: &Root) -> Result<(), FileError> {
    remove(&root.join(COMING))
}

/// The scripts that came are those of the installed package from now on; done already if there are none. Blocks.
pub(super) fn adopt(root: &Root) -> Result<(), FileError> {
    let (kept, coming) = (root.join(KEPT), root.join(COMING));
    if !coming.is_dir() {
        return Ok(());
    }
    create_dirs(&RealFs, kept.parent().unwrap_or(root.path()))?;
    remove(&kept)?;
    std::fs::rename(&coming, &kept).doing("replacing", &kept)
}

fn remove(dir: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing", dir),
    }
}

/// Where the script `name` of the installed package lies below a sandbox's root.
pub fn sandbox_script(name: &str) -> PathBuf {
    Path::new(KEPT).join(name)
}
