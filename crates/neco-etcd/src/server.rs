//! One member as a supervised child.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::binary::Binary;
use crate::config::{AutoCompaction, ClusterState, Listeners, MemberConfig};
use crate::error::{Error, Result};
use crate::health;
use crate::log::{Tail, own_words};
use crate::ports::free_port;
use crate::process::{Ending, Phase, Process, ending};
use crate::url::ListenUrl;

/// How often a start is tried again for one of the reasons that pass by themselves.
const TRIES: u32 = 5;

const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How long the kernel may take to let go of a process that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// A running etcd server, or one that has been stopped and can be started again.
///
/// Dropping it kills the server and, if its data are temporary, removes them. On a panic or a
/// SIGKILL of this process the kernel kills the server; temporary data then stay behind.
#[derive(Debug)]
pub struct Server {
    binary: Binary,
    config: MemberConfig,
    listeners: Listeners,
    data_dir: PathBuf,
    work: Arc<TempDir>,
    process: Process,
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The member's name.
    pub member: String,
    /// How the process ended; `None` if that could not be learned.
    pub status: Option<ExitStatus>,
    /// Whether this library had told it to end.
    pub requested: bool,
    /// Whether it had been ready before.
    pub was_ready: bool,
    /// The last error it reported, in its own words.
    pub words: String,
    /// The end of its log.
    pub log: Vec<String>,
}

impl Exit {
    /// An end that nobody asked for is an error.
    ///
    /// # Errors
    /// [`Error::Died`] if it was not requested.
    pub fn into_result(self) -> Result<()> {
        if self.requested { Ok(()) } else { Err(Error::Died(self)) }
    }

    /// The status in words.
    pub(crate) fn how(&self) -> String {
        self.status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd member {} ended ({}): {}", self.member, self.how(), self.words)
    }
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It ended by itself after SIGTERM.
    Orderly,
    /// It did not end within its bound, and was killed.
    Forced,
    /// It had ended before.
    Already,
}

impl Server {
    /// Starts a server with the binary that [`Binary::find`] finds, and waits until it is ready.
    ///
    /// # Errors
    /// An invalid configuration with all its problems; the server's own words if it ended early.
    pub async fn start(config: MemberConfig) -> Result<Self> {
        // Before the binary is looked for: what is wrong with the configuration is wrong anyway.
        config.validate()?;
        Self::start_with(&Binary::find().await?, config).await
    }

    /// Starts a server with this binary, and waits until it is ready.
    ///
    /// A port that was taken between its choice and its use, and a cluster that does not know this
    /// member yet, are tried again a few times.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(binary: &Binary, config: MemberConfig) -> Result<Self> {
        let mut tries = 1;
        loop {
            let chose_a_port = config.listeners()?.has_open_port();
            let server = Self::launch(binary, config.clone()).await?;
            let error = match server.ready().await {
                Ok(()) => return Ok(server),
                Err(error) => error,
            };
            let passing = match &error {
                Error::EarlyExit(exit) if chose_a_port && exit.says(PORT_IN_USE) => true,
                Error::EarlyExit(exit) => exit.says(MEMBERS_UNEQUAL),
                _ => false,
            };
            if !passing || tries == TRIES {
                return Err(error);
            }
            tracing::info!(tries, %error, "etcd did not start, trying again");
            tries += 1;
            server.gone().await;
            if !chose_a_port {
                sleep(RETRY_WAIT).await;
            }
        }
    }

    /// Spawns a server and does not wait until it is ready.
    ///
    /// # Errors
    /// An invalid configuration; a binary that cannot be spawned.
    pub async fn launch(binary: &Binary, config: MemberConfig) -> Result<Self> {
        let mut listeners = config.listeners()?;
        for url in listeners.client.iter_mut().chain([&mut listeners.peer]) {
            if url.port == 0 {
                url.port = free_port(&url.host)?;
            }
        }
        let prepare = |source| Error::Prepare { path: std::env::temp_dir(), source };
        let work =
            Arc::new(tempfile::Builder::new().prefix("neco-etcd-").tempdir().map_err(prepare)?);
        let data_dir = match &config.data_dir {
            Some(dir) => absolute(dir)?,
            None => work.path().join("data"),
        };
        let process = spawn(binary, &config, &listeners, &data_dir, &work).await?;
        Ok(Self { binary: binary.clone(), config, listeners, data_dir, work, process })
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The URL for clients of this machine.
    pub fn client_url(&self) -> String {
        let loopback = self.listeners.client.iter().find(|url| url.is_loopback());
        loopback.or(self.listeners.client.first()).map(ToString::to_string).unwrap_or_default()
    }

    /// Where the other members reach it.
    pub fn peer_url(&self) -> String {
        self.listeners.peer.to_string()
    }

    /// Where its data are.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id; the last one, if it has ended.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether its process exists.
    pub fn is_running(&self) -> bool {
        !self.process.has_ended()
    }

    /// The last lines it logged.
    pub fn log_tail(&self) -> Vec<String> {
        self.process.tail().lines()
    }

    /// Resolves once when the server serves clients: it has a leader and answers a read.
    ///
    /// The future does not borrow the server; it speaks of the run that goes on now.
    ///
    /// # Errors
    /// The server ended first, in its own words, or it took longer than its bound.
    pub fn ready(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let (member, tail) = (self.config.name.clone(), self.process.tail().clone());
        let mut phase = self.process.phase();
        let within = self.config.start_within;
        let left = within.saturating_sub(self.process.started().elapsed());
        async move {
            let reached = timeout(left, phase.wait_for(|phase| *phase != Phase::Starting)).await;
            match reached.map(|phase| phase.map(|phase| *phase)) {
                Ok(Ok(Phase::Ended(ending))) => Err(exit(member, ending, &tail).while_ready()),
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Error::NotRunning { name: member }),
                Err(_) => {
                    Err(Error::NotReady { name: member, within, words: own_words(&tail.lines()) })
                }
            }
        }
    }

    /// Resolves when the server has ended, whoever ended it.
    ///
    /// The future does not borrow the server; it speaks of the run that goes on now, so that after
    /// a restart a new one is needed.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        let (member, tail) = (self.config.name.clone(), self.process.tail().clone());
        let mut phase = self.process.phase();
        async move { exit(member, ending(&mut phase).await, &tail) }
    }

    /// Ends the server: SIGTERM, then SIGKILL if it takes longer than its bound. Its data stay
    /// until the value is dropped, for a restart.
    ///
    /// # Errors
    /// The kernel refused a signal, or does not let go of the process.
    pub async fn stop(&mut self) -> Result<Stopped> {
        if !self.signal_if_running(Signal::SIGTERM).await? {
            return Ok(Stopped::Already);
        }
        let mut phase = self.process.phase();
        if timeout(self.config.stop_within, ending(&mut phase)).await.is_ok() {
            return Ok(Stopped::Orderly);
        }
        tracing::warn!(member = self.config.name, "etcd does not end in order, killing it");
        self.kill().await?;
        Ok(Stopped::Forced)
    }

    /// Kills the server and waits until it is gone. A server that had ended is fine.
    ///
    /// # Errors
    /// The kernel refused the signal, or does not let go of the process.
    pub async fn kill(&mut self) -> Result<()> {
        if self.signal_if_running(Signal::SIGKILL).await? {
            let gone = timeout(KILLED_WITHIN, ending(&mut self.process.phase())).await;
            gone.map_err(|_| Error::Stuck {
                name: self.config.name.clone(),
                after: KILLED_WITHIN,
            })?;
        }
        Ok(())
    }

    /// Freezes the server: it holds its sockets and answers nothing. It stands still when this returns.
    ///
    /// # Errors
    /// It is not running.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP).await
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// It is not running.
    pub async fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT).await
    }

    /// Stops the server if it runs, starts it with the same data on the same ports, and waits until
    /// it is ready. A member of several is ready only while there is a quorum.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let mut tries = 1;
        loop {
            self.relaunch().await?;
            match self.ready().await {
                Err(Error::EarlyExit(exit)) if exit.says(PORT_IN_USE) && tries < TRIES => {
                    tries += 1;
                    sleep(RETRY_WAIT).await;
                }
                result => return result,
            }
        }
    }

    /// As [`Server::restart`], but does not wait until it is ready: for several members of which
    /// none can be ready alone.
    ///
    /// # Errors
    /// The binary cannot be spawned, or the kernel refused a signal.
    pub async fn relaunch(&mut self) -> Result<()> {
        self.stop().await?;
        self.process =
            spawn(&self.binary, &self.config, &self.listeners, &self.data_dir, &self.work).await?;
        Ok(())
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        if self.signal_if_running(signal).await? {
            Ok(())
        } else {
            Err(Error::NotRunning { name: self.config.name.clone() })
        }
    }

    /// Whether there was a process to signal.
    async fn signal_if_running(&self, signal: Signal) -> Result<bool> {
        match self.process.signal(signal).await {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(source)) => Err(Error::Signal {
                name: self.config.name.clone(),
                signal: signal.as_str(),
                source,
            }),
        }
    }

    /// Drops the server and waits until nothing of it is left.
    pub(crate) async fn gone(self) {
        let mut phase = self.process.phase();
        drop(self);
        while phase.changed().await.is_ok() {}
    }
}

/// What etcd says when somebody else has the port.
pub(crate) const PORT_IN_USE: &str = "address already in use";

/// What etcd says when the cluster it joins does not know it yet.
const MEMBERS_UNEQUAL: &str = "member count is unequal";

impl Exit {
    pub(crate) fn says(&self, words: &str) -> bool {
        self.words.contains(words)
    }

    /// The error of somebody who waited for readiness.
    fn while_ready(self) -> Error {
        if self.was_ready { Error::Died(self) } else { Error::EarlyExit(self) }
    }
}

impl Listeners {
    /// Whether a port is left to us.
    pub(crate) fn has_open_port(&self) -> bool {
        self.client.iter().chain([&self.peer]).any(|url| url.port == 0)
    }
}

fn exit(member: String, ending: Ending, tail: &Tail) -> Exit {
    let Ending { status, requested, was_ready } = ending;
    let log = tail.lines();
    Exit { member, status, requested, was_ready, words: own_words(&log), log }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Prepare { path: path.to_owned(), source })
}

async fn spawn(
    binary: &Binary,
    config: &MemberConfig,
    listeners: &Listeners,
    data_dir: &Path,
    work: &Arc<TempDir>,
) -> Result<Process> {
    let path = absolute(binary.path())?;
    let mut command = Command::new(&path);
    command.current_dir(work.path()).args(arguments(binary, config, listeners, data_dir)?);
    // Settings of somebody else's etcd must not slip in.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ETCD_") {
            command.env_remove(name);
        }
    }
    Process::spawn(command, &config.name, listeners.client.len(), work.clone())
        .await
        .map_err(|source| Error::Spawn { path, source })
}

fn arguments(
    binary: &Binary,
    config: &MemberConfig,
    listeners: &Listeners,
    data_dir: &Path,
) -> Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: OsString| {
        arguments.push(format!("--{flag}").into());
        arguments.push(value);
    };
    let peer = listeners.peer.to_string();
    let own = [(config.name.clone(), peer.clone())];
    let members =
        if config.initial_cluster.is_empty() { &own[..] } else { &config.initial_cluster[..] };
    let members: Vec<String> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let told: Vec<&ListenUrl> =
        listeners.client.iter().filter(|url| !url.is_unspecified()).collect();

    add("name", (&config.name).into());
    add("data-dir", data_dir.into());
    add("listen-client-urls", joined(&listeners.client).into());
    add("advertise-client-urls", joined(&told).into());
    add("listen-peer-urls", (&peer).into());
    add("initial-advertise-peer-urls", (&peer).into());
    add("initial-cluster", members.join(",").into());
    add(
        "initial-cluster-state",
        match config.cluster_state {
            ClusterState::New => "new".into(),
            ClusterState::Existing => "existing".into(),
        },
    );
    add("listen-metrics-urls", health::LISTEN_URL.into());
    add("logger", "zap".into());
    add("log-outputs", "stderr".into());
    add("max-txn-ops", config.max_txn_ops.to_string().into());
    if let Some(ttl) = config.auth_token_ttl {
        add("auth-token-ttl", ttl.as_secs().to_string().into());
    }
    if let Some(quota) = config.quota {
        add("quota-backend-bytes", quota.to_string().into());
    }
    if let Some(mode) = config.auto_compaction {
        let (mode, retention) = match mode {
            AutoCompaction::Periodic(period) => ("periodic", format!("{}s", period.as_secs())),
            AutoCompaction::Revisions(count) => ("revision", count.to_string()),
        };
        add("auto-compaction-mode", mode.into());
        add("auto-compaction-retention", retention.into());
    }
    if let Some(election) = config.election_timeout {
        add("heartbeat-interval", (election.as_millis() / 10).to_string().into());
        add("election-timeout", election.as_millis().to_string().into());
    }
    if let Some(tls) = &config.tls {
        add("cert-file", absolute(&tls.cert)?.into());
        add("key-file", absolute(&tls.key)?.into());
        if let Some(ca) = &tls.trusted_ca {
            add("trusted-ca-file", absolute(ca)?.into());
        }
        if tls.client_cert_auth {
            arguments.push("--client-cert-auth".into());
        }
    }
    if !config.fsync && binary.can_skip_fsync() {
        arguments.push("--unsafe-no-fsync".into());
    }
    Ok(arguments)
}

fn joined<T: ToString>(urls: &[T]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
