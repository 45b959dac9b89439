//! The program itself, as systemd starts it: on a server where nothing is set up yet it is ready, waits, and ends in order.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

const WITHIN: Duration = Duration::from_secs(60);

/// A program that runs below a root of its own.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
    notified: UnixDatagram,
}

impl Program {
    fn start(root: &Path, words: &[&str]) -> Self {
        let socket = root.join("notify");
        let notified = UnixDatagram::bind(&socket).expect("a socket");
        notified.set_read_timeout(Some(WITHIN)).expect("a limit");
        let mut child = Command::new(env!("CARGO_BIN_EXE_sabakan-state-setter"))
            .arg("-root")
            .arg(root)
            .args(words)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("WATCHDOG_USEC")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines, said: Vec::new(), notified }
    }

    /// Waits until it logs this.
    async fn says(&mut self, words: &str) {
        let heard = async {
            while let Some(line) = self.lines.next_line().await.expect("a line") {
                let found = line.contains(words);
                self.said.push(line);
                if found {
                    return true;
                }
            }
            false
        };
        let heard = tokio::time::timeout(WITHIN, heard).await.unwrap_or(false);
        assert!(heard, "it does not say {words:?}: {:#?}", self.said);
    }

    /// Waits until systemd would be told this.
    fn tells_systemd(&self, words: &str) {
        let mut told = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.notified.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(words) {
                return;
            }
            told.push(message);
        }
        panic!("systemd is not told {words:?}: {told:?}");
    }

    /// Ends it as systemd does; gives its exit code.
    async fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is ours");
        let ended = tokio::time::timeout(WITHIN, self.child.wait()).await.expect("it ends in time");
        ended.expect("it was ours").code()
    }
}

/// A root with what the package installs.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/usr/share/neco");
    let data = root.path().join("usr/share/neco");
    for dir in [data.as_path(), &root.path().join("etc/neco")] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    std::fs::write(data.join("VERSION"), "2026.11.22-1\n").expect("written");
    let list = "sabakan-state-setter.yml";
    std::fs::copy(shipped.join(list), data.join(list)).expect("the list of the package");
    std::fs::write(root.path().join("etc/hostname"), "boot-0\n").expect("written");
    root
}

#[tokio::test]
async fn without_a_configuration_it_is_ready_and_waits_for_one() {
    let root = root();
    let mut program = Program::start(root.path(), &[]);
    program.tells_systemd("READY=1");
    program.says("waiting for a configuration that can be used").await;
    assert_eq!(program.terminate().await, Some(0), "{:#?}", program.said);
}

#[tokio::test]
async fn without_etcd_serf_and_sabakan_it_is_ready_and_waits_for_them() {
    let root = root();
    // Nobody listens at port 1.
    let config = "endpoints: ['http://127.0.0.1:1']\n";
    std::fs::write(root.path().join("etc/neco/config.yml"), config).expect("written");
    let mut program =
        Program::start(root.path(), &["-interval=1s", "-serf-address", "127.0.0.1:1"]);
    program.tells_systemd("READY=1");
    program.says("started").await;
    program.says("start etcd, or correct 'endpoints'").await;
    let ready = root.path().join("run/neco/sabakan-state-setter.ready");
    assert!(ready.exists(), "nobody is told that it runs");
    assert_eq!(program.terminate().await, Some(0), "{:#?}", program.said);
    assert!(!ready.exists());
}

#[tokio::test]
async fn a_list_that_cannot_be_used_is_told_by_line_and_waited_for() {
    let root = root();
    std::fs::write(root.path().join("etc/neco/config.yml"), "prefix: /neco/\n").expect("written");
    let list = root.path().join("list.yml");
    std::fs::write(&list, "machine-types:\n  - nam: qemu\n").expect("written");
    let mut program = Program::start(root.path(), &["--config-file", "/list.yml"]);
    program.says("list.yml:2: machine-types[0].name: is missing; give it a name").await;
    program.says("waiting for a list of machine types that can be used").await;
    assert_eq!(program.terminate().await, Some(0), "{:#?}", program.said);
}

#[tokio::test]
async fn a_wrong_command_line_ends_it_with_the_code_that_the_unit_does_not_repeat() {
    let root = root();
    for words in [["-interval=soon"], ["--sabakan-url=ftp://localhost"]] {
        let mut program = Program::start(root.path(), &words);
        let ended = tokio::time::timeout(WITHIN, program.child.wait()).await.expect("in time");
        assert_eq!(ended.expect("it was ours").code(), Some(64), "{words:?}");
        std::fs::remove_file(root.path().join("notify")).expect("removed");
    }
}
