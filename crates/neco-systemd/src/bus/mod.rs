//! The engine of real machines: systemd over the system bus.

mod answers;
mod durable;
mod jobs;
mod proxies;
#[cfg(test)]
mod scripted;
mod session;
mod settling;
mod transient;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use self::session::{Patience, Session};
use crate::{Job, UnitError, UnitName, UnitState, Units};

/// The machine's systemd.
///
/// Every call makes a connection of its own, so that there is none that could have been lost meanwhile: whoever calls
/// again when an error asks for another try rides out an absence of the bus or of systemd (which leaves it for a
/// moment when it executes itself anew) of any length. Dropping a call leaves nothing.
///
/// Every wait has a deadline. A bus or a systemd that is there and does not answer is told from a job that takes long: the
/// first is found out within [`ANSWER`](Self::ANSWER) and asks for another try, and only the end of a job, and that of
/// reading all unit files anew, may take as long as [`DEADLINE`](Self::DEADLINE).
///
/// What counts as success is what `systemctl` takes for it:
///
/// - A service of `Type=simple` is started when its process is there. One that dies at once is started too; whether it
///   keeps running is told by the [`settles_in`](UnitState::settles_in) of its [`state`](Units::state).
/// - A unit whose own conditions (`Condition…=`, `ExecCondition=`) say that it shall not run here is left inactive
///   without an error. The state tells.
/// - The end of a unit that fails while it is stopped is an end.
///
/// In two points it is more patient. A unit that was started too often in a short time (`StartLimitBurst=`) is started
/// all the same, because the caller has a pace of its own and may bring the remedy. A stop in whose place a start came,
/// as when a timer starts something that requires the unit, is asked for again some times.
#[derive(Clone, Debug)]
pub struct Systemd {
    patience: Patience,
    booted: PathBuf,
    files: PathBuf,
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

    /// How long the bus may take to be connected to, and systemd to answer: also that it took a job.
    pub const ANSWER: Duration = Duration::from_secs(30);

    /// The folder that systemd makes when it boots a machine.
    pub const BOOTED: &str = "/run/systemd/system";

    /// Where enabled units are linked.
    const FILES: &str = "/etc/systemd/system";

    /// The machine's systemd. Whether there is one is found out by the calls.
    pub fn new() -> Self {
        Self::with_deadline(Self::DEADLINE)
    }

    /// As [`new`](Self::new); a job that takes longer than `deadline` is awaited no more.
    pub fn with_deadline(deadline: Duration) -> Self {
        let patience = Patience { answer: deadline.min(Self::ANSWER), job: deadline };
        let (booted, files) = (PathBuf::from(Self::BOOTED), PathBuf::from(Self::FILES));
        Self { patience, booted, files, address: None }
    }

    async fn connect(&self, call: &str) -> Result<Session, UnitError> {
        if !self.booted.is_dir() {
            let path = self.booted.clone();
            return Err(UnitError::NotBooted { call: call.to_owned(), path });
        }
        Session::open(self.address.as_deref(), call, self.patience).await
    }

    /// Connects for a job.
    async fn connect_for(&self, unit: &UnitName, job: Job) -> Result<Session, UnitError> {
        self.connect(&format!("{job} {unit}")).await
    }

    /// Has what became of links to `unit` outlive a power cut.
    async fn sync(&self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        let (unit, files) = (unit.clone(), self.files.clone());
        let synced = move || durable::sync(&files, durable::sync_dir);
        let synced = tokio::task::spawn_blocking(synced).await?;
        synced.map_err(|(path, source)| UnitError::Unsynced { unit, job, path, source })
    }

    async fn run(&self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        self.connect_for(unit, job).await?.run(unit, job).await
    }
}

#[async_trait]
impl Units for Systemd {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        let session = self.connect("daemon-reload").await?;
        // One that answers nothing is not waited for as long as one that reads many files.
        session.listen().await?;
        session.reload().await.map_err(|said| said.about(&session.call))
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.connect_for(unit, Job::Enable).await?.enable(unit).await?;
        self.sync(unit, Job::Enable).await
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.connect_for(unit, Job::Disable).await?.disable(unit).await?;
        self.sync(unit, Job::Disable).await
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.run(unit, Job::Start).await
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.run(unit, Job::Stop).await
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.run(unit, Job::Restart).await
    }

    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.run(unit, Job::Reload).await
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        crate::units::check_transient(unit, argv)?;
        self.connect_for(unit, Job::Start).await?.start_transient(unit, argv).await
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.connect(&format!("look at {unit}")).await?.state(unit).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use neco_schema::Severity;

    use super::scripted::Scripted;
    use super::*;

    fn vault() -> UnitName {
        "vault.service".parse().expect("a name")
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    fn at(folder: &Path, answer: Duration, job: Duration) -> Systemd {
        let address = format!("unix:path={}/bus", folder.display());
        let patience = Patience { answer, job };
        let files = folder.join("files");
        Systemd { patience, booted: folder.to_owned(), files, address: Some(address) }
    }

    /// Every call but a daemon-reload.
    async fn calls(systemd: &Systemd) -> Vec<(&'static str, Result<(), UnitError>)> {
        let argv = ["/bin/true".to_owned()];
        vec![
            ("enable vault.service", systemd.enable(&vault()).await),
            ("disable vault.service", systemd.disable(&vault()).await),
            ("start vault.service", systemd.start(&vault()).await),
            ("stop vault.service", systemd.stop(&vault()).await),
            ("restart vault.service", systemd.restart(&vault()).await),
            ("start vault.service", systemd.start_transient(&vault(), &argv).await),
            ("look at vault.service", systemd.state(&vault()).await.map(drop)),
        ]
    }

    async fn assert_unanswered(systemd: &Systemd, context: &str) {
        let answers = tokio::time::timeout(LONG, calls(systemd)).await.expect(context);
        for (call, result) in answers {
            let error = result.expect_err("silence");
            let words = format!("systemd did not answer `{call}` within 50ms");
            assert_eq!(error.to_string(), words, "{context}");
            assert_eq!(error.severity(), Severity::TryAgain);
        }
    }

    #[tokio::test]
    async fn a_machine_that_systemd_did_not_boot_is_named_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut systemd = at(folder.path(), SHORT, LONG);
        systemd.booted = folder.path().join("absent");
        let error = systemd.start(&vault()).await.expect_err("no systemd");
        let begin = "cannot start vault.service: this machine was not booted by systemd (";
        assert!(error.to_string().starts_with(begin), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }

    #[tokio::test]
    async fn a_job_that_ends_beside_the_bus_has_not_failed_for_good() {
        let folder = tempfile::tempdir().expect("a folder");
        // Nobody says whether the machine goes down.
        let _bus = Scripted::bind(&folder.path().join("bus"), &["Hello"]);
        let systemd = at(folder.path(), SHORT, LONG);
        let session = systemd.connect("start vault.service").await.expect("a bus");
        for word in ["canceled", "failed"] {
            let judged = session.judge(&vault(), Job::Start, word).await;
            let error = judged.expect_err("it did not work");
            assert_eq!(error.severity(), Severity::TryAgain, "{word}: {error}");
        }
    }

    #[tokio::test]
    async fn where_there_is_no_bus_the_error_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let systemd = at(folder.path(), SHORT, LONG);
        let error = systemd.daemon_reload().await.expect_err("no bus");
        let begin = format!(
            "cannot daemon-reload: there is no system bus at unix:path={}/bus",
            folder.path().display()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert_eq!(error.severity(), Severity::TryAgain);
    }

    #[tokio::test]
    async fn a_bus_that_says_nothing_is_no_job_that_takes_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = tokio::net::UnixListener::bind(folder.path().join("bus")).expect("a socket");
        let systemd = at(folder.path(), SHORT, LONG);
        assert_unanswered(&systemd, "it accepts").await;
        let error = systemd.daemon_reload().await.expect_err("silence");
        assert_eq!(error.to_string(), "systemd did not answer `daemon-reload` within 50ms");
        drop(listener);
        let error = systemd.start(&vault()).await.expect_err("nobody listens");
        assert!(matches!(error, UnitError::NoBus { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_systemd_that_falls_silent_is_no_job_that_takes_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("bus");
        let systemd = at(folder.path(), SHORT, LONG);
        for (answered, context) in [
            (&[][..], "the bus lets in, and no more"),
            (&["Hello"], "there is nothing behind the bus"),
            (&["Hello", "AddMatch", "GetNameOwner", "Subscribe", "LoadUnit"], "it takes no job"),
        ] {
            let _bus = Scripted::bind(&socket, answered);
            assert_unanswered(&systemd, context).await;
        }
        let _bus = Scripted::bind(&socket, &["Hello"]);
        let error = systemd.daemon_reload().await.expect_err("silence");
        assert_eq!(error.to_string(), "systemd did not answer `daemon-reload` within 50ms");
    }

    #[tokio::test]
    async fn what_is_enabled_or_disabled_has_reached_the_disk() {
        const ANSWERED: &[&str] = &["Hello", "EnableUnitFiles", "DisableUnitFiles"];
        let folder = tempfile::tempdir().expect("a folder");
        let _bus = Scripted::bind(&folder.path().join("bus"), ANSWERED);
        let systemd = at(folder.path(), Systemd::ANSWER, LONG);
        for (job, result) in [
            (Job::Enable, systemd.enable(&vault()).await),
            (Job::Disable, systemd.disable(&vault()).await),
        ] {
            let error = result.expect_err("there is no such folder");
            assert!(matches!(&error, UnitError::Unsynced { job: of, .. } if *of == job), "{error}");
        }
        std::fs::create_dir(&systemd.files).expect("writable");
        systemd.enable(&vault()).await.expect("enabled");
        systemd.disable(&vault()).await.expect("disabled");
    }

    #[tokio::test]
    async fn a_job_that_was_taken_has_the_time_of_a_job() {
        const ANSWERED: &[&str] = &["Hello", "AddMatch", "GetNameOwner", "Subscribe", "StartUnit"];
        let folder = tempfile::tempdir().expect("a folder");
        let _bus = Scripted::bind(&folder.path().join("bus"), ANSWERED);
        let systemd = at(folder.path(), Systemd::ANSWER, SHORT);
        let error = systemd.start(&vault()).await.expect_err("it never ends");
        assert_eq!(error.to_string(), "start vault.service did not end within 50ms");
        assert!(matches!(error, UnitError::TimedOut { job: Job::Start, .. }), "{error}");
    }

    #[tokio::test]
    async fn reading_all_unit_files_anew_may_take_longer_than_an_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let _bus = Scripted::bind(&folder.path().join("bus"), &["Hello", "Subscribe"]);
        let systemd = at(folder.path(), Systemd::ANSWER, SHORT);
        let error = systemd.daemon_reload().await.expect_err("it never ends");
        assert_eq!(error.to_string(), "systemd did not answer `daemon-reload` within 50ms");
    }

    #[tokio::test]
    async fn a_service_that_has_just_been_started_has_not_settled_unless_it_says_that_it_is_ready()
    {
        const ANSWERED: &[&str] = &["Hello", "LoadUnit", "GetAll", "GetUnitFileState"];
        let folder = tempfile::tempdir().expect("a folder");
        let systemd = at(folder.path(), Systemd::ANSWER, LONG);
        for (kind, since, settled) in [
            ("simple", u64::MAX, false),
            ("exec", u64::MAX, false),
            ("forking", u64::MAX, false),
            ("one that comes later", u64::MAX, false),
            ("notify", u64::MAX, true),
            ("oneshot", u64::MAX, true),
            ("simple", 0, true),
        ] {
            let bus = Scripted::bind(&folder.path().join("bus"), ANSWERED).running(kind, since);
            let state = systemd.state(&vault()).await.expect("a state");
            assert!(state.is_active());
            let left = (!settled).then_some(UnitState::SETTLED_AFTER);
            assert_eq!(state.settles_in, left, "{kind}, active since {since}");
            let timer: UnitName = "vault.timer".parse().expect("a name");
            let state = systemd.state(&timer).await.expect("a state");
            assert_eq!(state.settles_in, None, "a timer has no process");
            drop(bus);
        }
    }

    #[tokio::test]
    async fn a_bus_that_hangs_up_asks_for_another_try() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = tokio::net::UnixListener::bind(folder.path().join("bus")).expect("a socket");
        let hang_up = tokio::spawn(async move { drop(listener.accept().await) });
        let error = at(folder.path(), LONG, LONG).state(&vault()).await.expect_err("gone");
        assert!(matches!(error, UnitError::Lost { .. }), "{error}");
        assert_eq!(error.severity(), Severity::TryAgain);
        hang_up.await.expect("ended");
    }
}
