//! A boot server as a machine: what survives a process, a power cut, a new disk.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::journal::{Entry, IntentId};
use neco_schema::{Lrn, NecoVersion, RequestId, Revision};

/// The name of the unit that runs etcd on a boot server, and of the turn for its restart.
pub const ETCD: &str = "etcd";

/// A unit of systemd, as far as the protocol can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// What is written on the disk.
    pub definition: String,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// What the running process was started with.
    pub running: Option<String>,
}

/// How far the unit of its own that installs the package has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// About to run dpkg with the new package.
    Unpack,
    /// About to restart the daemons.
    Restart,
    /// Waiting for the daemons to be ready.
    Ready {
        /// Until when.
        until: Duration,
    },
    /// About to run dpkg with the package of before.
    UnpackBack,
    /// About to restart the daemons of before.
    RestartBack,
}

/// The unit that installs the package: enabled before dpkg, disabled after the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installer {
    /// The intent it carries out.
    pub intent: IntentId,
    /// For which request.
    pub request: RequestId,
    /// The version of before.
    pub from: NecoVersion,
    /// The version to install.
    pub to: NecoVersion,
    /// The revision of the view that allowed it.
    pub revision: Revision,
    /// How far it is; begins anew after a power cut.
    pub stage: Stage,
}

/// A boot server.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its logical rack number.
    pub lrn: Lrn,
    /// Its machine id.
    pub machine_id: String,
    /// Whether it has power.
    pub powered: bool,
    /// Whether it never comes back.
    pub dead: bool,
    /// How often it was booted.
    pub boots: u32,
    /// The installed package.
    pub installed: NecoVersion,
    /// The journal: every entry is on the disk when it is written.
    pub journal: Vec<Entry>,
    /// How many entries the journal ever had; checkpoints replace them, this goes on.
    pub entries: u64,
    /// What each step has written.
    pub files: BTreeMap<u32, NecoVersion>,
    /// Its units.
    pub units: BTreeMap<String, Unit>,
    /// The enabled install unit.
    pub installer: Option<Installer>,
    /// Until when it cannot reach etcd, although others can.
    pub cut_until: Duration,
    /// Whether somebody changed the recipe of this machine alone.
    pub other_recipe: bool,
    /// Whether its services are still to be set up by the next update.
    pub fresh: bool,
    /// Whether Neco took etcd down here for a restart.
    pub restarting: bool,
    /// How often something not repeatable was done, by request and step.
    pub done_once: BTreeMap<(RequestId, u32), u32>,
}

impl Host {
    /// A freshly set up machine that runs `installed` and these units.
    pub fn new(lrn: Lrn, installed: NecoVersion, units: &BTreeMap<String, String>) -> Self {
        let mut host = Self {
            lrn,
            machine_id: format!("machine-{lrn}"),
            powered: true,
            dead: false,
            boots: 1,
            installed,
            journal: Vec::new(),
            entries: 0,
            files: BTreeMap::new(),
            units: BTreeMap::new(),
            installer: None,
            cut_until: Duration::ZERO,
            other_recipe: false,
            fresh: false,
            restarting: false,
            done_once: BTreeMap::new(),
        };
        host.set_up(units);
        host
    }

    fn set_up(&mut self, units: &BTreeMap<String, String>) {
        self.units = units
            .iter()
            .map(|(name, definition)| {
                let running = Some(definition.clone());
                (name.clone(), Unit { definition: definition.clone(), enabled: true, running })
            })
            .collect();
    }

    /// What `unit` was started with, if it runs.
    pub fn running(&self, unit: &str) -> Option<&String> {
        self.units.get(unit)?.running.as_ref()
    }

    /// Takes the power away: every process dies, what is on the disk stays.
    pub fn power_cut(&mut self) {
        self.powered = false;
        self.restarting = false;
        for unit in self.units.values_mut() {
            unit.running = None;
        }
        if let Some(installer) = &mut self.installer {
            installer.stage = Stage::Unpack;
        }
    }

    /// Boots: enabled units start as they stand on the disk.
    pub fn boot(&mut self) {
        self.powered = true;
        self.boots += 1;
        for unit in self.units.values_mut() {
            unit.running = unit.enabled.then(|| unit.definition.clone());
        }
    }

    /// The revision of the view that allowed `intent`, as the journal tells.
    pub fn allowed_by(&self, intent: &IntentId) -> Revision {
        let found = self.journal.iter().rev().find_map(|entry| match entry {
            Entry::IntentBegun { intent: begun, revision } if begun == intent => Some(*revision),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Makes it a machine on which only etcd has been set up: the other services come with the next update.
    pub fn make_fresh(&mut self) {
        self.fresh = true;
        for (name, unit) in &mut self.units {
            if name != ETCD {
                *unit = Unit::default();
            }
        }
    }

    /// Puts an empty disk in, with a fresh setup of `installed`.
    pub fn replace_disk(&mut self, installed: NecoVersion, units: &BTreeMap<String, String>) {
        self.journal.clear();
        self.files.clear();
        self.installer = None;
        self.restarting = false;
        self.installed = installed;
        self.boots += 1;
        self.powered = true;
        self.set_up(units);
        self.make_fresh();
    }
}
