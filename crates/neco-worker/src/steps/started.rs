//! What a unit that runs was started with.
//!
//! The journal has it of every start that Neco made. A unit is also started by others: systemd after a crash or a boot, a
//! person by hand. Such a run is another one than that of the journal, and began with what lay on the disk at that moment.
//!
//! What cannot be told: systemd may be told of a new unit file later than the file is written, and start the unit by the old one
//! in between. Who looks before that is done sees it; where the worker died in between and another reads all unit files anew
//! before it is back, such a unit counts as started with the new file.

use std::path::Path;
use std::time::Duration;

use neco_components::{ContentDigest, Desired, DesiredUnit, Restart};
use neco_host::fs::Kind;
use neco_schema::journal::Entry;
use neco_systemd::{UnitRun, UnitState};

use super::host::{StepHost, package_note};
use crate::context::StepError;

/// Stands in the journal for the digest of a unit that was stopped.
pub(super) const NOTHING: &str = "nothing";

/// How much earlier than a run a file has to be changed to count as read by it: time stamps of files and of systemd are as
/// exact as a tick of the kernel each.
const GRAIN: Duration = Duration::from_millis(50);

/// What is known of the start of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Began {
    /// Neco started it with what has this digest.
    With(String),
    /// Somebody else started it, with what lay on the disk. The time is since 1970.
    At(Duration),
    /// Nobody knows with what.
    Unknown,
}

impl Began {
    /// The start of the present run of a unit.
    pub(super) fn of(host: &StepHost, unit: &str, state: &UnitState) -> Self {
        let journal = host.shared.local().journal;
        let (digest, run) = (journal.started_with.get(unit), journal.runs.get(unit));
        Self::told(digest.map(String::as_str), run.map(String::as_str), state)
    }

    /// The journal tells of a start with `digest` that became `run`; systemd tells of the unit's `state`.
    fn told(digest: Option<&str>, run: Option<&str>, state: &UnitState) -> Self {
        let same = |present: &UnitRun| run.is_none_or(|noted| noted == present.id);
        match (digest, &state.run) {
            // Neco stopped it, and somebody else has started it since then.
            (Some(NOTHING), Some(_)) if state.needs_reload => Self::Unknown,
            (Some(NOTHING), Some(UnitRun { since, .. })) => since.map_or(Self::Unknown, Self::At),
            // Whether the unit runs is another question.
            (Some(digest), None) => Self::With(digest.to_owned()),
            (Some(digest), Some(present)) if same(present) => Self::With(digest.to_owned()),
            // It goes by a definition that lies on the disk no more.
            _ if state.needs_reload => Self::Unknown,
            (_, Some(UnitRun { since: Some(since), .. })) => Self::At(*since),
            _ => Self::Unknown,
        }
    }

    /// The digest that the run began with; of one that others started, `on_disk`, if each of `files` has been as it is since
    /// before that.
    ///
    /// # Errors
    /// The disk cannot be looked at.
    pub(super) fn digest<'a>(
        &self,
        host: &StepHost,
        files: impl IntoIterator<Item = &'a Path>,
        on_disk: impl FnOnce() -> Result<Option<String>, StepError>,
    ) -> Result<Option<String>, StepError> {
        match self {
            Self::With(digest) => Ok(Some(digest.clone())),
            Self::Unknown => Ok(None),
            Self::At(since) => {
                for file in files {
                    if !is_older(host, file, *since)? {
                        return Ok(None);
                    }
                }
                on_disk()
            }
        }
    }

    /// The digest that a unit of a component runs with, of which systemd tells `state`. One that others started has what is
    /// `desired` where exactly that lies on the disk; this is written down, for a file may get another mode or owner, or be
    /// put there anew by a package, before it is asked again.
    ///
    /// # Errors
    /// The disk cannot be looked at.
    pub(super) fn digest_of(
        host: &StepHost,
        desired: &Desired,
        unit: &DesiredUnit,
        state: &UnitState,
    ) -> Result<Option<ContentDigest>, StepError> {
        let began = Self::of(host, &unit.name, state);
        let digest = began.digest_as(host, desired, &unit.digest)?;
        // The members of etcd, which no component restarts, are started with less than what is desired.
        if let Some(digest) = digest.as_ref().filter(|_| desired.restart != Restart::Never) {
            began.note(host, &unit.name, digest, state);
        }
        Ok(digest.map(ContentDigest::claimed))
    }

    /// Writes down that the run of which systemd tells `state`, and which somebody else began, has `digest`.
    pub(super) fn note(&self, host: &StepHost, unit: &str, digest: &str, state: &UnitState) {
        let (Self::At(_), Some(run)) = (self, &state.run) else { return };
        let (unit, digest, run) = (unit.to_owned(), digest.to_owned(), Some(run.id.clone()));
        // Where the disk takes no note, the next look tells the same.
        if let Err(error) = host.record(&[Entry::Started { unit, digest, run }]) {
            tracing::warn!(%error, "what a unit runs with is not written down");
        }
    }

    fn digest_as(
        &self,
        host: &StepHost,
        desired: &Desired,
        on_disk: &ContentDigest,
    ) -> Result<Option<String>, StepError> {
        let note = desired.package.as_ref().map(|package| package_note(&package.name));
        // What is only created is the site's from then on; what is watched and not there may be elsewhere.
        let own = desired.files.iter().filter(|file| !file.create_only);
        let own = own.map(|file| file.path.as_path());
        let watched = desired.watched.iter().filter(|(_, digest)| digest.is_some());
        let files = own.chain(watched.map(|(path, _)| path.as_path()));
        self.digest(host, files.chain(note.as_deref()), || {
            let as_desired = host.holds(desired)?;
            Ok(as_desired.then(|| on_disk.as_str().to_owned()))
        })
    }
}

/// Whether a file has been as it is since before `since`.
fn is_older(host: &StepHost, path: &Path, since: Duration) -> Result<bool, StepError> {
    let path = host.root.join(path);
    let found = host
        .fs
        .metadata(&path)
        .map_err(|error| StepError::Failed(format!("looking at {}: {error}", path.display())))?;
    // Who is gone may have been there; a link may have led elsewhere.
    Ok(found.is_some_and(|found| found.kind == Kind::File && found.changed + GRAIN <= since))
}

#[cfg(test)]
mod tests {
    use neco_systemd::{ActiveState, FileState, LoadState};

    use super::*;

    const SINCE: Duration = Duration::from_secs(1_800_000_000);

    fn state(run: Option<(&str, Option<Duration>)>, needs_reload: bool) -> UnitState {
        let active = if run.is_some() { ActiveState::Active } else { ActiveState::Inactive };
        UnitState {
            load: LoadState::Loaded,
            active,
            settles_in: None,
            sub: "running".to_owned(),
            file_state: FileState::Enabled,
            needs_reload,
            run: run.map(|(id, since)| UnitRun { id: id.to_owned(), since }),
        }
    }

    #[test]
    fn the_journal_speaks_of_the_run_that_it_names() {
        let with = || Began::With("d".to_owned());
        let own = state(Some(("own", Some(SINCE))), false);
        let others = state(Some(("others", Some(SINCE))), false);
        for (digest, run, state, began) in [
            (Some("d"), Some("own"), &own, with()),
            (Some("d"), Some("own"), &others, Began::At(SINCE)),
            (None, None, &others, Began::At(SINCE)),
            // Written by a version that did not ask for the run.
            (Some("d"), None, &others, with()),
            (Some("d"), Some("own"), &state(None, false), with()),
            (None, None, &state(None, false), Began::Unknown),
            (Some("d"), Some("own"), &state(Some(("own", None)), true), with()),
            (Some("d"), Some("own"), &state(Some(("others", Some(SINCE))), true), Began::Unknown),
            (Some("d"), Some("own"), &state(Some(("others", None)), false), Began::Unknown),
            (Some(NOTHING), None, &others, Began::At(SINCE)),
            (Some(NOTHING), None, &state(Some(("others", Some(SINCE))), true), Began::Unknown),
            (Some(NOTHING), None, &state(None, false), Began::With(NOTHING.to_owned())),
        ] {
            assert_eq!(Began::told(digest, run, state), began, "{digest:?} {run:?} {state:?}");
        }
    }
}
