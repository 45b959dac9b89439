//! The description of a data centre: one YAML file, read as a whole before anything is started.
//!
//! Only `format`, `name` and `boot-servers` must be there; everything else has a default, which is the address plan of the
//! original's own test data centre. Everything that is wrong is told in one go, each with its line.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use ipnet::Ipv4Net;
use neco_process::config::Problem;
use neco_process::duration;
use neco_process::yaml::{self, Node, Value};

use crate::plan::address::{Addresses, Pools};
use crate::plan::bird::{Bfd, Timers};
use crate::plan::image::{Given, Image, InstallTools};

/// The form of the file that this version reads.
pub const FORMAT: u32 = 1;

/// A cluster's name begins the host names of its servers: `dc0-boot-12` must be a label of DNS, and short.
const LONGEST_NAME: usize = 8;

/// So many racks have room in a name such as `rack99-tor1`.
const MOST_RACKS: u32 = 20;
const MOST_SPINES: u32 = 8;

/// A data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataCentre {
    /// Names the cluster: host names are `NAME-boot-LRN`.
    pub name: String,
    /// How many boot servers are on from the beginning: those of the first racks.
    pub boot_servers: u32,
    /// How many more can be powered on.
    pub spare_boot_servers: u32,
    /// Where everything is.
    pub addresses: Addresses,
    /// What the numbers of autonomous systems are counted from.
    pub asn_base: u32,
    /// How quickly routing notices and recovers.
    pub timers: Timers,
    /// Hosts of the internet.
    pub internet: Internet,
    /// What the registry is filled with.
    pub images: Vec<Image>,
    /// The kind of the interfaces that are on no cable.
    pub stub_link: StubLink,
    /// How long things may take.
    pub limits: Limits,
}

/// Hosts of the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Internet {
    /// Serves container images.
    pub registry: Ipv4Addr,
    /// Serves releases.
    pub releases: Ipv4Addr,
}

/// What carries an address that is on no cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StubLink {
    /// A bridge without ports, which every kernel has: it is shown as down and works.
    Bridge,
    /// A device of the kind `dummy`, as on real boot servers.
    Dummy,
}

/// How long things may take before they have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From power on until the machine says that it runs.
    pub boot: Duration,
    /// From then until it reaches the others.
    pub converge: Duration,
    /// Until a service that was asked to stop is killed.
    pub stop: Duration,
}

/// What cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Unusable(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Reads a description. `file` is for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<DataCentre, Unusable> {
    let mut reader = Reader { file, problems: Vec::new() };
    let top = match yaml::parse(file, text) {
        Ok(top) => top,
        Err(error) => {
            reader.problem(error.line, "", error.what, "correct the YAML");
            return Err(Unusable(reader.problems));
        }
    };
    let found = reader.data_centre(&top);
    if reader.problems.is_empty() { Ok(found) } else { Err(Unusable(reader.problems)) }
}

struct Reader<'a> {
    file: &'a Path,
    problems: Vec<Problem>,
}

/// The keys of one mapping.
struct Section<'a> {
    /// The key of the mapping itself, with a dot at its end; empty at the top.
    prefix: String,
    line: Option<u64>,
    entries: &'a [(String, Node)],
}

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, node)| node)
    }
}

impl Reader<'_> {
    fn problem(
        &mut self,
        line: Option<u64>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (what, remedy) = (what.into(), remedy.into());
        let file = self.file.to_owned();
        self.problems.push(Problem { file, line, key: key.to_owned(), what, remedy });
    }

    fn data_centre(&mut self, node: &Node) -> DataCentre {
        let top = self.section(node, "", &TOP);
        match self.number(&top, "format", None, 1..=u32::MAX) {
            FORMAT | 0 => {}
            other => {
                let what = format!("is {other}, which this version does not know");
                self.problem(
                    line(&top, "format"),
                    "format",
                    what,
                    format!("write it in format {FORMAT}"),
                );
            }
        }
        let name = self.name(&top);
        let boot_servers = self.number(&top, "boot-servers", None, 1..=MOST_RACKS);
        let spare_boot_servers = self.number(&top, "spare-boot-servers", Some(0), 0..=MOST_RACKS);
        let racks = boot_servers + spare_boot_servers;
        if racks > MOST_RACKS {
            let what = format!("makes {racks} racks together with boot-servers");
            let remedy = format!("have at most {MOST_RACKS} in all");
            self.problem(line(&top, "spare-boot-servers"), "spare-boot-servers", what, remedy);
        }
        let network = self.below(&top, "network", &NETWORK);
        let pools = self.pools(&network);
        let spines = self.number(&network, "spines", Some(2), 1..=MOST_SPINES);
        let addresses = Addresses { pools, racks, spines };
        self.room(&network, &addresses);
        // The core has the base less 3, a rack the base and its number: all below the reserved ones (RFC 7300).
        let asn_base = self.number(&network, "asn-base", Some(64_600), 4..=65_000);
        let timers = self.timers(&network);
        let stub_link = self.stub_link(&network);
        let internet = self.internet(&top, &addresses);
        let images = self.images(&top);
        let limits = self.below(&top, "limits", &LIMITS);
        let limits = Limits {
            boot: self.duration(&limits, "boot", "30s"),
            converge: self.duration(&limits, "converge", "15s"),
            stop: self.duration(&limits, "stop", "10s"),
        };
        DataCentre {
            name,
            boot_servers,
            spare_boot_servers,
            addresses,
            asn_base,
            timers,
            internet,
            images,
            stub_link,
            limits,
        }
    }

    fn section<'n>(&mut self, node: &'n Node, key: &str, known: &[&str]) -> Section<'n> {
        let prefix = if key.is_empty() { String::new() } else { format!("{key}.") };
        let line = node.place().line;
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let what = format!("is {} instead of a mapping", other.kind());
                self.problem(line, key, what, "write its keys below it, indented");
                &[]
            }
        };
        for (entry, node) in entries {
            if !known.contains(&entry.as_str()) {
                let remedy = format!("remove it, or write one of {}", known.join(", "));
                self.problem(node.place().line, &format!("{prefix}{entry}"), "is unknown", remedy);
            }
        }
        Section { prefix, line, entries }
    }

    fn below<'n>(&mut self, section: &Section<'n>, key: &str, known: &[&str]) -> Section<'n> {
        let full = format!("{}{key}", section.prefix);
        match section.get(key) {
            Some(node) => self.section(node, &full, known),
            None => Section { prefix: format!("{full}."), line: section.line, entries: &[] },
        }
    }

    /// What stands under a key, as it was written; nothing where nothing stands.
    fn written(&mut self, section: &Section<'_>, key: &str) -> Option<(String, Option<u64>)> {
        let node = section.get(key)?;
        let line = node.place().line;
        match &node.value {
            Value::Null => None,
            Value::Text(text) => Some((text.clone(), line)),
            Value::Number(number) => Some((number.to_string(), line)),
            other => {
                let what = format!("is {} instead of a text", other.kind());
                self.problem(
                    line,
                    &format!("{}{key}", section.prefix),
                    what,
                    "write one value after the colon",
                );
                None
            }
        }
    }

    /// A whole number. Without a default it must be there; 0 stands for what is not.
    fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: Option<u32>,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        let full = format!("{}{key}", section.prefix);
        let (low, high) = (*range.start(), *range.end());
        let expected = if high == u32::MAX {
            format!("write a whole number from {low} on")
        } else {
            format!("write a whole number from {low} to {high}")
        };
        let there = section.get(key).is_some_and(|node| !matches!(node.value, Value::Null));
        let Some((text, line)) = self.written(section, key) else {
            if default.is_none() && !there {
                self.problem(section.line, &full, "is missing", expected);
            }
            return default.unwrap_or_default();
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(line, &full, format!("is {text}"), expected);
                default.unwrap_or_default()
            }
        }
    }

    fn name(&mut self, top: &Section<'_>) -> String {
        let remedy =
            format!("write at most {LONGEST_NAME} small letters and digits, a letter first");
        let Some((text, line)) = self.written(top, "name") else {
            if top.get("name").is_none_or(|node| matches!(node.value, Value::Null)) {
                self.problem(top.line, "name", "is missing", remedy);
            }
            return String::new();
        };
        let fits = text.len() <= LONGEST_NAME
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !fits {
            self.problem(line, "name", format!("is {text:?}"), remedy);
        }
        text
    }

    fn pools(&mut self, network: &Section<'_>) -> Pools {
        Pools {
            node: self.network(network, "node", "10.69.0.0/20"),
            spine_tor: self.network(network, "spine-tor", "10.72.1.0/24"),
            core_spine: self.network(network, "core-spine", "10.72.2.0/24"),
            core_operation: self.network(network, "core-operation", "10.72.4.0/24"),
            bastion: self.network(network, "bastion", "10.72.48.0/24"),
            core_internet: self.network(network, "core-internet", "10.0.0.0/24"),
            internet: self.network(network, "internet", "198.18.0.0/24"),
        }
    }

    fn network(&mut self, section: &Section<'_>, key: &str, default: &str) -> Ipv4Net {
        let default = default.parse().unwrap_or_else(|_| unreachable!("{default} is a network"));
        let Some((text, line)) = self.written(section, key) else { return default };
        let full = format!("{}{key}", section.prefix);
        match text.parse::<Ipv4Net>() {
            Ok(net) if net == net.trunc() => net,
            Ok(net) => {
                let what = format!("{text} does not start at its first address");
                self.problem(line, &full, what, format!("write {}", net.trunc()));
                net.trunc()
            }
            Err(_) => {
                let what = format!("{text:?} is no IPv4 network");
                self.problem(line, &full, what, format!("write one such as {default}"));
                default
            }
        }
    }

    /// Whether the pools are large enough and apart from one another.
    fn room(&mut self, network: &Section<'_>, addresses: &Addresses) {
        for small in addresses.problems() {
            let (needed, has) = (small.needed, small.has);
            let what = format!("has {has} addresses, and {needed} are needed");
            let place = line(network, small.pool).or(network.line);
            self.problem(
                place,
                &format!("network.{}", small.pool),
                what,
                "give it a shorter prefix",
            );
        }
        let pools = addresses.pools.all();
        for (at, (name, one)) in pools.iter().enumerate() {
            for (other_name, other) in &pools[..at] {
                if one.contains(&other.network()) || other.contains(&one.network()) {
                    // The one that is written is the one to change.
                    let (named, beside) = match (line(network, name), line(network, other_name)) {
                        (None, Some(_)) => ((other_name, other), (name, one)),
                        _ => ((name, one), (other_name, other)),
                    };
                    let what = format!("{} overlaps network.{} {}", named.1, beside.0, beside.1);
                    let place = line(network, named.0).or(network.line);
                    self.problem(
                        place,
                        &format!("network.{}", named.0),
                        what,
                        "take another network",
                    );
                }
            }
        }
    }

    fn timers(&mut self, network: &Section<'_>) -> Timers {
        let timers = self.below(network, "timers", &TIMERS);
        let [connect_delay, connect_retry, hold, keepalive] =
            [("connect-delay", "1s"), ("connect-retry", "3s"), ("hold", "9s"), ("keepalive", "3s")]
                .map(|(key, default)| self.whole_seconds(&timers, key, default));
        if keepalive >= hold {
            let place = line(&timers, "keepalive").or(line(&timers, "hold")).or(timers.line);
            let what = "is not shorter than network.timers.hold: every session would end between two words";
            self.problem(place, "network.timers.keepalive", what, "write a third of it");
        }
        let off = network.get("bfd").is_some_and(|node| match &node.value {
            Value::Text(word) => word == "off",
            Value::Bool(on) => !on,
            _ => false,
        });
        let bfd = (!off).then(|| {
            let bfd = self.below(network, "bfd", &BFD);
            Bfd {
                interval: self.duration(&bfd, "interval", "100ms"),
                multiplier: self.number(&bfd, "multiplier", Some(3), 1..=255),
            }
        });
        Timers { connect_delay, connect_retry, hold, keepalive, bfd }
    }

    fn duration(&mut self, section: &Section<'_>, key: &str, default: &str) -> Duration {
        let default = duration::parse(default)
            .unwrap_or_else(|error| unreachable!("the default of {key} {error}"));
        let Some((text, line)) = self.written(section, key) else { return default };
        duration::parse(&text).unwrap_or_else(|error| {
            let full = format!("{}{key}", section.prefix);
            self.problem(
                line,
                &full,
                format!("{text:?} {error}"),
                "write one such as 30s or 100ms",
            );
            default
        })
    }

    /// BIRD counts these in seconds.
    fn whole_seconds(&mut self, section: &Section<'_>, key: &str, default: &str) -> Duration {
        let found = self.duration(section, key, default);
        if found.subsec_nanos() != 0 {
            let full = format!("{}{key}", section.prefix);
            self.problem(
                line(section, key),
                &full,
                "has a fraction of a second",
                "write whole seconds",
            );
        }
        found
    }

    fn stub_link(&mut self, network: &Section<'_>) -> StubLink {
        match self.written(network, "stub-link") {
            None => StubLink::Bridge,
            Some((text, _)) if text == "bridge" => StubLink::Bridge,
            Some((text, _)) if text == "dummy" => StubLink::Dummy,
            Some((text, line)) => {
                self.problem(
                    line,
                    "network.stub-link",
                    format!("is {text:?}"),
                    "write bridge or dummy",
                );
                StubLink::Bridge
            }
        }
    }

    fn images(&mut self, top: &Section<'_>) -> Vec<Image> {
        let mut images: Vec<Image> = Vec::new();
        for (at, node) in self.list(top, "images").iter().enumerate() {
            let image = self.section(node, &format!("images[{at}]"), &IMAGE);
            let [name, tag] = ["name", "tag"].map(|key| self.word(&image, key));
            let files = self.paths(&image, "files", "/usr/bin/etcd");
            let given = self.given(&image);
            if files.is_empty() && given.is_empty() {
                let key = format!("{}files", image.prefix);
                self.problem(
                    image.line,
                    &key,
                    "has no program",
                    "name at least one, such as /usr/bin/etcd",
                );
            }
            if images.iter().any(|other| other.name == name && other.tag == tag) {
                let what = format!("is {name}:{tag}, as one before it");
                self.problem(
                    image.line,
                    &format!("images[{at}]"),
                    what,
                    "give it another name or tag",
                );
            }
            let mut made = Image { name, tag, files, given, install_tools: None };
            made.install_tools = self.install_tools(&image, made.entry());
            images.push(made);
        }
        images
    }

    /// A list of absolute paths, such as `example`.
    fn paths(&mut self, section: &Section<'_>, key: &str, example: &str) -> Vec<String> {
        let nodes = self.list(section, key).iter();
        let paths = nodes.map(|node| match &node.value {
            Value::Text(path) if path.starts_with('/') => path.clone(),
            _ => {
                let key = format!("{}{key}", section.prefix);
                let remedy = format!("write the path of a program, such as {example}");
                self.problem(node.place().line, &key, "has something else than a path", remedy);
                String::new()
            }
        });
        paths.collect()
    }

    /// The programs of an image that are not in the base tree.
    fn given(&mut self, image: &Section<'_>) -> Vec<Given> {
        let key = format!("{}given", image.prefix);
        let Some(node) = image.get("given") else { return Vec::new() };
        let remedy = "write { PATH: NAME }, a path of the image and who is given there";
        let Value::Map(entries) = &node.value else {
            self.problem(node.place().line, &key, "is no mapping", remedy);
            return Vec::new();
        };
        let mut given = Vec::new();
        for (path, node) in entries {
            match &node.value {
                Value::Text(program) if path.starts_with('/') && !program.contains('/') => {
                    given.push(Given { path: path.clone(), program: program.clone() });
                }
                _ => self.problem(node.place().line, &key, format!("has {path:?}"), remedy),
            }
        }
        given
    }

    /// How an image installs programs: `first`, where nothing else is said.
    fn install_tools(&mut self, image: &Section<'_>, first: Option<&str>) -> Option<InstallTools> {
        let node = image.get("install-tools")?;
        let full = format!("{}install-tools", image.prefix);
        let first = || first.map(str::to_owned).into_iter().collect();
        let to = || InstallTools::TO.to_owned();
        if let Value::Text(path) = &node.value
            && path.starts_with('/')
        {
            return Some(InstallTools { path: path.clone(), tools: first(), to: to() });
        }
        if !matches!(node.value, Value::Map(_)) {
            let remedy = "write where the image has what installs its programs";
            self.problem(node.place().line, &full, "is something else than a path", remedy);
            return None;
        }
        let section = self.section(node, &full, &INSTALL_TOOLS);
        let mut path = |key: &str| {
            let (text, line) = self.written(&section, key)?;
            if !text.starts_with('/') {
                let key = format!("{full}.{key}");
                self.problem(line, &key, format!("is {text:?}"), "write an absolute path");
            }
            Some(text)
        };
        let (program, folder) = (path("path"), path("to"));
        let Some(path) = program else {
            let remedy = "write where the image has what installs its programs";
            self.problem(section.line, &format!("{full}.path"), "is missing", remedy);
            return None;
        };
        let tools = self.paths(&section, "tools", "/usr/bin/etcdctl");
        let tools = if tools.is_empty() { first() } else { tools };
        Some(InstallTools { path, tools, to: folder.unwrap_or_else(to) })
    }

    fn list<'n>(&mut self, section: &Section<'n>, key: &str) -> &'n [Node] {
        let Some(node) = section.get(key) else { return &[] };
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            other => {
                let what = format!("is {} instead of a list", other.kind());
                let key = format!("{}{key}", section.prefix);
                self.problem(
                    node.place().line,
                    &key,
                    what,
                    "write each item below it, after a dash",
                );
                &[]
            }
        }
    }

    /// What may stand in the name of an image.
    fn word(&mut self, section: &Section<'_>, key: &str) -> String {
        let full = format!("{}{key}", section.prefix);
        let remedy =
            "write small letters, digits, dots and dashes, in quotes if it looks like a number";
        let node = section.get(key);
        match node.map(|node| &node.value) {
            None => self.problem(section.line, &full, "is missing", remedy),
            Some(Value::Text(text)) => {
                let fits =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
                if !text.is_empty() && text.chars().all(fits) {
                    return text.clone();
                }
                self.problem(line(section, key), &full, format!("is {text:?}"), remedy);
            }
            Some(other) => {
                self.problem(
                    line(section, key),
                    &full,
                    format!("is {} instead of a text", other.kind()),
                    remedy,
                );
            }
        }
        String::new()
    }

    fn internet(&mut self, top: &Section<'_>, addresses: &Addresses) -> Internet {
        let section = self.below(top, "internet", &INTERNET);
        let pool = addresses.pools.internet;
        let mut host = |key: &str, place: u32| {
            let default = Ipv4Addr::from(u32::from(pool.network()).saturating_add(place));
            let written = self.written(&section, key);
            let place =
                written.as_ref().map_or(line(top, "internet").or(top.line), |(_, line)| *line);
            let full = format!("internet.{key}");
            let address = match written.map(|(text, _)| (text.parse::<Ipv4Addr>(), text)) {
                None => default,
                Some((Ok(address), _)) => address,
                Some((Err(_), text)) => {
                    let remedy = format!("write one such as {default}");
                    self.problem(place, &full, format!("{text:?} is no IPv4 address"), remedy);
                    return default;
                }
            };
            if !pool.contains(&address) {
                let what = format!("{address} is outside of network.internet, {pool}");
                self.problem(place, &full, what, "take one inside, or another network.internet");
            }
            address
        };
        let (registry, releases) = (host("registry", 10), host("releases", 11));
        if registry == releases {
            let place = line(&section, "releases").or(line(&section, "registry")).or(section.line);
            let what = "is that of internet.registry, too";
            self.problem(place, "internet.releases", what, "give each host an address of its own");
        }
        Internet { registry, releases }
    }
}

fn line(section: &Section<'_>, key: &str) -> Option<u64> {
    section.get(key)?.place().line
}

const TOP: [&str; 8] = [
    "format",
    "name",
    "boot-servers",
    "spare-boot-servers",
    "network",
    "internet",
    "images",
    "limits",
];
const IMAGE: [&str; 5] = ["name", "tag", "files", "given", "install-tools"];
const INSTALL_TOOLS: [&str; 3] = ["path", "tools", "to"];
const NETWORK: [&str; 12] = [
    "asn-base",
    "spines",
    "node",
    "spine-tor",
    "core-spine",
    "core-operation",
    "bastion",
    "core-internet",
    "internet",
    "timers",
    "bfd",
    "stub-link",
];
const TIMERS: [&str; 4] = ["connect-delay", "connect-retry", "hold", "keepalive"];
const BFD: [&str; 2] = ["interval", "multiplier"];
const INTERNET: [&str; 2] = ["registry", "releases"];
const LIMITS: [&str; 3] = ["boot", "converge", "stop"];

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "format: 1\nname: dc0\nboot-servers: 3\n";

    fn read(text: &str) -> DataCentre {
        parse(Path::new("dc.yml"), text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn wrong(text: &str) -> Vec<String> {
        let error = parse(Path::new("dc.yml"), text).expect_err("it is wrong");
        error.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_smallest_file_has_the_original_plan() {
        let found = read(SMALLEST);
        assert_eq!(
            (found.boot_servers, found.spare_boot_servers, found.addresses.racks),
            (3, 0, 3)
        );
        assert_eq!(
            found.addresses.boot_server(1, crate::plan::address::Subnet::Node0).to_string(),
            "10.69.0.195"
        );
        assert_eq!(found.internet.registry.to_string(), "198.18.0.10");
        assert_eq!(found.asn_base, 64_600);
        assert_eq!(found.timers.bfd.as_ref().map(|bfd| bfd.multiplier), Some(3));
        assert_eq!(found.stub_link, StubLink::Bridge);
    }

    #[test]
    fn the_files_of_this_repository_can_be_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("clusters");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            parse(&path, &text).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
        assert!(seen >= 2, "{seen}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_in_one_go_with_its_line() {
        let text = "\
format: 1
name: DC
boot-servers: none
racks: 4
network:
  node: 10.69.0.0/26
  bastion: 10.72.4.128/25
  core-spine: 10.72.2.1/24
  spines: 0
  timers: { hold: 1s, keepalive: 2500ms }
  bfd: { interval: fast }
  stub-link: veth
internet:
  registry: 203.0.113.1
  releases: host
limits: soon
";
        let expected = [
            "dc.yml:4: racks: is unknown; remove it, or write one of format, name, boot-servers, spare-boot-servers, network, internet, images, limits",
            "dc.yml:2: name: is \"DC\"; write at most 8 small letters and digits, a letter first",
            "dc.yml:3: boot-servers: is none; write a whole number from 1 to 20",
            "dc.yml:8: network.core-spine: 10.72.2.1/24 does not start at its first address; write 10.72.2.0/24",
            "dc.yml:9: network.spines: is 0; write a whole number from 1 to 8",
            "dc.yml:7: network.bastion: 10.72.4.128/25 overlaps network.core-operation 10.72.4.0/24; take another network",
            "dc.yml:10: network.timers.keepalive: has a fraction of a second; write whole seconds",
            "dc.yml:10: network.timers.keepalive: is not shorter than network.timers.hold: every session would end between two words; write a third of it",
            "dc.yml:11: network.bfd.interval: \"fast\" is not a duration; write one such as 30s or 100ms",
            "dc.yml:12: network.stub-link: is \"veth\"; write bridge or dummy",
            "dc.yml:14: internet.registry: 203.0.113.1 is outside of network.internet, 198.18.0.0/24; take one inside, or another network.internet",
            "dc.yml:15: internet.releases: \"host\" is no IPv4 address; write one such as 198.18.0.11",
            "dc.yml:16: limits: is a text instead of a mapping; write its keys below it, indented",
        ];
        assert_eq!(wrong(text), expected);
    }

    #[test]
    fn what_must_be_there_and_is_not_is_named() {
        let found = wrong("network: {}\n");
        for key in ["format", "name", "boot-servers"] {
            assert!(
                found.iter().any(|line| line.contains(&format!("{key}: is missing"))),
                "{found:?}"
            );
        }
        assert!(
            wrong("format: 2\nname: dc0\nboot-servers: 3\n")[0].contains("write it in format 1")
        );
        assert!(
            wrong("format: 1\nname: dc0\nboot-servers: 3\n\tx: 1\n")[0]
                .ends_with("; correct the YAML")
        );
    }

    #[test]
    fn a_pool_too_small_is_told_where_it_is_written() {
        let found = wrong(&format!("{SMALLEST}network:\n  node: 10.69.0.0/24\n"));
        assert_eq!(
            found,
            [
                "dc.yml:5: network.node: has 256 addresses, and 576 are needed; give it a shorter prefix"
            ]
        );
    }

    #[test]
    fn detection_of_silent_cables_can_be_off() {
        assert_eq!(read(&format!("{SMALLEST}network: {{ bfd: \"off\" }}\n")).timers.bfd, None);
    }

    #[test]
    fn images_are_lists_of_programs() {
        let found = read(&format!(
            "{SMALLEST}images: [{{ name: etcd, tag: 3.4.23, files: [/usr/bin/etcd] }}]\n"
        ));
        assert_eq!(found.images.len(), 1);
        assert_eq!(
            (found.images[0].name.as_str(), found.images[0].tag.as_str()),
            ("etcd", "3.4.23")
        );
        assert_eq!(found.images[0].install_tools, None);
        let found = read(&format!(
            "{SMALLEST}images: [{{ name: a, tag: b, files: [/bin/a], install-tools: /install }}]\n"
        ));
        let tools = |tools: &[&str], to: &str| InstallTools {
            path: "/install".into(),
            tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
            to: to.into(),
        };
        let installs = tools(&["/bin/a"], "/host/usr/local/bin");
        assert_eq!(found.images[0].install_tools, Some(installs));
        let found = read(&format!(
            "{SMALLEST}images:\n- name: a\n  tag: b\n  given: {{ /bin/a: x, /bin/b: x }}\n  \
             install-tools: {{ path: /install, tools: [/bin/b], to: /host }}\n"
        ));
        let given = |path: &str| Given { path: path.into(), program: "x".into() };
        assert_eq!(found.images[0].given, [given("/bin/a"), given("/bin/b")]);
        assert_eq!(found.images[0].install_tools, Some(tools(&["/bin/b"], "/host")));
        let found = wrong(&format!(
            "{SMALLEST}images:\n- {{ name: Etcd, tag: 3.5 }}\n- {{ tag: a, files: [etcd], install-tools: sh }}\n\
             - {{ name: c, tag: d, given: {{ a: b }}, install-tools: {{ to: host }} }}\n"
        ));
        let expected = [
            "dc.yml:5: images[0].name: is \"Etcd\"; write small letters, digits, dots and dashes, in quotes if it looks like a number",
            "dc.yml:5: images[0].tag: is a number instead of a text; write small letters, digits, dots and dashes, in quotes if it looks like a number",
            "dc.yml:5: images[0].files: has no program; name at least one, such as /usr/bin/etcd",
            "dc.yml:6: images[1].name: is missing; write small letters, digits, dots and dashes, in quotes if it looks like a number",
            "dc.yml:6: images[1].files: has something else than a path; write the path of a program, such as /usr/bin/etcd",
            "dc.yml:6: images[1].install-tools: is something else than a path; write where the image has what installs its programs",
            "dc.yml:7: images[2].given: has \"a\"; write { PATH: NAME }, a path of the image and who is given there",
            "dc.yml:7: images[2].files: has no program; name at least one, such as /usr/bin/etcd",
            "dc.yml:7: images[2].install-tools.to: is \"host\"; write an absolute path",
            "dc.yml:7: images[2].install-tools.path: is missing; write where the image has what installs its programs",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn two_hosts_have_two_addresses() {
        let found = wrong(&format!("{SMALLEST}internet: {{ registry: 198.18.0.11 }}\n"));
        assert!(found[0].contains("is that of internet.registry, too"), "{found:?}");
    }
}
