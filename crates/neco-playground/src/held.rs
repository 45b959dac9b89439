//! An update that is held in its middle: the restart of a service hangs between its stop and its start.

use std::time::Duration;

use neco_schema::NecoVersion;
use neco_systemd::{UnitError, UnitName};

use crate::{BootServer, Site, SiteError};

/// The unit whose restart is held: every update of the playground's packages restarts it on one server at a time.
pub const HELD_UNIT: &str = "serf.service";

/// A server that is held with a unit stopped and not started again. Dropping this holds no longer.
#[derive(Debug)]
pub struct Held<'a> {
    server: &'a BootServer,
    unit: UnitName,
    call: String,
}

impl<'a> Held<'a> {
    /// Sees to it that the next start of the unit hangs on this server.
    ///
    /// # Errors
    /// There can be no such unit, or the file of faults cannot be written.
    pub fn next_start_of(server: &'a BootServer, unit: &str) -> Result<Self, SiteError> {
        let (unit, call) = (unit.parse()?, format!("start {unit}"));
        server.hold(&call)?;
        Ok(Self { server, unit, call })
    }

    /// Waits until the server has stopped the unit for `version` and hangs; says in which step.
    ///
    /// # Errors
    /// It did not come to that in time.
    pub async fn reached(
        &self,
        site: &Site,
        version: &NecoVersion,
        within: Duration,
        mut draw: impl FnMut(&crate::Look),
    ) -> Result<u32, SiteError> {
        let what = format!("a stop of {} on boot-{}", self.unit, self.server.lrn());
        let look = site.watch(&what, within, |look| {
            draw(look);
            let ours = look.view.current().is_some_and(|request| request.version == *version);
            ours && matches!(is_stopped(self.server, &self.unit), Ok(true))
        });
        let view = look.await?.view;
        let status = view.statuses.get(&self.server.lrn());
        Ok(status.map_or(0, |status| status.value.step))
    }

    /// Lets the start go on.
    ///
    /// # Errors
    /// The file of faults cannot be written.
    pub fn release(self) -> Result<(), SiteError> {
        self.server.release(&self.call)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The site may be going away already.
        let _ = self.server.release(&self.call);
    }
}

/// Whether a unit was started once and is stopped now.
fn is_stopped(server: &BootServer, unit: &UnitName) -> Result<bool, UnitError> {
    Ok(server.units().record(unit)?.is_some_and(|unit| !unit.active && unit.started_at.is_some()))
}
