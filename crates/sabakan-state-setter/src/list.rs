//! The list of machine types: what is looked at on which machines, and how long something bad is borne (neco-daemons §3.2).
//! Pure: texts in, values or remarks out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use neco_http::Url;
use neco_process::config::Problem;
use neco_process::yaml::{self, Node, Place, Value};

use crate::schedule::Schedule;

/// How long a machine may be bad where its type does not say.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// What the list says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// When retired machines are switched off; never if there is no schedule.
    pub shutdown: Option<Schedule>,
    /// The types of machines by name.
    pub types: BTreeMap<String, MachineType>,
    /// Which alerts count, if any.
    pub alerts: Option<AlertMonitor>,
}

/// A type of machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineType {
    /// How long a machine may be bad until it is told unhealthy.
    pub grace: Duration,
    /// What its exporter of hardware metrics must tell; nothing is asked where this is empty.
    pub checks: Vec<Check>,
}

/// Something that must be well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The family of metrics.
    pub metric: String,
    /// Labels that a sample must have.
    pub labels: BTreeMap<String, String>,
    /// Labels that a sample must have, by how their values begin.
    pub prefixes: BTreeMap<String, String>,
    /// How many of the samples must be well; all of them if it is not said.
    pub at_least: Option<usize>,
}

/// Which alerts count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMonitor {
    /// The base of Alertmanager's API, version 2.
    pub endpoint: Url,
    /// The alerts.
    pub triggers: Vec<Trigger>,
}

/// An alert that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// Labels that it must have, others beside them are fine.
    pub labels: BTreeMap<String, String>,
    /// Which machine it is about.
    pub about: About,
    /// What it makes of the machine.
    pub makes: Worse,
}

/// How an alert names its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// This label has one of its addresses.
    Address(String),
    /// This label has its serial.
    Serial(String),
}

/// What an alert makes of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worse {
    /// Unhealthy, without grace.
    Unhealthy,
    /// Unreachable.
    Unreachable,
}

/// A list, and what was noticed while it was read.
#[derive(Debug)]
pub struct Read {
    /// The list; `None` if it cannot be used.
    pub list: Option<List>,
    /// What makes it unusable.
    pub problems: Vec<Problem>,
    /// What somebody should look at.
    pub warnings: Vec<Problem>,
}

/// Reads the list of the package, with that of the site laid over it key by key. Times of the day are those of `zone`.
pub fn read(files: &[(&Path, &str)], zone: &TimeZone) -> Read {
    let mut reader = Reader { zone, problems: Vec::new(), warnings: Vec::new() };
    let mut merged: Option<Node> = None;
    for (file, text) in files {
        match yaml::parse(file, text) {
            Ok(node) if matches!(node.value, Value::Map(_)) => match &mut merged {
                Some(merged) => merged.overlay(node),
                None => merged = Some(node),
            },
            Ok(node) => {
                let what = format!("holds {} instead of keys", node.value.kind());
                reader.problem(node.place(), "", what, "write KEY: VALUE lines");
            }
            Err(error) => {
                let place = Place { file, line: error.line };
                reader.problem(place, "", error.what, "correct the YAML");
            }
        }
    }
    let list = merged.as_ref().map(|top| reader.list(top));
    let Reader { problems, warnings, .. } = reader;
    Read { list: list.filter(|_| problems.is_empty()), problems, warnings }
}

struct Reader<'z> {
    zone: &'z TimeZone,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Reader<'_> {
    fn list(&mut self, top: &Node) -> List {
        let keys = self.keys(top, "", &["shutdown-schedule", "machine-types", "alert-monitor"]);
        let shutdown = keys.text(self, "shutdown-schedule").and_then(|(text, at)| {
            let parsed = Schedule::parse(text, self.zone);
            let refused = |why: String| {
                let remedy = "write for example 0 11 * * *, or @every 24h";
                self.problem(at, "shutdown-schedule", format!("{text:?} {why}"), remedy);
            };
            parsed.map_err(refused).ok()
        });
        let types = self.types(top, &keys);
        let alerts = keys.get("alert-monitor").and_then(|node| self.alerts(node));
        List { shutdown, types, alerts }
    }

    fn types(&mut self, top: &Node, keys: &Keys<'_>) -> BTreeMap<String, MachineType> {
        let mut types = BTreeMap::new();
        let remedy = "list the types as - name: TYPE";
        let list = self.items(keys.get("machine-types"), "machine-types", remedy);
        if list.is_empty() {
            let place = keys.get("machine-types").unwrap_or(top).place();
            self.problem(place, "machine-types", "has no type of machines", remedy);
        }
        for (key, node) in list {
            let keys = self.keys(node, &key, &["name", "grace-period", "metrics"]);
            let Some(name) = self.needed(node, &keys, "name") else { continue };
            let grace = self.grace(&keys);
            let remedy = "list the metrics as - name: METRIC";
            let checks = self
                .items(keys.get("metrics"), &keys.path("metrics"), remedy)
                .into_iter()
                .filter_map(|(key, node)| self.check(node, &key))
                .collect();
            if types.insert(name.clone(), MachineType { grace, checks }).is_some() {
                let what = format!("{name:?} stands there twice; this one counts");
                self.warning(node.place(), &keys.path("name"), what, "remove the other one");
            }
        }
        types
    }

    /// A duration as text, or nanoseconds; nothing and zero are the default.
    fn grace(&mut self, keys: &Keys<'_>) -> Duration {
        let Some(node) = keys.get("grace-period") else { return GRACE };
        let remedy = "write for example 2h";
        match &node.value {
            Value::Null => GRACE,
            Value::Text(text) if text.is_empty() || matches!(text.as_str(), "0" | "0s") => GRACE,
            Value::Text(text) => match neco_process::duration::parse(text) {
                Ok(grace) => grace,
                Err(error) => {
                    let what = format!("{text:?} {error}");
                    self.problem(node.place(), &keys.path("grace-period"), what, remedy);
                    GRACE
                }
            },
            Value::Number(nanos) if *nanos == 0.0 => GRACE,
            Value::Number(nanos) if *nanos > 0.0 && *nanos < i64::MAX as f64 => {
                Duration::from_nanos(*nanos as u64)
            }
            other => {
                let what = format!("is {} that is no duration", other.kind());
                self.problem(node.place(), &keys.path("grace-period"), what, remedy);
                GRACE
            }
        }
    }

    fn check(&mut self, node: &Node, key: &str) -> Option<Check> {
        let keys = self.keys(node, key, &["name", "selector", "minimum-healthy-count"]);
        let metric = self.needed(node, &keys, "name");
        let mut check = Check::default();
        if let Some(node) = keys.get("selector") {
            let keys = self.keys(node, &keys.path("selector"), &["labels", "label-prefix"]);
            check.labels = self.labels(&keys, "labels");
            check.prefixes = self.labels(&keys, "label-prefix");
        }
        if let Some(node) = keys.get("minimum-healthy-count") {
            match &node.value {
                Value::Null => {}
                Value::Number(count) if *count >= 0.0 && count.fract() == 0.0 && *count < 1e9 => {
                    check.at_least = Some(*count as usize);
                }
                other => {
                    let what = format!("is {} that is no count", other.kind());
                    let path = keys.path("minimum-healthy-count");
                    self.problem(node.place(), &path, what, "write a whole number");
                }
            }
        }
        Some(Check { metric: metric?, ..check })
    }

    fn alerts(&mut self, node: &Node) -> Option<AlertMonitor> {
        let known = ["alertmanager-endpoint", "trigger-alerts"];
        let keys = self.keys(node, "alert-monitor", &known);
        let remedy = "list the alerts as - name: ALERT";
        let triggers: Vec<_> = self
            .items(keys.get("trigger-alerts"), &keys.path("trigger-alerts"), remedy)
            .into_iter()
            .filter_map(|(key, node)| self.trigger(node, &key))
            .collect();
        // Without an endpoint nobody is asked: where Alertmanager is, is for the site to say.
        let (text, place) = keys.text(self, "alertmanager-endpoint")?;
        match text.parse::<Url>() {
            Ok(endpoint)
                if matches!(endpoint.scheme(), "http" | "https") && endpoint.has_host() =>
            {
                Some(AlertMonitor { endpoint, triggers })
            }
            _ => {
                let path = keys.path("alertmanager-endpoint");
                let what = format!("{text:?} is not the URL of an API");
                self.problem(place, &path, what, "write http://HOST:9093/api/v2");
                None
            }
        }
    }

    fn trigger(&mut self, node: &Node, key: &str) -> Option<Trigger> {
        let known = ["name", "labels", "address-label", "serial-label", "state"];
        let keys = self.keys(node, key, &known);
        let name = self.needed(node, &keys, "name");
        let labels = self.labels(&keys, "labels");
        let by_address = keys.text(self, "address-label").map(|(text, _)| text.to_owned());
        let by_serial = keys.text(self, "serial-label").map(|(text, _)| text.to_owned());
        let about = match (by_address, by_serial) {
            (Some(label), None) => Some(About::Address(label)),
            (None, Some(label)) => Some(About::Serial(label)),
            (both, _) => {
                let has = if both.is_some() { "has both" } else { "has neither" };
                let what = format!("{has} address-label and serial-label");
                self.problem(node.place(), key, what, "write one of them");
                None
            }
        };
        let makes = keys.text(self, "state").map(|(text, place)| (text.to_owned(), place));
        let makes = match &makes {
            Some((text, _)) if text == "unhealthy" => Some(Worse::Unhealthy),
            Some((text, _)) if text == "unreachable" => Some(Worse::Unreachable),
            other => {
                let what = match other {
                    Some((text, _)) => format!("{text:?} is no state that an alert may lead to"),
                    None => "is missing".to_owned(),
                };
                let place = other.as_ref().map_or(node.place(), |(_, place)| *place);
                self.problem(place, &keys.path("state"), what, "write unhealthy or unreachable");
                None
            }
        };
        Some(Trigger { name: name?, labels, about: about?, makes: makes? })
    }

    /// A text that must be there.
    fn needed(&mut self, node: &Node, keys: &Keys<'_>, name: &str) -> Option<String> {
        let known = self.problems.len();
        let found = keys.text(self, name).map(|(text, _)| text.to_owned());
        if found.is_none() && self.problems.len() == known {
            self.problem(node.place(), &keys.path(name), "is missing", "give it a name");
        }
        found
    }

    /// Pairs of a name and a text; numbers and truths count as the text that they are written with.
    fn labels(&mut self, keys: &Keys<'_>, name: &str) -> BTreeMap<String, String> {
        let path = keys.path(name);
        let mut labels = BTreeMap::new();
        let Some(node) = keys.get(name) else { return labels };
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let what = format!("is {} instead of labels", other.kind());
                self.problem(node.place(), &path, what, "write LABEL: VALUE lines below it");
                &[]
            }
        };
        for (label, node) in entries {
            let text = match &node.value {
                Value::Text(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null => String::new(),
                other => {
                    let what = format!("is {} instead of a text", other.kind());
                    let path = format!("{path}.{label}");
                    self.problem(node.place(), &path, what, "write one value after the colon");
                    continue;
                }
            };
            labels.insert(label.clone(), text);
        }
        labels
    }

    /// The items of a list with their paths.
    fn items<'a>(
        &mut self,
        node: Option<&'a Node>,
        path: &str,
        remedy: &str,
    ) -> Vec<(String, &'a Node)> {
        let Some(node) = node else { return Vec::new() };
        match &node.value {
            Value::Null => Vec::new(),
            Value::List(list) => {
                list.iter().enumerate().map(|(at, node)| (format!("{path}[{at}]"), node)).collect()
            }
            other => {
                let what = format!("is {} instead of a list", other.kind());
                self.problem(node.place(), path, what, remedy);
                Vec::new()
            }
        }
    }

    /// The keys of a mapping; those that are not known are warned of, so that a file serves an older version, too.
    fn keys<'a>(&mut self, node: &'a Node, path: &str, known: &[&str]) -> Keys<'a> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let what = format!("is {} instead of a mapping", other.kind());
                self.problem(node.place(), path, what, "write its keys below it, indented");
                &[]
            }
        };
        let keys = Keys { path: path.to_owned(), entries };
        for (key, node) in entries.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let remedy = format!("remove it, or write one of {}", known.join(", "));
            self.warning(node.place(), &keys.path(key), "is unknown and ignored", &remedy);
        }
        keys
    }

    fn problem(&mut self, place: Place<'_>, key: &str, what: impl Into<String>, remedy: &str) {
        self.problems.push(remark(place, key, what.into(), remedy));
    }

    fn warning(&mut self, place: Place<'_>, key: &str, what: impl Into<String>, remedy: &str) {
        self.warnings.push(remark(place, key, what.into(), remedy));
    }
}

fn remark(place: Place<'_>, key: &str, what: String, remedy: &str) -> Problem {
    let (file, line) = (place.file.to_owned(), place.line);
    Problem { file, line, key: key.to_owned(), what, remedy: remedy.to_owned() }
}

/// The keys of one mapping.
struct Keys<'a> {
    path: String,
    entries: &'a [(String, Node)],
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, node)| node)
    }

    /// The whole name of a key.
    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A text, unless it is unset or empty.
    fn text(&self, reader: &mut Reader<'_>, key: &str) -> Option<(&'a str, Place<'a>)> {
        let node = self.get(key)?;
        match &node.value {
            Value::Null => None,
            Value::Text(text) if text.trim().is_empty() => None,
            Value::Text(text) => Some((text, node.place())),
            other => {
                let what = format!("is {} instead of a text", other.kind());
                reader.problem(node.place(), &self.path(key), what, "put it in quotes");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/usr/share/neco/sabakan-state-setter.yml";

    fn read_one(text: &str) -> Read {
        read(&[(Path::new(FILE), text)], &TimeZone::UTC)
    }

    fn lines(problems: &[Problem]) -> Vec<String> {
        problems
            .iter()
            .map(|problem| {
                problem.to_string().replace("/usr/share/neco/sabakan-state-setter.yml", "F")
            })
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn everything_that_the_original_writes_is_read() {
        let read = read_one(
            "shutdown-schedule: 0 11 * * *
machine-types:
  - name: qemu
    grace-period: 5s
    metrics:
      - name: hw_processor_status_health
  - name: ss
    metrics:
      - name: drives
        selector:
          labels: {slot: 1, internal: true}
          label-prefix:
            device: Disk.Bay.
        minimum-healthy-count: 7
  - name: nanos
    grace-period: 2000000000
  - name: zero
    grace-period: 0
alert-monitor:
  alertmanager-endpoint: http://alertmanager:9093/api/v2/
  trigger-alerts:
    - name: DiskNotRecognized
      labels:
        severity: error
      serial-label: serial
      state: unhealthy
    - name: LLDPDown
      address-label: address
      state: unreachable
",
        );
        assert_eq!(lines(&read.problems), Vec::<String>::new());
        assert_eq!(lines(&read.warnings), Vec::<String>::new());
        let list = read.list.expect("a list");
        assert_eq!(list.shutdown.map(|times| times.to_string()).as_deref(), Some("0 11 * * *"));
        let graces: Vec<_> =
            list.types.iter().map(|(name, kind)| (name.as_str(), kind.grace.as_secs())).collect();
        assert_eq!(graces, [("nanos", 2), ("qemu", 5), ("ss", 3600), ("zero", 3600)]);
        let check = &list.types["ss"].checks[0];
        assert_eq!(check.labels, pairs(&[("slot", "1"), ("internal", "true")]));
        assert_eq!(check.prefixes, pairs(&[("device", "Disk.Bay.")]));
        assert_eq!((check.metric.as_str(), check.at_least), ("drives", Some(7)));
        assert_eq!(list.types["qemu"].checks[0].at_least, None);
        let monitor = list.alerts.expect("a monitor");
        assert_eq!(monitor.endpoint.as_str(), "http://alertmanager:9093/api/v2/");
        assert_eq!(monitor.triggers[0].labels, pairs(&[("severity", "error")]));
        assert_eq!(monitor.triggers[0].about, About::Serial("serial".to_owned()));
        assert_eq!(monitor.triggers[0].makes, Worse::Unhealthy);
        assert_eq!(monitor.triggers[1].about, About::Address("address".to_owned()));
        assert_eq!(monitor.triggers[1].makes, Worse::Unreachable);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        let read = read_one(
            "shutdown-schedule: every day
machine-types:
  - grace-period: 5s
  - name: a
    grace-period: 5
    metrics:
      - selector: {labels: {a: b}}
      - name: m
        minimum-healthy-count: -1
  - name: b
    grace-period: soon
    metrics: m
  - c
alert-monitor:
  alertmanager-endpoint: alertmanager:9093
  trigger-alerts:
    - name: Both
      address-label: a
      serial-label: b
      state: unhealthy
    - name: Neither
      state: unhealthy
    - name: State
      address-label: a
      state: retired
    - name: NoState
      address-label: a
",
        );
        assert!(read.list.is_none());
        let expected = [
            "F:1: shutdown-schedule: \"every day\" has 2 fields instead of five",
            "F:3: machine-types[0].name: is missing; give it a name",
            "F:7: machine-types[1].metrics[0].name: is missing",
            "F:9: machine-types[1].metrics[1].minimum-healthy-count: is a number that is no count",
            "F:11: machine-types[2].grace-period: \"soon\" is not a duration; write for example 2h",
            "F:12: machine-types[2].metrics: is a text instead of a list",
            "F:13: machine-types[3]: is a text instead of a mapping",
            "F:13: machine-types[3].name: is missing",
            "F:17: alert-monitor.trigger-alerts[0]: has both address-label and serial-label",
            "F:21: alert-monitor.trigger-alerts[1]: has neither address-label and serial-label",
            "F:25: alert-monitor.trigger-alerts[2].state: \"retired\" is no state",
            "F:26: alert-monitor.trigger-alerts[3].state: is missing",
            "F:15: alert-monitor.alertmanager-endpoint: \"alertmanager:9093\" is not the URL of an API",
        ];
        let found = lines(&read.problems);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn a_list_without_types_is_none_and_neither_is_what_is_no_list() {
        for (text, line) in [
            ("", "F: machine-types: has no type of machines"),
            ("shutdown-schedule: '@daily'\n", "F: machine-types: has no type of machines"),
            ("machine-types: []\n", "F:1: machine-types: has no type of machines"),
            ("machine-types: []\nmachine-types: []\n", "F:2: "),
            ("- a\n", "F:1: holds a list instead of keys"),
            ("a: [\n", "F:"),
        ] {
            let read = read_one(text);
            assert!(read.list.is_none(), "{text}");
            let found = lines(&read.problems);
            let place = line.split(':').next() == Some("F");
            assert!(place && found[0].contains(line.trim_start_matches("F:")), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_ignored_with_a_warning_and_the_later_of_two_counts() {
        let read = read_one(
            "machine-types:
  - name: a
    metrics:
      - name: m
        labels: {forgot: selector}
  - name: a
    grace-period: 1s
colour: red
",
        );
        let list = read.list.expect("a list");
        assert_eq!(list.types["a"].grace, Duration::from_secs(1));
        let found = lines(&read.warnings);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("F:8: colour: is unknown and ignored"), "{found:#?}");
        assert!(found[1].starts_with("F:5: machine-types[0].metrics[0].labels: is unknown"));
        assert!(found[1].contains("name, selector, minimum-healthy-count"), "{found:#?}");
        assert!(found[2].starts_with("F:6: machine-types[1].name: \"a\" stands there twice"));
    }

    #[test]
    fn the_list_of_the_site_is_laid_over_that_of_the_package() {
        let package = "shutdown-schedule: '@daily'
machine-types: [{name: a}]
alert-monitor:
  trigger-alerts: [{name: A, address-label: address, state: unhealthy}]
";
        let alone = read_one(package).list.expect("a list");
        assert_eq!(alone.alerts, None, "nobody knows where to ask");
        let site = Path::new("/etc/neco/sabakan-state-setter.yml");
        let over =
            "alert-monitor: {alertmanager-endpoint: 'http://am:9093/api/v2'}\nshutdown-schedule:\n";
        let files = [(Path::new(FILE), package), (site, over)];
        let list = read(&files, &TimeZone::UTC).list.expect("a list");
        assert_eq!(list.alerts.expect("a monitor").triggers.len(), 1);
        assert_eq!((list.shutdown, list.types.len()), (None, 1));
        let files = [(Path::new(FILE), package), (site, "machine-types: 3\n")];
        let problems = read(&files, &TimeZone::UTC).problems;
        assert!(problems[0].to_string().starts_with("/etc/neco/sabakan-state-setter.yml:1: "));
    }

    #[test]
    fn the_list_of_the_package_can_be_used_and_knows_the_models_of_the_original() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../debian/usr/share/neco/sabakan-state-setter.yml");
        let text = std::fs::read_to_string(&file).expect("the list of the package");
        let read = read(&[(&file, &text)], &TimeZone::UTC);
        assert_eq!((lines(&read.problems), lines(&read.warnings)), (Vec::new(), Vec::new()));
        let list = read.list.expect("a list");
        assert_eq!(list.shutdown.map(|times| times.to_string()).as_deref(), Some("0 11 * * *"));
        assert_eq!(list.types.len(), 9);
        for (name, kind) in &list.types {
            let (hours, least) = if name == "qemu" { (0, 1) } else { (2, 4) };
            assert_eq!(kind.grace.as_secs() / 3600, hours, "{name}");
            assert!(kind.checks.len() >= least, "{name}");
        }
        let counts: std::collections::BTreeSet<_> = list
            .types
            .values()
            .flat_map(|kind| kind.checks.iter().filter_map(|check| check.at_least))
            .collect();
        assert_eq!(Vec::from_iter(counts), [1, 2, 3, 7]);
    }
}
