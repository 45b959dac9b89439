//! The engine of real machines: systemd over the system bus.

mod answers;
mod jobs;
mod proxies;
mod session;
mod transient;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use self::session::Session;
use crate::{Job, UnitError, UnitName, UnitState, Units};

/// The machine's systemd.
///
/// Every call makes a connection of its own, so that there is none that could have been lost meanwhile: whoever calls
/// again when an error asks for another try rides out an absence of the bus or of systemd (which leaves it for a
/// moment when it executes itself anew) of any length. Every call has a deadline, and dropping it leaves nothing.
///
/// What counts as success is what `systemctl` takes for it:
///
/// - A service of `Type=simple` is started when its process is there. One that dies at once is started too; ask for
///   its [`state`](Units::state), or write `Type=notify` or `exec` into its unit.
/// - A unit whose own conditions (`Condition…=`, `ExecCondition=`) say that it shall not run here is left inactive
///   without an error. The state tells.
/// - The end of a unit that fails while it is stopped is an end.
///
/// In two points it is more patient. A unit that was started too often in a short time (`StartLimitBurst=`) is started
/// all the same, because the caller has a pace of its own and may bring the remedy. A stop in whose place a start came,
/// as when a timer starts something that requires the unit, is asked for again some times.
#[derive(Clone, Debug)]
pub struct Systemd {
    deadline: Duration,
    booted: PathBuf,
    /// The address of the bus; the system's if there is none.
    address: Option<String>,
}

impl Default for Systemd {
    fn default() -> Self {
        Self::new()
    }
}

impl Systemd {
    /// How long a job may take where nothing else is said: longer than a stop and a start together may take by
    /// systemd's own default, because systemd knows better why they failed.
    pub const DEADLINE: Duration = Duration::from_secs(240);

    /// How long systemd may take to answer what causes no job.
    pub const ANSWER: Duration = Duration::from_secs(30);

    /// The folder that systemd makes when it boots a machine.
    pub const BOOTED: &str = "/run/systemd/system";

    /// The machine's systemd. Whether there is one is found out by the calls.
    pub fn new() -> Self {
        Self::with_deadline(Self::DEADLINE)
    }

    /// As [`new`](Self::new); a job that takes longer than `deadline` is awaited no more.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self { deadline, booted: PathBuf::from(Self::BOOTED), address: None }
    }

    async fn connect(&self, call: &str) -> Result<Session, UnitError> {
        if !self.booted.is_dir() {
            let path = self.booted.clone();
            return Err(UnitError::NotBooted { call: call.to_owned(), path });
        }
        Session::open(self.address.as_deref(), call).await
    }

    /// Asks for something that causes no job.
    async fn ask<T>(
        &self,
        call: &str,
        within: Duration,
        act: impl AsyncFnOnce(Session) -> Result<T, UnitError>,
    ) -> Result<T, UnitError> {
        let asked = async { act(self.connect(call).await?).await };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(UnitError::NoAnswer { call: call.to_owned(), after: within }),
        }
    }

    /// Asks for a job and waits for its end.
    async fn job(
        &self,
        unit: &UnitName,
        job: Job,
        act: impl AsyncFnOnce(Session) -> Result<(), UnitError>,
    ) -> Result<(), UnitError> {
        let call = format!("{job} {unit}");
        let ended = async { act(self.connect(&call).await?).await };
        match tokio::time::timeout(self.deadline, ended).await {
            Ok(result) => result,
            Err(_) => Err(UnitError::TimedOut { unit: unit.clone(), job, after: self.deadline }),
        }
    }
}

#[async_trait]
impl Units for Systemd {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        const CALL: &str = "daemon-reload";
        self.ask(CALL, self.deadline, async |session| {
            session.manager.reload().await.map_err(|error| session.error(error))
        })
        .await
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Enable, async |session| session.enable(unit).await).await
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Disable, async |session| session.disable(unit).await).await
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Start, async |session| session.run(unit, Job::Start).await).await
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Stop, async |session| session.run(unit, Job::Stop).await).await
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Restart, async |session| session.run(unit, Job::Restart).await).await
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        crate::units::check_transient(unit, argv)?;
        self.job(unit, Job::Start, async |session| session.start_transient(unit, argv).await).await
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let call = format!("look at {unit}");
        let within = self.deadline.min(Self::ANSWER);
        self.ask(&call, within, async |session| session.state(unit).await).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use neco_schema::Severity;

    use super::*;

    fn vault() -> UnitName {
        "vault.service".parse().expect("a name")
    }

    fn at(folder: &Path, deadline: Duration) -> Systemd {
        let address = format!("unix:path={}/bus", folder.display());
        Systemd { deadline, booted: folder.to_owned(), address: Some(address) }
    }

    #[tokio::test]
    async fn a_machine_that_systemd_did_not_boot_is_named_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut systemd = at(folder.path(), Systemd::DEADLINE);
        systemd.booted = folder.path().join("absent");
        let error = systemd.start(&vault()).await.expect_err("no systemd");
        let begin = "cannot start vault.service: this machine was not booted by systemd (";
        assert!(error.to_string().starts_with(begin), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }

    #[tokio::test]
    async fn where_there_is_no_bus_the_error_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let systemd = at(folder.path(), Systemd::DEADLINE);
        let error = systemd.daemon_reload().await.expect_err("no bus");
        let begin = format!(
            "cannot daemon-reload: there is no system bus at unix:path={}/bus",
            folder.path().display()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert_eq!(error.severity(), Severity::TryAgain);
    }

    #[tokio::test]
    async fn a_bus_that_says_nothing_holds_nobody_beyond_the_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = tokio::net::UnixListener::bind(folder.path().join("bus")).expect("a socket");
        let systemd = at(folder.path(), Duration::from_millis(50));
        let error = systemd.state(&vault()).await.expect_err("silence");
        assert_eq!(
            error.to_string(),
            "systemd did not answer `look at vault.service` within 50ms",
            "what is asked quickly does not wait longer than a job"
        );
        let error = systemd.start(&vault()).await.expect_err("silence");
        assert!(matches!(error, UnitError::TimedOut { job: Job::Start, .. }), "{error}");
        drop(listener);
        let error = systemd.start(&vault()).await.expect_err("nobody listens");
        assert!(matches!(error, UnitError::NoBus { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_bus_that_hangs_up_asks_for_another_try() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = tokio::net::UnixListener::bind(folder.path().join("bus")).expect("a socket");
        let hang_up = tokio::spawn(async move { drop(listener.accept().await) });
        let error = at(folder.path(), Systemd::ANSWER).state(&vault()).await.expect_err("gone");
        assert!(matches!(error, UnitError::Lost { .. }), "{error}");
        assert_eq!(error.severity(), Severity::TryAgain);
        hang_up.await.expect("ended");
    }
}
