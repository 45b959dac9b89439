//! The unit that installs, as a unit of systemd.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use async_trait::async_trait;
use neco_host::detached::check;
use neco_host::{DetachError, FileError, FileSystem, RealFs, Root, RunDetached, replace};
use neco_systemd::{UnitError, UnitName, Units};

/// Where a unit lies that is the machine's own.
const FOLDER: &str = "/etc/systemd/system";
/// The line of a unit file that tells its command as it was given: systemd leaves sections that begin so alone.
const COMMAND: &str = "[X-Neco]\nCommand=";

/// Runs commands as units of systemd. One that is enabled has a unit file in `/etc/systemd/system`, which is what is started
/// too: it is started again if it fails, and what it has begun is not cut off with it. Any other command is a transient unit. Both
/// have names of their own, because systemd makes no transient unit of a name that has a file.
pub struct SystemdDetached {
    units: Arc<dyn Units>,
    root: Root,
    fs: Arc<dyn FileSystem>,
}

impl SystemdDetached {
    /// Units of the machine whose files lie below `root`, driven by `units`.
    pub fn new(root: Root, units: Arc<dyn Units>) -> Self {
        Self { units, root, fs: Arc::new(RealFs) }
    }

    /// The name of the unit that runs `unit` at boot.
    pub fn at_boot(unit: &str) -> String {
        format!("{}-at-boot.service", unit.trim_end_matches(".service"))
    }

    /// Both names of a unit.
    fn names(unit: &str) -> Result<[UnitName; 2], DetachError> {
        Ok([service(unit)?, service(&Self::at_boot(unit))?])
    }

    fn file(name: &UnitName) -> String {
        format!("{FOLDER}/{name}")
    }
}

impl fmt::Debug for SystemdDetached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemdDetached").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The service of a unit, whose name may say that it is one.
pub(super) fn service(unit: &str) -> Result<UnitName, DetachError> {
    check(unit, None)?;
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    format!("{stem}.service").parse().map_err(|_| DetachError::Name(unit.to_owned()))
}

fn refused(unit: &str) -> impl FnOnce(UnitError) -> DetachError {
    let unit = unit.to_owned();
    move |error| DetachError::Manager { unit, source: Box::new(error) }
}

fn unwritten(unit: &str) -> impl FnOnce(FileError) -> DetachError {
    let unit = unit.to_owned();
    move |source| DetachError::File { unit, source }
}

#[async_trait]
impl RunDetached for SystemdDetached {
    async fn start(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        let [name, at_boot] = Self::names(unit)?;
        check(unit, Some(argv))?;
        if self.is_running(unit).await? {
            tracing::info!(unit, "the unit is running already");
            return Ok(());
        }
        if self.command(unit).await?.as_deref() == Some(argv) {
            return self.units.start(&at_boot).await.map_err(refused(unit));
        }
        self.units.start_transient(&name, argv).await.map_err(refused(unit))
    }

    async fn is_running(&self, unit: &str) -> Result<bool, DetachError> {
        for name in Self::names(unit)? {
            let state = self.units.state(&name).await.map_err(refused(unit))?;
            // One that waits to be started again does not run: whoever asks may start it sooner.
            if state.is_alive() && state.sub != "auto-restart" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn enable(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        let [_, name] = Self::names(unit)?;
        check(unit, Some(argv))?;
        let text = unit_file(unit, argv);
        replace(&*self.fs, &self.root, Self::file(&name), text.as_bytes(), 0o644, None)
            .map_err(unwritten(unit))?;
        self.units.daemon_reload().await.map_err(refused(unit))?;
        self.units.enable(&name).await.map_err(refused(unit))
    }

    async fn command(&self, unit: &str) -> Result<Option<Vec<String>>, DetachError> {
        let [_, name] = Self::names(unit)?;
        let path = self.root.join(Self::file(&name));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unwritten(unit)(FileError::new("reading", path, error))),
        };
        let told = text.split_once(COMMAND).and_then(|(_, rest)| rest.lines().next());
        match told.map(serde_json::from_str) {
            Some(Ok(argv)) => Ok(Some(argv)),
            _ => {
                let malformed = ErrorKind::InvalidData.into();
                Err(unwritten(unit)(FileError::new("understanding", path, malformed)))
            }
        }
    }

    async fn disable(&self, unit: &str) -> Result<(), DetachError> {
        let [_, name] = Self::names(unit)?;
        self.units.disable(&name).await.map_err(refused(unit))?;
        let path = self.root.join(Self::file(&name));
        let removed = match self.fs.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(unwritten(unit)(FileError::new("removing", path, error))),
            Ok(()) => true,
        };
        // Where it is gone already, perhaps by a call that was cut off before this.
        let folder = self.root.join(FOLDER);
        match self.fs.sync_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(unit)(FileError::new("syncing", folder, error))),
            Ok(()) => {}
        }
        if removed {
            self.units.daemon_reload().await.map_err(refused(unit))?;
        }
        Ok(())
    }
}

/// A unit file (systemd.service(5)) that runs `argv` at every boot.
fn unit_file(unit: &str, argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    let told = serde_json::to_string(argv).unwrap_or_default();
    format!(
        "# Written by neco-worker, which removes it when {unit} has come to its end.\n\
         [Unit]\nDescription={unit}: goes on after a reboot\nStartLimitIntervalSec=0\n\
         # As the daemons that it restarts.\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=exec\nExecStart={}\nRestart=on-failure\nRestartSec=5s\n\
         # What it has begun is not to be cut off where that can be helped.\nKillMode=process\n\n\
         [Install]\nWantedBy=multi-user.target\n\n{COMMAND}{told}\n",
        words.join(" ")
    )
}

/// A word of a command line as systemd reads it (systemd.service(5), "Command lines"): nothing in it is expanded.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' | '$' => text.extend([c, c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use neco_host::fs::{Call, RecordingFs};
    use neco_systemd::Recorder;

    use super::*;

    #[test]
    fn nothing_in_a_command_is_expanded_by_systemd() {
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("50%\\ of \"$HOME\""), "\"50%%\\\\ of \\\"$$HOME\\\"\"");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("two\nlines\u{1}"), "\"two\\nlines\\u0001\"");
    }

    #[test]
    fn a_unit_has_a_plain_name() {
        assert_eq!(
            service("neco-install").map(|name| name.to_string()).ok().as_deref(),
            Some("neco-install.service")
        );
        assert_eq!(
            SystemdDetached::at_boot("neco-install.service"),
            "neco-install-at-boot.service"
        );
    }

    /// Units below a root that starts nothing.
    struct Site {
        dir: tempfile::TempDir,
        fs: Arc<RecordingFs>,
        engine: SystemdDetached,
    }

    impl Site {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let (root, fs) = (Root::new(dir.path()).expect("a root"), Arc::new(RecordingFs::new()));
            let units = Arc::new(Recorder::new(dir.path()));
            let engine = SystemdDetached { units, root, fs: Arc::clone(&fs) as _ };
            Self { dir, fs, engine }
        }

        fn folder(&self) -> std::path::PathBuf {
            self.dir.path().join("etc/systemd/system")
        }
    }

    #[tokio::test]
    async fn a_unit_that_is_disabled_stays_so_after_a_power_cut() {
        let site = Site::new();
        let argv = ["/bin/true".to_owned()];
        site.engine.enable("neco-install", &argv).await.expect("enabled");
        assert_eq!(site.fs.calls().last(), Some(&Call::SyncDir(site.folder())));
        site.fs.clear();
        site.engine.disable("neco-install").await.expect("disabled");
        let file = site.folder().join("neco-install-at-boot.service");
        assert_eq!(site.fs.calls(), [Call::Remove(file), Call::SyncDir(site.folder())]);
        site.fs.clear();
        site.engine.disable("neco-install").await.expect("disabled");
        let last = site.fs.calls().pop();
        assert_eq!(
            last,
            Some(Call::SyncDir(site.folder())),
            "the first call may have been cut off"
        );
    }

    #[tokio::test]
    async fn a_command_that_no_unit_file_can_hold_is_refused() {
        let site = Site::new();
        let argv = ["/bin/true".to_owned(), "a\0b".to_owned()];
        let error = site.engine.enable("neco-install", &argv).await.expect_err("a zero byte");
        assert_eq!(error.to_string(), "the command of unit neco-install holds a zero byte");
        assert_eq!(site.fs.calls(), []);
    }
}
