//! What the own member of etcd is started with: its unit, its configuration, its data.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use neco_components::{ContentDigest, Desired};
use neco_host::fs::{Kind, Owner};
use neco_store::Member;
use neco_systemd::UnitState;

use super::UNIT;
use crate::context::StepError;
use crate::steps::host::{StepHost, unit_name};
use crate::steps::started::Began;

const CONFIG: &str = "/etc/etcd/etcd.conf.yml";
const UNITS: &str = "/etc/systemd/system";

/// The data of the member; in its container it is `/var/lib/etcd`.
const DATA: &str = "/var/lib/etcd-container";
/// Where the data of an earlier member lie, which are of no use to a new one.
const OLD_DATA: &str = "/var/lib/etcd-container.old";
/// Who etcd is in its container.
const ETCD: Owner = Owner { uid: 10_000, gid: 10_000 };

/// Lines of the configuration that matter to a member that has no data yet, and to no other.
const INITIAL: &str = "initial-cluster";

fn unit_path() -> PathBuf {
    Path::new(UNITS).join(UNIT)
}

/// The digest of what lies on the disk for the own member to be started with. Who was there in the beginning does not count.
///
/// # Errors
/// The disk cannot be read.
pub(super) fn digest(host: &StepHost) -> Result<String, StepError> {
    let unit = read(host, &unit_path())?.unwrap_or_default();
    let config = read(host, Path::new(CONFIG))?.unwrap_or_default();
    Ok(digest_of(&unit, &config))
}

/// The digest of what the own member, of which systemd tells `state`, was started with.
///
/// # Errors
/// The disk cannot be read.
pub(super) fn started_with(
    host: &StepHost,
    state: &UnitState,
) -> Result<Option<String>, StepError> {
    let files = [unit_path(), PathBuf::from(CONFIG)];
    let files = files.iter().map(PathBuf::as_path);
    Began::of(host, UNIT, state).digest(host, files, || digest(host).map(Some))
}

/// Writes down what the own member was started with, where somebody else than Neco started it and that can be told: its
/// configuration may be written anew with other members, which is no reason to restart it.
///
/// # Errors
/// The disk cannot be read, or systemd does not answer.
pub(crate) async fn note_run(host: &StepHost) -> Result<(), StepError> {
    let name = unit_name(UNIT)?;
    let state = host.units.state(&name).await;
    let state = state.map_err(|error| StepError::failed(format!("state of {UNIT}"), &error))?;
    if let Some(digest) = started_with(host, &state)? {
        Began::of(host, UNIT, &state).note(host, UNIT, &digest, &state);
    }
    Ok(())
}

/// The digest of what would lie there.
pub(super) fn digest_desired(desired: &Desired) -> String {
    let content = |path: &Path| desired.file(path).map_or("", |file| file.content.as_str());
    digest_of(content(&unit_path()), content(Path::new(CONFIG)))
}

fn digest_of(unit: &str, config: &str) -> String {
    let mut defined = unit.as_bytes().to_vec();
    defined.push(0);
    for line in config.lines().filter(|line| !line.starts_with(INITIAL)) {
        defined.extend(line.as_bytes());
        defined.push(b'\n');
    }
    ContentDigest::of(defined).as_str().to_owned()
}

/// Whether the files are there that the own member is started with.
///
/// # Errors
/// They are not, or the disk cannot be read.
pub(super) fn check(host: &StepHost) -> Result<(), StepError> {
    for path in [unit_path(), PathBuf::from(CONFIG)] {
        read(host, &path)?.ok_or_else(|| missing(&path))?;
    }
    Ok(())
}

/// Prepares the disk for the first start of a member that was added: who else belongs to the cluster, and no data. In
/// `members` the own one has no name yet.
///
/// # Errors
/// The files of the own member are not there, or the disk refuses.
pub(super) fn prepare(host: &StepHost, own: &str, members: &[Member]) -> Result<(), StepError> {
    let path = Path::new(CONFIG);
    let config = read(host, path)?.ok_or_else(|| missing(path))?;
    host.write_bytes(path, joining(&config, own, members).as_bytes(), 0o644)?;
    empty_data(host)
}

fn missing(path: &Path) -> StepError {
    StepError::Failed(format!(
        "{} is not there: the recipe has no step that writes the files of component etcd",
        path.display()
    ))
}

/// The configuration with which a member joins a cluster that runs.
fn joining(config: &str, own: &str, members: &[Member]) -> String {
    let named = members.iter().flat_map(|member| {
        let name = if member.name.is_empty() { own } else { member.name.as_str() };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let named: Vec<String> = named.collect();
    let told = |key: &str| match key {
        "initial-cluster" => Some(format!("initial-cluster: {}", named.join(","))),
        "initial-cluster-state" => Some("initial-cluster-state: existing".to_owned()),
        _ => None,
    };
    let mut left = vec!["initial-cluster", "initial-cluster-state"];
    let mut lines: Vec<String> = Vec::new();
    for line in config.lines() {
        let key = line.split(':').next().unwrap_or_default();
        left.retain(|left| *left != key);
        lines.push(told(key).unwrap_or_else(|| line.to_owned()));
    }
    lines.extend(left.into_iter().filter_map(told));
    lines.join("\n") + "\n"
}

/// Makes an empty directory for the data. What an earlier member left there is put aside: with it, a new one would not
/// start.
fn empty_data(host: &StepHost) -> Result<(), StepError> {
    let data = host.root.join(DATA);
    let failed = |error| StepError::failed(format!("preparing {}", data.display()), &error);
    if let Some(found) = host.fs.metadata(&data).map_err(failed)? {
        let is_empty =
            found.kind == Kind::Directory && host.fs.list(&data).map_err(failed)?.is_empty();
        if is_empty {
            return owned(host, &data).map_err(failed);
        }
        let mut number = 1;
        let aside = loop {
            let aside = host.root.join(format!("{OLD_DATA}.{number}"));
            if host.fs.metadata(&aside).map_err(failed)?.is_none() {
                break aside;
            }
            number += 1;
        };
        tracing::warn!(aside = %aside.display(), "data of an earlier member of etcd are put aside");
        host.fs.rename(&data, &aside).map_err(failed)?;
    }
    host.fs.create_dir(&data, 0o700).map_err(failed)?;
    owned(host, &data).map_err(failed)?;
    let parent = data.parent().unwrap_or(&data);
    host.fs.sync_dir(parent).map_err(failed)
}

/// Gives the directory to etcd; in a sandbox there is nobody of that number.
fn owned(host: &StepHost, data: &Path) -> std::io::Result<()> {
    if !host.root.is_system() {
        return Ok(());
    }
    std::os::unix::fs::chown(data, Some(ETCD.uid), Some(ETCD.gid))
}

/// The text of a file, if there is one.
fn read(host: &StepHost, path: &Path) -> Result<Option<String>, StepError> {
    let path = host.root.join(path);
    match host.fs.read(&path) {
        Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StepError::failed(format!("reading {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "name: boot-3\ninitial-advertise-peer-urls: https://10.69.2.67:2380\n\
        initial-cluster: boot-0=https://10.69.0.3:2380,boot-3=https://10.69.2.67:2380\n\
        initial-cluster-token: boot-cluster\ninitial-cluster-state: new\nenable-v2: false\n";

    fn member(name: &str, url: &str) -> Member {
        let peer_urls = vec![url.to_owned()];
        Member {
            id: 1,
            name: name.to_owned(),
            peer_urls,
            client_urls: Vec::new(),
            is_learner: false,
        }
    }

    #[test]
    fn whoever_joins_is_told_of_all_members_and_is_itself_the_one_without_a_name() {
        let members = [member("", "https://10.69.2.67:2380"), member("boot-0", "https://b:2380")];
        let config = joining(WRITTEN, "boot-3", &members);
        let expected = "name: boot-3\ninitial-advertise-peer-urls: https://10.69.2.67:2380\n\
            initial-cluster: boot-3=https://10.69.2.67:2380,boot-0=https://b:2380\n\
            initial-cluster-token: boot-cluster\ninitial-cluster-state: existing\nenable-v2: false\n";
        assert_eq!(config, expected);
        assert_eq!(joining(&config, "boot-3", &members), config);
        let added = joining("name: boot-3\n", "boot-3", &members[..1]);
        assert_eq!(
            added,
            "name: boot-3\ninitial-cluster: boot-3=https://10.69.2.67:2380\n\
             initial-cluster-state: existing\n"
        );
    }

    #[test]
    fn who_was_there_in_the_beginning_does_not_count() {
        let before = digest_of("unit", WRITTEN);
        let members = [member("", "https://10.69.2.67:2380")];
        assert_eq!(digest_of("unit", &joining(WRITTEN, "boot-3", &members)), before);
        let without: Vec<&str> =
            WRITTEN.lines().filter(|line| !line.starts_with("initial-cluster")).collect();
        assert_eq!(digest_of("unit", &without.join("\n")), before);
        for (unit, config) in [
            ("unit 2", WRITTEN.to_owned()),
            ("unit", WRITTEN.replace("false", "true")),
            (
                "unit",
                WRITTEN.replace(
                    "initial-advertise-peer-urls: https",
                    "initial-advertise-peer-urls: http",
                ),
            ),
            ("", WRITTEN.to_owned()),
        ] {
            assert_ne!(digest_of(unit, &config), before, "{unit} {config}");
        }
    }
}
