//! Failures and hanging calls on request.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A file that asks for failures: a JSON object from a call to what shall become of it.
///
/// ```json
/// {
///   "start vault.service": "the seal is broken",
///   "pull ghcr.io/cybozu/serf:0.10.1.7": { "hold": true }
/// }
/// ```
///
/// A text fails the call with that message. `{"hold": true}` lets the call hang until the entry is gone, so that a
/// test can kill a process in the middle of it. The file is read anew by every call; whoever changes it by hand
/// replaces it as a whole, as [`fail`](Self::fail), [`hold`](Self::hold) and [`clear`](Self::clear) do.
///
/// | Call | Asked by |
/// |---|---|
/// | `enable U`, `disable U`, `start U`, `stop U`, `restart U` | the units of neco-systemd |
/// | `pull I`, `run I`, `exec N`, `stop N` | the containers of neco-runtime |
/// | `write P` | `neco_host::SandboxFs`, when a new file is about to get its name |
/// | `unpack N`, `place P` | the package manager of neco-host, before anything and before each file |
/// | `step N`, `fetch F` | neco-worker, before a step does anything and in the middle of a download |
#[derive(Clone, Debug)]
pub struct Faults {
    path: PathBuf,
    deadline: Duration,
}

/// Why a call was not let through.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The file asked for a failure.
    #[error("{message}")]
    Asked {
        /// The message that stands in the file.
        message: String,
    },
    /// The file held the call longer than its deadline.
    #[error("{call:?} was held by {path} for {after:?}")]
    Held {
        /// The call.
        call: String,
        /// The file.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// The file cannot be read or replaced.
    #[error("using {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not an object of texts and holds.
    #[error("{path} is not an object whose values are a text or {{\"hold\": true}}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Fault {
    Fail(String),
    Hold { hold: bool },
}

impl Faults {
    /// How often a held call looks at the file again.
    pub const LOOK: Duration = Duration::from_millis(20);

    /// How long a call may hang, where nothing else is said.
    const HELD_WITHIN: Duration = Duration::from_secs(600);

    /// Where the file lies below the root of a sandbox.
    pub const FILE: &str = "etc/neco/sandbox-faults.json";

    /// The faults that stand in the file at `path`, which need not exist. A held call fails after `deadline`.
    pub fn new(path: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self { path: path.into(), deadline }
    }

    /// The faults of the sandbox below `root`.
    pub fn below(root: impl AsRef<Path>) -> Self {
        Self::new(root.as_ref().join(Self::FILE), Self::HELD_WITHIN)
    }

    /// Returns when none of `calls` is held, with the failure of the first that shall fail.
    pub async fn pass(&self, calls: &[&str]) -> Result<(), FaultError> {
        let held = async {
            loop {
                if self.look(calls)?.is_none() {
                    return Ok(());
                }
                tokio::time::sleep(Self::LOOK).await;
            }
        };
        match tokio::time::timeout(self.deadline, held).await {
            Ok(result) => result,
            Err(_) => Err(self.held_too_long(calls)),
        }
    }

    /// The same for code that is not asynchronous; it blocks its thread.
    pub fn pass_blocking(&self, calls: &[&str]) -> Result<(), FaultError> {
        let deadline = Instant::now() + self.deadline;
        while self.look(calls)?.is_some() {
            if Instant::now() >= deadline {
                return Err(self.held_too_long(calls));
            }
            std::thread::sleep(Self::LOOK);
        }
        Ok(())
    }

    /// From now on `call` fails with `message`.
    pub fn fail(&self, call: &str, message: &str) -> Result<(), FaultError> {
        self.change(|faults| {
            faults.insert(call.to_owned(), Fault::Fail(message.to_owned()));
        })
    }

    /// From now on `call` hangs.
    pub fn hold(&self, call: &str) -> Result<(), FaultError> {
        self.change(|faults| {
            faults.insert(call.to_owned(), Fault::Hold { hold: true });
        })
    }

    /// From now on `call` passes; one that hangs goes on.
    pub fn clear(&self, call: &str) -> Result<(), FaultError> {
        self.change(|faults| {
            faults.remove(call);
        })
    }

    fn held_too_long(&self, calls: &[&str]) -> FaultError {
        FaultError::Held { call: calls.join(", "), path: self.path.clone(), after: self.deadline }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Fault>)) -> Result<(), FaultError> {
        let mut faults = self.read()?;
        change(&mut faults);
        let text = serde_json::to_vec_pretty(&faults)
            .map_err(|source| FaultError::Malformed { path: self.path.clone(), source })?;
        let temporary = self.path.with_extension("json.new");
        self.path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&temporary, text))
            .and_then(|()| std::fs::rename(&temporary, &self.path))
            .map_err(|source| FaultError::Io { path: self.path.clone(), source })
    }

    /// The first call that is held, or the failure of the first that shall fail.
    fn look<'a>(&self, calls: &[&'a str]) -> Result<Option<&'a str>, FaultError> {
        let faults = self.read()?;
        for call in calls {
            match faults.get(*call) {
                Some(Fault::Fail(message)) => {
                    return Err(FaultError::Asked { message: message.clone() });
                }
                Some(Fault::Hold { hold: true }) => return Ok(Some(call)),
                Some(Fault::Hold { hold: false }) | None => {}
            }
        }
        Ok(None)
    }

    fn read(&self) -> Result<BTreeMap<String, Fault>, FaultError> {
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| FaultError::Malformed { path: self.path.clone(), source }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(FaultError::Io { path: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("faults.json");
        std::fs::write(&path, text).expect("writable");
        (folder, path)
    }

    #[tokio::test]
    async fn without_a_file_everything_passes() {
        Faults::new("/nonexistent/faults.json", LONG).pass(&["start a"]).await.expect("no file");
    }

    #[tokio::test]
    async fn the_named_call_fails_with_its_message_and_others_pass() {
        let (_folder, path) = file(r#"{"start a": "broken"}"#);
        let faults = Faults::new(path, LONG);
        faults.pass(&["start b"]).await.expect("another call");
        let error = faults.pass(&["restart a", "start a"]).await.expect_err("asked for");
        assert_eq!(error.to_string(), "broken");
        faults.clear("start a").expect("writable");
        faults.pass(&["start a"]).await.expect("cleared");
        faults.fail("start b", "also broken").expect("writable");
        let error = faults.pass(&["start b"]).await.expect_err("asked for");
        assert_eq!(error.to_string(), "also broken");
    }

    #[tokio::test]
    async fn the_file_of_a_sandbox_lies_below_its_root() {
        let root = tempfile::tempdir().expect("a folder");
        Faults::below(root.path()).fail("start a", "broken").expect("writable");
        let faults = Faults::new(root.path().join(Faults::FILE), LONG);
        assert_eq!(faults.pass(&["start a"]).await.expect_err("asked for").to_string(), "broken");
    }

    #[tokio::test]
    async fn a_held_call_goes_on_when_its_entry_is_gone() {
        let (_folder, path) = file("{}");
        let faults = Faults::new(&path, LONG);
        faults.hold("pull a").expect("writable");
        let held = faults.clone();
        let call = tokio::spawn(async move { held.pass(&["pull a"]).await });
        tokio::task::yield_now().await;
        assert!(!call.is_finished());
        faults.clear("pull a").expect("writable");
        tokio::time::timeout(LONG, call)
            .await
            .expect("released in time")
            .expect("no panic")
            .expect("passes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_call_fails_after_its_deadline() {
        let (_folder, path) = file(r#"{"pull a": {"hold": true}}"#);
        let error = Faults::new(path, LONG).pass(&["pull a"]).await.expect_err("held");
        assert!(matches!(error, FaultError::Held { .. }), "{error}");
    }

    #[test]
    fn a_thread_is_held_until_its_entry_is_gone_or_its_deadline_has_passed() {
        let (_folder, path) = file(r#"{"write /a": {"hold": true}, "write /b": "full"}"#);
        let faults = Faults::new(&path, LONG);
        assert_eq!(faults.pass_blocking(&["write /b"]).expect_err("asked").to_string(), "full");
        let error = Faults::new(&path, Duration::ZERO).pass_blocking(&["write /a"]);
        assert!(matches!(error, Err(FaultError::Held { .. })), "{error:?}");
        std::thread::scope(|scope| {
            let held = scope.spawn(|| faults.pass_blocking(&["write /a"]));
            faults.clear("write /a").expect("writable");
            held.join().expect("no panic").expect("passes");
        });
    }

    #[tokio::test]
    async fn a_malformed_file_fails_every_call_by_name() {
        let (_folder, path) = file(r#"{"start a": 3}"#);
        let error = Faults::new(path, LONG).pass(&["start b"]).await.expect_err("malformed");
        assert!(error.to_string().contains("faults.json"), "{error}");
    }
}
