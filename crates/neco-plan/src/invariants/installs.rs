//! What one journal says about what is installed on its server.
//!
//! An installation by Neco is an intent, and its end is judged. A person may install as well: that shows when a worker
//! starts as another version, or when the next installation begins from one, and is only taken note of.

use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{Lrn, NecoVersion, PackageRef};

use super::Fact;
use crate::JournalState;

/// What one journal says about installations.
#[derive(Clone, Debug, Default)]
pub struct Installs {
    open: Option<Open>,
    /// What is installed, where the journal has told.
    installed: Option<NecoVersion>,
    /// Whether the journal has said where in the history of etcd it is: what comes before may be of any time.
    placed: bool,
}

/// An installation that has not ended.
#[derive(Clone, Debug)]
struct Open {
    intent: IntentId,
    from: NecoVersion,
    to: NecoVersion,
    package: PackageRef,
    /// The version as which the worker has last started since.
    started: Option<NecoVersion>,
}

impl Open {
    fn of(intent: &IntentId, effect: &Effect) -> Option<Self> {
        let Effect::Install { from, to, package, .. } = effect else { return None };
        Some(Self {
            intent: intent.clone(),
            from: from.clone(),
            to: to.clone(),
            package: package.clone(),
            started: None,
        })
    }
}

impl Installs {
    /// Takes in the next entry of the journal of `lrn`; says what is installed after it, if it tells.
    pub fn take(&mut self, lrn: Lrn, entry: &Entry) -> Option<Fact> {
        match entry {
            Entry::IntentOpened { intent, effect, .. } => {
                let open = Open::of(intent, effect)?;
                let from = open.from.clone();
                (self.open, self.placed) = (Some(open), true);
                self.found(lrn, from)
            }
            Entry::ProcessStarted { version, .. } => match &mut self.open {
                // Its end tells what came of it.
                Some(open) => {
                    open.started = Some(version.clone());
                    None
                }
                None if self.placed => self.found(lrn, version.clone()),
                None => None,
            },
            Entry::Mark(_) => {
                self.placed = true;
                None
            }
            Entry::IntentClosed { intent, end } => {
                let open = self.open.take_if(|open| open.intent == *intent)?;
                self.ended(lrn, open, end)
            }
            Entry::Checkpoint { .. } => {
                let intents = JournalState::fold([entry]).intents;
                let known = self.open.take().filter(|open| intents.contains_key(&open.intent));
                let told = || intents.iter().find_map(|(id, open)| Open::of(id, &open.effect));
                self.open = known.or_else(told);
                None
            }
            _ => None,
        }
    }

    /// Something that is installed without a judgement; nothing to tell if that is known.
    fn found(&mut self, lrn: Lrn, version: NecoVersion) -> Option<Fact> {
        if self.installed.as_ref() == Some(&version) {
            return None;
        }
        self.installed = Some(version.clone());
        Some(Fact::Found { lrn, version: Some(version) })
    }

    /// What is installed after an installation that ended so.
    fn ended(&mut self, lrn: Lrn, open: Open, end: &IntentEnd) -> Option<Fact> {
        match end {
            IntentEnd::Completed => {
                self.installed = Some(open.to.clone());
                let sha256 = Some(open.package.sha256);
                Some(Fact::Installed { lrn, version: open.to, sha256, way_back: false })
            }
            // The way back has been gone to its end: the old worker came up.
            IntentEnd::Failed { .. } if open.started.as_ref() == Some(&open.from) => {
                self.installed = Some(open.from.clone());
                Some(Fact::Installed { lrn, version: open.from, sha256: None, way_back: true })
            }
            // It may have failed too. The next worker that starts tells.
            IntentEnd::Failed { .. } => {
                self.installed = None;
                Some(Fact::Found { lrn, version: None })
            }
            IntentEnd::Dropped => self.found(lrn, open.started?),
        }
    }
}
