//! Machines that retire lose the keys of their disks and what their TPM holds (neco-daemons §3.6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt as _};
use neco_connect::one_line;
use neco_sabakan::{GraphqlProblem, MachineParams, MachineState, SabakanError, Serial};

use crate::engine::Context;
use crate::grace::Move;
use crate::observation::{Job, result};

/// How many machines are retired at once: each may take minutes.
const AT_ONCE: usize = 4;

/// How far a machine has come. What is done is not done again because something after it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Its keys are deleted.
    Keys,
    /// And its TPM is cleared.
    Tpm,
}

/// Retires what sabakan says is retiring, again and again.
pub(crate) async fn retire_machines(context: Arc<Context>) -> String {
    let done: Mutex<BTreeMap<Serial, Done>> = Mutex::default();
    loop {
        let serials =
            in_state(&context, MachineState::Retiring, "asking for retiring machines").await;
        if let Some(serials) = serials {
            lock(&done).retain(|serial, _| serials.contains(serial));
            let name = |serial: &Serial| format!("retiring {serial}");
            let known: Vec<_> = serials.iter().map(name).collect();
            context.said.forget(|what| {
                !what.starts_with("retiring ") || known.iter().any(|one| one == what)
            });
            let retire = |serial: Serial| {
                let (context, done, what) = (&context, &done, name(&serial));
                async move {
                    let outcome = retire(context, &serial, done).await;
                    finish(context, "retire", &what, &outcome);
                }
            };
            stream::iter(serials).map(retire).buffer_unordered(AT_ONCE).collect::<()>().await;
        }
        tokio::time::sleep(context.options.interval).await;
    }
}

async fn retire(
    context: &Context,
    serial: &Serial,
    done: &Mutex<BTreeMap<Serial, Done>>,
) -> Result<(), String> {
    let before = lock(done).get(serial).copied();
    if before.is_none() {
        let deleted = context.drivers.keys.delete(serial).await;
        let deleted = deleted.map_err(|why| format!("deleting its disk keys: {why}"))?;
        tracing::info!(%serial, keys = deleted.len(), "the disk keys of a retiring machine are deleted");
        lock(done).insert(serial.clone(), Done::Keys);
    }
    if before != Some(Done::Tpm) {
        let cleared = context.drivers.power.clear_tpm(serial).await;
        cleared.map_err(|why| format!("clearing its TPM: {why}"))?;
        lock(done).insert(serial.clone(), Done::Tpm);
    }
    let why = "its disk keys are deleted and its TPM is cleared".to_owned();
    let (from, to) = (MachineState::Retiring, MachineState::Retired);
    let told = context.set_state(&Move { serial: serial.clone(), from, to, why }).await;
    if let Err(SabakanError::Graphql { problem: GraphqlProblem::EncryptionKeyExists, .. }) = &told {
        // Somebody has put one there since.
        lock(done).remove(serial);
    }
    told.map_err(|error| one_line(&error))
}

/// The machines in a state; nothing while sabakan cannot be asked.
pub(crate) async fn in_state(
    context: &Context,
    state: MachineState,
    what: &str,
) -> Option<Vec<Serial>> {
    let having = MachineParams { states: vec![state], ..MachineParams::default() };
    let found = context.drivers.sabakan.search_machines(&having, &MachineParams::default()).await;
    context.said.note(what, &found.as_ref().map(drop).map_err(|error| one_line(error)));
    context.observe(|_| {});
    let is_there = |machine: &neco_sabakan::Machine| machine.status.state == state;
    Some(found.ok()?.into_iter().filter(is_there).map(|machine| machine.spec.serial).collect())
}

/// Takes down how a job on a machine has ended.
pub(crate) fn finish(
    context: &Context,
    job: &'static str,
    what: &str,
    outcome: &Result<(), String>,
) {
    context.said.note(what, outcome);
    context.metrics().jobs.get_or_create(&Job { job, result: result(outcome.is_ok()) }).inc();
    context.observe(|_| {});
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
