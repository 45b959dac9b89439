//! That the audit would notice: what a real run has left behind is falsified in one place, and the auditor names the
//! invariant that the falsified run violates.

use neco_plan::invariants::{Daemon, Fact, HowEnded, InvariantId, Writer};
use neco_scenarios::{Event, Recording, TURN_UNIT};
use neco_schema::journal::{Effect, Entry};
use neco_schema::{
    Compare, Condition, Key, KeyValue, Lrn, NecoVersion, PackageRef, Record, Revision,
    UpdateRequest, UpdateStatus,
};

use InvariantId::{Liveness, Safety};

/// A way to falsify a recording, and the invariants that it violates.
struct Plant {
    what: &'static str,
    violates: &'static [InvariantId],
    falsify: fn(&mut Recording, &NecoVersion),
}

const PLANTS: [Plant; 17] = [
    Plant {
        what: "the status of boot-2 is written by hand, two steps ahead",
        violates: &[Safety(7), Safety(9)],
        falsify: |run, version| {
            let at = posted(run, version, 2, 5);
            rewrite::<UpdateStatus>(run, at, &Key::Status(Lrn::new(2)), |status| status.step += 2);
        },
    },
    Plant {
        what: "the status of boot-2 is written by the worker of boot-0",
        violates: &[Safety(4)],
        falsify: |run, version| {
            let at = posted(run, version, 2, 5);
            let compares = [Key::Request, Key::Status(Lrn::new(2))]
                .map(|key| Compare::unchanged(&key, stood_at(run, &key, at)));
            run.writers.insert(at, (Writer::Worker(Lrn::new(0)), compares.to_vec()));
        },
    },
    Plant {
        what: "the status of boot-2 is written without comparing anything",
        violates: &[Safety(4)],
        falsify: |run, version| {
            let at = posted(run, version, 2, 5);
            run.writers.insert(at, (Writer::Worker(Lrn::new(2)), Vec::new()));
        },
    },
    Plant {
        what: "a status names no request",
        violates: &[Safety(3)],
        falsify: |run, version| {
            let at = posted(run, version, 2, 5);
            rewrite::<UpdateStatus>(run, at, &Key::Status(Lrn::new(2)), |status| {
                status.request = None;
            });
        },
    },
    Plant {
        what: "the request for the update is made by an updater that does not lead",
        violates: &[Safety(1)],
        falsify: |run, version| {
            let at = requested(run, version);
            let compares =
                vec![Compare::unchanged(&Key::Request, stood_at(run, &Key::Request, at))];
            run.writers.insert(at, (Writer::Leader, compares));
        },
    },
    Plant {
        what: "the request for the update is made without comparing the one before",
        violates: &[Safety(2)],
        falsify: |run, version| {
            let at = requested(run, version);
            run.writers.insert(at, (Writer::Leader, Vec::new()));
        },
    },
    Plant {
        what: "the request for the update lets no record of the one before be kept",
        violates: &[Safety(41)],
        falsify: |run, _| {
            for (_, event) in &mut run.events {
                if let Event::Change { changes, .. } = event {
                    changes.retain(|change| !change.key.starts_with("history/"));
                }
            }
        },
    },
    Plant {
        what: "a journal says that a step was begun before the others had come to it",
        violates: &[Safety(7)],
        falsify: |run, version| {
            let at = requested(run, version);
            for (_, entry) in run.lines_mut() {
                if let Entry::StepBegun { step: 6, revision, .. } = entry
                    && *revision > at
                {
                    *revision = at;
                }
            }
        },
    },
    Plant {
        what: "a journal says that a step was begun again after it was done",
        violates: &[Safety(13)],
        falsify: |run, _| {
            let of_one =
                |event: &Event| match event {
                    Event::Line {
                        lrn, entry: entry @ Entry::StepBegun { step: 3, .. }, ..
                    } if *lrn == Lrn::new(1) => Some(entry.clone()),
                    _ => None,
                };
            let begun = run.events.iter().rev().find_map(|(_, event)| of_one(event));
            let again = begun.expect("a step that was begun");
            for (lrn, entry) in run.lines_mut() {
                if lrn == Lrn::new(1) && matches!(entry, Entry::StepBegun { step: 5, .. }) {
                    entry.clone_from(&again);
                }
            }
        },
    },
    Plant {
        what: "a journal says that a unit was stopped before the turn was taken",
        violates: &[Safety(15)],
        falsify: |run, version| {
            let at = requested(run, version);
            let mut restarts = Vec::new();
            for (lrn, entry) in run.lines_mut() {
                match entry {
                    Entry::IntentOpened {
                        intent, effect: Effect::Restart { unit, .. }, ..
                    } if unit == TURN_UNIT => restarts.push((lrn, intent.clone())),
                    Entry::IntentBegun { intent, revision }
                        if restarts.contains(&(lrn, intent.clone())) =>
                    {
                        *revision = at;
                    }
                    _ => {}
                }
            }
            assert!(!restarts.is_empty(), "nothing takes a turn");
        },
    },
    Plant {
        what: "the log of units says that two servers had stopped the same unit at once",
        violates: &[Safety(15)],
        falsify: |run, _| {
            let starts =
                |event: &Event| matches!(event, Event::Fact(Fact::Service { up: true, .. }));
            assert!(run.events.iter().any(|(_, event)| starts(event)), "nothing takes a turn");
            run.events.retain(|(_, event)| !starts(event));
        },
    },
    Plant {
        what: "a server has installed other bits than were published",
        violates: &[Safety(28)],
        falsify: |run, version| {
            for (_, event) in &mut run.events {
                if let Event::Fact(Fact::Installed { version: of, sha256, .. }) = event
                    && of == version
                {
                    *sha256 = Some("00".repeat(32));
                }
            }
        },
    },
    Plant {
        what: "a server installs other bits than were requested, and without a way back",
        violates: &[Safety(28), Safety(32)],
        falsify: |run, _| {
            for (_, entry) in run.lines_mut() {
                if let Entry::IntentOpened {
                    effect: Effect::Install { package, way_back, .. },
                    ..
                } = entry
                {
                    *package = PackageRef { sha256: "00".repeat(32), ..package.clone() };
                    *way_back = None;
                }
            }
        },
    },
    Plant {
        what: "a second worker runs beside the first",
        violates: &[Safety(39)],
        falsify: |run, _| {
            run.events.retain(|(_, event)| {
                !matches!(event, Event::Fact(Fact::Ended { daemon: Daemon::Worker, .. }))
            });
        },
    },
    Plant {
        what: "a worker gives up while etcd has no quorum",
        violates: &[Liveness(4)],
        falsify: |run, _| {
            let ended = |event: &Event| {
                matches!(event, Event::Fact(Fact::Ended { daemon: Daemon::Worker, .. }))
            };
            let first = run.events.iter_mut().find(|(_, event)| ended(event));
            let (at, event) = first.expect("a worker that ended");
            if let Event::Fact(Fact::Ended { how, .. }) = event {
                *how = HowEnded::ByItself;
            }
            let before = *at - jiff::SignedDuration::from_millis(1);
            run.add(before, Event::Fact(Fact::Quorum { stands: false }));
        },
    },
    Plant {
        what: "nobody was told of the end of a request",
        violates: &[Safety(42)],
        falsify: |run, _| {
            let told = run
                .events
                .iter()
                .rposition(|(_, event)| matches!(event, Event::Fact(Fact::NoticeSent { .. })));
            let (_, event) = run.events.remove(told.expect("a notice"));
            run.events.retain(|(_, other)| match (&event, other) {
                (
                    Event::Fact(Fact::NoticeSent { request }),
                    Event::Fact(Fact::NoticeSent { request: other }),
                ) => request != other,
                _ => true,
            });
            // Nobody is told of anything after that.
            run.add(jiff::Timestamp::now(), Event::Fact(Fact::FaultsEnded));
        },
    },
    Plant {
        what: "a log shows the token",
        violates: &[Safety(43)],
        falsify: |run, _| {
            let token = run.changes_mut().find(|(_, change)| change.key == "config/github-token");
            let value = token.and_then(|(_, change)| change.after.clone()).expect("a token").value;
            let text = format!("asking with {}", String::from_utf8_lossy(&value));
            let at = jiff::Timestamp::now();
            run.add(at, Event::Fact(Fact::Text { place: "a log".to_owned(), text }));
        },
    },
];

/// Falsifies a run that is sound by all that is known in each of these ways, and sees that the auditor names each.
pub(crate) fn notices_every_plant(run: &Recording, version: &NecoVersion) {
    let sound = run.audit();
    assert!(sound.violations.is_empty(), "{sound}");
    for Plant { what, violates, falsify } in PLANTS {
        let mut falsified = run.clone();
        falsify(&mut falsified, version);
        let report = falsified.audit();
        for invariant in violates {
            let named = report.violations.iter().any(|found| found.invariant == *invariant);
            assert!(named, "{what}: invariant {invariant} is not named: {report}");
        }
    }
}

/// The revision at which the update to `version` was requested.
fn requested(run: &Recording, version: &NecoVersion) -> Revision {
    let mut run = run.clone();
    let mut changes = run.changes_mut().filter(|(_, change)| change.key == "status/current");
    let found = changes.find(|(_, change)| {
        let after = change.after.as_ref().and_then(|kv| UpdateRequest::decode(&kv.value).ok());
        after.is_some_and(|request| request.version == *version)
    });
    found.expect("a request").0
}

/// The revision at which a server posted a step of the update to `version`.
fn posted(run: &Recording, version: &NecoVersion, lrn: u32, step: u32) -> Revision {
    let mut run = run.clone();
    let name = Key::Status(Lrn::new(lrn)).to_string();
    let found = run.changes_mut().find(|(_, change)| {
        let after = change.after.as_ref().filter(|_| change.key == name);
        after.and_then(|kv| UpdateStatus::decode(&kv.value).ok()).is_some_and(|status| {
            status.version == *version && status.step == step && status.cond == Condition::Running
        })
    });
    found.expect("a status").0
}

/// The revision that a key had before `at`.
fn stood_at(run: &Recording, key: &Key, at: Revision) -> Revision {
    let mut run = run.clone();
    let name = key.to_string();
    let before = run.changes_mut().filter(|(of, change)| *of < at && change.key == name).last();
    before
        .and_then(|(_, change)| change.after.as_ref().map(|kv| kv.mod_revision))
        .unwrap_or_default()
}

/// Falsifies what a key was set to at `at`, wherever that stands.
fn rewrite<T: Record>(run: &mut Recording, at: Revision, key: &Key, falsify: impl Fn(&mut T)) {
    let name = key.to_string();
    let falsified = |kv: &mut KeyValue| {
        let mut value = T::decode(&kv.value).expect("readable");
        falsify(&mut value);
        kv.value = value.encode();
    };
    for (_, change) in run.changes_mut().filter(|(_, change)| change.key == name) {
        for kv in [&mut change.before, &mut change.after] {
            kv.iter_mut().filter(|kv| kv.mod_revision == at).for_each(falsified);
        }
    }
}
