//! One call's connection to systemd.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use neco_base::hex;
use tokio::time::{Instant, timeout};
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::answers::Said;
use super::proxies::{ManagerProxy, PropertiesProxy};
use super::settling::uptime;
use crate::{ActiveState, Job, UnitError, UnitName, UnitRun, UnitState};

/// The connection of one call.
pub(super) struct Session {
    connection: Connection,
    /// systemd itself.
    pub(super) manager: ManagerProxy<'static>,
    /// The call, in words for errors.
    pub(super) call: String,
    patience: Patience,
    /// When the job's time is over.
    until: Instant,
}

/// How long a call waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For an answer.
    pub(super) answer: Duration,
    /// For the end of a job.
    pub(super) job: Duration,
}

/// The properties that one of a unit's interfaces had at one moment.
pub(super) struct Seen {
    properties: BTreeMap<String, OwnedVariant>,
    call: String,
}

impl Session {
    pub(super) async fn open(
        address: Option<&str>,
        call: &str,
        patience: Patience,
    ) -> Result<Self, UnitError> {
        let connected = async {
            let bus = address.map_or_else(Builder::system, Builder::address);
            let connection = bus.build().await?;
            let manager = ManagerProxy::builder(&connection)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            Ok((connection, manager))
        };
        let Ok(connected) = timeout(patience.answer, connected).await else {
            return Err(Said::Nothing(patience.answer).about(call));
        };
        let (connection, manager) = connected.map_err(|error| connecting(error, call))?;
        let until = Instant::now() + patience.job;
        Ok(Self { connection, manager, call: call.to_owned(), patience, until })
    }

    /// Waits for systemd's answer, for as long as an answer may take.
    pub(super) async fn answer<T, E>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Said>
    where
        Said: From<E>,
    {
        within(self.patience.answer, asked).await
    }

    /// Waits for what comes of a job, until its time is over.
    pub(super) async fn outcome<T>(
        &self,
        unit: &UnitName,
        job: Job,
        outcome: impl Future<Output = T>,
    ) -> Result<T, UnitError> {
        let late = |_| UnitError::TimedOut { unit: unit.clone(), job, after: self.patience.job };
        tokio::time::timeout_at(self.until, outcome).await.map_err(late)
    }

    /// Has systemd read all unit files anew. It answers when that is done, which may take longer than any other answer.
    pub(super) async fn reload(&self) -> Result<(), Said> {
        within(self.patience.job, self.manager.reload()).await
    }

    /// systemd's path to a unit; one that does not exist has a path too.
    pub(super) async fn path(&self, unit: &UnitName) -> Result<OwnedObjectPath, UnitError> {
        let path = self.answer(self.manager.load_unit(unit.as_str())).await;
        path.map_err(|said| said.about(&self.call))
    }

    /// Looks at an interface of a unit, such as `Unit` or `Service`.
    pub(super) async fn look(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
    ) -> Result<Seen, UnitError> {
        let asked = async {
            let unit = PropertiesProxy::builder(&self.connection)
                .path(path)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            unit.get_all(&format!("org.freedesktop.systemd1.{interface}")).await
        };
        let asked: Result<_, Said> = self.answer::<_, zbus::Error>(asked).await;
        let properties = asked.map_err(|said| said.about(&self.call))?;
        Ok(Seen { properties, call: self.call.clone() })
    }

    pub(super) async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let path = self.path(unit).await?;
        let seen = self.look(&path, "Unit").await?;
        let active = ActiveState::from(seen.get::<String>("ActiveState")?);
        let settles_in = match (&active, unit.unit_type()) {
            (ActiveState::Active, "service") => self.settles_in(&path, &seen).await?,
            _ => None,
        };
        // systemd keeps the state of a file as the unit's property until the next reload, and looks at the disk when
        // it is asked this way.
        let file_state = match self.answer(self.manager.get_unit_file_state(unit.as_str())).await {
            Ok(word) => word,
            Err(Said::NotFound(_)) => String::new(),
            Err(other) => return Err(other.about(&self.call)),
        };
        let run = run(&active, &seen)?;
        Ok(UnitState {
            load: seen.get::<String>("LoadState")?.into(),
            active,
            settles_in,
            sub: seen.get("SubState")?,
            file_state: file_state.into(),
            needs_reload: seen.get("NeedDaemonReload")?,
            run,
        })
    }

    pub(super) async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        let failed = |said: Said| said.about_job(unit, Job::Enable);
        let names = [unit.as_str()];
        let enabled = self.answer(self.manager.enable_unit_files(&names, false, false)).await;
        let (_installable, changes) = enabled.map_err(failed)?;
        // As `systemctl` does: until then the running systemd does not know what wants the unit.
        if !changes.is_empty() {
            self.reload().await.map_err(failed)?;
        }
        Ok(())
    }

    pub(super) async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        let failed = |said: Said| said.about_job(unit, Job::Disable);
        let names = [unit.as_str()];
        let changes = match self.answer(self.manager.disable_unit_files(&names, false)).await {
            Ok(changes) => changes,
            Err(Said::NotFound(_)) => return Ok(()),
            Err(other) => return Err(failed(other)),
        };
        // A masked unit is reported, not changed.
        if changes.iter().any(|(kind, ..)| kind == "unlink") {
            self.reload().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The run of a unit of which anything may run.
fn run(active: &ActiveState, seen: &Seen) -> Result<Option<UnitRun>, UnitError> {
    let id: Vec<u8> = seen.get("InvocationID")?;
    if !active.is_alive() || id.is_empty() {
        return Ok(None);
    }
    // When it left inactivity: what it reads of the disk, it reads after that.
    let wall = Duration::from_micros(seen.get("InactiveExitTimestamp")?);
    let after_boot = Duration::from_micros(seen.get("InactiveExitTimestampMonotonic")?);
    let since = match (uptime(), UNIX_EPOCH.elapsed()) {
        (Some(uptime), Ok(now)) if !wall.is_zero() => Some(began(wall, after_boot, now, uptime)),
        _ => None,
    };
    Ok(Some(UnitRun { id: hex(&id), since }))
}

/// When, at the latest, something began that systemd saw at `wall`, so long after the boot, as files are dated `now`: a clock
/// that was ahead at the boot, and has been set since then, says too much.
fn began(wall: Duration, after_boot: Duration, now: Duration, uptime: Duration) -> Duration {
    wall.min(now.saturating_sub(uptime.saturating_sub(after_boot)))
}

impl Seen {
    /// A property that every unit has.
    pub(super) fn get<T>(&self, name: &str) -> Result<T, UnitError>
    where
        T: TryFrom<OwnedVariant>,
    {
        self.find(name).ok_or_else(|| UnitError::Answer {
            call: self.call.clone(),
            source: format!("the property {name} is missing or of another type").into(),
        })
    }

    /// A property that only some units have.
    pub(super) fn find<T>(&self, name: &str) -> Option<T>
    where
        T: TryFrom<OwnedVariant>,
    {
        self.properties.get(name)?.try_clone().ok()?.try_into().ok()
    }
}

/// Waits so long for an answer.
async fn within<T, E>(limit: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<T, Said>
where
    Said: From<E>,
{
    match timeout(limit, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Said::Nothing(limit)),
    }
}

/// Why there is no connection.
fn connecting(error: zbus::Error, call: &str) -> UnitError {
    match error {
        zbus::Error::Connection(source, address) => UnitError::NoBus {
            call: call.to_owned(),
            address: address.to_string(),
            source: std::io::Error::new(source.kind(), source),
        },
        other => Said::from(other).about(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_while_the_clock_was_wrong_began_no_later_than_it_did() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let (now, uptime, after_boot) = (hours(500_000), hours(10), hours(1));
        let truly = now - hours(9);
        assert_eq!(began(truly, after_boot, now, uptime), truly);
        assert_eq!(began(truly + hours(9), after_boot, now, uptime), truly, "it was ahead");
        assert_eq!(began(truly - hours(9), after_boot, now, uptime), truly - hours(9));
        // The kernel counts what it slept, and systemd does not.
        assert!(began(truly, after_boot, now, uptime + hours(5)) < truly);
    }
}
