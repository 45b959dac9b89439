//! What a machine is, by what serf, alerts and its hardware say (neco-daemons §3.4). Pure.
//!
//! Rows are those of the table in the reference. What is asked of a machine itself costs a request, so the decision comes in
//! two halves: [`first`] tells what can be told without, and [`with_hardware`] the rest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use neco_sabakan::{Machine, MachineState};
use neco_serf::{Member, Status};

use crate::alerts::Alert;
use crate::exposition::Metrics;
use crate::health;
use crate::list::{About, AlertMonitor, List, MachineType, Trigger, Worse};

/// The label of machines that names their type.
const TYPE: &str = "machine-type";
/// The tag of members that names the units that have failed on them.
const FAILED_UNITS: &str = "systemd-units-failed";
/// The tag of members that says whether they are boot servers.
const BOOT_SERVER: &str = "boot-server";

/// The states in which a machine's health is told; the others are told by people, CKE or the retirement.
pub const WATCHED: [MachineState; 4] = [
    MachineState::Uninitialized,
    MachineState::Healthy,
    MachineState::Unhealthy,
    MachineState::Unreachable,
];

/// What serf's agent sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerfView {
    peers: BTreeMap<IpAddr, Peer>,
    /// How many boot servers are alive in it.
    pub boot_servers: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    status: Status,
    failed_units: Option<String>,
}

impl SerfView {
    /// The view that members make. A machine that came back under another name is there twice for a while: alive counts.
    pub fn of(members: &[Member]) -> Self {
        let mut view = Self::default();
        for member in members {
            let alive = member.status == Status::Alive;
            if alive && member.tag(BOOT_SERVER) == Some("true") {
                view.boot_servers += 1;
            }
            let Some(address) = member.address else { continue };
            if alive || !view.peers.contains_key(&address) {
                let failed_units = member.tag(FAILED_UNITS).map(str::to_owned);
                view.peers.insert(address, Peer { status: member.status.clone(), failed_units });
            }
        }
        view
    }

    fn peer(&self, machine: &Machine) -> Option<&Peer> {
        self.peers.get(&IpAddr::V4(*machine.spec.ipv4.first()?))
    }

    /// How many members have an address.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

/// What a machine is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays what it is; why.
    Unchanged(String),
    /// It is well.
    Healthy,
    /// Something of it is broken; what.
    Unhealthy {
        /// Whether no grace is given.
        at_once: bool,
        /// In words.
        why: String,
    },
    /// It does not answer; how that shows.
    Unreachable(String),
}

/// What can be told before a machine is asked for its metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding<'a> {
    /// Everything.
    Settled(Verdict),
    /// Its hardware decides: it is of this type.
    Hardware(&'a MachineType),
}

/// The type of a machine: what its label says, and what the list knows of that.
pub fn kind<'a>(machine: &'a Machine, list: &'a List) -> (&'a str, Option<&'a MachineType>) {
    let name = machine.spec.labels.get(TYPE).map_or("", String::as_str);
    (name, list.types.get(name))
}

/// What can be told of a machine without asking it for metrics: rows 1 to 6, and the last two where its type checks nothing.
pub fn first<'a>(
    machine: &'a Machine,
    view: &SerfView,
    alerts: &[Alert],
    list: &'a List,
) -> Finding<'a> {
    let Some(address) = machine.spec.ipv4.first() else {
        return Finding::Settled(Verdict::Unchanged("it has no address in sabakan".to_owned()));
    };
    let unreachable = |why: String| Finding::Settled(Verdict::Unreachable(why));
    let unhealthy = |at_once, why: String| Finding::Settled(Verdict::Unhealthy { at_once, why });
    let Some(peer) = view.peer(machine) else {
        return unreachable(format!("serf knows nobody at {address}"));
    };
    if peer.status != Status::Alive {
        return unreachable(format!("serf says {}", peer.status));
    }
    match list.alerts.as_ref().and_then(|monitor| worst(machine, alerts, monitor)) {
        Some((Worse::Unhealthy, name)) => return unhealthy(true, format!("alert {name}")),
        Some((Worse::Unreachable, name)) => return unreachable(format!("alert {name}")),
        None => {}
    }
    if let Some(units) = peer.failed_units.as_deref().filter(|units| !units.is_empty()) {
        let units = units.trim_end_matches(',');
        return unhealthy(false, format!("units that failed: {units}"));
    }
    match kind(machine, list) {
        (name, None) => unhealthy(false, format!("its type {name:?} is not in the list")),
        (_, Some(kind)) if kind.checks.is_empty() => Finding::Settled(well(peer)),
        (_, Some(kind)) => Finding::Hardware(kind),
    }
}

/// The rest, once it is known what its exporter says, or why that is not known: rows 7 to 11.
pub fn with_hardware(
    machine: &Machine,
    view: &SerfView,
    kind: &MachineType,
    metrics: &Result<Metrics, String>,
) -> Verdict {
    let broken = |why| Verdict::Unhealthy { at_once: false, why };
    match metrics {
        Err(why) => broken(format!("its metrics cannot be read: {why}")),
        Ok(metrics) => match (health::ailment(&kind.checks, metrics), view.peer(machine)) {
            (Some(why), _) => broken(why),
            (None, Some(peer)) => well(peer),
            (None, None) => Verdict::Unchanged("serf has forgotten it".to_owned()),
        },
    }
}

/// Nothing is wrong with it, if it has told whether units have failed: before that, it is starting.
fn well(peer: &Peer) -> Verdict {
    match peer.failed_units {
        Some(_) => Verdict::Healthy,
        None => Verdict::Unchanged(format!("it has no tag {FAILED_UNITS} yet")),
    }
}

/// The worst that alerts make of a machine, and the name of the alert.
fn worst<'a>(
    machine: &Machine,
    alerts: &'a [Alert],
    monitor: &AlertMonitor,
) -> Option<(Worse, &'a str)> {
    let hits = alerts.iter().filter_map(|alert| {
        let made = monitor.triggers.iter().filter(|trigger| concerns(trigger, alert, machine));
        Some((made.map(|trigger| trigger.makes).max()?, alert.name()))
    });
    // Of equals, the first.
    hits.fold(None, |worst, hit| match worst {
        Some((before, _)) if before >= hit.0 => worst,
        _ => Some(hit),
    })
}

/// Whether an alert is the one that a trigger waits for, and about this machine.
fn concerns(trigger: &Trigger, alert: &Alert, machine: &Machine) -> bool {
    let has = |(name, value): (&String, &String)| alert.labels.get(name) == Some(value);
    alert.name() == trigger.name
        && trigger.labels.iter().all(has)
        && match &trigger.about {
            About::Serial(label) => {
                alert.labels.get(label).is_some_and(|value| value == machine.spec.serial.as_str())
            }
            About::Address(label) => alert.labels.get(label).is_some_and(|value| {
                machine.spec.ipv4.iter().any(|address| address.to_string() == *value)
            }),
        }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use jiff::tz::TimeZone;
    use neco_sabakan::{MachineSpec, MachineStatus, Role, Serial};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 69, 0, 4);

    /// A machine of a type in a state.
    pub(crate) fn machine(serial: &str, kind: &str, state: MachineState) -> Machine {
        Machine {
            spec: MachineSpec {
                serial: Serial::new(serial).expect("a serial"),
                labels: [(TYPE.to_owned(), kind.to_owned())].into(),
                rack: 0,
                index_in_rack: 4,
                role: Role::new("cs").expect("a role"),
                ipv4: vec![ADDRESS, Ipv4Addr::new(10, 69, 0, 68)],
                register_date: Default::default(),
                retire_date: Default::default(),
                bmc: Default::default(),
            },
            status: MachineStatus { timestamp: Default::default(), duration: 0.0, state },
            info: Default::default(),
        }
    }

    fn member(name: &str, status: Status, tags: &[(&str, &str)]) -> Member {
        let tags = tags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Member { name: name.to_owned(), address: Some(ADDRESS.into()), port: 7946, tags, status }
    }

    fn list() -> List {
        let text = "machine-types:
  - name: checked
    metrics: [{name: cpu}]
  - name: free
alert-monitor:
  alertmanager-endpoint: http://am:9093/api/v2
  trigger-alerts:
    - {name: Disk, labels: {severity: error}, serial-label: serial, state: unhealthy}
    - {name: Net, address-label: address, state: unhealthy}
    - {name: Lldp, address-label: address, state: unreachable}
";
        let read = crate::list::read(&[(Path::new("list.yml"), text)], &TimeZone::UTC);
        read.list.unwrap_or_else(|| panic!("{:?}", read.problems))
    }

    fn alert(labels: &[(&str, &str)]) -> Alert {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Alert { labels: labels.iter().map(pair).collect() }
    }

    /// Both halves, with these metrics in the exporter's text, or none that can be read. In a word, and why.
    fn decided(kind: &str, members: &[Member], alerts: &[Alert], metrics: Option<&str>) -> String {
        let (list, machine) = (list(), machine("abc", kind, MachineState::Healthy));
        let view = SerfView::of(members);
        let verdict = match first(&machine, &view, alerts, &list) {
            Finding::Settled(verdict) => verdict,
            Finding::Hardware(kind) => {
                let wanted = health::wanted(&kind.checks);
                let metrics = metrics.ok_or_else(|| "no answer".to_owned()).and_then(|text| {
                    crate::exposition::parse(text, &wanted).map_err(|e| e.to_string())
                });
                with_hardware(&machine, &view, kind, &metrics)
            }
        };
        match verdict {
            Verdict::Unchanged(why) => format!("unchanged: {why}"),
            Verdict::Healthy => "healthy".to_owned(),
            Verdict::Unhealthy { at_once: true, why } => format!("unhealthy at once: {why}"),
            Verdict::Unhealthy { at_once: false, why } => format!("unhealthy: {why}"),
            Verdict::Unreachable(why) => format!("unreachable: {why}"),
        }
    }

    const WELL: Option<&str> = Some("cpu 0\n");
    const ILL: Option<&str> = Some("cpu 0\ncpu{n=\"2\"} 1\n");

    #[test]
    fn every_row_of_the_table_in_its_order() {
        let all_well = [(FAILED_UNITS, "")];
        let failed_units = [(FAILED_UNITS, "a.service,b.service,")];
        let alive = |tags: &[(&str, &str)]| vec![member("m", Status::Alive, tags)];
        let net = || vec![alert(&[("alertname", "Net"), ("address", "10.69.0.4")])];
        let lldp = || vec![alert(&[("alertname", "Lldp"), ("address", "10.69.0.4")])];
        let nobody = "unreachable: serf knows nobody at 10.69.0.4";
        let units = "unhealthy: units that failed: a.service,b.service";
        for (kind, members, alerts, metrics, expected) in [
            // 1, 2: serf comes first.
            ("checked", vec![], vec![], WELL, nobody),
            ("checked", vec![], net(), ILL, nobody),
            (
                "checked",
                vec![member("m", Status::Failed, &all_well)],
                vec![],
                WELL,
                "unreachable: serf says failed",
            ),
            (
                "checked",
                vec![member("m", Status::Failed, &all_well)],
                net(),
                ILL,
                "unreachable: serf says failed",
            ),
            (
                "free",
                vec![member("m", Status::Left, &all_well)],
                vec![],
                None,
                "unreachable: serf says left",
            ),
            (
                "free",
                vec![member("m", Status::Leaving, &[])],
                vec![],
                None,
                "unreachable: serf says leaving",
            ),
            (
                "free",
                vec![member("m", Status::None, &[])],
                vec![],
                None,
                "unreachable: serf says none",
            ),
            // 3, 4: then alerts, of which the worst counts.
            ("checked", alive(&all_well), net(), WELL, "unhealthy at once: alert Net"),
            ("checked", alive(&failed_units), net(), ILL, "unhealthy at once: alert Net"),
            ("checked", alive(&all_well), lldp(), WELL, "unreachable: alert Lldp"),
            (
                "checked",
                alive(&all_well),
                [net(), lldp()].concat(),
                WELL,
                "unreachable: alert Lldp",
            ),
            (
                "checked",
                alive(&all_well),
                [lldp(), net()].concat(),
                WELL,
                "unreachable: alert Lldp",
            ),
            // 5: units.
            ("checked", alive(&failed_units), vec![], WELL, units),
            ("unknown", alive(&failed_units), vec![], WELL, units),
            // 6: the type.
            (
                "unknown",
                alive(&all_well),
                vec![],
                WELL,
                "unhealthy: its type \"unknown\" is not in the list",
            ),
            (
                "unknown",
                alive(&[]),
                vec![],
                WELL,
                "unhealthy: its type \"unknown\" is not in the list",
            ),
            // 7, 8, 9: the hardware, also of a machine that is starting.
            (
                "checked",
                alive(&all_well),
                vec![],
                None,
                "unhealthy: its metrics cannot be read: no answer",
            ),
            (
                "checked",
                alive(&[]),
                vec![],
                None,
                "unhealthy: its metrics cannot be read: no answer",
            ),
            (
                "checked",
                alive(&all_well),
                vec![],
                Some("cpu x\n"),
                "unhealthy: its metrics cannot be read: line 1 of the metrics is no sample of cpu: its value is no number",
            ),
            ("checked", alive(&all_well), vec![], Some(""), "unhealthy: there is no metric cpu"),
            (
                "checked",
                alive(&all_well),
                vec![],
                ILL,
                "unhealthy: cpu: 1 of 2 are well, 2 must be",
            ),
            ("checked", alive(&[]), vec![], ILL, "unhealthy: cpu: 1 of 2 are well, 2 must be"),
            // 10: it is starting.
            (
                "checked",
                alive(&[]),
                vec![],
                WELL,
                "unchanged: it has no tag systemd-units-failed yet",
            ),
            ("free", alive(&[]), vec![], None, "unchanged: it has no tag systemd-units-failed yet"),
            // 11.
            ("checked", alive(&all_well), vec![], WELL, "healthy"),
            ("free", alive(&all_well), vec![], None, "healthy"),
        ] {
            assert_eq!(
                decided(kind, &members, &alerts, metrics),
                expected,
                "{kind} {members:?} {alerts:?}"
            );
        }
    }

    #[test]
    fn only_an_alert_of_that_name_with_those_labels_about_this_machine_counts() {
        let members = [member("m", Status::Alive, &[(FAILED_UNITS, "")])];
        for (labels, expected) in [
            (
                &[("alertname", "Disk"), ("serial", "abc"), ("severity", "error"), ("x", "y")][..],
                "unhealthy at once: alert Disk",
            ),
            (&[("alertname", "Disk"), ("serial", "abc"), ("severity", "warning")], "healthy"),
            (&[("alertname", "Disk"), ("serial", "abc")], "healthy"),
            (&[("alertname", "Disk"), ("serial", "abcd"), ("severity", "error")], "healthy"),
            (&[("alertname", "Disk"), ("address", "10.69.0.4"), ("severity", "error")], "healthy"),
            (&[("alertname", "Net"), ("address", "10.69.0.5")], "healthy"),
            (&[("alertname", "Net"), ("serial", "abc")], "healthy"),
            (&[("alertname", "Net"), ("address", "10.69.0.68")], "unhealthy at once: alert Net"),
            (&[("alertname", "net"), ("address", "10.69.0.4")], "healthy"),
            (&[("address", "10.69.0.4")], "healthy"),
        ] {
            let alerts = [alert(labels)];
            assert_eq!(decided("free", &members, &alerts, None), expected, "{labels:?}");
        }
    }

    #[test]
    fn a_machine_without_an_address_stays_what_it_is() {
        let (list, mut machine) = (list(), machine("abc", "free", MachineState::Uninitialized));
        machine.spec.ipv4.clear();
        let view = SerfView::of(&[member("m", Status::Alive, &[])]);
        let Finding::Settled(Verdict::Unchanged(why)) = first(&machine, &view, &[], &list) else {
            panic!("something was told of it");
        };
        assert_eq!(why, "it has no address in sabakan");
    }

    #[test]
    fn of_two_members_at_one_address_the_one_that_lives_counts() {
        let dead = member("before", Status::Failed, &[]);
        let lives = member("now", Status::Alive, &[(FAILED_UNITS, ""), (BOOT_SERVER, "true")]);
        for members in [[dead.clone(), lives.clone()], [lives, dead]] {
            assert_eq!(decided("free", &members, &[], None), "healthy", "{members:?}");
            assert_eq!(SerfView::of(&members).boot_servers, 1);
        }
        let mut gone = member("gone", Status::Failed, &[(BOOT_SERVER, "true")]);
        gone.address = None;
        let worker = member("worker", Status::Alive, &[(BOOT_SERVER, "false")]);
        let view = SerfView::of(&[gone, worker]);
        assert_eq!((view.boot_servers, view.len()), (0, 1));
    }
}
