//! What only a whole process shows: signals, exit codes, broken pipes, notifications to systemd.
//!
//! Each test starts this test program again, to play one part.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;
use neco_process::exit::{ExitCode, Failure, OrFail, run};
use neco_process::frame::{DaemonCommand, DaemonOptions};
use neco_process::logs::{LogFormat, LogOptions};
use neco_process::signals::Shutdown;
use neco_process::{frame, logs, notify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PART: &str = "NECO_PROCESS_TEST_PART";
const DEADLINE: Duration = Duration::from_secs(60);

/// The entry of the processes that the tests start.
#[test]
fn play() {
    let Ok(part) = std::env::var(PART) else { return };
    match part.as_str() {
        "refused" => run(|| {
            Err(anyhow!("rack 2 is alive"))
                .context("releasing turn etcd")
                .or_exit(ExitCode::Refused)
                .or_hint("use --force")
        }),
        "yes" => run(|| {
            println!("said");
            Ok(ExitCode::NothingYet)
        }),
        "chatter" => run(|| {
            let mut out = std::io::stdout();
            loop {
                writeln!(out, "more")?;
            }
        }),
        "wait" => in_runtime(async {
            let shutdown = Shutdown::listen()?;
            say("listening");
            shutdown.token().cancelled().await;
            say("ending");
            std::future::pending().await
        }),
        "end" => in_runtime(async {
            let shutdown = Shutdown::listen()?;
            say("listening");
            shutdown.token().cancelled().await;
            Ok(ExitCode::Done)
        }),
        "notify" => in_runtime(async {
            notify::ready();
            notify::status("two\nlines");
            notify::watched(std::future::pending()).await
        }),
        "stuck" => in_threads(notify::watched(std::future::poll_fn(|_| {
            static POLLED: AtomicU32 = AtomicU32::new(0);
            if POLLED.fetch_add(1, Ordering::Relaxed) == 4 {
                notify::status("taking the thread");
                loop {
                    std::thread::park();
                }
            }
            std::task::Poll::Pending
        }))),
        "watched" => in_runtime(async {
            assert_eq!(notify::watched(async { 7 }).await, 7);
            notify::stopping();
            std::future::pending().await
        }),
        "daemon" => frame::run("test", ["test".into()], async |_: Daemon| {
            let error = anyhow!("{}", "no key ".repeat(1000)).context("reading /etc/x");
            Err(Failure::new(ExitCode::No, error).with_hint("make one"))
        }),
        "log" => run(|| {
            logs::init(
                "test",
                &LogOptions { format: Some(LogFormat::Logfmt), ..Default::default() },
            )?;
            tracing::info!("hello");
            let twice = logs::init("test", &LogOptions::default());
            Err(twice.unwrap_err()).or_exit(ExitCode::Usage)
        }),
        other => panic!("no part {other}"),
    }
}

/// A daemon without options of its own.
#[derive(Debug, Parser)]
struct Daemon {
    #[command(flatten)]
    options: DaemonOptions,
}

impl DaemonCommand for Daemon {
    fn options(&self) -> &DaemonOptions {
        &self.options
    }
}

fn in_runtime(work: impl Future<Output = Result<ExitCode, Failure>>) -> ! {
    run(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// As the daemons do it: others could go on where the work does not.
fn in_threads(work: impl Future<Output = Result<ExitCode, Failure>>) -> ! {
    run(|| tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

fn say(word: &str) {
    println!("{word}");
}

struct Process(Child);

impl Process {
    fn start(part: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), part, environment)
    }

    /// Whatever this process ignores, or what `nohup` is for.
    fn start_with_hang_up(part: &str, is_ignored: bool) -> Self {
        let mut command = Command::new("env");
        let disposition = if is_ignored { "ignore" } else { "default" };
        command.arg(format!("--{disposition}-signal=HUP")).arg(std::env::current_exe().unwrap());
        Self::start_by(command, part, &[])
    }

    fn start_by(mut command: Command, part: &str, environment: &[(&str, &str)]) -> Self {
        command.args(["--exact", "play", "--nocapture", "--test-threads=1"]);
        command.env(PART, part).env_remove("RUST_LOG").env("RUST_BACKTRACE", "1");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "waited in vain for the end of a process");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads until a line ends with this word.
fn hear(output: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.trim_end().ends_with(word) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "ended before it said {word}");
    }
}

#[test]
fn an_error_is_one_line_a_hint_and_a_code() {
    let mut process = Process::start("refused", &[]);
    assert_eq!(process.wait().code(), Some(5));
    let expected = "error: releasing turn etcd: rack 2 is alive\nhint: use --force\n";
    assert_eq!(process.errors(), expected);
}

#[test]
fn a_result_has_a_code_and_no_error() {
    let mut process = Process::start("yes", &[]);
    hear(&mut BufReader::new(process.0.stdout.take().unwrap()), "said");
    assert_eq!(process.wait().code(), Some(3));
    assert_eq!(process.errors(), "");
}

#[test]
fn a_closed_pipe_ends_in_silence() {
    let mut process = Process::start("chatter", &[]);
    hear(&mut BufReader::new(process.0.stdout.take().unwrap()), "more");
    // The reader is gone here.
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(process.errors(), "");
}

#[test]
fn the_first_signal_ends_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut process = Process::start_with_hang_up("end", false);
        hear(&mut BufReader::new(process.0.stdout.take().unwrap()), "listening");
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let mut process = Process::start("wait", &[]);
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    hear(&mut output, "listening");
    process.signal(Signal::SIGTERM);
    hear(&mut output, "ending");
    assert_eq!(process.0.try_wait().unwrap(), None);
    process.signal(Signal::SIGINT);
    let status = process.wait();
    assert_eq!((status.code(), status.signal()), (Some(130), None));
}

#[test]
fn a_hang_up_that_is_to_be_ignored_is_no_signal() {
    let mut process = Process::start_with_hang_up("wait", true);
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    hear(&mut output, "listening");
    process.signal(Signal::SIGHUP);
    process.signal(Signal::SIGTERM);
    hear(&mut output, "ending");
    process.signal(Signal::SIGINT);
    let status = process.wait();
    assert_eq!((status.code(), status.signal()), (Some(130), None), "this was the second one");
}

/// Systemd's end of the notifications.
struct Systemd {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { dir, socket }
    }

    fn start(&self, part: &str) -> Process {
        let path = self.dir.path().join("notify");
        let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
        Process::start(part, &environment)
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 10_000];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    }
}

#[test]
fn systemd_is_told_and_its_watchdog_fed() {
    let systemd = Systemd::new();
    let _process = systemd.start("notify");
    assert_eq!(systemd.receive(), "READY=1");
    assert_eq!(systemd.receive(), "STATUS=two lines");
    assert_eq!(systemd.receive(), "WATCHDOG=1");
    assert_eq!(systemd.receive(), "WATCHDOG=1");
}

#[test]
fn the_watchdog_of_work_that_keeps_its_thread_is_not_fed() {
    let systemd = Systemd::new();
    let _process = systemd.start("stuck");
    let told: Vec<_> = std::iter::repeat_with(|| systemd.receive())
        .take_while(|told| told != "STATUS=taking the thread")
        .collect();
    assert!(!told.is_empty() && told.iter().all(|told| told == "WATCHDOG=1"), "{told:?}");
    // Ten times as long as systemd would wait.
    systemd.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let more = systemd.socket.recv(&mut [0; 100]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn watched_work_ends_with_what_it_returns() {
    let systemd = Systemd::new();
    let _process = systemd.start("watched");
    assert_eq!(systemd.receive(), "STOPPING=1");
}

#[test]
fn systemd_is_told_why_a_daemon_ends() {
    let systemd = Systemd::new();
    let mut process = systemd.start("daemon");
    let told = std::iter::repeat_with(|| systemd.receive()).find(|told| told != "WATCHDOG=1");
    let told = told.unwrap();
    assert!(told.starts_with("STATUS=error: reading /etc/x: no key no key"), "{told}");
    // systemd reads no message that is longer.
    assert!(told.len() < 4096, "{} bytes", told.len());
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.errors().ends_with("\nhint: make one\n"));
}

#[tokio::test]
async fn without_systemd_there_is_no_watchdog() {
    notify::ready();
    assert_eq!(notify::watched(async { 7 }).await, 7);
}

#[test]
fn logs_go_to_standard_error_and_are_set_up_once() {
    // A variable inherited from some service does not mean that this output is the journal's.
    let mut process = Process::start("log", &[("JOURNAL_STREAM", "1:2")]);
    assert_eq!(process.wait().code(), Some(64));
    let errors = process.errors();
    let (first, second) = errors.split_once('\n').unwrap();
    assert!(first.ends_with("level=info topic=process msg=hello"), "{errors}");
    assert_eq!(second, "error: logs are set up twice in one process\n");
}
