//! Brings the members of etcd to what a request says: takes out who is outside, restarts what changed, takes this server in.
//!
//! Whatever is done stands on what etcd says at that moment; nothing is remembered from one try to the next. A worker that
//! died in the middle finds what it left: a member that was added and does not run is taken out and added anew, one that runs
//! is waited for and gets its vote.

use std::time::Duration;

use neco_connect::one_line;
use neco_host::address;
use neco_plan::View;
use neco_schema::journal::{IntentEnd, IntentId};
use neco_schema::{Lrn, Severity};
use neco_store::{ClusterHealth, Promoted, StoreError};

use super::decide::{self, Known, Next, Who};
use super::{UNIT, files, own_member, own_trouble, restart_now};
use crate::context::{Pauses, StepContext, StepError};
use crate::steps::apply;
use crate::steps::host::{StepHost, unit_name};

/// The name in recipes.
pub(crate) const NAME: &str = "etcd-members";

/// How long a member that was started for the first time may take to say its name.
const COMES_UP_WITHIN: Duration = Duration::from_secs(600);
/// How long it is tried to take out a member that did not come up.
const UNDONE_WITHIN: Duration = Duration::from_secs(20);
/// How often.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Does what there is to do, one thing after another, each under the turn and after a look at etcd of its own. The turn is
/// not held while this server waits for others: one of them may need it to become healthy. Where there is nothing to do, no
/// turn is taken.
///
/// # Errors
/// Cancelled at a safe point, or failed; a member that was added and did not come up is taken out again.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    manages: bool,
    turn: &str,
) -> Result<(), StepError> {
    let mut work = Work { context, host, turn, manages, open: Vec::new() };
    let result = work.all().await;
    let Err(error) = result else { return Ok(()) };
    if let StepError::Failed(cause) = &error {
        for intent in work.open.drain(..) {
            context.close_intent(&intent, IntentEnd::Failed { cause: cause.clone() })?;
        }
    }
    // Nothing was taken from anybody if the journal refuses: whoever comes next finds what is there.
    if manages && matches!(error, StepError::Failed(_) | StepError::Cancelled(_)) {
        let failed = matches!(error, StepError::Failed(_));
        if tokio::time::timeout(UNDONE_WITHIN, undo(host, failed)).await.is_err() {
            tracing::warn!(
                "a member of etcd that did not come up may be left; the next try takes it out"
            );
        }
    }
    Err(error)
}

struct Work<'a> {
    context: &'a StepContext,
    host: &'a StepHost,
    turn: &'a str,
    manages: bool,
    /// What was started and is not proven healthy yet, or holds the turn.
    open: Vec<IntentId>,
}

impl Work<'_> {
    async fn all(&mut self) -> Result<(), StepError> {
        let context = self.context;
        let mut pauses = Pauses::new();
        loop {
            let view = context.fence().await?;
            let known = self.known().await?;
            if !self.manages && !known.restart {
                return self.end(&view).await;
            }
            let next = match context.store().health().await {
                Ok(health) => decide::next(&health, &known),
                Err(error) => {
                    context.waiting(&format!("waiting for etcd: {}", one_line(&error)));
                    context.pause(&mut pauses).await;
                    continue;
                }
            };
            match &next {
                Next::Done => return self.end(&view).await,
                Next::Wait(why) => {
                    self.settle(&view).await?;
                    context.waiting(why);
                    context.pause(&mut pauses).await;
                }
                _ if !context.holds_turn(&view, self.turn) => {
                    // Others had their turn meanwhile: look again.
                    context.take_turn(self.turn).await?;
                }
                todo => {
                    if self.act(todo, &view).await? {
                        pauses = Pauses::new();
                    } else {
                        context.pause(&mut pauses).await;
                    }
                }
            }
        }
    }

    /// What is known of this server.
    async fn known(&self) -> Result<Known, StepError> {
        let name = unit_name(UNIT)?;
        let state = self.host.units.state(&name).await;
        let state = state.map_err(|error| StepError::failed(format!("state of {UNIT}"), &error))?;
        let (exists, runs) = (state.exists(), state.is_active());
        let changed =
            exists && files::started_with(self.host, &state)? != Some(files::digest(self.host)?);
        Ok(Known {
            own: self.context.lrn,
            servers: self.context.request.servers.clone(),
            manages: self.manages,
            restart: changed || (exists && self.manages && !runs),
            runs,
        })
    }

    /// Does one thing. Says whether it is done; else it is to be tried again.
    async fn act(&mut self, next: &Next, view: &View) -> Result<bool, StepError> {
        match next {
            Next::Done | Next::Wait(_) => Ok(true),
            Next::Remove(who) => {
                let what = format!("remove etcd member {}", who.name);
                let removed = self.noted(&what, view, self.host.members.remove(who.id)).await?;
                Ok(removed.is_some())
            }
            Next::Restart { .. } => self.restart(view).await,
            Next::Add => self.add(view).await,
            Next::Undo(who) => {
                let what = format!("remove etcd member {}, which did not come up", who.name);
                let removed = self.noted(&what, view, self.host.members.remove(who.id)).await?;
                Ok(removed.is_some())
            }
            Next::Appear(who) => self.appears(who).await.map(|()| true),
            Next::Promote(who) => {
                let what = format!("give etcd member {} its vote", who.name);
                match self.noted(&what, view, self.host.members.promote(who.id)).await? {
                    Some(Promoted::Done) => Ok(true),
                    Some(Promoted::NotYet) => {
                        self.context.waiting(&format!("etcd member {} is catching up", who.name));
                        Ok(false)
                    }
                    None => Ok(false),
                }
            }
        }
    }

    /// Makes a call that changes who belongs to etcd, and notes its begin and end. `None`: it may go better later.
    async fn noted<T>(
        &self,
        what: &str,
        view: &View,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Option<T>, StepError> {
        self.context.doing(what);
        self.context.effect_begins(what, view)?;
        let done = call.await;
        self.context.effect_ends(what, view, done.is_ok())?;
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.severity() == Severity::TryAgain => {
                tracing::info!(%what, error = %one_line(&error), "etcd does not do it now");
                self.context.waiting(&format!("{what}: {}", one_line(&error)));
                Ok(None)
            }
            Err(error) => Err(StepError::failed(what, &error)),
        }
    }

    /// Starts the own member anew. Right before that the others are asked for once more: where it cannot be any more, nothing
    /// is done, and it is to be decided anew.
    async fn restart(&mut self, view: &View) -> Result<bool, StepError> {
        const OUTAGE: &str = "etcd is out: it has two members or fewer, and one is restarted";
        let digest = files::digest(self.host)?;
        let (context, turn) = (self.context, Some(self.turn));
        let opened = apply::open_restart(context, self.host, UNIT, Some(digest), turn).await?;
        let outage = match restart_now(context, opened.runs).await {
            Ok(outage) => outage,
            Err(why) => {
                context.close_intent(&opened.intent, IntentEnd::Dropped)?;
                context.waiting(&why);
                return Ok(false);
            }
        };
        if outage {
            context.effect_begins(OUTAGE, view)?;
        }
        let started = apply::carry_out(context, self.host, opened).await;
        if let Ok(intent) = &started {
            // Left before the end, it stays open and is completed by the engine.
            self.open.push(intent.clone());
        }
        let healthy = match started {
            Ok(_) => self.healthy().await,
            Err(error) => Err(error),
        };
        if outage {
            context.effect_ends(OUTAGE, view, healthy.is_ok())?;
        }
        healthy.map(|()| true)
    }

    /// Waits until the own member is healthy.
    async fn healthy(&self) -> Result<(), StepError> {
        let mut pauses = Pauses::new();
        loop {
            self.context.fence().await?;
            match own_trouble(&**self.context.store(), self.context.lrn).await {
                None => return Ok(()),
                Some(trouble) => self.context.waiting(&trouble),
            }
            self.context.pause(&mut pauses).await;
        }
    }

    /// Adds this server, and starts its member on empty data.
    async fn add(&mut self, view: &View) -> Result<bool, StepError> {
        let own = address::etcd_member_name(self.context.lrn);
        let url = peer_url(self.context.lrn)?;
        let name = unit_name(UNIT)?;
        files::check(self.host)?;
        // What runs here is a member of nothing, and would write into the data.
        let stopped = self.host.units.stop(&name).await;
        stopped.map_err(|error| StepError::failed(format!("stopping {UNIT}"), &error))?;
        let what = format!("add etcd member {own}");
        let Some(added) = self.noted(&what, view, self.host.members.add(&url)).await? else {
            return Ok(false);
        };
        files::prepare(self.host, &own, &added.members)?;
        let digest = files::digest(self.host)?;
        let enabled = self.host.units.enable(&name).await;
        enabled.map_err(|error| StepError::failed(format!("enabling {UNIT}"), &error))?;
        let turn = Some(self.turn);
        let intent = apply::restart_unit(self.context, self.host, UNIT, Some(digest), turn).await?;
        self.open.push(intent);
        Ok(true)
    }

    /// Waits until the own member, which runs, says its name and is healthy, or is gone.
    async fn appears(&self, who: &Who) -> Result<(), StepError> {
        let up = async {
            let mut pauses = Pauses::new();
            let mut trouble = String::new();
            loop {
                self.context.fence().await?;
                if let Ok(health) = self.context.store().health().await {
                    match own_member(&health, self.context.lrn) {
                        Some(own) if !own.healthy => trouble.clone_from(&own.trouble),
                        _ => return Ok(()),
                    }
                }
                self.context.waiting(&format!("waiting for etcd member {}: {trouble}", who.name));
                self.context.pause(&mut pauses).await;
            }
        };
        match tokio::time::timeout(COMES_UP_WITHIN, up).await {
            Ok(result) => result,
            Err(_) => Err(StepError::Failed(format!(
                "the etcd of this server did not come up within {COMES_UP_WITHIN:?}: see 'journalctl -u {UNIT}'"
            ))),
        }
    }

    /// Nothing is left to do: what an earlier process started is healthy, what runs comes back after a boot, and the turn
    /// goes to the next.
    async fn end(&mut self, view: &View) -> Result<(), StepError> {
        let context = self.context;
        let name = unit_name(UNIT)?;
        let state = self.host.units.state(&name).await;
        let state = state.map_err(|error| StepError::failed(format!("state of {UNIT}"), &error))?;
        if !state.exists() {
            context.doing("etcd is not managed on this server");
            return self.settle(view).await;
        }
        // An earlier attempt may have restarted it and not lived to see how it is.
        if context.attempt > 1 {
            self.healthy().await?;
        }
        if self.manages && !state.is_enabled() {
            let what = format!("enable {UNIT}");
            context.effect_begins(&what, view)?;
            let enabled = self.host.units.enable(&name).await;
            context.effect_ends(&what, view, enabled.is_ok())?;
            enabled.map_err(|error| StepError::failed(format!("enabling {UNIT}"), &error))?;
        }
        self.settle(view).await
    }

    /// Gives the turn back, if it is held, and then says that what was started is well.
    async fn settle(&mut self, view: &View) -> Result<(), StepError> {
        if self.context.holds_turn(view, self.turn) || !self.open.is_empty() {
            self.context.release_turn(self.turn).await?;
        }
        for intent in self.open.drain(..) {
            self.context.close_intent(&intent, IntentEnd::Completed)?;
        }
        Ok(())
    }
}

fn peer_url(lrn: Lrn) -> Result<String, StepError> {
    address::etcd_peer_url(lrn).map_err(|error| StepError::Failed(one_line(&error)))
}

/// Takes the own member out again that was added and has no vote: if it never started, and after a failure also if it did.
/// It gives back what this server took; one that runs and was only cut off goes on catching up.
async fn undo(host: &StepHost, failed: bool) {
    while let Err(why) = undo_once(host, failed).await {
        tracing::warn!(%why, "the member of etcd that did not come up is not taken out yet");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn undo_once(host: &StepHost, failed: bool) -> Result<(), String> {
    let health: ClusterHealth =
        host.shared.store.health().await.map_err(|error| one_line(&error))?;
    let Some(own) = own_member(&health, host.about.lrn) else { return Ok(()) };
    let votes = !own.name.is_empty() && !own.is_learner;
    let name = unit_name(UNIT).map_err(|error| error.to_string())?;
    let runs = host.units.state(&name).await.map_err(|error| one_line(&error))?.is_active();
    if votes || (runs && !failed) {
        return Ok(());
    }
    // It must not come up, nor come back after a boot, as what it no longer is.
    host.units.disable(&name).await.map_err(|error| one_line(&error))?;
    host.units.stop(&name).await.map_err(|error| one_line(&error))?;
    host.members.remove(own.id).await.map_err(|error| one_line(&error))?;
    tracing::info!("the member of etcd that did not come up is taken out again");
    Ok(())
}
