//! A model of systemd's manager: what a job changes, without doing anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ActiveState, FileState, Job, LoadState, UnitError, UnitName, UnitState};

/// What is known about one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Whether it runs.
    pub active: bool,
    /// Whether its last start failed.
    #[serde(default)]
    pub failed: bool,
    /// SHA-256 of the definition it was last started with, in hex digits.
    #[serde(default)]
    pub started_with: Option<String>,
    /// The sequence number of the effect that last started it.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// The definition as it was last loaded.
    #[serde(default)]
    loaded: Option<Definition>,
}

/// Something that happened to units, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum UnitEffect {
    /// All unit files were read anew.
    DaemonReload,
    /// The machine was booted; the units that it starts follow.
    Boot,
    /// A unit is to start at boot.
    Enable {
        /// Which.
        unit: UnitName,
    },
    /// A unit is not to start at boot any more.
    Disable {
        /// Which.
        unit: UnitName,
    },
    /// A unit was started.
    Start {
        /// Which.
        unit: UnitName,
        /// SHA-256 of the definition it was started with.
        digest: String,
    },
    /// A unit was stopped.
    Stop {
        /// Which.
        unit: UnitName,
    },
    /// A unit was stopped if it was active, and started.
    Restart {
        /// Which.
        unit: UnitName,
        /// SHA-256 of the definition it was started with.
        digest: String,
    },
    /// A job failed.
    Failed {
        /// Which unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
        /// Why.
        message: String,
    },
}

impl UnitEffect {
    /// The effect as people would say it: `restart vault.service`.
    pub fn words(&self) -> String {
        match self {
            Self::DaemonReload => "daemon-reload".to_owned(),
            Self::Boot => "boot".to_owned(),
            Self::Enable { unit } => format!("enable {unit}"),
            Self::Disable { unit } => format!("disable {unit}"),
            Self::Start { unit, .. } => format!("start {unit}"),
            Self::Stop { unit } => format!("stop {unit}"),
            Self::Restart { unit, .. } => format!("restart {unit}"),
            Self::Failed { unit, job, .. } => format!("failed to {job} {unit}"),
        }
    }
}

/// What a unit file says, as far as the model cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    digest: String,
    installable: bool,
}

impl Definition {
    pub(crate) fn of(text: &[u8]) -> Self {
        use std::fmt::Write;
        let digest = Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let installable =
            text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"[Install]");
        Self { digest, installable }
    }
}

/// The units of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manager {
    units: BTreeMap<UnitName, UnitRecord>,
}

/// What a job changes besides the manager: it notes an effect and gets a sequence number.
pub(crate) type Note<'a> = &'a mut dyn FnMut(UnitEffect) -> u64;

impl Manager {
    /// Does `job` to `unit`, whose file on the disk says `disk`; with `fault`, the job fails with that error if it
    /// would change anything.
    pub(crate) fn apply(
        &mut self,
        unit: &UnitName,
        job: Job,
        disk: Option<Definition>,
        fault: Option<UnitError>,
        note: Note<'_>,
    ) -> Result<(), UnitError> {
        let mut record = self.units.get(unit).cloned().unwrap_or_default();
        if record.loaded.is_none() {
            record.loaded.clone_from(&disk);
        }
        let result = record.apply(unit, job, disk.as_ref(), fault, note);
        if record == UnitRecord::default() {
            self.units.remove(unit);
        } else {
            self.units.insert(unit.clone(), record);
        }
        result
    }

    /// Loads all definitions anew; `disk` says what the file of a unit says.
    pub(crate) fn reload(
        &mut self,
        mut disk: impl FnMut(&UnitName) -> Option<Definition>,
        note: Note<'_>,
    ) {
        for (unit, record) in &mut self.units {
            record.loaded = disk(unit);
        }
        self.units.retain(|_, record| record.loaded.is_some() || record.active || record.enabled);
        note(UnitEffect::DaemonReload);
    }

    /// Starts what is enabled, and nothing else; `fault` says why a unit cannot be started.
    pub(crate) fn boot(
        &mut self,
        mut disk: impl FnMut(&UnitName) -> Option<Definition>,
        mut fault: impl FnMut(&UnitName) -> Option<UnitError>,
        note: Note<'_>,
    ) {
        note(UnitEffect::Boot);
        for (unit, record) in &mut self.units {
            let definition = disk(unit);
            record.loaded.clone_from(&definition);
            (record.active, record.failed) = (false, false);
            if record.enabled && definition.is_some() {
                // A unit that fails at boot stays failed; the boot goes on, and the log has the reason.
                let _ = record.apply(unit, Job::Start, definition.as_ref(), fault(unit), note);
            }
        }
    }

    pub(crate) fn state(&self, unit: &UnitName, disk: Option<&Definition>) -> UnitState {
        let unknown = UnitRecord::default();
        let record = self.units.get(unit).unwrap_or(&unknown);
        let loaded = record.loaded.as_ref().or(disk);
        let (active, sub) = match (record.active, record.failed) {
            (true, _) if unit.unit_type() == "timer" => (ActiveState::Active, "waiting"),
            (true, _) => (ActiveState::Active, "running"),
            (false, true) => (ActiveState::Failed, "failed"),
            (false, false) => (ActiveState::Inactive, "dead"),
        };
        UnitState {
            load: if loaded.is_some() { LoadState::Loaded } else { LoadState::NotFound },
            active,
            sub: sub.to_owned(),
            file_state: match disk {
                None => FileState::Missing,
                Some(file) if !file.installable => FileState::Static,
                Some(_) if record.enabled => FileState::Enabled,
                Some(_) => FileState::Disabled,
            },
            needs_reload: record.loaded.is_some() && record.loaded.as_ref() != disk,
        }
    }

    pub(crate) fn record(&self, unit: &UnitName) -> Option<&UnitRecord> {
        self.units.get(unit)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &UnitName> {
        self.units.keys()
    }
}

impl UnitRecord {
    fn apply(
        &mut self,
        unit: &UnitName,
        job: Job,
        disk: Option<&Definition>,
        fault: Option<UnitError>,
        note: Note<'_>,
    ) -> Result<(), UnitError> {
        let (present, unchanged) = match job {
            Job::Enable => (disk.is_some(), self.enabled || disk.is_some_and(|d| !d.installable)),
            Job::Disable => (true, !self.enabled),
            Job::Start => (self.loaded.is_some(), self.active),
            Job::Stop => (self.loaded.is_some() || self.active, !self.active),
            Job::Restart => (self.loaded.is_some(), false),
        };
        if !present {
            return Err(UnitError::NotFound { unit: unit.clone(), job });
        }
        if unchanged {
            return Ok(());
        }
        if let Some(fault) = fault {
            note(UnitEffect::Failed { unit: unit.clone(), job, message: result_of(&fault) });
            if matches!(job, Job::Start | Job::Restart) {
                (self.active, self.failed) = (false, true);
            }
            return Err(fault);
        }
        let digest = self.loaded.as_ref().map(|loaded| loaded.digest.clone()).unwrap_or_default();
        let unit = unit.clone();
        match job {
            Job::Enable => {
                self.enabled = true;
                note(UnitEffect::Enable { unit });
            }
            Job::Disable => {
                self.enabled = false;
                note(UnitEffect::Disable { unit });
            }
            Job::Stop => {
                self.active = false;
                note(UnitEffect::Stop { unit });
            }
            Job::Start | Job::Restart => {
                (self.active, self.failed) = (true, false);
                self.started_with = Some(digest.clone());
                self.started_at = Some(note(if job == Job::Start {
                    UnitEffect::Start { unit, digest }
                } else {
                    UnitEffect::Restart { unit, digest }
                }));
            }
        }
        Ok(())
    }
}

fn result_of(fault: &UnitError) -> String {
    match fault {
        UnitError::JobFailed { result, .. } => result.clone(),
        other => other.to_string(),
    }
}
