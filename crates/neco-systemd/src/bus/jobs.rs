//! Jobs: asking for one, waiting for its end, saying why it failed.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use neco_base::Backoff;
use neco_schema::abridged;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::answers::Said;
use super::proxies::JobRemovedStream;
use super::session::{Seen, Session};
use crate::{Job, UnitError, UnitName};

/// A new job takes the place of one that contradicts it.
pub(super) const REPLACE: &str = "replace";

/// systemd's word for the end of a job in whose place another one came.
const CANCELED: &str = "canceled";

/// Delays before a stop is asked for again because a start took its place, and how often it is.
const DISPLACED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
const DISPLACED_TRIES: u32 = 5;

/// So many characters of what a service said of itself are told.
const SAID: usize = 400;

/// What systemd says of a unit that was started too often.
const TOO_OFTEN: &str = "start-limit-hit";

/// How a process ended, in the kernel's numbers.
const EXITED: i32 = 1;
const KILLED: i32 = 2;
const DUMPED: i32 = 3;

/// With these, systemd's own process ends when it cannot make itself the program.
const NOT_EXECUTED: std::ops::RangeInclusive<i32> = 200..=245;

/// A job that systemd took.
pub(super) struct Begun {
    job: OwnedObjectPath,
    removed: JobRemovedStream,
    /// The jobs that have ended since, each with systemd's word for it.
    ended: BTreeMap<String, String>,
}

impl Session {
    /// Starts, stops or restarts a unit.
    pub(super) async fn run(&self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        self.listen().await?;
        let (mut patience, mut displaced) = (1, DISPLACED.retry());
        loop {
            let name = unit.as_str();
            let asked = async {
                match job {
                    Job::Stop => self.manager.stop_unit(name, REPLACE).await,
                    Job::Restart => self.manager.restart_unit(name, REPLACE).await,
                    Job::Reload => self.manager.reload_or_restart_unit(name, REPLACE).await,
                    _ => self.manager.start_unit(name, REPLACE).await,
                }
            };
            let begun = self.begin(asked).await.map_err(|said| said.about_job(unit, job))?;
            let word = self.end_of(begun, unit, job).await?;
            let Err(error) = self.judge(unit, job, &word).await else { return Ok(()) };
            // A timer, say, has started something meanwhile that requires this unit.
            let is_displaced = job == Job::Stop && word == CANCELED;
            if is_displaced && displaced.failures() < DISPLACED_TRIES {
                tokio::time::sleep(displaced.pause()).await;
                continue;
            }
            let too_often = |error: &UnitError| matches!(error, UnitError::JobFailed { result, .. } if result.contains(TOO_OFTEN));
            if patience == 0 || !too_often(&error) {
                return Err(error);
            }
            patience -= 1;
            let reset = self.answer(self.manager.reset_failed_unit(name)).await;
            reset.map_err(|said| said.about_job(unit, job))?;
        }
    }

    /// Has systemd tell the bus what becomes of jobs.
    pub(super) async fn listen(&self) -> Result<(), UnitError> {
        self.answer(self.manager.subscribe()).await.map_err(|said| said.about(&self.call))
    }

    /// Asks for a job; [`listen`](Self::listen) comes before.
    pub(super) async fn begin(
        &self,
        asked: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<Begun, Said> {
        // Before the job can be there, or its end may be missed.
        let mut removed = self.answer(self.manager.receive_job_removed()).await?;
        let mut ended = BTreeMap::new();
        let mut asked = pin!(asked);
        // Signals are read meanwhile, because the answer may wait behind them.
        let answered = async {
            loop {
                tokio::select! {
                    biased;
                    answer = &mut asked => break Ok::<_, Said>(answer?),
                    signal = next_end(&mut removed) => ended.extend([signal?]),
                }
            }
        };
        let job = self.answer(answered).await?;
        Ok(Begun { job, removed, ended })
    }

    /// Waits for systemd's word for the end of a job.
    pub(super) async fn end_of(
        &self,
        begun: Begun,
        unit: &UnitName,
        job: Job,
    ) -> Result<String, UnitError> {
        let Begun { job: path, mut removed, mut ended } = begun;
        let word = async {
            loop {
                if let Some(word) = ended.remove(path.as_str()) {
                    return Ok(word);
                }
                ended.extend([next_end(&mut removed).await?]);
            }
        };
        let word: Result<_, Said> = self.outcome(unit, job, word).await?;
        word.map_err(|said| said.about_job(unit, job))
    }

    /// What systemd's word for the end of a job means.
    pub(super) async fn judge(
        &self,
        unit: &UnitName,
        job: Job,
        word: &str,
    ) -> Result<(), UnitError> {
        let result = match word {
            "done" | "skipped" => return Ok(()),
            "failed" => match self.reason(unit).await {
                Ok(Some(reason)) => format!("failed, {reason}"),
                // Why it failed is less than that it failed.
                Ok(None) | Err(_) => "failed".to_owned(),
            },
            CANCELED => "canceled, another job took its place".to_owned(),
            "timeout" => "timeout, the job took longer than its unit allows".to_owned(),
            "dependency" => "dependency, a unit that it requires could not be started".to_owned(),
            "assert" => "assert, a condition that its unit insists on does not hold".to_owned(),
            "invalid" => "invalid, the unit does not know this job".to_owned(),
            "unsupported" => "unsupported, this machine has no such units".to_owned(),
            "once" => "once, the unit can be started only once".to_owned(),
            other => other.to_owned(),
        };
        // Whatever it is that does not work while everything ends, it says nothing about the unit.
        match self.answer(self.manager.system_state()).await {
            Ok(state) if state == "stopping" => {
                let call = format!("{job} {unit}");
                Err(UnitError::GoingDown { call, why: result })
            }
            // A shutdown ends the bus too, maybe before that answer: whether everything ends is not known.
            Err(said @ (Said::Lost(_) | Said::Nothing(_))) => Err(said.about_job(unit, job)),
            _ => Err(UnitError::JobFailed { unit: unit.clone(), job, result }),
        }
    }

    /// What a unit tells that only units of its type tell.
    async fn particulars(&self, unit: &UnitName) -> Result<Seen, UnitError> {
        let kind = unit.unit_type();
        let interface: String =
            kind.chars().take(1).flat_map(char::to_uppercase).chain(kind.chars().skip(1)).collect();
        self.look(&self.path(unit).await?, &interface).await
    }

    /// Whether the program of a service was executed and has ended by itself since.
    pub(super) async fn has_run(&self, unit: &UnitName) -> Result<bool, UnitError> {
        let seen = self.particulars(unit).await?;
        Ok(match (seen.get::<i32>("ExecMainCode")?, seen.get::<i32>("ExecMainStatus")?) {
            (EXITED, status) => !NOT_EXECUTED.contains(&status),
            (KILLED | DUMPED, _) => true,
            _ => false,
        })
    }

    /// Why a unit failed, as far as it tells.
    async fn reason(&self, unit: &UnitName) -> Result<Option<String>, UnitError> {
        let seen = self.particulars(unit).await?;
        let Some(mut reason) = seen.find::<String>("Result").filter(|result| result != "success")
        else {
            return Ok(None);
        };
        if let Some(detail) = detail(&reason, &seen) {
            reason = format!("{reason}: {detail}");
        }
        // The last status it sent (`STATUS=` of sd_notify(3)); systemd keeps it until the unit is started again.
        if let Some(said) = seen.find::<String>("StatusText").filter(|said| !said.is_empty()) {
            reason = format!("{reason}; it said: {}", abridged(&said, SAID));
        }
        Ok(Some(reason))
    }
}

/// The next job that ended: systemd's path to it, and its word for the end.
async fn next_end(removed: &mut JobRemovedStream) -> Result<(String, String), Said> {
    let Some(signal) = removed.next().await else {
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        return Err(Said::Lost(zbus::Error::from(gone)));
    };
    let signal = signal.args()?;
    Ok((signal.job().to_string(), signal.result().to_string()))
}

/// What stands behind systemd's word for why a unit failed.
fn detail(result: &str, seen: &Seen) -> Option<String> {
    let words = match result {
        "exit-code" | "signal" | "core-dump" => return end_of_process(result, seen),
        "timeout" => "it was not ready in time",
        "protocol" => "its process does not do what its Type= says",
        "resources" => "systemd lacked what it needs to run it",
        "watchdog" => "it gave no sign of life",
        "oom-kill" => "a process of it was killed because memory ran out",
        TOO_OFTEN => "it was started too often in a short time",
        _ => return None,
    };
    Some(words.to_owned())
}

/// Which of a service's processes ended badly, and how.
fn end_of_process(result: &str, seen: &Seen) -> Option<String> {
    let of = |property: &str| {
        let commands: Vec<OwnedVariant> = seen.find(property)?;
        commands.into_iter().find_map(|command| {
            let command = Command::try_from(command).ok()?;
            let how = how(result, command.8, command.9).filter(|_| !command.2)?;
            Some(format!("{property}={} {how}", command.1.join(" ")))
        })
    };
    let main = || {
        let how = how(result, seen.find("ExecMainCode")?, seen.find("ExecMainStatus")?)?;
        Some(format!("the main process {how}"))
    };
    of("ExecCondition")
        .or_else(|| of("ExecStartPre"))
        .or_else(main)
        .or_else(|| of("ExecStartPost"))
        .or_else(|| of("ExecStop"))
        .or_else(|| of("ExecStopPost"))
}

/// A command of a service: program, arguments, whether its failure counts for nothing, four times of its last run,
/// its process, and the code and status of its end.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// How a process ended, if it ended with that result.
fn how(result: &str, code: i32, status: i32) -> Option<String> {
    match (result, code) {
        ("exit-code", EXITED) if status == 203 => {
            Some("exited with status 203 (its program could not be executed)".to_owned())
        }
        ("exit-code", EXITED) if status != 0 => Some(format!("exited with status {status}")),
        ("signal" | "core-dump", KILLED | DUMPED) => Some(format!("was ended by signal {status}")),
        _ => None,
    }
}
