//! What operators may ask for, as guarded transactions: each refuses by a rule that it names, and each writes down who
//! ordered it and why.

mod note;

use neco_schema::{
    Compare, Control, Key, Lrn, NecoVersion, Op, Seen, StopNote, Target, Timestamp, Txn,
    UpdateRequest, prefixes,
};

use crate::leader_txn::end_request;
use crate::{Slot, View};

use note::command;
pub use note::noted;

/// Who asks, why and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The operator.
    pub by: String,
    /// The reason.
    pub reason: String,
    /// The operator's wall clock.
    pub now: Timestamp,
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to do: it is so already.
    #[error("{0}")]
    AlreadySo(String),
    /// There is no such thing.
    #[error("{0}")]
    Absent(String),
    /// A safety rule forbids it; the text names what overrides it.
    #[error("{0}")]
    Unsafe(String),
    /// It may be possible later: these servers are not ready.
    #[error("{what}: boot servers {}", .servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NotYet {
        /// What is being waited for.
        what: String,
        /// The servers.
        servers: Vec<Lrn>,
    },
}

impl Order {
    fn control(&self) -> Control {
        Control {
            by: self.by.clone(),
            reason: self.reason.clone(),
            at: self.now,
            ..Control::default()
        }
    }
}

fn request_unchanged(view: &View) -> Txn {
    Txn::default().when(Compare::unchanged(&Key::Request, view.request.mod_revision()))
}

fn readable(view: &View) -> Result<&UpdateRequest, Refusal> {
    match &view.request {
        Slot::Present(request) => Ok(&request.value),
        Slot::Absent => Err(Refusal::Absent("no update is requested".to_owned())),
        Slot::Unreadable { error, .. } => Err(Refusal::Unsafe(format!(
            "key status/current cannot be read ({error}): 'necoctl recover --force' removes it"
        ))),
    }
}

/// Stops the current request: members settle at their next safe point.
pub fn stop(view: &View, order: &Order) -> Result<Txn, Refusal> {
    let request = readable(view)?;
    if crate::leader::is_finished(view, request) {
        return Err(Refusal::AlreadySo(format!(
            "the update to {} is already complete",
            request.version
        )));
    }
    if request.stop && request.ending.is_none() {
        return Err(Refusal::AlreadySo(format!(
            "the update to {} is already stopped",
            request.version
        )));
    }
    let note = StopNote {
        by: order.by.clone(),
        leader: false,
        reason: order.reason.clone(),
        at: order.now,
        unknown: Default::default(),
    };
    let stopped =
        UpdateRequest { stop: true, ending: None, stopped: Some(note), ..request.clone() };
    let txn = request_unchanged(view).then(Op::put(&Key::Request, &stopped));
    Ok(noted(view, order, "stop", txn))
}

/// How `recover` is to proceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Do not wait for members that have not closed their status or are busy.
    pub force: bool,
    /// Let the leader choose the aborted version again.
    pub retry: bool,
}

/// Removes a stopped request, all statuses and all results of once-per-cluster steps, so that the leader starts afresh.
///
/// Waits (as [`Refusal::NotYet`]) until every living member has closed its status and none is busy; on an unreadable
/// request until none is busy.
pub fn recover(view: &View, how: Recovery, order: &Order) -> Result<Txn, Refusal> {
    let busy = |lrn: &Lrn| view.alive.get(lrn).is_some_and(|alive| !alive.value.busy.is_empty());
    let mut ops = Vec::new();
    match &view.request {
        // After a restore of etcd from a backup that holds no request, a new epoch is all that is needed.
        Slot::Absent if how.force => {}
        Slot::Absent => {
            return Err(Refusal::Absent(
                "no update is requested: there is nothing to recover (--force begins a new epoch)"
                    .to_owned(),
            ));
        }
        Slot::Unreadable { .. } => {
            let servers: Vec<Lrn> = view.alive.keys().copied().filter(busy).collect();
            if !how.force && !servers.is_empty() {
                return Err(Refusal::NotYet {
                    what: "these are busy (--force does not wait)".to_owned(),
                    servers,
                });
            }
        }
        Slot::Present(request) => {
            let request = &request.value;
            if !request.stop && !how.force {
                return Err(Refusal::Unsafe(
                    "the update is not stopped: 'necoctl stop' stops it, --force recovers all the same".to_owned(),
                ));
            }
            let open = |lrn: &Lrn| {
                let closed =
                    view.status_of(request, *lrn).is_some_and(|status| status.value.is_closed());
                view.is_alive(*lrn) && (!closed || busy(lrn))
            };
            let servers: Vec<Lrn> = request.members().into_iter().filter(open).collect();
            if !how.force && !servers.is_empty() {
                let what = "these have not settled yet (--wait waits, --force does not)".to_owned();
                return Err(Refusal::NotYet { what, servers });
            }
            let recorded = view.history.contains_key(&(request.started_at, request.id()));
            if !recorded {
                ops = end_request(view, request, &order.by, order.now, None);
            }
            if how.retry {
                let seen = Key::Seen(request.version.clone()).to_string();
                ops.retain(|op| !matches!(op, Op::Put { key, .. } if *key == seen));
                ops.extend(forgive(view, &request.version));
            }
        }
    }
    let epoch = Control {
        epoch: Some(
            view.epoch
                .saturating_add(1)
                .max(u64::try_from(order.now.get().as_second()).unwrap_or(0)),
        ),
        ..order.control()
    };
    let mut txn =
        request_unchanged(view).when(Compare::unchanged(&Key::Epoch, view.epoch_revision));
    // A last `complete` beside it would otherwise be recorded as something else.
    for lrn in view.current().into_iter().flat_map(UpdateRequest::members) {
        txn = txn.when(Compare::unchanged(&Key::Status(lrn), view.status_revision(lrn)));
    }
    txn.ops.extend(ops);
    let txn = txn
        .then(Op::delete_prefix(prefixes::STATUS))
        .then(Op::delete_prefix(prefixes::CONTENTS))
        .then(Op::put(&Key::Epoch, &epoch));
    let words = command("recover".into(), &[(how.force, "--force"), (how.retry, "--retry")]);
    Ok(noted(view, order, words, txn))
}

/// The write that lets `version` be chosen again after an aborted request.
fn forgive(view: &View, version: &NecoVersion) -> Option<Op> {
    let seen = &view.seen.get(version)?.value;
    seen.aborted.as_ref()?;
    Some(Op::put(&Key::Seen(version.clone()), &Seen { aborted: None, ..seen.clone() }))
}

/// Pauses: nobody starts a step, outside of groups.
pub fn pause(view: &View, order: &Order) -> Result<Txn, Refusal> {
    if let Some(control) = view.pause.value() {
        return Err(Refusal::AlreadySo(format!(
            "already paused by {}: {}",
            control.by, control.reason
        )));
    }
    let unchanged = Compare::unchanged(&Key::Pause, view.pause.mod_revision());
    let txn = Txn::default().when(unchanged).then(Op::put(&Key::Pause, &order.control()));
    Ok(noted(view, order, "pause", txn))
}

/// Ends a pause.
pub fn resume(view: &View, order: &Order) -> Result<Txn, Refusal> {
    if !view.is_paused() {
        return Err(Refusal::AlreadySo("nothing is paused".to_owned()));
    }
    let unchanged = Compare::unchanged(&Key::Pause, view.pause.mod_revision());
    let txn = Txn::default().when(unchanged).then(Op::delete(&Key::Pause));
    Ok(noted(view, order, "resume", txn))
}

/// Withdraws a version: it is not started, and stopped where it runs.
pub fn withdraw(view: &View, version: &NecoVersion, order: &Order) -> Result<Txn, Refusal> {
    if view.withdrawn.contains_key(version) {
        return Err(Refusal::AlreadySo(format!("{version} is already withdrawn")));
    }
    let key = Key::Withdrawn(version.clone());
    let txn = Txn::default().when(Compare::absent(&key)).then(Op::put(&key, &order.control()));
    Ok(noted(view, order, format!("withdraw {version}"), txn))
}

/// What `update --to` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The version.
    pub version: NecoVersion,
    /// Whether it may be older than what runs.
    pub allow_downgrade: bool,
    /// Whether to install although the present version's package cannot be had.
    pub allow_no_way_back: bool,
}

/// Names the version to go for and stay on; an aborted one may be tried again.
pub fn update_to(view: &View, wish: &Wish, order: &Order) -> Result<Txn, Refusal> {
    if view.withdrawn.contains_key(&wish.version) {
        return Err(Refusal::Unsafe(format!(
            "{0} is withdrawn: name another version, or delete control/withdrawn/{0} first",
            wish.version
        )));
    }
    let runs_newer =
        view.alive.iter().find(|(_, alive)| alive.value.version.precedence(&wish.version).is_gt());
    if let Some((lrn, alive)) = runs_newer.filter(|_| !wish.allow_downgrade) {
        return Err(Refusal::Unsafe(format!(
            "boot server {lrn} runs {}, newer than {}: --allow-downgrade goes back",
            alive.value.version, wish.version
        )));
    }
    let target = Target {
        version: wish.version.clone(),
        pinned: true,
        allow_downgrade: wish.allow_downgrade,
        allow_no_way_back: wish.allow_no_way_back,
        by: order.by.clone(),
        reason: order.reason.clone(),
        at: order.now,
        unknown: serde_json::Map::new(),
    };
    let mut txn = Txn::default()
        .when(Compare::unchanged(&Key::Target, view.target.mod_revision()))
        .then(Op::put(&Key::Target, &target));
    txn.ops.extend(forgive(view, &wish.version));
    let flags = [
        (wish.allow_downgrade, "--allow-downgrade"),
        (wish.allow_no_way_back, "--allow-no-way-back"),
    ];
    let words = command(format!("update --to {}", wish.version), &flags);
    Ok(noted(view, order, words, txn))
}

/// Follows releases again.
pub fn unpin(view: &View, order: &Order) -> Result<Txn, Refusal> {
    if matches!(view.target, Slot::Absent) {
        return Err(Refusal::AlreadySo("no version is pinned".to_owned()));
    }
    let unchanged = Compare::unchanged(&Key::Target, view.target.mod_revision());
    let txn = Txn::default().when(unchanged).then(Op::delete(&Key::Target));
    Ok(noted(view, order, "update --unpin", txn))
}

/// Takes a boot server out of the cluster: exactly its own records go, and a running request is replaced by the leader.
pub fn leave(view: &View, lrn: Lrn, force: bool, order: &Order) -> Result<Txn, Refusal> {
    if !view.registered.contains(&lrn) {
        return Err(Refusal::Absent(format!("boot server {lrn} is not registered")));
    }
    if view.registered.len() == 1 {
        return Err(Refusal::Unsafe(format!("boot server {lrn} is the last one")));
    }
    if view.is_alive(lrn) && !force {
        return Err(Refusal::Unsafe(format!(
            "boot server {lrn} is alive: shut it down first, or --force takes it out all the same"
        )));
    }
    let txn = Txn::default()
        .when(Compare::exists(&Key::BootServer(lrn)))
        .then(Op::delete(&Key::BootServer(lrn)))
        .then(Op::delete(&Key::Status(lrn)))
        .then(Op::delete(&Key::Plan(lrn)))
        .then(Op::delete(&Key::Progress(lrn)))
        .then(Op::delete_prefix(format!("install/{lrn}/")));
    Ok(noted(view, order, command(format!("leave {lrn}"), &[(force, "--force")]), txn))
}

/// Releases a turn whose holder will not come back, or one that cannot be read.
pub fn release_turn(view: &View, name: &str, force: bool, order: &Order) -> Result<Txn, Refusal> {
    let words = command(format!("turn release {name}"), &[(force, "--force")]);
    let release = |created| crate::worker_txn::release_turn(name, created);
    let key = Key::Turn(name.to_owned());
    if let Some(record) = view.unreadable.get(&key) {
        if !force {
            return Err(Refusal::Unsafe(format!(
                "key {key} cannot be read ({}), so whoever holds the turn {name} may be alive: --force releases it all the same",
                record.error
            )));
        }
        let txn = release(record.create_revision);
        return Ok(noted(view, order, format!("{words} (its record could not be read)"), txn));
    }
    let Some(turn) = view.turns.get(name) else {
        return Err(Refusal::Absent(format!("nobody holds the turn {name}")));
    };
    let holder = turn.value.lrn;
    if view.is_alive(holder) && !force {
        return Err(Refusal::Unsafe(format!(
            "boot server {holder}, which holds the turn {name}, is alive: --force releases it all the same"
        )));
    }
    let txn = release(turn.create_revision);
    Ok(noted(view, order, format!("{words} (held by boot server {holder})"), txn))
}
