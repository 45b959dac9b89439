//! A wire between the daemons of one boot server and etcd, which can be cut, also at one write.
//!
//! What the daemons send is looked at frame by frame (HTTP/2), and keys and values stand in a frame as plain bytes: so a
//! write can be told by words that only it has. The trap that is set for it cuts the wire before the write, or right behind
//! it. Nothing is ever changed.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neco_playground::BootServer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{LONG, Scenario, restarted};

/// What a client sends first of all.
const PREFACE: usize = 24;
/// The head of a frame: three bytes of length, one of type, one of flags, four of the stream.
const HEAD: usize = 9;
/// The type of frames with content.
const DATA: u8 = 0;
/// How long etcd may take to answer what was held, before what came behind it is passed on, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Stands between the daemons of one boot server and all members of etcd. Keep it as long as they run.
#[derive(Debug)]
pub struct Wire {
    state: Arc<watch::Sender<State>>,
    traps: Traps,
    _ways: JoinSet<()>,
}

/// What etcd made of a write that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was carried out.
    Done,
    /// One of its conditions did not hold.
    Refused,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Nothing passes, in neither direction.
    cut: bool,
    /// Connections of an earlier time are over.
    time: u64,
    /// The trap has sprung.
    caught: bool,
    /// What became of the write that was held.
    verdict: Option<Verdict>,
}

type Traps = Arc<Mutex<Option<Trap>>>;

/// Cuts the wire at the first write that has all of `words`.
#[derive(Debug)]
struct Trap {
    words: Vec<String>,
    /// Whether the write itself still goes through.
    passes: bool,
}

impl Wire {
    /// Lays it: the daemons of `server` are told where it begins, and started again.
    ///
    /// # Panics
    /// The configuration cannot be written, or the daemons do not start.
    pub async fn lay(scenario: &Scenario, server: &BootServer) -> Self {
        let state = Arc::new(watch::Sender::new(State::default()));
        let traps = Traps::default();
        let (mut ways, mut config) = (JoinSet::new(), "endpoints:\n".to_owned());
        for endpoint in scenario.etcd().await.endpoints() {
            let member = endpoint.trim_start_matches("http://").to_owned();
            let begin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            let address = begin.local_addr().expect("an address");
            config.push_str(&format!("  - http://{address}\n"));
            ways.spawn(way(begin, member, Arc::clone(&state), Arc::clone(&traps)));
        }
        let drop_ins = server.root().join("etc/neco/config.d");
        std::fs::create_dir_all(&drop_ins).expect("a folder");
        std::fs::write(drop_ins.join("wire.yml"), config).expect("room");
        restarted(server).await;
        Self { state, traps, _ways: ways }
    }

    /// Cuts the wire at the next write that has all of `words`; the write does not come to etcd any more.
    pub fn cut_before(&self, words: &[&str]) {
        self.set_trap(words, false);
    }

    /// The same, but the write goes through. Its answer does not.
    pub fn cut_behind(&self, words: &[&str]) {
        self.set_trap(words, true);
    }

    /// Waits until that has happened.
    ///
    /// # Panics
    /// There is no such write.
    pub async fn caught(&self) {
        let mut state = self.state.subscribe();
        let caught = timeout(LONG, state.wait_for(|state| state.caught)).await;
        assert!(caught.is_ok(), "no such write: {:?}", self.traps);
    }

    /// Mends it. All connections are over, and what was on its way is lost.
    pub fn mend(&self) {
        self.state.send_modify(|state| {
            state.cut = false;
            state.time += 1;
        });
    }

    /// Mends it, and what was held arrives late. Says what etcd made of it.
    ///
    /// # Panics
    /// etcd says nothing.
    pub async fn deliver(&self) -> Verdict {
        let mut state = self.state.subscribe();
        self.state.send_modify(|state| state.cut = false);
        let answered = timeout(LONG, state.wait_for(|state| state.verdict.is_some())).await;
        let answered = answered.expect("an answer").expect("it is there");
        answered.verdict.expect("just seen")
    }

    fn set_trap(&self, words: &[&str], passes: bool) {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.state.send_modify(|state| {
            state.caught = false;
            state.verdict = None;
        });
        *self.traps.lock().unwrap_or_else(PoisonError::into_inner) = Some(Trap { words, passes });
    }
}

/// Takes connections to one member.
async fn way(begin: TcpListener, member: String, state: Arc<watch::Sender<State>>, traps: Traps) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            Ok((client, _)) = begin.accept() => {
                connections.spawn(connection(client, member.clone(), Arc::clone(&state), Arc::clone(&traps)));
            }
        }
    }
}

/// One connection, until the wire is mended.
async fn connection(
    client: TcpStream,
    member: String,
    state: Arc<watch::Sender<State>>,
    traps: Traps,
) {
    let mut time = state.subscribe();
    let born = time.borrow().time;
    let whole = async {
        while_cut(&state).await;
        let server = TcpStream::connect(&member).await?;
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let held = watch::Sender::new(None);
        let answers = forward_answers(from_server, to_client, &state, &held);
        let requests = forward_requests(from_client, to_server, &state, &traps, &held);
        let (requests, answers) = tokio::join!(requests, answers);
        requests.and(answers)
    };
    tokio::select! {
        biased;
        _ = time.wait_for(|state| state.time != born) => {}
        // How it ended is for the two ends to say.
        _ = whole => {}
    }
}

async fn while_cut(state: &watch::Sender<State>) {
    let _ = state.subscribe().wait_for(|state| !state.cut).await;
}

async fn forward_requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Sender<State>,
    traps: &Traps,
    held: &watch::Sender<Option<u32>>,
) -> io::Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface).await?;
    while_cut(state).await;
    to.write_all(&preface).await?;
    while let Some(frame) = Frame::read(&mut from).await? {
        match spring(&frame, state, traps) {
            Some(Trap { passes: true, .. }) => {}
            Some(Trap { passes: false, .. }) => {
                held.send_replace(Some(frame.stream()));
                while_cut(state).await;
                to.write_all(&frame.0).await?;
                // Whatever was sent behind it, such as that nobody waits for it any more, comes after its answer.
                let answered = held.subscribe();
                let _ = timeout(ANSWER_WITHIN, { answered }.wait_for(Option::is_none)).await;
                continue;
            }
            None => while_cut(state).await,
        }
        to.write_all(&frame.0).await?;
    }
    to.shutdown().await
}

async fn forward_answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Sender<State>,
    held: &watch::Sender<Option<u32>>,
) -> io::Result<()> {
    while let Some(frame) = Frame::read(&mut from).await? {
        let awaited = *held.borrow();
        if frame.has_content() && awaited == Some(frame.stream()) {
            held.send_replace(None);
            let verdict = frame.verdict();
            state.send_modify(|state| state.verdict = verdict);
        }
        while_cut(state).await;
        // Who asked may be gone; the answer to what was held is waited for all the same.
        let written = to.write_all(&frame.0).await;
        if held.borrow().is_none() {
            written?;
        }
    }
    to.shutdown().await
}

/// Takes the trap down if `frame` is what it was set for, and cuts the wire.
fn spring(frame: &Frame, state: &watch::Sender<State>, traps: &Traps) -> Option<Trap> {
    let mut trap = traps.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |trap: &mut Trap| trap.words.iter().all(|word| frame.has(word));
    let sprung = trap.take_if(|trap| frame.has_content() && fits(trap))?;
    state.send_modify(|state| {
        state.cut = true;
        state.caught = true;
    });
    Some(sprung)
}

/// A frame as it was read.
struct Frame(Vec<u8>);

impl Frame {
    /// The next one; none when the other end has closed.
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut frame = vec![0; HEAD];
        match from.read_exact(&mut frame).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        frame.resize(HEAD + length, 0);
        from.read_exact(&mut frame[HEAD..]).await?;
        Ok(Some(Self(frame)))
    }

    fn has_content(&self) -> bool {
        self.0[3] == DATA
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.0[5] & 0x7f, self.0[6], self.0[7], self.0[8]])
    }

    fn has(&self, word: &str) -> bool {
        self.0.windows(word.len()).any(|window| window == word.as_bytes())
    }

    /// What it says, as the answer to a transaction: behind five bytes of gRPC a header of etcd (field 1), and behind that
    /// whether the transaction succeeded (field 2, left out if not).
    fn verdict(&self) -> Option<Verdict> {
        let message = self.0.get(HEAD + 5..)?;
        let [0x0a, length, rest @ ..] = message else { return None };
        let behind = rest.get(usize::from(*length)..)?;
        Some(if behind.starts_with(&[0x10, 0x01]) { Verdict::Done } else { Verdict::Refused })
    }
}
