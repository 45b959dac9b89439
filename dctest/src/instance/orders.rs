//! What a keeper is asked and what it answers: one line of JSON each, over a socket of its own for each question.

use serde::{Deserialize, Serialize};

use crate::host::cgroup::Memory;

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub enum Order {
    /// Tell the phases of the start until it has ended.
    Follow,
    /// How everything is.
    Status,
    /// Where the processes of a machine are.
    Leader {
        /// Which.
        machine: String,
    },
    /// Press a button of a machine.
    Power {
        /// Which.
        machine: String,
        /// Which button.
        power: Power,
    },
    /// Halt a machine, or let it go on.
    Freeze {
        /// Which.
        machine: String,
        /// Halt.
        frozen: bool,
    },
    /// Change a cable.
    Link {
        /// One end.
        one: String,
        /// The other.
        other: String,
        /// How it shall be.
        state: Link,
    },
    /// Let a machine hear nothing of some others.
    Partition {
        /// Which.
        machine: String,
        /// From whom.
        from: Vec<String>,
    },
    /// Undo all changes of cables, all partitions and all freezing.
    Heal,
}

/// A button of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Switch it on.
    On,
    /// Let it shut down.
    Off,
    /// Take its power away.
    Cut,
    /// Let it shut down and come back.
    Reboot,
}

/// How a cable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// As it was made.
    Up,
    /// Both ends see that it is broken.
    Down,
    /// Nothing comes through, and nobody sees why.
    Drop,
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// A phase of the start has ended.
    Phase(Phase),
    /// Done; the last line.
    Done,
    /// It could not be done; the last line.
    Failed {
        /// Why, and what to do.
        why: String,
    },
    /// How everything is; the last line.
    Status(Status),
    /// Where a machine's processes are; the last line.
    Leader {
        /// The first process of the machine, by its id in the namespaces of the data centre.
        pid: i32,
    },
}

/// A phase and the time it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Which.
    pub phase: String,
    /// How long it took.
    pub seconds: f64,
}

/// How everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The name of the cluster.
    pub name: String,
    /// Whether all machines that are to be on were ready once.
    pub ready: bool,
    /// Each machine.
    pub machines: Vec<MachineStatus>,
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Which.
    pub name: String,
    /// `off`, `on`, or `frozen`.
    pub power: String,
    /// The address that it is known by.
    pub address: std::net::Ipv4Addr,
    /// What it has in memory.
    pub memory: Option<Memory>,
    /// How many processes it has.
    pub processes: usize,
}
