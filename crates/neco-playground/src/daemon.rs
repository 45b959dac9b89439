//! One process that is started again whenever it ends, as systemd does with `Restart=always`.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::SiteError;
use crate::dir::SiteDir;
use crate::disks::Disks;

/// Delays before a process is started again: the first, and the longest.
const RESTART: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A process that ran for so long is no longer one that ends at once.
const SETTLED: Duration = Duration::from_secs(5);
/// How long an orderly end may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long dropping waits for a killed process, so that its files are not removed under its hands.
const REAP_WITHIN: Duration = Duration::from_secs(2);

/// What runs.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// For messages.
    pub(crate) name: String,
    /// The file; it may be another one at the next start.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Where its output goes.
    pub(crate) output: PathBuf,
    /// The disks of its server, once that has some of its own: it runs where they are from then on.
    pub(crate) disks: Arc<OnceLock<Disks>>,
}

/// A supervised process. Dropping this kills it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<DaemonState>,
    owner: AbortHandle,
}

/// What is known about a supervised process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonState {
    /// The process, while one runs.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
    /// Its runs, the oldest first.
    pub runs: Vec<Run>,
    /// How its runs ended, the oldest first.
    pub exits: Vec<Exited>,
    /// Why it could not be started the last time it was tried.
    pub trouble: Option<String>,
}

/// The beginning of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The process.
    pub pid: u32,
    /// When it was started, by the wall clock.
    pub at: SystemTime,
}

/// The end of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// The process.
    pub pid: u32,
    /// When its end was noticed, by the wall clock.
    pub at: SystemTime,
    /// How it ended.
    pub status: ExitStatus,
}

#[derive(Debug)]
enum Order {
    Signal(Signal, oneshot::Sender<Option<u32>>),
    /// Ends the process and keeps it down; at once, or with time for an orderly end.
    Down {
        at_once: bool,
        done: oneshot::Sender<()>,
    },
    Up,
}

impl Daemon {
    /// Starts `program` and keeps it running; `dir` is held until the process is gone.
    pub(crate) fn start(program: Program, dir: Arc<SiteDir>) -> Self {
        Self::supervised(program, dir, true)
    }

    /// Keeps `program` running from [`up`](Self::up) on.
    pub(crate) fn down_at_first(program: Program, dir: Arc<SiteDir>) -> Self {
        Self::supervised(program, dir, false)
    }

    fn supervised(program: Program, dir: Arc<SiteDir>, up: bool) -> Self {
        // One order at a time: each caller waits for its answer.
        let (orders, inbox) = mpsc::channel(1);
        let (report, state) = watch::channel(DaemonState::default());
        let name = program.name.clone();
        let owner = tokio::spawn(supervise(program, dir, up, inbox, report)).abort_handle();
        Self { name, orders, state, owner }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known about it now.
    pub fn state(&self) -> DaemonState {
        self.state.borrow().clone()
    }

    /// The process, while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.state.borrow().pid
    }

    /// Sends a signal to the process, and says to which; `None` if none runs. A process that ends of it is started again.
    pub async fn signal(&self, signal: Signal) -> Option<u32> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Signal(signal, reply)).await.ok()?;
        answer.await.ok()?
    }

    /// Waits until another process than `pid` runs.
    ///
    /// # Errors
    /// None came within the bound.
    pub async fn successor_of(&self, pid: u32, within: Duration) -> Result<u32, SiteError> {
        let mut state = self.state.clone();
        let came = state.wait_for(|state| state.pid.is_some_and(|now| now != pid));
        match timeout(within, came).await {
            Ok(Ok(state)) => Ok(state.pid.unwrap_or_default()),
            _ => Err(SiteError::Deadline {
                what: format!("another process of {} after {pid}", self.name),
                within,
                state: format!("{:?}", self.state()),
            }),
        }
    }

    /// Ends the process in order, and keeps it down.
    pub async fn stop(&self) {
        self.down(false).await;
    }

    /// Kills the process, and keeps it down.
    pub async fn kill(&self) {
        self.down(true).await;
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub async fn up(&self) {
        let _ = self.orders.send(Order::Up).await;
    }

    async fn down(&self, at_once: bool) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Down { at_once, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

/// A running process and what it works on, in the order in which they go.
struct Owned {
    child: Child,
    pid: u32,
    _dir: Arc<SiteDir>,
}

impl Owned {
    /// Signals can reach no other process: this one is not reaped before [`Child::wait`] is asked again.
    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
    }

    /// Ends the process, and the frozen one too.
    async fn end(&mut self, at_once: bool) -> Option<ExitStatus> {
        if !at_once {
            self.signal(Signal::SIGTERM);
            self.signal(Signal::SIGCONT);
            if let Ok(ended) = timeout(STOP_WITHIN, self.child.wait()).await {
                return ended.ok();
            }
        }
        let _ = self.child.start_kill();
        self.child.wait().await.ok()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let deadline = Instant::now() + REAP_WITHIN;
        let _ = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn supervise(
    program: Program,
    dir: Arc<SiteDir>,
    up: bool,
    mut orders: mpsc::Receiver<Order>,
    report: watch::Sender<DaemonState>,
) {
    if !up && !wait_for_up(&mut orders).await {
        return;
    }
    let mut delay = RESTART[0];
    loop {
        let (began, at) = (Instant::now(), SystemTime::now());
        match spawn(&program, &dir).await {
            Ok(mut owned) => {
                report.send_modify(|state| {
                    state.pid = Some(owned.pid);
                    state.starts += 1;
                    state.runs.push(Run { pid: owned.pid, at });
                    state.trouble = None;
                });
                let Some(end) = watch_over(&mut owned, &mut orders).await else { return };
                report.send_modify(|state| {
                    state.pid = None;
                    let (pid, at) = (owned.pid, SystemTime::now());
                    let exited = end.status.map(|status| Exited { pid, at, status });
                    state.exits.extend(exited);
                });
                drop(owned);
                if let Some(done) = end.kept_down {
                    let _ = done.send(());
                    if !wait_for_up(&mut orders).await {
                        return;
                    }
                    delay = RESTART[0];
                    continue;
                }
            }
            Err(error) => {
                let trouble = format!("starting {}: {error}", program.path.display());
                tracing::warn!(trouble);
                report.send_modify(|state| state.trouble = Some(trouble));
            }
        }
        if began.elapsed() >= SETTLED {
            delay = RESTART[0];
        }
        match rest(delay, &mut orders).await {
            Rested::GoOn => delay = (delay * 2).min(RESTART[1]),
            Rested::Up => delay = RESTART[0],
            Rested::Gone => return,
        }
    }
}

/// How a run came to its end.
struct End {
    status: Option<ExitStatus>,
    /// Whom to tell, if it is to stay down.
    kept_down: Option<oneshot::Sender<()>>,
}

/// Waits for the end of the process and carries out orders; `None` when nobody can give any more.
async fn watch_over(owned: &mut Owned, orders: &mut mpsc::Receiver<Order>) -> Option<End> {
    loop {
        let order = tokio::select! {
            biased;
            status = owned.child.wait() => {
                return Some(End { status: status.ok(), kept_down: None });
            }
            order = orders.recv() => order?,
        };
        match order {
            Order::Signal(signal, reply) => {
                owned.signal(signal);
                let _ = reply.send(Some(owned.pid));
            }
            Order::Down { at_once, done } => {
                let status = owned.end(at_once).await;
                return Some(End { status, kept_down: Some(done) });
            }
            Order::Up => {}
        }
    }
}

enum Rested {
    GoOn,
    Up,
    Gone,
}

/// Waits before the next start.
async fn rest(delay: Duration, orders: &mut mpsc::Receiver<Order>) -> Rested {
    let over = sleep(delay);
    tokio::pin!(over);
    loop {
        let order = tokio::select! {
            biased;
            () = &mut over => return Rested::GoOn,
            order = orders.recv() => order,
        };
        match order {
            None => return Rested::Gone,
            Some(Order::Signal(_, reply)) => drop(reply.send(None)),
            Some(Order::Up) => return Rested::Up,
            Some(Order::Down { done, .. }) => {
                let _ = done.send(());
                return if wait_for_up(orders).await { Rested::Up } else { Rested::Gone };
            }
        }
    }
}

/// Waits while the process is kept down; false when nobody can give orders any more.
async fn wait_for_up(orders: &mut mpsc::Receiver<Order>) -> bool {
    loop {
        match orders.recv().await {
            None => return false,
            Some(Order::Up) => return true,
            Some(Order::Down { done, .. }) => drop(done.send(())),
            Some(Order::Signal(_, reply)) => drop(reply.send(None)),
        }
    }
}

async fn spawn(program: &Program, dir: &Arc<SiteDir>) -> std::io::Result<Owned> {
    let output = OpenOptions::new().create(true).append(true).open(&program.output)?;
    let errors = output.try_clone()?;
    let mut command = match program.disks.get() {
        Some(disks) => Command::from(disks.inside(&program.path)),
        None => Command::new(&program.path),
    };
    command.args(&program.args).stdin(Stdio::null()).stdout(output).stderr(errors);
    // What is set for the playground is not meant for a boot server.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let child = neco_etcd::spawn(command).await?;
    let pid = child.id().ok_or(std::io::ErrorKind::NotFound)?;
    Ok(Owned { child, pid, _dir: Arc::clone(dir) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn script(dir: &Arc<SiteDir>, script: &str) -> Program {
        Program {
            name: "sh".to_owned(),
            path: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            output: dir.path().join("output"),
            disks: Arc::default(),
        }
    }

    fn sh(dir: &Arc<SiteDir>, text: &str) -> Daemon {
        Daemon::start(script(dir, text), Arc::clone(dir))
    }

    async fn running(daemon: &Daemon) -> u32 {
        daemon.successor_of(0, LONG).await.expect("it starts")
    }

    fn exists(pid: u32) -> bool {
        kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
    }

    #[tokio::test]
    async fn a_process_that_ends_is_started_again_and_its_end_is_known() {
        let dir = SiteDir::temporary().expect("a directory");
        let daemon = sh(&dir, "exit 3");
        let mut state = daemon.state.clone();
        let seen = timeout(LONG, state.wait_for(|state| state.starts >= 3)).await;
        let seen = seen.expect("in time").expect("supervised").clone();
        assert!(seen.exits.iter().all(|exited| exited.status.code() == Some(3)), "{seen:?}");
    }

    #[tokio::test]
    async fn a_killed_process_has_a_successor() {
        let dir = SiteDir::temporary().expect("a directory");
        let daemon = sh(&dir, "exec sleep 600");
        let first = running(&daemon).await;
        assert_eq!(daemon.signal(Signal::SIGKILL).await, Some(first));
        let second = daemon.successor_of(first, LONG).await.expect("started again");
        assert!(exists(second) && !exists(first));
        drop(daemon);
        let deadline = Instant::now() + LONG;
        while exists(second) {
            assert!(Instant::now() < deadline, "it outlives its supervisor");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_is_down_stays_down_until_it_is_wanted_again() {
        let dir = SiteDir::temporary().expect("a directory");
        let daemon = sh(&dir, "exec sleep 600");
        let first = running(&daemon).await;
        daemon.signal(Signal::SIGSTOP).await.expect("running");
        daemon.stop().await;
        assert!(!exists(first) && daemon.pid().is_none());
        assert_eq!(daemon.signal(Signal::SIGTERM).await, None);
        daemon.kill().await;
        daemon.up().await;
        assert_ne!(running(&daemon).await, first);
        daemon.kill().await;
        assert_eq!(daemon.state().starts, 2);
    }

    #[tokio::test]
    async fn what_is_down_at_first_begins_when_it_is_wanted() {
        let dir = SiteDir::temporary().expect("a directory");
        let daemon = Daemon::down_at_first(script(&dir, "exec sleep 600"), Arc::clone(&dir));
        // Answered while it is down.
        daemon.kill().await;
        assert_eq!((daemon.pid(), daemon.state().starts), (None, 0));
        daemon.up().await;
        running(&daemon).await;
        daemon.kill().await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_yet_is_tried_again() {
        let dir = SiteDir::temporary().expect("a directory");
        let path = dir.path().join("late");
        let program = Program {
            name: "late".to_owned(),
            path: path.clone(),
            args: vec!["600".to_owned()],
            output: dir.path().join("output"),
            disks: Arc::default(),
        };
        let daemon = Daemon::start(program, Arc::clone(&dir));
        let mut state = daemon.state.clone();
        let tried = timeout(LONG, state.wait_for(|state| state.trouble.is_some())).await;
        assert!(tried.expect("in time").is_ok());
        std::os::unix::fs::symlink("/bin/sleep", &path).expect("a link");
        running(&daemon).await;
        assert_eq!(daemon.state().trouble, None);
    }
}
