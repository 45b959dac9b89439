//! A server that stands in for a serf agent: the real protocol, over members that a test sets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::object::Scanner;
use crate::wire::{
    Auth, Bytes, Handshake, Members, RequestHeader, ResponseHeader, Tags, Text, WireMember,
};
use crate::{Member, Status};

/// How many bytes all tags of a member have at most: a key and a value each, with their lengths.
const TAGS_AT_MOST: usize = 512;

/// Something that goes wrong with each connection, until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Takes the connection and never says anything.
    Stall,
    /// Ends the connection after so many bytes of its answers.
    CutAfter(usize),
    /// Answers these bytes to whatever comes.
    Says(Vec<u8>),
    /// Refuses every command behind the handshake with these words.
    Refuse(String),
}

/// A stand-in; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeSerf {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<String, Member>,
    /// The name of the member that the agent itself is.
    own: String,
    auth_key: Option<String>,
    fault: Option<Fault>,
    /// How many connections came.
    connections: usize,
}

impl Drop for FakeSerf {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeSerf {
    /// Listens on some free port of loopback. The agent itself, `own`, is the only member.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(own: &str) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), own).await
    }

    /// The same at a place of one's choice.
    ///
    /// # Errors
    /// It is taken.
    pub async fn start_on(address: SocketAddr, own: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = State { own: own.to_owned(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let server = tokio::spawn(serve(listener, state.clone()));
        let fake = Self { address, state, server };
        fake.set(own, Ipv4Addr::LOCALHOST.into(), Status::Alive, &[]);
        Ok(fake)
    }

    /// Stops it, with every connection; nothing listens there afterwards.
    pub async fn stop(mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a member, in the place of one of that name.
    pub fn set(&self, name: &str, address: IpAddr, status: Status, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let member =
            Member { name: name.to_owned(), address: Some(address), port: 7946, tags, status };
        self.state().members.insert(name.to_owned(), member);
    }

    /// Changes the status of a member that there is.
    pub fn set_status(&self, name: &str, status: Status) {
        self.state().members.get_mut(name).into_iter().for_each(|m| m.status = status.clone());
    }

    /// Forgets a member, as after the time for which agents remember those that have failed.
    pub fn forget(&self, name: &str) {
        self.state().members.remove(name);
    }

    /// Asks every connection for this key from now on.
    pub fn require(&self, auth_key: Option<&str>) {
        self.state().auth_key = auth_key.map(str::to_owned);
    }

    /// What goes wrong from now on; nothing if there is no fault.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Dropped with the listener: then the connections end, too.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        lock(&state).connections += 1;
        let state = state.clone();
        connections.spawn(async move {
            let peer = Peer { stream, state, received: Vec::new(), sent: 0 };
            let _ = peer.run().await;
        });
        while connections.try_join_next().is_some() {}
    }
}

struct Peer {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    received: Vec<u8>,
    sent: usize,
}

impl Peer {
    async fn run(mut self) -> io::Result<()> {
        let fault = lock(&self.state).fault.clone();
        match &fault {
            Some(Fault::Stall) => return std::future::pending().await,
            Some(Fault::Says(bytes)) => {
                self.stream.write_all(bytes).await?;
                // Read on, so that the words are not lost in a reset.
                while self.stream.read_buf(&mut self.received).await? > 0 {}
                return Ok(());
            }
            _ => {}
        }
        let (mut introduced, mut known) = (false, false);
        loop {
            let RequestHeader { command, seq } = self.object().await?;
            let closed = !known && lock(&self.state).auth_key.is_some();
            if let Some(Fault::Refuse(words)) = &fault
                && introduced
            {
                return self.answer(seq, words, None::<&()>).await;
            }
            match command.as_str() {
                "handshake" => {
                    let Handshake { version } = self.object().await?;
                    let words = match (introduced, version) {
                        (true, _) => "Handshake already performed",
                        (false, 1) => "",
                        (false, _) => "Unsupported IPC version",
                    };
                    introduced |= words.is_empty();
                    self.answer(seq, words, None::<&()>).await?;
                }
                _ if !introduced => {
                    return self.answer(seq, "Handshake required", None::<&()>).await;
                }
                "auth" => {
                    let Auth { auth_key } = self.object().await?;
                    known = lock(&self.state).auth_key.as_ref().is_none_or(|key| *key == auth_key);
                    let words = if known { "" } else { "Invalid authentication token" };
                    self.answer(seq, words, None::<&()>).await?;
                }
                _ if closed => {
                    return self.answer(seq, "Authentication required", None::<&()>).await;
                }
                "members" => {
                    let members =
                        lock(&self.state).members.values().cloned().map(on_the_wire).collect();
                    self.answer(seq, "", Some(&Members { members })).await?;
                }
                "tags" => {
                    let tags: Tags = self.object().await?;
                    let words = change_tags(&mut lock(&self.state), tags);
                    self.answer(seq, words, None::<&()>).await?;
                }
                _ => return self.answer(seq, "Unsupported command", None::<&()>).await,
            }
        }
    }

    async fn object<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut scanner = Scanner::default();
        loop {
            let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
            match scanner.end(&self.received) {
                Ok(Some(end)) => {
                    let read = rmp_serde::from_slice(&self.received[..end]);
                    self.received.drain(..end);
                    return read.map_err(|error| invalid(error.to_string()));
                }
                Ok(None) => {
                    if self.stream.read_buf(&mut self.received).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(_) => return Err(invalid("no MessagePack".to_owned())),
            }
        }
    }

    async fn answer(
        &mut self,
        seq: u64,
        words: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> io::Result<()> {
        let header = ResponseHeader { seq, error: Text(words.to_owned()) };
        let mut bytes = rmp_serde::to_vec_named(&header).map_err(io::Error::other)?;
        if let Some(body) = body {
            bytes.extend(rmp_serde::to_vec_named(body).map_err(io::Error::other)?);
        }
        let fault = lock(&self.state).fault.clone();
        if let Some(Fault::CutAfter(limit)) = fault
            && self.sent + bytes.len() > limit
        {
            bytes.truncate(limit.saturating_sub(self.sent));
            self.stream.write_all(&bytes).await?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.sent += bytes.len();
        self.stream.write_all(&bytes).await
    }
}

fn on_the_wire(member: Member) -> WireMember {
    let addr = match member.address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    };
    WireMember {
        name: Text(member.name),
        addr: Bytes(addr),
        port: member.port,
        tags: member.tags.into_iter().map(|(name, value)| (Text(name), Text(value))).collect(),
        status: Text(member.status.to_string()),
    }
}

/// Changes the tags of the agent itself; gives what there is against it.
fn change_tags(state: &mut State, change: Tags) -> &'static str {
    let own = state.own.clone();
    let Some(member) = state.members.get_mut(&own) else { return "" };
    let mut tags = member.tags.clone();
    tags.extend(change.tags);
    tags.retain(|name, _| !change.delete_tags.contains(name));
    let length: usize = tags.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if length + 1 > TAGS_AT_MOST {
        return "Encoded length of tags exceeds limit of 512 bytes";
    }
    member.tags = tags;
    ""
}
