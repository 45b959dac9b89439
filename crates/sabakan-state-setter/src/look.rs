//! One look at all machines after the other: ask, decide, tell sabakan (neco-daemons §3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use neco_base::Backoff;
use neco_connect::one_line;
use neco_sabakan::{Machine, MachineParams, Serial};
use neco_schema::{GracePeriods, Key, Op, Range, Record as _, Snapshot, Timestamp, Txn, prefixes};
use neco_store::{Committed, Leadership};

use crate::alerts::Alert;
use crate::brake::{Brake, Losses, is_loss, sees_enough};
use crate::decide::{Finding, SerfView, Verdict, WATCHED, first, kind, with_hardware};
use crate::engine::Context;
use crate::grace::{Move, Timers};
use crate::hardware::Hardware;
use crate::health::wanted;
use crate::list::List;
use crate::observation::{Ended, result};

/// The first wait after a look that failed; the longest is the interval itself.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How the end of leadership shows in etcd.
const DELETED: &str = "somebody deleted the key of the election";

/// Why a look told nothing.
enum Failed {
    /// Somebody who must be asked cannot be; it is tried again.
    Blind,
    /// This daemon leads no more; how that showed.
    Lost(String),
}

/// Looks at the machines again and again until leadership turns out to be lost; gives how that showed.
pub(crate) async fn watch_machines(context: Arc<Context>, leadership: Leadership) -> String {
    let interval = context.options.interval;
    let mut retry = Backoff::new(FIRST_WAIT.min(interval), interval).retry();
    let brake = Brake::default();
    let mut term =
        Term { context, leadership, timers: None, written: GracePeriods::default(), brake };
    loop {
        let began = term.context.now().monotonic;
        let looked = term.look().await;
        let context = &term.context;
        context.metrics().looks.get_or_create(&Ended { result: result(looked.is_ok()) }).inc();
        // What stays wrong is on the status page, whatever was logged.
        context.observe(|observation| observation.looks += 1);
        let pause = match looked {
            Ok(()) => {
                retry.reset();
                interval.saturating_sub(context.now().monotonic.saturating_sub(began))
            }
            Err(Failed::Blind) => retry.pause(),
            Err(Failed::Lost(why)) => return why,
        };
        tokio::time::sleep(pause).await;
    }
}

struct Term {
    context: Arc<Context>,
    leadership: Leadership,
    /// Nothing before it is known what the leader before has written down.
    timers: Option<Timers>,
    /// What is written down.
    written: GracePeriods,
    brake: Brake,
}

/// What was asked for one look.
struct Seen {
    list: Arc<List>,
    machines: Vec<Machine>,
    view: SerfView,
    alerts: Vec<Alert>,
}

impl Seen {
    /// What a machine is, once it was asked for its metrics.
    async fn ask_machine(&self, place: usize, hardware: &dyn Hardware) -> Verdict {
        let machine = &self.machines[place];
        let (Some(address), Some(kind)) = (machine.spec.ipv4.first(), kind(machine, &self.list).1)
        else {
            return Verdict::Unchanged("it cannot be asked".to_owned());
        };
        let metrics = hardware.metrics(*address, &wanted(&kind.checks)).await;
        with_hardware(machine, &self.view, kind, &metrics)
    }
}

impl Term {
    async fn look(&mut self) -> Result<(), Failed> {
        let Some(seen) = self.ask().await?.map(Arc::new) else { return Ok(()) };
        let verdicts = self.judge(&seen).await;
        let moves = self.settle(&seen, &verdicts);
        let told = self.tell(moves).await;
        self.write_down().await?;
        let context = &self.context;
        let since = self.since();
        let now = context.now();
        context.metrics().looked_at.set(now.wall.get().as_second());
        context.metrics().grace.set(i64::try_from(since.len()).unwrap_or(i64::MAX));
        context.observe(|observation| {
            observation.looked_at = Some(now.wall);
            observation.grace = since;
            observation.remarks = remarks(&seen.machines, &verdicts);
        });
        told
    }

    /// Asks everybody; nothing where there is nothing to look at.
    async fn ask(&mut self) -> Result<Option<Seen>, Failed> {
        let context = Arc::clone(&self.context);
        let (said, drivers) = (&context.said, &context.drivers);
        let Ok(list) = context.list() else { return Err(Failed::Blind) };

        let ranges = [
            Range::Prefix(prefixes::BOOT_SERVERS.to_owned()),
            Range::KeysOnly(self.leadership.key().to_string()),
            Range::from(&Key::GracePeriods),
        ];
        let etcd = noted(said, "asking etcd", drivers.store.read(&ranges, None).await)?;
        let registered = self.registered(&etcd)?;
        self.recall(&etcd);

        let all = MachineParams::default();
        let machines = drivers.sabakan.search_machines(&all, &all).await;
        let machines = noted(said, "asking sabakan for machines", machines)?;
        context.count(machines.iter().map(|machine| machine.status.state));
        said.note("reading the types of machines", &types_are_known(&machines, &list));

        let members = noted(said, "asking serf for members", drivers.serf.members().await)?;
        let view = SerfView::of(&members);
        let believed = if sees_enough(view.boot_servers, registered) {
            Ok(())
        } else {
            Err(format!(
                "it shows {} of {registered} boot servers alive, which is not more than half: nothing is \
                 concluded from it; look at serf.service here",
                view.boot_servers
            ))
        };
        said.note("believing serf", &believed);
        believed.map_err(|_| Failed::Blind)?;

        let alerts = match &list.alerts {
            None => Vec::new(),
            Some(monitor) => {
                let asked = drivers.alerts.active(&monitor.endpoint).await;
                said.note("asking Alertmanager", &asked.as_ref().map(drop).map_err(Clone::clone));
                // Machines are looked at without it, too: it runs on some of them.
                asked.unwrap_or_default()
            }
        };
        Ok((!machines.is_empty()).then_some(Seen { list, machines, view, alerts }))
    }

    /// How many boot servers are registered, if this daemon leads still.
    fn registered(&self, etcd: &Snapshot) -> Result<usize, Failed> {
        let own = etcd.kvs.get(&self.leadership.key().to_string());
        if own.map(|kv| kv.create_revision) != Some(self.leadership.create_revision()) {
            return Err(Failed::Lost(DELETED.to_owned()));
        }
        Ok(etcd.kvs.keys().filter(|key| key.starts_with(prefixes::BOOT_SERVERS)).count())
    }

    /// Takes over what the leader before has written down, at the first look.
    fn recall(&mut self, etcd: &Snapshot) {
        if self.timers.is_some() {
            return;
        }
        let stored = etcd.kvs.get(&Key::GracePeriods.to_string());
        let record = stored.map(|kv| GracePeriods::decode(&kv.value)).transpose();
        let outcome = record
            .as_ref()
            .map(drop)
            .map_err(|error| format!("{}: {error}; grace periods begin anew", Key::GracePeriods));
        self.context.said.note("reading grace periods", &outcome);
        self.written = record.ok().flatten().unwrap_or_default();
        self.timers = Some(Timers::recalled(&self.written.since, self.context.now()));
    }

    /// Writes grace periods down for the next leader, where they have changed.
    async fn write_down(&mut self) -> Result<(), Failed> {
        let since = self.since();
        if since == self.written.since {
            return Ok(());
        }
        let record = GracePeriods { since, ..self.written.clone() };
        let put = match record.since.is_empty() && record.unknown.is_empty() {
            true => Op::delete(&Key::GracePeriods),
            false => Op::put(&Key::GracePeriods, &record),
        };
        let txn = Txn::default().when(self.leadership.compare()).then(put);
        let committed = self.context.drivers.store.commit(&txn).await;
        match noted(&self.context.said, "writing grace periods", committed)? {
            Committed::Done(_) => {
                self.written = record;
                Ok(())
            }
            Committed::Refused => Err(Failed::Lost(DELETED.to_owned())),
        }
    }

    /// Since when machines are bad that are not told unhealthy yet.
    fn since(&self) -> BTreeMap<String, Timestamp> {
        self.timers.as_ref().map(Timers::since).unwrap_or_default()
    }

    /// What each of the machines is whose health is told, by its place in the list of machines.
    async fn judge(&self, seen: &Arc<Seen>) -> Vec<(usize, Verdict)> {
        let mut verdicts = Vec::new();
        let mut to_ask = Vec::new();
        for (place, machine) in seen.machines.iter().enumerate() {
            if !WATCHED.contains(&machine.status.state) {
                continue;
            }
            match first(machine, &seen.view, &seen.alerts, &seen.list) {
                Finding::Settled(verdict) => verdicts.push((place, verdict)),
                Finding::Hardware(_) => to_ask.push(place),
            }
        }
        let ask = |place| {
            let (seen, hardware) = (Arc::clone(seen), Arc::clone(&self.context.drivers.hardware));
            async move { (place, seen.ask_machine(place, &*hardware).await) }
        };
        let asked = stream::iter(to_ask).map(ask).buffer_unordered(self.context.options.parallel);
        verdicts.extend(asked.collect::<Vec<_>>().await);
        verdicts
    }

    /// The states to tell, without losses that are held back.
    fn settle(&mut self, seen: &Seen, verdicts: &[(usize, Verdict)]) -> Vec<Move> {
        let now = self.context.now();
        let known: BTreeSet<&Serial> = seen.machines.iter().map(|m| &m.spec.serial).collect();
        let timers = self.timers.get_or_insert_default();
        timers.keep(&known);
        let mut moves: Vec<Move> = verdicts
            .iter()
            .filter_map(|(place, verdict)| {
                let machine = &seen.machines[*place];
                let grace = kind(machine, &seen.list).1.map_or(Duration::ZERO, |kind| kind.grace);
                timers.settle(machine, verdict, grace, now)
            })
            .collect();
        let well = seen.machines.iter().filter(|machine| {
            use neco_sabakan::MachineState::{Healthy, Unhealthy};
            matches!(machine.status.state, Healthy | Unhealthy)
        });
        let well = well.count();
        let patience = self.context.options.mass_loss_after;
        let held = match self.brake.judge(&moves, well, patience, now.monotonic) {
            Losses::Told => 0,
            Losses::Held(_) => {
                let before = moves.len();
                moves.retain(|to| !is_loss(to));
                before - moves.len()
            }
        };
        let outcome = match held {
            0 => Ok(()),
            held => Err(format!(
                "{held} of {well} machines would be lost at once; they are told when that has lasted {patience:?}"
            )),
        };
        self.context.said.note("telling losses", &outcome);
        self.context.metrics().held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.context.observe(|observation| observation.held = held as u64);
        moves
    }

    /// Tells sabakan, until it cannot be told any more.
    async fn tell(&self, moves: Vec<Move>) -> Result<(), Failed> {
        let said = &self.context.said;
        for to in &moves {
            noted(said, "telling sabakan a state", self.context.set_state(to).await)?;
        }
        Ok(())
    }
}

/// Takes down how a question has ended.
fn noted<T, E: std::error::Error>(
    said: &crate::said::Said,
    what: &str,
    outcome: Result<T, E>,
) -> Result<T, Failed> {
    said.note(what, &outcome.as_ref().map(drop).map_err(|error| one_line(error)));
    outcome.map_err(|_| Failed::Blind)
}

/// Whether the list knows the types of all machines whose health is told.
fn types_are_known(machines: &[Machine], list: &List) -> Result<(), String> {
    let mut unknown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for machine in machines.iter().filter(|m| WATCHED.contains(&m.status.state)) {
        if let (name, None) = kind(machine, list) {
            unknown.entry(name).or_default().push(machine.spec.serial.as_str());
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let types = unknown.iter().map(|(name, serials)| match serials.as_slice() {
        [one] => format!("{name:?} (machine {one})"),
        [one, rest @ ..] => format!("{name:?} (machine {one} and {} more)", rest.len()),
        [] => format!("{name:?}"),
    });
    let types = types.collect::<Vec<_>>().join(", ");
    Err(format!("not in the list: {types}; add them, or correct the label machine-type"))
}

/// What is known against machines that are not well.
fn remarks(machines: &[Machine], verdicts: &[(usize, Verdict)]) -> BTreeMap<String, String> {
    let remark = |(place, verdict): &(usize, Verdict)| {
        let why = match verdict {
            Verdict::Healthy => return None,
            Verdict::Unchanged(why) => why.clone(),
            Verdict::Unhealthy { why, .. } => format!("unhealthy: {why}"),
            Verdict::Unreachable(why) => format!("unreachable: {why}"),
        };
        Some((machines[*place].spec.serial.to_string(), why))
    };
    verdicts.iter().filter_map(remark).collect()
}
