//! Operators: each looks, builds the guarded transaction of an order, and sends it a while later.

use std::time::Duration;

use neco_plan::Slot;
use neco_plan::operator::{self, Order, Recovery, Refusal, Wish};
use neco_plan::testing::go_recover;
use neco_schema::{Key, Lrn, NecoVersion, Op, Txn};

use super::counts::Kind;
use super::evidence::Source;
use super::host::ETCD;
use super::world::{Reply, World};

/// How long an operator tries before giving up, or before using force.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `necoctl stop`.
    Stop,
    /// `necoctl recover`.
    Recover {
        /// Use force when waiting does not help.
        force: bool,
        /// Let the aborted version be tried again.
        retry: bool,
    },
    /// `necoctl pause`.
    Pause,
    /// `necoctl resume`.
    Resume,
    /// `necoctl leave`.
    Leave {
        /// Who.
        lrn: Lrn,
        /// Although it is alive.
        force: bool,
    },
    /// Registers a server.
    Join(Lrn),
    /// `necoctl withdraw`.
    Withdraw(NecoVersion),
    /// `necoctl update --to`.
    UpdateTo {
        /// Where to.
        version: NecoVersion,
        /// Although it is older.
        downgrade: bool,
    },
    /// `necoctl update --unpin`.
    Unpin,
    /// `necoctl turn release`.
    ReleaseTurn {
        /// Although the holder is alive.
        force: bool,
    },
    /// `neco recover` of the original.
    GoRecover,
}

impl Command {
    /// Its name, for the counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Recover { .. } => "recover",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Leave { .. } => "leave",
            Self::Join(_) => "join",
            Self::Withdraw(_) => "withdraw",
            Self::UpdateTo { .. } => "update --to",
            Self::Unpin => "update --unpin",
            Self::ReleaseTurn { .. } => "turn release",
            Self::GoRecover => "recover (Go)",
        }
    }
}

/// An operator with an order.
#[derive(Clone, Debug)]
pub struct Operator {
    /// What is wanted.
    pub command: Command,
    since: Duration,
    forced: bool,
    /// Whether the request was removed without having been read.
    blindly: bool,
    writing: Option<Txn>,
    quiet: Option<(u64, Duration)>,
}

impl Operator {
    /// An operator who begins now.
    pub fn new(world: &World, command: Command) -> Self {
        Self {
            command,
            since: world.now,
            forced: false,
            blindly: false,
            writing: None,
            quiet: None,
        }
    }

    /// Whether there is something to do.
    pub fn ready(&self, world: &World) -> bool {
        world.now >= world.outage_until
            && world.quorum()
            && self
                .quiet
                .is_none_or(|(tick, until)| tick != world.tick.leaders || world.now >= until)
    }

    /// When the operator looks again anyway.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.quiet.map(|(_, until)| until)
    }

    /// Does one atomic action; true when the operator is through.
    pub fn act(&mut self, world: &mut World) -> bool {
        self.quiet = None;
        if let Some(txn) = self.writing.take() {
            let source = match self.command {
                Command::GoRecover => Source::Go,
                _ => Source::Operator { forced: self.forced },
            };
            let reply = world.commit(source, None, &txn);
            if reply == Reply::Done {
                let name = self.command.name();
                world.counts.add(Kind::Order, name);
                if self.forced {
                    world.counts.add(Kind::Order, &format!("{name} --force"));
                }
                if self.blindly {
                    world.counts.add(Kind::State, "request removed that could not be read");
                }
                return true;
            }
            return false;
        }
        let overdue = world.now >= self.since + PATIENCE;
        match self.order(world, overdue) {
            Ok(txn) => {
                self.writing = Some(txn);
                false
            }
            Err(Refusal::NotYet { .. }) if !overdue => {
                world.counts.add(Kind::Order, "recover waits");
                self.quiet = Some((world.tick.leaders, self.since + PATIENCE));
                false
            }
            Err(_) => true,
        }
    }

    fn order(&mut self, world: &mut World, overdue: bool) -> Result<Txn, Refusal> {
        let view = world.leader_view();
        let order =
            Order { by: "somebody".to_owned(), reason: "because".to_owned(), now: world.wall(0) };
        match &self.command {
            Command::Stop => operator::stop(&view, &order),
            Command::Recover { force, retry } => {
                let how = Recovery { force: false, retry: *retry };
                // Whoever removes what cannot be read cannot know whether it was stopped.
                self.blindly = matches!(view.request, Slot::Unreadable { .. });
                self.forced = self.blindly;
                let gentle = operator::recover(&view, how, &order);
                match gentle {
                    Err(Refusal::NotYet { .. }) if *force && overdue => {}
                    Err(Refusal::Unsafe(_)) if *force => {}
                    other => return other,
                }
                self.forced = true;
                operator::recover(&view, Recovery { force: true, retry: *retry }, &order)
            }
            Command::Pause => operator::pause(&view, &order),
            Command::Resume => operator::resume(&view, &order),
            Command::Leave { lrn, force } => {
                self.forced = view.is_alive(*lrn);
                operator::leave(&view, *lrn, *force, &order)
            }
            Command::Join(lrn) => {
                Ok(Txn::default().then(Op::put_bytes(&Key::BootServer(*lrn), Vec::new())))
            }
            Command::Withdraw(version) => operator::withdraw(&view, version, &order),
            Command::UpdateTo { version, downgrade } => {
                let wish = Wish {
                    version: version.clone(),
                    allow_downgrade: *downgrade,
                    allow_no_way_back: false,
                };
                operator::update_to(&view, &wish, &order)
            }
            Command::Unpin => operator::unpin(&view, &order),
            Command::ReleaseTurn { force } => {
                let holder = view.turns.get(ETCD).map(|turn| turn.value.lrn);
                self.forced = holder.is_some_and(|holder| view.is_alive(holder))
                    || view.unreadable.contains_key(&Key::Turn(ETCD.to_owned()));
                world.oracle.overruled |= self.forced && *force;
                operator::release_turn(&view, ETCD, *force, &order)
            }
            Command::GoRecover => {
                go_recover(&view).ok_or_else(|| Refusal::Absent("nothing is stopped".to_owned()))
            }
        }
    }
}
