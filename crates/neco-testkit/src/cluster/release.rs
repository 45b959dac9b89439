//! What a release does to a boot server, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use neco_plan::{GroupShape, RecipeShape};
use neco_schema::{NecoVersion, PackageRef, RecipeDigest};

/// The kind of a step, as far as the protocol can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Writes a file whose content is recognised by digest.
    Plain,
    /// The same, after this many pieces of work with a safe point before each.
    Slow(u32),
    /// Stops the service of a group.
    GroupStop(String),
    /// Starts the new service of a group.
    GroupApply(String),
    /// Under the turn: removes members of etcd, restarts the own one if it changed, adds itself.
    EtcdRestart,
    /// Done once per cluster, by whoever is elected.
    Once(String),
}

/// The steps of every release of one simulated cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The steps, the first is step 1.
    pub steps: Vec<StepKind>,
}

impl Recipe {
    /// The kind of `step`.
    pub fn kind(&self, step: u32) -> StepKind {
        let at = usize::try_from(step).unwrap_or(usize::MAX).saturating_sub(1);
        self.steps.get(at).cloned().unwrap_or(StepKind::Plain)
    }

    /// The names of the outage groups.
    pub fn groups(&self) -> Vec<String> {
        let name = |kind: &StepKind| match kind {
            StepKind::GroupStop(name) => Some(name.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(name).collect()
    }

    /// What the decisions need to know.
    pub fn shape(&self, version: &NecoVersion) -> RecipeShape {
        let position = |wanted: &StepKind| {
            let at = self.steps.iter().position(|kind| kind == wanted).unwrap_or_default();
            u32::try_from(at + 1).unwrap_or(u32::MAX)
        };
        let groups = self.groups().into_iter().map(|name| GroupShape {
            stop: position(&StepKind::GroupStop(name.clone())),
            apply: position(&StepKind::GroupApply(name.clone())),
            name,
        });
        RecipeShape {
            steps: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            groups: groups.collect(),
            digest: RecipeDigest(format!("recipe of {version}")),
        }
    }
}

/// One release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The definition of each unit.
    pub units: BTreeMap<String, String>,
    /// Its daemons end as soon as they are started.
    pub dies_at_start: bool,
    /// The steps that fail, by the index of the server.
    pub fails: BTreeSet<(usize, u32)>,
    /// The steps that end the worker each time, by the index of the server.
    pub kills: BTreeSet<(usize, u32)>,
    /// The servers on which the services of its groups do not start.
    pub broken_services: BTreeSet<usize>,
}

impl Release {
    /// Whether an update to it can complete.
    pub fn is_good(&self) -> bool {
        !self.dies_at_start
            && self.fails.is_empty()
            && self.kills.is_empty()
            && self.broken_services.is_empty()
    }
}

/// The `number`-th version; each is newer than those before.
pub fn version(number: u32) -> NecoVersion {
    match format!("2026.11.{:02}-{}", 1 + number % 28, 1000 + number).parse() {
        Ok(version) => version,
        Err(error) => unreachable!("the form is fixed: {error}"),
    }
}

/// The package of a version.
pub fn package(version: &NecoVersion) -> PackageRef {
    let digits: String =
        version.as_str().bytes().map(|byte| char::from(b'0' + byte % 10)).collect();
    PackageRef {
        file: format!("neco_{version}_amd64.deb"),
        size: 1,
        sha256: format!("{digits:0>64}"),
        unknown: Default::default(),
    }
}
