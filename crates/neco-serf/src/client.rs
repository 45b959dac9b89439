//! The real client.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::object::Scanner;
use crate::wire::{Auth, Handshake, Members, RequestHeader, ResponseHeader, Tags};
use crate::{Member, Serf, SerfError};

/// The version of the protocol.
const VERSION: i32 = 1;
/// How much room is made for an answer at once.
const PIECE: usize = 16 << 10;

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the agent listens, `HOST:PORT`.
    pub address: String,
    /// The key of the agent's `rpc_auth`, if it has one.
    pub auth_key: Option<Secret>,
    /// How long a question may take, from the connection to the last byte of its answer.
    pub within: Duration,
    /// How many bytes an answer may have.
    pub largest: usize,
}

impl Options {
    /// Asks the agent at `address` within 10 seconds, as long as serf itself waits for a reader; an answer may have 64 MiB,
    /// which is some hundred thousand members.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            auth_key: None,
            within: Duration::from_secs(10),
            largest: 64 << 20,
        }
    }
}

/// Speaks to a real agent.
#[derive(Clone, Debug)]
pub struct SerfClient {
    options: Options,
}

impl SerfClient {
    /// A client; nothing is sent yet.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Connects, introduces itself and asks; all of it within the limit.
    async fn ask<T: Send>(
        &self,
        command: &'static str,
        question: impl AsyncFnOnce(&mut Connection<'_>) -> Result<T, SerfError>,
    ) -> Result<T, SerfError> {
        let Options { address, within, .. } = &self.options;
        let asked = async {
            let mut connection = Connection::open(&self.options, command).await?;
            connection.introduce().await?;
            question(&mut connection).await
        };
        let late = |_| SerfError::TimedOut { address: address.clone(), command, within: *within };
        timeout(*within, asked).await.map_err(late)?
    }
}

#[async_trait]
impl Serf for SerfClient {
    async fn members(&self) -> Result<Vec<Member>, SerfError> {
        let answer = self
            .ask("members", async |connection| {
                connection.send("members", None::<&()>).await?;
                connection.body::<Members>().await
            })
            .await?;
        Ok(answer.members.into_iter().map(Member::from).collect())
    }

    async fn set_tags(
        &self,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<(), SerfError> {
        let tags = Tags { tags: set.clone(), delete_tags: delete.to_vec() };
        self.ask("tags", async |connection| connection.send("tags", Some(&tags)).await).await
    }
}

/// A connection, in the middle of one question.
struct Connection<'a> {
    options: &'a Options,
    /// What it was opened for: errors of the introduction name it, too.
    command: &'static str,
    stream: TcpStream,
    /// The number of the next request.
    seq: u64,
    /// What came and was not read yet.
    received: Vec<u8>,
}

impl<'a> Connection<'a> {
    async fn open(options: &'a Options, command: &'static str) -> Result<Self, SerfError> {
        let stream = TcpStream::connect(&options.address).await.map_err(|source| {
            SerfError::Transport { address: options.address.clone(), command, source }
        })?;
        Ok(Self { options, command, stream, seq: 0, received: Vec::new() })
    }

    /// The first of all requests, and the key where there is one.
    async fn introduce(&mut self) -> Result<(), SerfError> {
        self.send("handshake", Some(&Handshake { version: VERSION })).await?;
        if let Some(key) = &self.options.auth_key {
            let auth_key = key.reveal().clone();
            self.send("auth", Some(&Auth { auth_key })).await?;
        }
        Ok(())
    }

    /// Sends a request and reads the head of its answer; a body that belongs to it is still to be read.
    async fn send(
        &mut self,
        command: &'static str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<(), SerfError> {
        let seq = self.seq;
        self.seq += 1;
        let header = RequestHeader { command: command.to_owned(), seq };
        let mut bytes = self.encode(&header)?;
        if let Some(body) = body {
            bytes.extend(self.encode(body)?);
        }
        self.stream.write_all(&bytes).await.map_err(|source| self.broken(source))?;
        let head: ResponseHeader = self.body().await?;
        if head.seq != seq {
            return Err(self.malformed(format!("it answers {} in the place of {seq}", head.seq)));
        }
        let said = head.error.0;
        if said.is_empty() {
            return Ok(());
        }
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(SerfError::Refused {
            address: self.options.address.clone(),
            command: self.command,
            said,
        })
    }

    /// Reads the next object.
    async fn body<T: DeserializeOwned>(&mut self) -> Result<T, SerfError> {
        let mut scanner = Scanner::default();
        loop {
            match scanner.end(&self.received) {
                Ok(Some(end)) => {
                    let read = rmp_serde::from_slice(&self.received[..end]);
                    self.received.drain(..end);
                    return read.map_err(|error| self.malformed(error.to_string()));
                }
                Ok(None) => self.receive().await?,
                Err(_) => return Err(self.malformed("it is no MessagePack".to_owned())),
            }
        }
    }

    /// Waits for more bytes.
    async fn receive(&mut self) -> Result<(), SerfError> {
        let (address, command) = (&self.options.address, self.command);
        if self.received.len() >= self.options.largest {
            let limit = self.options.largest;
            return Err(SerfError::TooLarge { address: address.clone(), command, limit });
        }
        self.received.reserve(PIECE);
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(SerfError::Cut { address: address.clone(), command }),
            Ok(_) => Ok(()),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn encode(&self, object: &impl Serialize) -> Result<Vec<u8>, SerfError> {
        rmp_serde::to_vec_named(object).map_err(|error| self.malformed(error.to_string()))
    }

    /// The connection broke. An agent that goes away with unread bytes resets it: that is an end, too.
    fn broken(&self, source: std::io::Error) -> SerfError {
        let (address, command) = (self.options.address.clone(), self.command);
        match source.kind() {
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
                SerfError::Cut { address, command }
            }
            _ => SerfError::Transport { address, command, source },
        }
    }

    fn malformed(&self, why: String) -> SerfError {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        SerfError::Malformed { address: self.options.address.clone(), command: self.command, why }
    }
}
