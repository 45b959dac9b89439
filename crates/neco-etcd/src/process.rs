//! One run of one server: a task owns the child from its birth until it is reaped.
//!
//! Only the owner signals the child, so no signal can reach a process that took over its id.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::health;
use crate::log::Tail;
use crate::spawn;

/// Between two questions for health while a server starts.
const HEALTH_INTERVAL: Duration = Duration::from_millis(20);

/// How long the last words of an ended child are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long dropping waits for a killed child, so that its data are not removed under its hands.
const REAP_WITHIN: Duration = Duration::from_secs(2);

/// How long the threads of a child that is frozen may take to stop.
const FROZEN_WITHIN: Duration = Duration::from_secs(2);

/// Where a run stands; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Ended(Ending),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// `None` if somebody else reaped the child.
    pub(crate) status: Option<ExitStatus>,
    /// Whether we had told it to end.
    pub(crate) requested: bool,
    /// Whether it had been ready before.
    pub(crate) was_ready: bool,
}

/// The handle of a run. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    started: Instant,
    signals: mpsc::Sender<Order>,
    phase: watch::Receiver<Phase>,
    tail: Tail,
    owner: AbortHandle,
}

type Order = (Signal, oneshot::Sender<nix::Result<()>>);

impl Process {
    /// Spawns `command`, which will serve clients on so many `listeners`; `work` is kept until the
    /// child is gone.
    pub(crate) async fn spawn(
        mut command: Command,
        member: &str,
        listeners: usize,
        work: Arc<TempDir>,
    ) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).await?;
        let pid = child.id().ok_or(std::io::ErrorKind::NotFound)?;
        let tail = Tail::default();
        let mut readers = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(read_log(pipe, member.to_owned(), tail.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(read_log(pipe, member.to_owned(), tail.clone()));
        }
        // One order at a time: the sender waits for the answer.
        let (signals, orders) = mpsc::channel(1);
        let (phase_sender, phase) = watch::channel(Phase::Starting);
        let ready = becomes_ready(pid, listeners, tail.clone());
        let owned = Owned { child, _work: work, phase: phase_sender };
        let owner = tokio::spawn(own(owned, pid, readers, orders, ready)).abort_handle();
        Ok(Self { pid, started: Instant::now(), signals, phase, tail, owner })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// Sends a signal; `None` if the child has ended.
    pub(crate) async fn signal(&self, signal: Signal) -> Option<nix::Result<()>> {
        let (reply, answer) = oneshot::channel();
        self.signals.send((signal, reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

/// Waits until a run has ended.
pub(crate) async fn ending(phase: &mut watch::Receiver<Phase>) -> Ending {
    let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    match ended.as_deref() {
        Ok(Phase::Ended(ending)) => *ending,
        // The owner went without a word: its handle was dropped, and that kills the child.
        _ => Ending { status: None, requested: true, was_ready: false },
    }
}

/// The child, the directory it works in, and the news of both, in the order in which they go.
struct Owned {
    child: Child,
    _work: Arc<TempDir>,
    phase: watch::Sender<Phase>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let deadline = Instant::now() + REAP_WITHIN;
        let _ = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn own(
    mut owned: Owned,
    pid: u32,
    mut readers: JoinSet<()>,
    mut orders: mpsc::Receiver<Order>,
    ready: impl Future<Output = ()>,
) {
    tokio::pin!(ready);
    let (mut requested, mut was_ready) = (false, false);
    let status = loop {
        tokio::select! {
            biased;
            status = owned.child.wait() => break status.ok(),
            Some((signal, reply)) = orders.recv() => {
                // Not reaped yet, as only this task does that: the id is still the child's.
                let sent = match i32::try_from(pid).map(Pid::from_raw) {
                    Ok(pid) => match kill(pid, signal) {
                        Ok(()) if signal == Signal::SIGSTOP => stands_still(pid).await,
                        sent => sent,
                    },
                    Err(_) => Err(nix::Error::ESRCH),
                };
                requested |= sent.is_ok() && matches!(signal, Signal::SIGTERM | Signal::SIGKILL);
                let _ = reply.send(sent);
            }
            () = &mut ready, if !was_ready => {
                was_ready = true;
                owned.phase.send_replace(Phase::Ready);
            }
        }
    };
    orders.close();
    let read_all = async { while readers.join_next().await.is_some() {} };
    let _ = timeout(LAST_WORDS, read_all).await;
    owned.phase.send_replace(Phase::Ended(Ending { status, requested, was_ready }));
}

/// Waits until every thread of a child has stopped: the signal is on its way to them for a moment, in
/// which they still answer (waitid(2): a child is told stopped when all of it is).
async fn stands_still(pid: Pid) -> nix::Result<()> {
    let news = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED;
    let look = news | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let all = async {
        while waitid(Id::Pid(pid), look)? == WaitStatus::StillAlive {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    timeout(FROZEN_WITHIN, all).await.unwrap_or(Err(nix::Error::ETIMEDOUT))
}

/// The member is in its cluster, answers reads, and has loaded what its client listeners need:
/// etcd calls itself healthy before the last.
async fn becomes_ready(pid: u32, listeners: usize, tail: Tail) {
    tail.serves(listeners).await;
    while !health::is_healthy(pid).await {
        sleep(HEALTH_INTERVAL).await;
    }
}

async fn read_log(pipe: impl AsyncRead + Unpin, member: String, tail: Tail) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        tracing::debug!(member, "{text}");
        tail.push(text);
        line.clear();
    }
}
