//! One call's connection to systemd.

use std::collections::BTreeMap;

use zbus::connection::Builder;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::answers::Said;
use super::proxies::{ManagerProxy, PropertiesProxy};
use crate::{Job, UnitError, UnitName, UnitState};

/// The connection of one call.
pub(super) struct Session {
    connection: Connection,
    /// systemd itself.
    pub(super) manager: ManagerProxy<'static>,
    /// The call, in words for errors.
    pub(super) call: String,
}

/// The properties that one of a unit's interfaces had at one moment.
pub(super) struct Seen {
    properties: BTreeMap<String, OwnedVariant>,
    call: String,
}

impl Session {
    pub(super) async fn open(address: Option<&str>, call: &str) -> Result<Self, UnitError> {
        let failed = |error| connecting(error, call);
        let bus = address.map_or_else(Builder::system, Builder::address);
        let connection = bus.build().await.map_err(failed)?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(failed)?;
        Ok(Self { connection, manager, call: call.to_owned() })
    }

    /// What an error means that is not about a job.
    pub(super) fn error(&self, error: zbus::Error) -> UnitError {
        Said::from(error).about(&self.call)
    }

    /// systemd's path to a unit; one that does not exist has a path too.
    pub(super) async fn path(&self, unit: &UnitName) -> Result<OwnedObjectPath, UnitError> {
        self.manager.load_unit(unit.as_str()).await.map_err(|error| self.error(error))
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
        let properties = asked.await.map_err(|error| self.error(error))?;
        Ok(Seen { properties, call: self.call.clone() })
    }

    pub(super) async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let seen = self.look(&self.path(unit).await?, "Unit").await?;
        // systemd keeps the state of a file as the unit's property until the next reload, and looks at the disk when
        // it is asked this way.
        let file = self.manager.get_unit_file_state(unit.as_str()).await;
        let file_state = match file.map_err(Said::from) {
            Ok(word) => word,
            Err(Said::NotFound(_)) => String::new(),
            Err(other) => return Err(other.about(&self.call)),
        };
        Ok(UnitState {
            load: seen.get::<String>("LoadState")?.into(),
            active: seen.get::<String>("ActiveState")?.into(),
            sub: seen.get("SubState")?,
            file_state: file_state.into(),
            needs_reload: seen.get("NeedDaemonReload")?,
        })
    }

    pub(super) async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        let failed = |error| Said::from(error).about_job(unit, Job::Enable);
        let enabled = self.manager.enable_unit_files(&[unit.as_str()], false, false).await;
        let (_installable, changes) = enabled.map_err(failed)?;
        // As `systemctl` does: until then the running systemd does not know what wants the unit.
        if !changes.is_empty() {
            self.manager.reload().await.map_err(failed)?;
        }
        Ok(())
    }

    pub(super) async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        let disabled = self.manager.disable_unit_files(&[unit.as_str()], false).await;
        let changes = match disabled.map_err(Said::from) {
            Ok(changes) => changes,
            Err(Said::NotFound(_)) => return Ok(()),
            Err(other) => return Err(other.about_job(unit, Job::Disable)),
        };
        // A masked unit is reported, not changed.
        if changes.iter().any(|(kind, ..)| kind == "unlink") {
            let reloaded = self.manager.reload().await;
            reloaded.map_err(|error| Said::from(error).about_job(unit, Job::Disable))?;
        }
        Ok(())
    }
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
