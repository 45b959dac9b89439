//! What a person does on a boot server.

use std::process::Output;

use neco_playground::{BootServer, Daemon};
use tokio::process::Command;
use tokio::time::timeout;

use crate::LONG;

/// What a command said.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Told {
    /// Checks the exit code.
    ///
    /// # Panics
    /// It is another one: with everything that was said.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }
}

/// Runs the `necoctl` of a boot server's package, on that server.
///
/// # Panics
/// There is none, or it does not end.
pub async fn necoctl(server: &BootServer, arguments: &[&str]) -> Told {
    let mut command = Command::from(server.command("usr/bin/necoctl"));
    command.args(arguments).kill_on_drop(true);
    let output = timeout(LONG, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("necoctl {} hangs", arguments.join(" ")));
    let Output { status, stdout, stderr } =
        output.unwrap_or_else(|error| panic!("running necoctl: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Told { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The daemons of a boot server.
pub fn daemons(server: &BootServer) -> impl Iterator<Item = &Daemon> {
    std::iter::once(server.worker()).chain(server.updater())
}

/// The processes of a boot server's daemons.
#[must_use]
pub fn processes(server: &BootServer) -> Vec<u32> {
    daemons(server).filter_map(Daemon::pid).collect()
}

/// Ends the daemons of a server in order and starts them again; says which processes run now.
///
/// # Panics
/// One does not start.
pub async fn restarted(server: &BootServer) -> Vec<u32> {
    let mut processes = Vec::new();
    for daemon in daemons(server) {
        daemon.stop().await;
        daemon.up().await;
        processes.push(daemon.successor_of(0, LONG).await.expect("it starts"));
    }
    processes
}

/// Checks that a text has all of `words`.
///
/// # Panics
/// One is missing: with the text.
#[track_caller]
pub fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing:\n{text}");
    }
}
