//! The process inside that builds a data centre, is the mainboard of its machines, and takes orders.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::dirs::{Dirs, SOCKET, Top};
use super::machine::{End, Machine, Running, within};
use super::network::{Network, addresses_of, tools_root};
use super::orders::{Answer, MachineStatus, Order, Phase, Power, Status};
use super::{mirror, registry, secrets};
use crate::description::{self, DataCentre};
use crate::host::base;
use crate::host::cgroup::Groups;
use crate::host::command::{command, run};
use crate::plan::address::Subnet;
use crate::plan::machine::hosts;
use crate::plan::topology::Place;

/// An order is one short line.
const ORDER: Duration = Duration::from_secs(10);

/// How often the keeper looks after its machines.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One question to a machine.
const QUESTION: Duration = Duration::from_secs(10);

/// Builds the data centre in a folder and serves orders until it is killed.
///
/// # Errors
/// Orders cannot be taken at all. What goes wrong with the building is told to whoever follows.
pub async fn run_keeper(top: &Top, name: &str) -> Result<()> {
    let dirs = top.instance(name);
    // Paths of sockets are short.
    std::env::set_current_dir(&dirs.dir)
        .with_context(|| format!("entering {}", dirs.dir.display()))?;
    let listener = UnixListener::bind(SOCKET).context("binding the socket of the keeper")?;
    let (tell, progress) = watch::channel(Progress::default());
    let site = Arc::new(Mutex::new(None::<Arc<Site>>));
    let building = async {
        let outcome = build(top, &dirs, &tell, &site).await;
        let failure = outcome.err().map(|error| format!("{error:#}"));
        if let Some(why) = &failure {
            eprintln!("keeper: {why}");
        }
        tell.send_modify(|progress| {
            progress.ended = Some(failure);
        });
        std::future::pending::<()>().await;
    };
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await.context("taking an order")?;
            let (site, progress) = (Arc::clone(&site), progress.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &site, progress).await {
                    eprintln!("keeper: an order was not answered: {error:#}");
                }
            });
        }
    };
    tokio::select! {
        biased;
        outcome = serving => outcome,
        () = building => Ok(()),
    }
}

/// How far the start has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    phases: Vec<Phase>,
    /// Why it failed, once it has ended.
    ended: Option<Option<String>>,
}

async fn phase<T>(
    tell: &watch::Sender<Progress>,
    name: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let begun = Instant::now();
    let done = work.await.with_context(|| name.to_owned())?;
    let seconds = begun.elapsed().as_secs_f64();
    tell.send_modify(|progress| progress.phases.push(Phase { phase: name.to_owned(), seconds }));
    Ok(done)
}

async fn build(
    top: &Top,
    dirs: &Dirs,
    tell: &watch::Sender<Progress>,
    place: &Mutex<Option<Arc<Site>>>,
) -> Result<()> {
    let file = dirs.description();
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let centre = description::parse(&file, &text)?;
    let base = base::bring(&top.base()).await?;
    let secrets = phase(tell, "keys", secrets::make(&dirs.secrets())).await?;
    let network = phase(tell, "network", async {
        tools_root(dirs, &base, &hosts(&centre))?;
        run(&mut command(["ip", "link", "set", "lo", "up"]), QUESTION).await?;
        Network::build(&centre, dirs).await
    })
    .await?;
    let groups = Arc::new(Groups::new(&top.tag_of(&dirs.name))?);
    let machines = phase(tell, "disks", async {
        (0..centre.addresses.racks)
            .map(|rack| Machine::build(&centre, dirs, &base, rack, &secrets, Arc::clone(&groups)))
            .collect::<Result<Vec<Machine>>>()
    })
    .await?;
    let slots = machines.into_iter().map(|machine| {
        (
            machine.name(),
            Arc::new(Slot {
                machine,
                state: Mutex::new(State::Off),
                wanted: Mutex::new(()),
                has_booted: AtomicBool::new(false),
            }),
        )
    });
    let site = Arc::new(Site {
        centre,
        network,
        groups,
        slots: slots.collect(),
        dirs: dirs.clone(),
        internet: Mutex::new(Vec::new()),
    });
    for slot in site.slots.values() {
        tokio::spawn(Arc::clone(&site).look_after(Arc::clone(slot)));
    }
    *place.lock().await = Some(Arc::clone(&site));
    let first = || site.slots.values().filter(|slot| slot.machine.rack < site.centre.boot_servers);
    // The registry is filled while they boot.
    let address = site.centre.internet.registry;
    let filled = async {
        let registry = registry::start(dirs, address).await?;
        for image in &site.centre.images {
            registry::fill(top, dirs, &base, address, image).await?;
        }
        Ok(registry)
    };
    let program = std::env::current_exe().context("finding this program")?;
    let releases = site.centre.internet.releases;
    let (registry, mirror, ()) = tokio::try_join!(
        phase(tell, "registry", filled),
        phase(tell, "release mirror", mirror::start(&program, dirs, releases)),
        async {
            phase(tell, "boot", try_join_all(first().map(|slot| site.power_on(slot))))
                .await
                .map(drop)
        }
    )?;
    site.internet.lock().await.extend([registry, mirror]);
    phase(tell, "routes", try_join_all(first().map(|slot| site.reaches_the_core(slot)))).await?;
    phase(tell, "ssh and docker", try_join_all(first().map(|slot| site.answers(slot)))).await?;
    Ok(())
}

/// A machine and how it is.
struct Slot {
    machine: Machine,
    state: Mutex<State>,
    /// Held by whoever presses a button, until what it does is done.
    wanted: Mutex<()>,
    has_booted: AtomicBool,
}

enum State {
    Off,
    On(Running),
    Frozen(Running),
}

struct Site {
    centre: DataCentre,
    network: Network,
    groups: Arc<Groups>,
    slots: BTreeMap<String, Arc<Slot>>,
    dirs: Dirs,
    /// What runs on the internet side; it ends with this.
    internet: Mutex<Vec<Child>>,
}

impl Site {
    fn slot(&self, name: &str) -> Result<&Arc<Slot>> {
        self.slots.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.slots.keys().map(String::as_str).collect();
            anyhow!("there is no machine {name}; there are {}", known.join(", "))
        })
    }

    async fn power_on(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        let _held = slot.wanted.lock().await;
        if !matches!(*slot.state.lock().await, State::Off) {
            bail!("{} is on", slot.machine.name());
        }
        self.start(slot).await
    }

    /// Starts a machine that is off and waits until it runs.
    async fn start(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        let machine = &slot.machine;
        self.network.plug(machine.place, true).await?;
        let mut running = machine.power_on().await?;
        let booted = machine.booted(&mut running, !slot.has_booted.load(Ordering::Relaxed)).await;
        slot.has_booted.fetch_or(booted.is_ok(), Ordering::Relaxed);
        if booted.is_err() && running.ended()?.is_some() {
            self.network.plug(machine.place, false).await?;
            return booted;
        }
        *slot.state.lock().await = State::On(running);
        booted
    }

    /// Notices each end of a machine: one that asked for it is started again.
    async fn look_after(self: Arc<Self>, slot: Arc<Slot>) {
        let name = slot.machine.name();
        loop {
            sleep(LOOK_EVERY).await;
            let end = {
                let mut state = slot.state.lock().await;
                let ended = match &mut *state {
                    State::Off => continue,
                    State::On(running) | State::Frozen(running) => running.ended(),
                };
                match ended {
                    Ok(None) => continue,
                    Ok(Some(end)) => {
                        *state = State::Off;
                        end
                    }
                    Err(error) => {
                        eprintln!("keeper: {name}: {error:#}");
                        continue;
                    }
                }
            };
            // Its neighbours see at once that it is gone.
            let done = match self.network.plug(slot.machine.place, false).await {
                Ok(()) if end == End::Reboot => self.start(&slot).await,
                done => done,
            };
            if let Err(error) = done {
                eprintln!("keeper: {name} ended: {error:#}");
            }
        }
    }

    async fn leader(&self, name: &str) -> Result<i32> {
        match &*self.slot(name)?.state.lock().await {
            State::On(running) => Ok(running.leader),
            State::Frozen(_) => bail!("{name} is frozen; `dc thaw {name}` lets it go on"),
            State::Off => bail!("{name} is off; `dc power {name} on` switches it on"),
        }
    }

    /// Waits until a machine has a way to everybody else.
    async fn reaches_the_core(&self, slot: &Slot) -> Result<()> {
        let name = slot.machine.name();
        let deadline = Instant::now() + self.centre.limits.converge;
        loop {
            let words = ["ip", "-n", &name, "route", "show", "default"];
            let routes = run(&mut command(words), QUESTION).await?;
            // Both ways, so that one broken cable changes nothing.
            if routes.matches(" via ").count() + routes.matches("nexthop").count() >= 2 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let told = self.network.told(Place::Tor { rack: slot.machine.rack, tor: 1 }).await;
                bail!(
                    "{name} has no way out by both switches after {} s (it has {:?}); its switch says:\n{}",
                    self.centre.limits.converge.as_secs(),
                    routes.trim(),
                    told.unwrap_or_else(|error| error.to_string())
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until operators can log in and containers can be started.
    async fn answers(&self, slot: &Slot) -> Result<()> {
        let name = slot.machine.name();
        let deadline = Instant::now() + self.centre.limits.converge;
        let address = self.centre.addresses.boot_server(slot.machine.rack, Subnet::Node0);
        loop {
            let words = super::client::ssh_words(&self.dirs, address, &["true".to_owned()]);
            let mut ssh = command(
                ["ip", "netns", "exec", "operation"].map(str::to_owned).into_iter().chain(words),
            );
            let ssh = run(&mut ssh, QUESTION).await;
            let leader = self.leader(&name).await?;
            let docker = ["docker", "info", "--format", "{{.ServerVersion}}"];
            let docker = run(&mut within(leader, &docker), QUESTION).await;
            match (ssh, docker) {
                (Ok(_), Ok(_)) => return Ok(()),
                (ssh, docker) if Instant::now() >= deadline => {
                    let said = |outcome: Result<String>| match outcome {
                        Ok(_) => "answers".to_owned(),
                        Err(error) => format!("{error:#}"),
                    };
                    bail!("{name}: ssh: {}; docker: {}", said(ssh), said(docker));
                }
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn power(self: &Arc<Self>, name: &str, power: Power) -> Result<()> {
        let slot = self.slot(name)?;
        if power == Power::On {
            return self.power_on(slot).await;
        }
        let held = slot.wanted.lock().await;
        self.leader(name).await.or_else(|error| match power {
            // A frozen machine can still lose its power.
            Power::Cut => Ok(0),
            _ => Err(error),
        })?;
        match power {
            Power::On => Ok(()),
            Power::Cut => {
                let state = std::mem::replace(&mut *slot.state.lock().await, State::Off);
                let (mut running, frozen) = match state {
                    State::Off => bail!("{name} is off"),
                    State::On(running) => (running, false),
                    State::Frozen(running) => (running, true),
                };
                self.network.plug(slot.machine.place, false).await?;
                if frozen {
                    // What is frozen cannot die, and hears nothing of its cables any more.
                    self.groups.freeze(name, false)?;
                }
                slot.machine.cut(&mut running).await
            }
            Power::Off => {
                if let State::On(running) = &*slot.state.lock().await {
                    running.ask_to_shut_down()?;
                }
                self.until(slot, "does not shut down", |state| matches!(state, State::Off)).await
            }
            Power::Reboot => {
                let leader = self.leader(name).await?;
                run(&mut within(leader, &["systemctl", "reboot"]), QUESTION).await?;
                self.until(slot, "does not shut down", |state| match state {
                    State::Off => true,
                    State::On(running) | State::Frozen(running) => running.leader != leader,
                })
                .await?;
                // Started again by whoever looks after it.
                drop(held);
                self.until(slot, "does not come back", |state| matches!(state, State::On(_))).await
            }
        }
    }

    /// Waits until a machine is as wanted.
    async fn until(
        &self,
        slot: &Slot,
        trouble: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<()> {
        let limits = self.centre.limits;
        let deadline = Instant::now() + limits.stop + limits.boot;
        while !wanted(&*slot.state.lock().await) {
            if Instant::now() >= deadline {
                bail!("{} {trouble}: {}", slot.machine.name(), slot.machine.last_words());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn freeze(&self, name: &str, frozen: bool) -> Result<()> {
        let slot = self.slot(name)?;
        let _held = slot.wanted.lock().await;
        let mut state = slot.state.lock().await;
        *state = match (std::mem::replace(&mut *state, State::Off), frozen) {
            (State::Off, _) => bail!("{name} is off"),
            (State::On(running) | State::Frozen(running), true) => {
                self.groups.freeze(name, true)?;
                State::Frozen(running)
            }
            (State::On(running) | State::Frozen(running), false) => {
                self.groups.freeze(name, false)?;
                State::On(running)
            }
        };
        Ok(())
    }

    fn place(&self, name: &str) -> Result<Place> {
        let racks = self.centre.addresses.racks;
        let known = [Place::Internet, Place::Operation]
            .into_iter()
            .chain((0..racks).map(Place::BootServer));
        let known: Vec<Place> = known.collect();
        known.iter().copied().find(|place| place.name() == name).ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|place| place.name()).collect();
            anyhow!("there is no {name}; there are {}", names.join(", "))
        })
    }

    async fn partition(&self, machine: &str, from: &[String]) -> Result<()> {
        let slot = self.slot(machine)?;
        let mut addresses = Vec::new();
        for name in from {
            addresses.extend(addresses_of(&self.centre, self.place(name)?));
        }
        self.network.partition(slot.machine.place, &addresses).await
    }

    async fn heal(&self) -> Result<()> {
        let mut off = Vec::new();
        for (name, slot) in &self.slots {
            if matches!(*slot.state.lock().await, State::Frozen(_)) {
                self.freeze(name, false).await?;
            }
            if matches!(*slot.state.lock().await, State::Off) {
                off.push(slot.machine.place);
            }
            self.network.partition(slot.machine.place, &[]).await?;
        }
        self.network.heal(|place| !off.contains(&place)).await
    }

    async fn status(&self, ready: bool) -> Status {
        let mut machines = Vec::new();
        for (name, slot) in &self.slots {
            let power = match &*slot.state.lock().await {
                State::Off => "off",
                State::On(_) => "on",
                State::Frozen(_) => "frozen",
            };
            machines.push(MachineStatus {
                name: name.clone(),
                power: power.to_owned(),
                address: self.centre.addresses.boot_server(slot.machine.rack, Subnet::Node0),
                memory: (power != "off").then(|| self.groups.memory(name)).flatten(),
                processes: self.groups.processes(name).len(),
            });
        }
        Status { name: self.centre.name.clone(), ready, machines }
    }

    async fn obey(self: &Arc<Self>, order: Order, ready: bool) -> Result<Answer> {
        match order {
            Order::Follow => {}
            Order::Status => return Ok(Answer::Status(self.status(ready).await)),
            Order::Leader { machine } => {
                return Ok(Answer::Leader { pid: self.leader(&machine).await? });
            }
            Order::Power { machine, power } => self.power(&machine, power).await?,
            Order::Freeze { machine, frozen } => self.freeze(&machine, frozen).await?,
            Order::Link { one, other, state } => self.network.link(&one, &other, state).await?,
            Order::Partition { machine, from } => self.partition(&machine, &from).await?,
            Order::Heal => self.heal().await?,
        }
        Ok(Answer::Done)
    }
}

/// Takes one order and answers it.
async fn serve(
    stream: UnixStream,
    site: &Mutex<Option<Arc<Site>>>,
    mut progress: watch::Receiver<Progress>,
) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    timeout(ORDER, BufReader::new(read).read_line(&mut line))
        .await
        .context("waiting for the order")??;
    let order: Order =
        serde_json::from_str(&line).with_context(|| format!("reading the order {line:?}"))?;
    let mut tell = async |answer: Answer| -> Result<()> {
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        write.write_all(line.as_bytes()).await.context("answering")
    };
    if order == Order::Follow {
        let mut told = 0;
        loop {
            let now = progress.borrow_and_update().clone();
            for phase in &now.phases[told..] {
                tell(Answer::Phase(phase.clone())).await?;
            }
            told = now.phases.len();
            match now.ended {
                Some(None) => return tell(Answer::Done).await,
                Some(Some(why)) => return tell(Answer::Failed { why }).await,
                None => progress.changed().await.context("the start has ended")?,
            }
        }
    }
    let ready = progress.borrow().ended == Some(None);
    let site = site.lock().await.clone();
    let answer = match site {
        Some(site) => site.obey(order, ready).await,
        None => Err(anyhow!("it is still being built; `dc up` tells how far it is")),
    };
    tell(answer.unwrap_or_else(|error| Answer::Failed { why: format!("{error:#}") })).await
}
