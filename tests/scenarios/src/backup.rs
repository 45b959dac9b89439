//! Backups of etcd, and what a person does with them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use jiff::Timestamp;
use neco_playground::Site;
use tokio::process::Command;

use crate::Scenario;

/// The variable in which `cargo xtask test` says where etcdctl is.
const ETCDCTL: &str = "NECO_ETCDCTL";

/// A backup of etcd.
#[derive(Clone, Debug)]
pub enum Backup {
    /// A copy of the data of every member: put back, it is the same cluster at an earlier time.
    Copies(PathBuf),
    /// What `etcdctl snapshot save` writes: restored, it is another cluster.
    Snapshot(PathBuf),
}

impl Backup {
    /// Copies the data of all members, which are stopped for that time.
    ///
    /// # Panics
    /// They do not stop or start, or there is no room.
    pub async fn copies(scenario: &Scenario) -> Self {
        let folder = scenario.path().join("backup");
        let mut etcd = scenario.etcd().await;
        etcd.stop().await.expect("stopped");
        for number in 0..etcd.len() {
            let member = etcd.member(number);
            copy(member.data_dir(), &folder.join(member.name()));
        }
        etcd.restart().await.expect("started");
        Self::Copies(folder)
    }

    /// Saves a snapshot while everything goes on.
    ///
    /// # Panics
    /// etcdctl is not there, or fails.
    pub async fn snapshot(scenario: &Scenario) -> Self {
        let file = scenario.path().join("backup.db");
        let endpoint = scenario.etcd().await.member(0).client_url();
        etcdctl(&["--endpoints", &endpoint, "snapshot", "save", &file.display().to_string()]).await;
        Self::Snapshot(file)
    }

    /// Stops all members, puts it in the place of what they have, and starts them. Says when they had stopped.
    pub(crate) async fn put_back(&self, site: &Site) -> Timestamp {
        let mut etcd = site.etcd().await;
        etcd.stop().await.expect("stopped");
        let stopped = Timestamp::now();
        let members = || (0..etcd.len()).map(|number| etcd.member(number));
        let peers: Vec<String> =
            members().map(|member| format!("{}={}", member.name(), member.peer_url())).collect();
        for member in members() {
            std::fs::remove_dir_all(member.data_dir()).expect("a folder");
            match self {
                Self::Copies(folder) => copy(&folder.join(member.name()), member.data_dir()),
                Self::Snapshot(file) => {
                    let (file, data) = (file.display(), member.data_dir().display());
                    etcdctl(&[
                        "snapshot",
                        "restore",
                        &file.to_string(),
                        "--name",
                        member.name(),
                        "--initial-cluster",
                        &peers.join(","),
                        "--initial-cluster-token",
                        "restored",
                        "--initial-advertise-peer-urls",
                        &member.peer_url(),
                        "--data-dir",
                        &data.to_string(),
                    ])
                    .await;
                }
            }
        }
        etcd.restart().await.expect("started");
        stopped
    }
}

async fn etcdctl(arguments: &[&str]) {
    let program = std::env::var_os(ETCDCTL).unwrap_or_else(|| "etcdctl".into());
    let mut command = Command::new(&program);
    command.env("ETCDCTL_API", "3").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await;
    let Output { status, stdout, stderr } =
        output.unwrap_or_else(|error| panic!("running {}: {error}", program.display()));
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "etcdctl {}: {said:?}", arguments.join(" "));
}

/// Copies a folder with everything in it.
///
/// # Panics
/// It cannot be read, or there is no room.
pub fn copy(from: &Path, to: &Path) {
    let done = try_copy(from, to);
    done.unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
}

fn try_copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            try_copy(&from, &to)?;
        } else {
            std::fs::copy(from, to)?;
        }
    }
    Ok(())
}
