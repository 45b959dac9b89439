//! A data centre as stories use it: its machines can be asked and told, and Neco runs on them.

mod audit;
mod bootstrap;
mod drafts;
mod etcd;
mod full;
mod installation;
mod journal;
mod measure;
mod neco;
pub mod pins;
mod proxy;
mod shell;
mod vault;
mod watch;
mod workshop;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Result, bail};
use neco_schema::NecoVersion;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout_at};

use crate::description::{self, DataCentre};
use crate::host::base;
use crate::host::cgroup::Memory;
use crate::host::command::{command, run};
use crate::instance::dirs::{Dirs, Top};
use crate::instance::orders::{Answer, Order, Phase, Power};
use crate::instance::{artefacts, client, start, warden};
use crate::plan::address::Subnet;
use crate::plan::topology::{Place, Topology};

use self::bootstrap::Authorities;
pub use self::etcd::UNIT as ETCD_UNIT;
pub use self::journal::Followed;
pub use self::measure::Running;
pub use self::neco::{Report, Server, UPDATE, Update};
pub use self::watch::Seen;
pub use self::workshop::{Draft, Flavour, Keys, Workshop};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One question to a routing daemon.
const QUESTION: Duration = Duration::from_secs(10);

/// What a site is made with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folders of all data centres.
    pub top: Top,
    /// This program: it starts data centres.
    pub program: PathBuf,
    /// The package that all packages of stories are made from.
    pub package: PathBuf,
    /// The operators' command line, on this host.
    pub necoctl: PathBuf,
    /// The folder of the contract suites of the drivers, programs that run on a machine.
    pub suites: PathBuf,
}

/// A boot server.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As the data centre calls it.
    pub name: String,
    /// Its logical rack number.
    pub lrn: u32,
    /// The address that the others know it by.
    pub address: Ipv4Addr,
}

/// What the boot servers of a site run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Serf; etcd beside it is the machine's own.
    Little,
    /// All that the package's own recipe is about, with stand-ins for what is not Debian's.
    Everything,
}

impl Runs {
    /// The description of such a data centre.
    const fn description(self) -> &'static str {
        match self {
            Self::Little => start::FOR_STORIES,
            Self::Everything => start::FULL,
        }
    }
}

/// A data centre that runs, tied to this process.
pub struct Site {
    /// What it is made with.
    pub tools: Tools,
    /// What its boot servers run.
    pub runs: Runs,
    /// Its folders.
    pub dirs: Dirs,
    /// Its boot servers that are on from the beginning.
    pub machines: Vec<Machine>,
    /// Makes and publishes packages.
    pub workshop: Workshop,
    /// What was measured since the suite looked last.
    pub figures: BTreeMap<String, f64>,
    /// The version that was installed first, once one was.
    first: Option<NecoVersion>,
    /// What issues certificates to boot servers that run everything.
    authorities: Option<Authorities>,
    /// What such servers find on the internet side; it ends with this.
    outside: Option<Child>,
    centre: DataCentre,
    _held: Option<ChildStdin>,
}

impl Site {
    /// Starts a data centre `name` for boot servers that are to run so much; `told` hears of each phase.
    ///
    /// # Errors
    /// It does not come up; what it said is kept.
    pub async fn up(
        tools: &Tools,
        name: &str,
        runs: Runs,
        told: impl FnMut(&Phase),
    ) -> Result<Self> {
        let text = runs.description();
        let dirs = tools.top.instance(name);
        let centre = description::parse(&dirs.description(), text)?;
        base::bring(&tools.top.base()).await?;
        let held = start::until_ready(&tools.top, &tools.program, &dirs, text, true, told).await?;
        let machines = (0..centre.boot_servers).map(|rack| machine(&centre, rack)).collect();
        let workshop = Workshop::open(tools, runs, dirs.dir.join("workshop"), dirs.releases());
        let workshop = match workshop.await {
            Ok(workshop) => workshop,
            Err(error) => {
                warden::down(&tools.top, name).await?;
                return Err(error);
            }
        };
        Ok(Self {
            tools: tools.clone(),
            runs,
            dirs,
            machines,
            workshop,
            figures: BTreeMap::new(),
            first: None,
            authorities: None,
            outside: None,
            centre,
            _held: held,
        })
    }

    /// Ends it; nothing of it is left.
    ///
    /// # Errors
    /// Something does not go away.
    pub async fn down(self) -> Result<()> {
        warden::down(&self.tools.top, &self.dirs.name).await
    }

    /// Keeps what it and its machines have said; gives the folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub async fn keep(&self) -> Result<PathBuf> {
        let kept = artefacts::keep(&self.tools.top, &self.dirs)?;
        self.keep_routes(&kept).await;
        self.keep_etcd(&kept).await;
        Ok(kept)
    }

    /// Keeps what every routing daemon says of its sessions and routes.
    async fn keep_routes(&self, dir: &Path) {
        let topology = Topology::of(&self.centre.addresses);
        let root = shown(&self.dirs.tools_root());
        let mut text = String::new();
        for place in topology.places.iter().filter(|place| place.is_router()) {
            let name = place.name();
            let control = format!("/run/net/{name}.ctl");
            for what in [&["protocols", "all"][..], &["route"]] {
                let words = ["chroot", &root, "birdc", "-s", &control, "show"];
                let told = match client::enter(&self.dirs) {
                    Ok(enter) => {
                        let words = words.iter().chain(what).map(|&word| word.to_owned());
                        run(&mut command(enter.into_iter().chain(words)), QUESTION).await
                    }
                    Err(error) => Err(error),
                };
                let told = told.unwrap_or_else(|error| format!("{error:#}\n"));
                text.push_str(&format!("── {name}: show {}\n{told}", what.join(" ")));
            }
        }
        // What cannot be kept is missed by those who look for it.
        if let Err(error) = std::fs::write(dir.join("routes.txt"), text) {
            eprintln!("dctest: what the routers say is not kept: {error}");
        }
    }

    /// A boot server by its number.
    ///
    /// # Panics
    /// There is none: the story is wrong.
    #[must_use]
    pub fn machine(&self, lrn: u32) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.lrn == lrn);
        found.unwrap_or_else(|| panic!("there is no boot server {lrn}"))
    }

    /// The boot server of a rack, also one that is not on.
    pub(super) fn machine_of_rack(&self, rack: u32) -> Machine {
        machine(&self.centre, rack)
    }

    /// Gives an order to the data centre.
    ///
    /// # Errors
    /// It cannot be carried out.
    pub async fn order(&self, order: Order) -> Result<()> {
        client::order(&self.dirs, &order).await.map(drop)
    }

    /// Presses a button of a machine.
    ///
    /// # Errors
    /// It does not do what it should.
    pub async fn power(&self, lrn: u32, power: Power) -> Result<()> {
        self.order(Order::Power { machine: self.machine(lrn).name.clone(), power }).await
    }

    /// The same of one that is none of the boot servers yet.
    ///
    /// # Errors
    /// It does not do what it should.
    pub async fn order_power(&self, rack: u32, power: Power) -> Result<()> {
        self.order(Order::Power { machine: Place::BootServer(rack).name(), power }).await
    }

    /// Makes every cable, every network and every frozen machine as they were.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn heal(&self) -> Result<()> {
        self.order(Order::Heal).await
    }

    /// Sees to it that etcd and Neco run and no update is under way.
    ///
    /// # Errors
    /// They do not come to it in time.
    pub async fn get_running(&mut self) -> Result<()> {
        if self.first.is_none() {
            self.first = Some(match self.runs {
                Runs::Little => {
                    self.start_etcd().await?;
                    self.install().await?
                }
                Runs::Everything => self.set_up().await?,
            });
            return Ok(());
        }
        let what = "the update before to be completed";
        self.until_status(what, UPDATE, |report| report.state == "completed").await.map(drop)
    }

    /// Whether Neco was installed.
    #[must_use]
    pub fn runs_neco(&self) -> bool {
        self.first.is_some()
    }

    /// What each machine that is on has in memory.
    ///
    /// # Errors
    /// The data centre has ended.
    pub async fn memory(&self) -> Result<Vec<(String, Memory)>> {
        let Answer::Status(status) = client::order(&self.dirs, &Order::Status).await? else {
            bail!("{} answers something else", self.dirs.name);
        };
        let machines = status.machines.into_iter();
        Ok(machines.filter_map(|machine| Some((machine.name, machine.memory?))).collect())
    }

    /// The version after the last that was made.
    #[must_use]
    pub fn next_version(&mut self) -> NecoVersion {
        self.workshop.next_version()
    }

    /// The description that it was made from.
    #[must_use]
    pub fn centre(&self) -> &DataCentre {
        &self.centre
    }
}

fn machine(centre: &DataCentre, rack: u32) -> Machine {
    Machine {
        name: Place::BootServer(rack).name(),
        lrn: rack,
        address: centre.addresses.boot_server(rack, Subnet::Node0),
    }
}

/// Looks again and again until `look` finds something.
///
/// # Errors
/// It has not after `within`: then `what` was waited for, and what the last look met with.
pub async fn until<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    let mut why = String::new();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => why.clear(),
            Ok(Err(error)) => why = format!(": {error:#}"),
            // What the look before met with says more than that this one took too long.
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}{why}", within.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A path for a command line.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
