//! The machine that the tests run on, and what they may do to it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use neco_systemd::contract::Bench;
use neco_systemd::{Job, Systemd, UnitName, UnitState, Units};

const FILES: &str = "/etc/systemd/system";
const DROP_INS: &str = "/run/systemd/system";
const SCRATCH: &str = "/run/neco-contract";
const PREFIX: &str = "neco-contract-";

/// How long anything may take that the tests wait for.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// This machine. What a test leaves on it is removed before the next one and at the end of this one.
pub(crate) struct Machine {
    pub(crate) systemd: Systemd,
}

impl Machine {
    pub(crate) fn new() -> Self {
        clean();
        std::fs::create_dir_all(SCRATCH).expect("writable");
        Self { systemd: Systemd::with_deadline(SOON) }
    }

    /// Writes a unit file and has it loaded.
    pub(crate) async fn install(&self, unit: &UnitName, text: &str) {
        self.write_unit(unit, text);
        self.systemd.daemon_reload().await.expect("reloaded");
    }

    pub(crate) async fn state(&self, unit: &UnitName) -> UnitState {
        self.systemd.state(unit).await.expect("a state")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that has failed may have left systemd in no mood to be asked; the next test cleans again.
        if std::thread::panicking() {
            let _ = std::panic::catch_unwind(clean);
        } else {
            clean();
        }
    }
}

impl Bench for Machine {
    fn units(&self) -> &dyn Units {
        &self.systemd
    }

    fn write_unit(&self, unit: &UnitName, text: &str) {
        std::fs::write(file(unit), text).expect("writable");
    }

    fn remove_unit(&self, unit: &UnitName) {
        std::fs::remove_file(file(unit)).expect("removable");
    }

    fn fail(&self, job: Job, unit: &UnitName, message: Option<&str>) {
        let text = match job {
            Job::Start => "[Service]\nExecStartPre=/bin/false\n",
            Job::Stop => "[Unit]\nRefuseManualStop=yes\n",
            other => panic!("this bench does not know how to make {other} fail"),
        };
        let folder = Path::new(DROP_INS).join(format!("{unit}.d"));
        let path = folder.join(format!("{job}.conf"));
        if message.is_some() {
            std::fs::create_dir_all(&folder).expect("writable");
            std::fs::write(&path, text).expect("writable");
        } else {
            std::fs::remove_file(&path).expect("removable");
        }
        systemctl(&["daemon-reload"]);
    }

    fn run_of(&self, unit: &UnitName) -> Option<String> {
        let id = systemctl(&["show", "--property=InvocationID", "--value", unit.as_str()]);
        let id = id.trim();
        (!id.is_empty()).then(|| id.to_owned())
    }
}

pub(crate) fn unit(name: &str) -> UnitName {
    format!("{PREFIX}{name}").parse().expect("a name")
}

pub(crate) fn words<const N: usize>(argv: [&str; N]) -> Vec<String> {
    argv.map(str::to_owned).to_vec()
}

/// A file that a unit may make or wait for.
pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

/// What `systemctl` prints. It does not need the bus.
pub(crate) fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().expect("systemctl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "systemctl {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

fn file(unit: &UnitName) -> PathBuf {
    Path::new(FILES).join(unit.as_str())
}

/// Ends and removes every unit of the tests, whatever state it is in.
fn clean() {
    let ours = format!("{PREFIX}*");
    // One of these may forbid to stop its unit.
    if remove(Path::new(DROP_INS)) {
        systemctl(&["daemon-reload"]);
    }
    systemctl(&["stop", &ours]);
    let mut removed = remove(Path::new(FILES));
    for entry in std::fs::read_dir(FILES).expect("readable").flatten() {
        if entry.file_name().to_string_lossy().ends_with(".wants") {
            removed |= remove(&entry.path());
        }
    }
    if removed {
        systemctl(&["daemon-reload"]);
    }
    systemctl(&["reset-failed", &ours]);
    match std::fs::remove_dir_all(SCRATCH) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{SCRATCH}: {error}"),
        _ => {}
    }
}

/// Removes what is ours in a folder; says whether there was any.
fn remove(folder: &Path) -> bool {
    let mut removed = false;
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let path = entry.path();
            let done = match path.symlink_metadata().expect("there").is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            done.expect("removable");
            removed = true;
        }
    }
    removed
}
