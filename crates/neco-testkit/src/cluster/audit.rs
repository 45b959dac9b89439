//! Hands the evidence of a run to the auditor of the update protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_plan::invariants::{
    Auditor, Daemon, Fact, HowEnded, InvariantId, KvChange, Report, Rules, Stamp, Writer,
};
use neco_schema::journal::Entry;
use neco_schema::{KeyValue, RequestId};
use neco_store::Change;

use super::evidence::{Item, Source};
use super::host::ETCD;
use super::release::{Recipe, Release, package};
use super::updater::{OFFICE, REQUEST_LIMIT, STEP_LIMIT};

/// What the auditor has to know about a simulated cluster.
pub(super) fn rules(
    recipe: &Recipe,
    releases: &BTreeMap<neco_schema::NecoVersion, Release>,
) -> Rules {
    Rules {
        recipes: releases.keys().map(|version| (version.clone(), recipe.shape(version))).collect(),
        packages: releases
            .keys()
            .map(|version| (version.clone(), package(version).sha256))
            .collect(),
        turns: BTreeMap::from([(ETCD.to_owned(), ETCD.to_owned())]),
        request_timeout: REQUEST_LIMIT,
        step_timeout: STEP_LIMIT,
        // A run that comes to rest is judged when it has; one that does not fails by that.
        bound: Duration::ZERO,
        // A frozen leader's write may be as old as its office lasts; and offices last while etcd is down.
        grace: OFFICE + Duration::from_secs(240),
        ..Rules::default()
    }
}

/// Audits a run. A log in which etcd went back to a backup is several logs, one after the other.
pub(super) fn audit(rules: &Rules, items: &[Item]) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut auditor = Auditor::new(rules.clone());
    // What stands under each key, for the changes whose history is compacted.
    let mut standing: BTreeMap<String, KeyValue> = BTreeMap::new();
    // Requests of a former life of etcd: what servers still do for them follows from nothing in the new log.
    let mut known: BTreeSet<RequestId> = BTreeSet::new();
    let mut former = BTreeSet::new();
    let mut rewound = false;
    let mut items = items.iter().peekable();
    while let Some(item) = items.next() {
        match item {
            Item::Changed(first) => {
                let mut changes = vec![change(&mut standing, first)];
                while let Some(Item::Changed(next)) = items.next_if(
                    |item| matches!(item, Item::Changed(next) if next.revision == first.revision),
                ) {
                    changes.push(change(&mut standing, next));
                }
                auditor.change(first.revision, &changes);
            }
            Item::Rewound(snapshot) => {
                reports.push(auditor.finish());
                former.clone_from(&known);
                rewound = true;
                auditor = Auditor::start_from(snapshot, rules.clone());
                standing.clone_from(&snapshot.kvs);
            }
            Item::Journal(_, _, _, entry) if is_about(entry, &former) => {}
            Item::Journal(lrn, seq, revision, entry) => {
                known.extend(entry.request().cloned());
                auditor.journal(*lrn, entry, Stamp { seq: *seq, revision: Some(*revision) });
            }
            other => fact(other).into_iter().for_each(|fact| auditor.fact(fact)),
        }
    }
    let mut last = auditor.finish();
    if rewound {
        // What was done in the former life is not done again, so statuses may catch up in leaps.
        let leap = |id: InvariantId| matches!(id, InvariantId::Safety(7 | 9));
        last.violations.retain(|violation| !leap(violation.invariant));
    }
    reports.push(last);
    reports
}

fn is_about(entry: &Entry, requests: &BTreeSet<RequestId>) -> bool {
    entry.request().is_some_and(|request| requests.contains(request))
}

fn change(standing: &mut BTreeMap<String, KeyValue>, change: &Change) -> KvChange {
    KvChange::of(standing, change.key.clone(), change.kv.clone())
}

fn fact(item: &Item) -> Option<Fact> {
    Some(match item {
        Item::Transaction(revision, source, compares) => {
            let writer = match source {
                Source::Leader => Writer::Leader,
                Source::Worker(lrn) => Writer::Worker(*lrn),
                Source::Operator { forced } => Writer::Operator { forced: *forced },
                Source::Go => Writer::Go,
                Source::Setup | Source::Nobody => Writer::Stranger,
            };
            Fact::Transaction { revision: *revision, writer, compares: compares.clone() }
        }
        Item::Time(now) => Fact::Time(*now),
        // The services of groups are taken down on all servers at once; that is what a group is for.
        Item::Service { unit, .. } if unit != ETCD => return None,
        Item::Service { lrn, unit, up, planned } => {
            Fact::Service { lrn: *lrn, unit: unit.clone(), up: *up, planned: *planned }
        }
        Item::Installed { lrn, version, way_back } => Fact::Installed {
            lrn: *lrn,
            version: version.clone(),
            sha256: Some(package(version).sha256),
            way_back: *way_back,
        },
        Item::JournalLost(lrn) => Fact::JournalLost { lrn: *lrn },
        Item::Started { lrn, instance, version } => Fact::Started {
            lrn: *lrn,
            daemon: Daemon::Worker,
            instance: *instance,
            version: version.clone(),
        },
        Item::Ended { lrn, instance, planned } => Fact::Ended {
            lrn: *lrn,
            daemon: Daemon::Worker,
            instance: *instance,
            how: if *planned { HowEnded::Planned } else { HowEnded::Killed },
        },
        Item::Window(open) => Fact::Window { open: *open },
        Item::Quorum(stands) => Fact::Quorum { stands: *stands },
        Item::Requests { lrn, daemon, per_minute } => {
            Fact::Requests { lrn: *lrn, daemon: *daemon, per_minute: *per_minute }
        }
        Item::FaultsEnded => Fact::FaultsEnded,
        Item::Changed(_) | Item::Rewound(_) | Item::Journal(..) => return None,
    })
}
