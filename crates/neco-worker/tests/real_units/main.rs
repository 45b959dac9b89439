//! Commands as units of a real systemd, and files of a real root.
//!
//! `cargo xtask dctest drivers-keep-their-contracts` copies this suite into a machine of the virtual data centre and runs it
//! there with `--ignored`.

mod files;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use neco_host::detached::contract::{self, Bench, Chore, UNIT};
use neco_host::{Root, RunDetached};
use neco_systemd::{Systemd, UnitName, Units};
use neco_worker::install::{Daemons, SystemdDaemons, SystemdDetached};

/// The variable that asks for a unit.
const ASKED: &str = "NECO_CONTRACT_UNIT";

/// What is changed here is a machine's own.
fn must_be_a_machine() {
    assert!(
        Path::new("/etc/neco/rack").exists() && Path::new(Systemd::BOOTED).is_dir(),
        "this is no machine of `cargo xtask dc`"
    );
}

fn engine() -> SystemdDetached {
    must_be_a_machine();
    SystemdDetached::new(Root::new("/").expect("a root"), Arc::new(Systemd::new()))
}

fn systemctl(words: &[&str]) {
    let output = Command::new("systemctl").args(words).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("not loaded"), "{words:?}: {said}");
}

/// This machine.
struct Machine {
    engine: SystemdDetached,
    chore: Chore,
    _dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("room");
        Self { engine: engine(), chore: Chore::new(dir.path()), _dir: dir }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let at_boot = SystemdDetached::at_boot(UNIT);
        let _ = Command::new("systemctl").args(["stop", UNIT, &at_boot]).output();
        let _ = Command::new("systemctl").args(["disable", &at_boot]).output();
        let _ = std::fs::remove_file(Path::new("/etc/systemd/system").join(at_boot));
        let _ = Command::new("systemctl").arg("daemon-reload").output();
    }
}

#[async_trait(?Send)]
impl Bench for Machine {
    fn engine(&self) -> &dyn RunDetached {
        &self.engine
    }

    fn chore(&self, more: &[&str]) -> Vec<String> {
        self.chore.argv(more)
    }

    fn runs(&self) -> Vec<Vec<String>> {
        self.chore.runs()
    }

    fn end(&self) {
        self.chore.end();
    }

    async fn start_elsewhere(&self, unit: &str, argv: &[String]) -> bool {
        let asked = serde_json::json!({ "unit": unit, "argv": argv }).to_string();
        let program = std::env::current_exe().expect("this program");
        // A unit whose processes systemd ends all together when the first of them has ended.
        let output = Command::new("systemd-run")
            .args(["--quiet", "--wait", "--collect", "--pipe"])
            .arg(format!("--setenv={ASKED}={asked}"))
            .arg(program)
            .args(["--ignored", "--exact", "another_unit_starts_one_where_it_is_asked"])
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        true
    }

    async fn boot(&self) -> bool {
        systemctl(&["stop", UNIT, &SystemdDetached::at_boot(UNIT)]);
        // What is wanted at boot and does not run is started, as at boot.
        systemctl(&["start", "multi-user.target"]);
        true
    }
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn another_unit_starts_one_where_it_is_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let asked: serde_json::Value = serde_json::from_str(&asked).expect("json");
    let word = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let argv: Vec<_> = asked["argv"].as_array().expect("a list").iter().map(word).collect();
    engine().start(&word(&asked["unit"]), &argv).await.expect("started");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn units_of_systemd_keep_the_contract() {
    contract::holds(Machine::new).await;
}

/// A daemon of this machine until it is dropped.
struct Daemon {
    unit: UnitName,
    file: PathBuf,
}

impl Daemon {
    fn new(name: &str, text: &str) -> Self {
        let unit: UnitName = format!("{name}.service").parse().expect("a name");
        let file = Path::new("/run/systemd/system").join(unit.as_str());
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
        std::fs::write(&file, text).expect("writable");
        Self { unit, file }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        for words in [
            &["stop", self.unit.as_str()][..],
            &["daemon-reload"],
            &["reset-failed", self.unit.as_str()],
        ] {
            let _ = Command::new("systemctl").args(words).output();
        }
    }
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_daemon_that_never_says_that_it_runs_is_given_up_soon() {
    let text = "[Service]\nType=notify\nExecStart=/bin/false\nRestart=always\nRestartSec=1s\n";
    let _machine = Machine::new();
    let _daemon = Daemon::new("neco-contract-daemon", text);
    let units: Arc<dyn Units> = Arc::new(Systemd::new());
    let restarted = SystemdDaemons::new(units).restart("neco-contract-daemon").await;
    let error = restarted.expect_err("it exits at once");
    assert!(error.contains("exited with status 1"), "{error}");
}
