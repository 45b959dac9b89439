//! Several members on loopback.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::binary::Binary;
use crate::config::{ClusterState, MemberConfig};
use crate::error::{Error, Result};
use crate::ports::free_port;
use crate::server::{PORT_IN_USE, Server, Stopped};

const HOST: &str = "127.0.0.1";

/// In the data directory of a cluster: its members' addresses, without which the data are useless.
const ADDRESSES: &str = "members.json";

const TRIES: u32 = 5;

/// What the members of a cluster have in common.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The template of each member: its name gets a number appended (`etcd` by default); its URLs
    /// and its data directory are not used.
    pub member: Option<MemberConfig>,
    /// Keeps each member's data in a directory of its name below this one, with the addresses, so
    /// that the same cluster can be started again. Without it, data live as long as the cluster.
    pub data_dir: Option<PathBuf>,
    /// The binary; found by [`Binary::find`] if not given.
    pub binary: Option<Binary>,
}

/// A cluster of real etcd servers. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Server>,
}

impl Cluster {
    /// Starts `count` members at once, and waits until all are ready.
    ///
    /// # Errors
    /// The first member that did not become ready, and why; the others are killed.
    pub async fn start(count: usize, options: ClusterOptions) -> Result<Self> {
        let binary = match options.binary {
            Some(binary) => binary,
            None => Binary::find().await?,
        };
        let template = options.member.unwrap_or_else(|| MemberConfig::new("etcd-"));
        let addresses = options.data_dir.as_ref().map(|dir| dir.join(ADDRESSES));
        let known = match &addresses {
            Some(file) => read_addresses(file, count)?,
            None => None,
        };
        let mut tries = 1;
        loop {
            let places = match &known {
                Some(places) => places.clone(),
                None => choose_places(count, &template.name)?,
            };
            if let (Some(dir), None) = (&options.data_dir, &known) {
                places.iter().try_for_each(|place| refuse_orphan(&dir.join(&place.name)))?;
            }
            let configs = configure(&template, options.data_dir.as_deref(), &places);
            let error = match start_all(&binary, configs).await {
                Ok(members) => {
                    if let (Some(file), None) = (&addresses, &known) {
                        write_addresses(file, &places)?;
                    }
                    return Ok(Self { members });
                }
                Err(error) => error,
            };
            // What the members wrote in these seconds names addresses that nobody recorded.
            if let (Some(dir), None) = (&options.data_dir, &known) {
                places.iter().try_for_each(|place| remove_tree(&dir.join(&place.name)))?;
            }
            let taken = matches!(&error, Error::EarlyExit(exit) if exit.says(PORT_IN_USE));
            if known.is_some() || !taken || tries == TRIES {
                return Err(error);
            }
            tracing::info!(tries, %error, "the cluster did not start, trying other ports");
            tries += 1;
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The client URL of each member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Server::client_url).collect()
    }

    /// One member.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member(&self, index: usize) -> &Server {
        &self.members[index]
    }

    /// One member, to stop, kill or restart it.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member_mut(&mut self, index: usize) -> &mut Server {
        &mut self.members[index]
    }

    /// Restarts all members at once with their data, and waits until all are ready: also after a
    /// loss of quorum, when none could be ready alone.
    ///
    /// # Errors
    /// As [`Server::restart`].
    pub async fn restart(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.relaunch().await?;
        }
        all_ready(&self.members).await
    }

    /// Ends all members, one after the other.
    ///
    /// # Errors
    /// The kernel refused a signal.
    pub async fn stop(&mut self) -> Result<Vec<Stopped>> {
        let mut how = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            how.push(member.stop().await?);
        }
        Ok(how)
    }
}

/// A member's name and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    client: u16,
    peer: u16,
}

fn choose_places(count: usize, prefix: &str) -> Result<Vec<Place>> {
    (0..count)
        .map(|n| {
            let (client, peer) = (free_port(HOST)?, free_port(HOST)?);
            Ok(Place { name: format!("{prefix}{n}"), client, peer })
        })
        .collect()
}

fn configure(template: &MemberConfig, data: Option<&Path>, places: &[Place]) -> Vec<MemberConfig> {
    let peer_url = |place: &Place| format!("http://{HOST}:{}", place.peer);
    let all: Vec<_> = places.iter().map(|place| (place.name.clone(), peer_url(place))).collect();
    let scheme = if template.tls.is_some() { "https" } else { "http" };
    let member = |place: &Place| {
        let mut config = template
            .clone()
            .name(&place.name)
            .peer_url(peer_url(place))
            .initial_cluster(all.clone(), ClusterState::New);
        config.client_urls = vec![format!("{scheme}://{HOST}:{}", place.client)];
        config.data_dir = data.map(|dir| dir.join(&place.name));
        config
    };
    places.iter().map(member).collect()
}

async fn start_all(binary: &Binary, configs: Vec<MemberConfig>) -> Result<Vec<Server>> {
    configs.iter().try_for_each(MemberConfig::validate)?;
    let mut members = Vec::with_capacity(configs.len());
    for config in configs {
        members.push(Server::launch(binary, config).await?);
    }
    match all_ready(&members).await {
        Ok(()) => Ok(members),
        Err(error) => {
            for member in members {
                member.gone().await;
            }
            Err(error)
        }
    }
}

/// Waits for all at once, so that the one that ended early is noticed while the others still wait
/// for a quorum.
async fn all_ready(members: &[Server]) -> Result<()> {
    let mut waits: JoinSet<Result<()>> = members.iter().map(Server::ready).collect();
    while let Some(ready) = waits.join_next().await {
        ready.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

fn read_addresses(file: &Path, count: usize) -> Result<Option<Vec<Place>>> {
    let unreadable = |source| Error::Prepare { path: file.to_owned(), source };
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let place = |value: &Value| {
        let port = |key: &str| value[key].as_u64().and_then(|port| u16::try_from(port).ok());
        let name = value["name"].as_str()?.to_owned();
        Some(Place { name, client: port("client")?, peer: port("peer")? })
    };
    let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
    let places: Option<Vec<Place>> =
        value.as_array().and_then(|members| members.iter().map(place).collect());
    match places {
        Some(places) if places.len() == count => Ok(Some(places)),
        Some(places) => {
            let what = format!("has {} members, not {count}", places.len());
            Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, what)))
        }
        None => {
            let what = "is not a list of names and ports";
            Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, what)))
        }
    }
}

fn write_addresses(file: &Path, places: &[Place]) -> Result<()> {
    let member = |p: &Place| json!({"name": p.name, "client": p.client, "peer": p.peer});
    let value: Vec<Value> = places.iter().map(member).collect();
    fs::write(file, format!("{:#}\n", Value::from(value)))
        .map_err(|source| Error::Prepare { path: file.to_owned(), source })
}

/// Data without recorded addresses are not ours to start, nor to remove.
fn refuse_orphan(dir: &Path) -> Result<()> {
    if fs::symlink_metadata(dir).is_err() {
        return Ok(());
    }
    let what = format!("exists already, but no {ADDRESSES} beside it; move it away");
    let source = io::Error::new(io::ErrorKind::AlreadyExists, what);
    Err(Error::Prepare { path: dir.to_owned(), source })
}

fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Prepare { path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}
