//! `session-log start`, as sshd runs it: the program itself, on a terminal and without one.
//!
//! The terminal is that of a `script` around it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_necoctl");
/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a bucket was given.
struct Sent {
    line: String,
    body: Vec<u8>,
}

/// A bucket that answers every request with one status.
struct Bucket {
    address: String,
    sent: Receiver<Sent>,
}

impl Bucket {
    fn answering(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/bucket", listener.local_addr().expect("an address"));
        let (sender, sent) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(take(stream, status)).is_err() {
                    break;
                }
            }
        });
        Self { address, sent }
    }

    fn heard(&self) -> Sent {
        self.sent.recv_timeout(PATIENCE).expect("a record")
    }
}

fn take(mut stream: TcpStream, status: &str) -> Sent {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().expect("a number");
            if bytes.len() >= end + 4 + length {
                let line = String::from_utf8_lossy(&bytes[..end]);
                let line = line.lines().next().unwrap_or_default().to_owned();
                let body = bytes.split_off(end + 4);
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                return Sent { line, body };
            }
        }
        let read = stream.read(&mut buffer).expect("a request");
        assert_ne!(read, 0, "half a request");
        bytes.extend_from_slice(&buffer[..read]);
    }
}

/// A server to log in to.
struct Site {
    root: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("tmp")).expect("a folder");
        Self { root }
    }

    /// The command that sshd runs, for somebody who asks for `asked`.
    fn command(&self, to: &str, asked: Option<&str>, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["session-log", "start", "--to", to, "--root"]).arg(self.root.path());
        command
            .args(more)
            .env_remove("SSH_ORIGINAL_COMMAND")
            .env("HTTP_PROXY", "http://127.0.0.1:9");
        if let Some(asked) = asked {
            command.env("SSH_ORIGINAL_COMMAND", asked);
        }
        command
    }

    /// The same on a terminal.
    fn on_terminal(&self, to: &str, more: &[&str]) -> Command {
        let inner = self.command(to, None, more);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let line: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut command = Command::new("/usr/bin/script");
        command.args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
        // A shell without start-up files of whoever runs the tests.
        let home = self.root.path();
        command.env("SHELL", "/bin/bash").env("HOME", home).env_remove("SSH_ORIGINAL_COMMAND");
        command
    }

    /// The folders of sessions that are still there.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path().join("tmp")).expect("a folder");
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

fn run(command: &mut Command, input: &str) -> Output {
    let mut child = start(command);
    child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("an end")
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The files of an archive, by name.
fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("archive");
    std::fs::write(&file, archive).expect("written");
    let status =
        Command::new("tar").arg("-C").arg(dir.path()).arg("-xzf").arg(&file).status().expect("tar");
    assert!(status.success());
    std::fs::remove_file(file).expect("removed");
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_shell_on_a_terminal_is_recorded_and_keeps_its_exit_code() {
    let (site, bucket) = (Site::new(), Bucket::answering("200 OK"));
    let output = run(&mut site.on_terminal(&bucket.address, &[]), "echo wo''rld; exit 7\n");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{shown}");
    assert!(
        shown.contains("world") && shown.contains("the record of this session is at"),
        "{shown}"
    );
    let sent = bucket.heard();
    let name = sent.line.strip_prefix("PUT /bucket/session-log-").expect("its name");
    assert!(name.contains("s-") && name.ends_with(".tar.gz HTTP/1.1"), "{}", sent.line);
    let record = unpacked(&sent.body);
    assert_eq!(names(record.path()), ["timingfile", "typescript"]);
    let typescript = std::fs::read(record.path().join("typescript")).expect("a typescript");
    assert!(text(&typescript).contains("world"), "{}", text(&typescript));
    assert_eq!(site.kept(), <[PathBuf; 0]>::default(), "what has arrived is not kept");
}

#[test]
fn a_command_is_kept_as_it_was_asked_for() {
    let (site, bucket) = (Site::new(), Bucket::answering("204 No Content"));
    let mut command = site.command(&bucket.address, Some("cat; echo gone >&2; exit 3"), &[]);
    let output = run(&mut command, "through\n");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "through\n", "nothing of ours is among its output");
    assert!(text(&output.stderr).starts_with("gone\n"), "{}", text(&output.stderr));
    let record = unpacked(&bucket.heard().body);
    let kept = record.path().join("SSH_ORIGINAL_COMMAND");
    assert_eq!(std::fs::read_to_string(&kept).expect("it"), "cat; echo gone >&2; exit 3");
    let mode = std::fs::metadata(kept).expect("it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_shell_without_a_terminal_does_not_hang_and_its_input_is_kept() {
    let (site, bucket) = (Site::new(), Bucket::answering("200 OK"));
    let output = run(&mut site.command(&bucket.address, None, &[]), "echo $((40 + 2))\nexit 4\n");
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(4), "42\n"));
    let record = unpacked(&bucket.heard().body);
    let kept = std::fs::read_to_string(record.path().join("stdin")).expect("it");
    assert_eq!(kept, "echo $((40 + 2))\nexit 4\n");
}

#[test]
fn what_a_signal_ends_is_told_as_such() {
    let (site, bucket) = (Site::new(), Bucket::answering("200 OK"));
    for (signal, asked) in [(9, "kill -KILL $$"), (15, "kill -TERM $$")] {
        let output = run(&mut site.command(&bucket.address, Some(asked), &[]), "");
        assert_eq!(output.status.signal(), Some(signal), "{output:?}");
        bucket.heard();
    }
}

#[test]
fn a_hang_up_ends_the_command_and_its_record_arrives_all_the_same() {
    let (site, bucket) = (Site::new(), Bucket::answering("200 OK"));
    let asked = "trap 'exit 5' HUP; echo ready; while :; do sleep 0.1; done";
    let mut child = start(&mut site.command(&bucket.address, Some(asked), &[]));
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("an output").read_exact(&mut ready).expect("a line");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("an id"));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGHUP).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    bucket.heard();
}

#[test]
fn a_record_that_is_not_taken_stays_and_the_session_is_as_it_was() {
    let refusing = Bucket::answering("503 Service Unavailable");
    // Bound, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}/bucket", silent.local_addr().expect("an address"));
    let nobody = "http://127.0.0.1:9/bucket".to_owned();
    for (to, why) in [(refusing.address.clone(), "503"), (silent, ""), (nobody, "refused")] {
        let site = Site::new();
        let begun = Instant::now();
        let mut command = site.command(&to, Some("echo hello"), &["--within", "500ms"]);
        let output = run(&mut command, "");
        assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(0), "hello\n"), "{to}");
        let said = text(&output.stderr);
        assert!(said.contains("stays in") && said.contains(why), "{said}");
        let kept = site.kept();
        assert_eq!(kept.len(), 1);
        let mode = std::fs::metadata(&kept[0]).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "a record is for its owner");
        assert_eq!(names(&kept[0]).len(), 2, "the command and the archive");
        assert!(begun.elapsed() < PATIENCE, "a logout does not wait for ever");
    }
}

#[test]
fn whoever_cannot_be_recorded_gets_in() {
    let bucket = Bucket::answering("200 OK");
    // No folder for records.
    let site = Site::new();
    std::fs::remove_dir(site.root.path().join("tmp")).expect("removed");
    let output = run(&mut site.command(&bucket.address, Some("echo in; exit 6"), &[]), "");
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(6), "in\n"));
    assert!(text(&output.stderr).contains("not recorded"), "{}", text(&output.stderr));
    let output = run(&mut site.on_terminal(&bucket.address, &[]), "exit 6\n");
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stdout));

    // A script that is not there, and one that fails before there is a shell.
    for program in ["/nonexistent/script", "/bin/false"] {
        let site = Site::new();
        let mut command = site.on_terminal(&bucket.address, &["--script", program]);
        let output = run(&mut command, "echo i''n; exit 6\n");
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(6), "{program}: {shown}");
        assert!(shown.contains("not recorded") && shown.contains("in"), "{program}: {shown}");
    }
}

#[test]
fn nothing_of_this_server_is_needed() {
    let site = Site::new();
    let bucket = Bucket::answering("200 OK");
    let folder = site.root.path().join("etc/neco");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.yml"), "endpoints: [").expect("a broken configuration");
    let output = run(&mut site.command(&bucket.address, Some("exit 0"), &[]), "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
