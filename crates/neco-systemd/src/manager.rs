//! A model of systemd's manager: what a job changes, without doing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_base::hex;
use neco_sandbox::Noted;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::units::check_transient;
use crate::{ActiveState, FileState, Job, LoadState, UnitError, UnitName, UnitRun, UnitState};

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
    /// When that was, in microseconds since 1970.
    #[serde(default)]
    pub began: Option<u64>,
    /// The command it was started for, if it is transient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
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
    /// A command was started as a unit of its own.
    StartTransient {
        /// Which.
        unit: UnitName,
        /// The program and what it was given.
        command: Vec<String>,
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
    /// A unit was told to read its files again.
    Reload {
        /// Which.
        unit: UnitName,
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
    fn failed(unit: &UnitName, job: Job, fault: &UnitError) -> Self {
        let message = match fault {
            UnitError::JobFailed { result, .. } => result.clone(),
            other => other.to_string(),
        };
        Self::Failed { unit: unit.clone(), job, message }
    }

    /// The effect as people would say it: `restart vault.service`.
    pub fn words(&self) -> String {
        match self {
            Self::DaemonReload => "daemon-reload".to_owned(),
            Self::Boot => "boot".to_owned(),
            Self::Enable { unit } => format!("enable {unit}"),
            Self::Disable { unit } => format!("disable {unit}"),
            Self::Start { unit, .. } => format!("start {unit}"),
            Self::StartTransient { unit, .. } => format!("start transient {unit}"),
            Self::Stop { unit } => format!("stop {unit}"),
            Self::Restart { unit, .. } => format!("restart {unit}"),
            Self::Reload { unit } => format!("reload {unit}"),
            Self::Failed { unit, job, .. } => format!("failed to {job} {unit}"),
        }
    }
}

/// What a unit file says, as far as the model cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    digest: String,
    installable: bool,
    /// An empty file forbids to start the unit.
    #[serde(default)]
    masked: bool,
    /// Whether it says how the unit reads its files again.
    #[serde(default)]
    reloads: bool,
}

impl Definition {
    pub(crate) fn of(text: &[u8]) -> Self {
        let digest = hex(&Sha256::digest(text));
        let says = |begin: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            lines.any(|line| line.starts_with(begin))
        };
        let (installable, reloads) = (says(b"[Install]"), says(b"ExecReload="));
        Self { digest, installable, masked: text.is_empty(), reloads }
    }
}

/// The units of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manager {
    units: BTreeMap<UnitName, UnitRecord>,
}

/// What a job changes besides the manager: it notes an effect, and gets a sequence number and the time.
pub(crate) type Note<'a> = &'a mut dyn FnMut(UnitEffect) -> Noted;

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
        let mut record = self.load(unit, disk.as_ref());
        let result = record.apply(unit, job, disk.as_ref(), fault, note);
        self.keep(unit, record);
        result
    }

    /// Starts `command` as `unit` unless that is active; with `fault`, that error comes of it.
    pub(crate) fn start_transient(
        &mut self,
        unit: &UnitName,
        command: &[String],
        disk: Option<Definition>,
        fault: Option<UnitError>,
        note: Note<'_>,
    ) -> Result<(), UnitError> {
        check_transient(unit, command)?;
        let mut record = self.load(unit, disk.as_ref());
        if record.active {
            return Ok(());
        }
        if record.loaded.is_some() {
            let why = "there is a unit file of that name".to_owned();
            return Err(UnitError::Refused { call: format!("start {unit}"), why });
        }
        if let Some(fault) = fault {
            note(UnitEffect::failed(unit, Job::Start, &fault));
            return Err(fault);
        }
        let loaded = Definition::of(command.join("\0").as_bytes());
        (record.active, record.failed) = (true, false);
        record.started_with = Some(loaded.digest.clone());
        record.loaded = Some(loaded);
        record.command = Some(command.to_vec());
        record.begins(note(UnitEffect::StartTransient {
            unit: unit.clone(),
            command: command.to_vec(),
        }));
        self.keep(unit, record);
        Ok(())
    }

    /// What is known about `unit`, whose definition is loaded if it never was.
    fn load(&self, unit: &UnitName, disk: Option<&Definition>) -> UnitRecord {
        let mut record = self.units.get(unit).cloned().unwrap_or_default();
        if record.loaded.is_none() {
            record.loaded = disk.cloned();
        }
        record
    }

    fn keep(&mut self, unit: &UnitName, mut record: UnitRecord) {
        record.collect();
        if record == UnitRecord::default() {
            self.units.remove(unit);
        } else {
            self.units.insert(unit.clone(), record);
        }
    }

    /// Loads all definitions anew; `disk` says what the file of a unit says.
    pub(crate) fn reload(
        &mut self,
        mut disk: impl FnMut(&UnitName) -> Option<Definition>,
        note: Note<'_>,
    ) {
        for (unit, record) in &mut self.units {
            if record.command.is_none() {
                record.loaded = disk(unit);
            }
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
            (record.active, record.failed) = (false, false);
            record.collect();
            record.loaded.clone_from(&definition);
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
        let transient = record.command.is_some();
        UnitState {
            load: match loaded {
                None => LoadState::NotFound,
                Some(definition) if definition.masked => LoadState::Masked,
                Some(_) => LoadState::Loaded,
            },
            active,
            // Nothing ends by itself here.
            settles_in: None,
            sub: sub.to_owned(),
            file_state: match disk {
                _ if transient => FileState::Transient,
                None => FileState::Missing,
                Some(file) if file.masked => FileState::Masked,
                Some(file) if !file.installable => FileState::Static,
                Some(_) if record.enabled => FileState::Enabled,
                Some(_) => FileState::Disabled,
            },
            needs_reload: !transient && record.loaded.is_some() && record.loaded.as_ref() != disk,
            run: record.run(),
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
    /// Begins a run with the effect that was noted so.
    fn begins(&mut self, noted: Noted) {
        self.started_at = Some(noted.seq);
        self.began = (noted.at != 0).then_some(noted.at);
    }

    fn run(&self) -> Option<UnitRun> {
        let started_at = self.started_at.filter(|_| self.active)?;
        // As long as those of systemd.
        let id = format!("{started_at:032x}");
        Some(UnitRun { id, since: self.began.map(Duration::from_micros) })
    }

    /// Forgets a transient unit that has ended.
    fn collect(&mut self) {
        if self.command.is_some() && !self.active {
            *self = Self { enabled: self.enabled, ..Self::default() };
        }
    }

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
            Job::Restart | Job::Reload => (self.loaded.is_some(), false),
        };
        if !present {
            return Err(UnitError::NotFound { unit: unit.clone(), job });
        }
        let reloads = self.active && self.loaded.as_ref().is_some_and(|loaded| loaded.reloads);
        // As systemd does with one that cannot, or does not run.
        let job = if job == Job::Reload && !reloads { Job::Restart } else { job };
        let definition = if job == Job::Enable { disk } else { self.loaded.as_ref() };
        let forbidden = matches!(job, Job::Enable | Job::Start | Job::Restart);
        if forbidden && definition.is_some_and(|definition| definition.masked) {
            return Err(UnitError::Masked { unit: unit.clone(), job });
        }
        if unchanged {
            return Ok(());
        }
        if let Some(fault) = fault {
            note(UnitEffect::failed(unit, job, &fault));
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
            Job::Reload => {
                note(UnitEffect::Reload { unit });
            }
            Job::Start | Job::Restart => {
                (self.active, self.failed) = (true, false);
                self.started_with = Some(digest.clone());
                self.begins(note(if job == Job::Start {
                    UnitEffect::Start { unit, digest }
                } else {
                    UnitEffect::Restart { unit, digest }
                }));
            }
        }
        Ok(())
    }
}
