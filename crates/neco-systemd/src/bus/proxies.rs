//! What of systemd's D-Bus interface is used.
//!
//! No call has the bus start its recipient: systemd comes back by itself, and the bus could not start it.

use std::collections::BTreeMap;

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// A change of a link: what was done, the link, and where it leads.
pub(super) type Change = (String, String, String);

/// A named property of a unit to be.
pub(super) type Property<'a> = (&'a str, Variant<'a>);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    #[zbus(no_autostart)]
    fn subscribe(&self) -> zbus::Result<()>;

    #[zbus(no_autostart)]
    fn reload(&self) -> zbus::Result<()>;

    #[zbus(no_autostart)]
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn reload_or_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Property<'_>],
        others: &[(&str, Vec<Property<'_>>)],
    ) -> zbus::Result<OwnedObjectPath>;

    #[zbus(no_autostart)]
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;

    #[zbus(no_autostart)]
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    #[zbus(no_autostart)]
    fn enable_unit_files(
        &self,
        names: &[&str],
        until_reboot: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<Change>)>;

    #[zbus(no_autostart)]
    fn disable_unit_files(&self, names: &[&str], until_reboot: bool) -> zbus::Result<Vec<Change>>;

    #[zbus(no_autostart)]
    fn get_unit_file_state(&self, name: &str) -> zbus::Result<String>;

    /// Whether systemd starts, runs or ends the machine, in a word.
    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1",
    assume_defaults = false
)]
pub(super) trait Properties {
    /// All properties of one interface, at one moment.
    #[zbus(no_autostart)]
    fn get_all(&self, interface: &str) -> zbus::Result<BTreeMap<String, OwnedVariant>>;
}
