//! What the sandbox of a server knows of its units.

use neco_playground::BootServer;
use neco_systemd::UnitRecord;

/// A unit that is known.
///
/// # Panics
/// It is not.
#[must_use]
pub fn unit(server: &BootServer, name: &str) -> UnitRecord {
    let unit = name.parse().expect("the name of a unit");
    let known = server.units().record(&unit).expect("readable");
    known.unwrap_or_else(|| panic!("boot-{} knows no {name}", server.lrn()))
}

/// Whether a unit runs.
///
/// # Panics
/// It is not known.
#[must_use]
pub fn is_up(server: &BootServer, name: &str) -> bool {
    unit(server, name).active
}

/// Everything that was done on a server.
///
/// # Panics
/// The log of units cannot be read.
#[must_use]
pub fn effects(server: &BootServer) -> Vec<String> {
    let effects = server.units().effects().expect("a log of units");
    effects.into_iter().map(|entry| entry.effect.words()).collect()
}
