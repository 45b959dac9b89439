//! What others see of etcd while something happens to it: whether they can write, and which members answer.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{Machine, Site};

/// How often members are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Written again and again; nothing of Neco's.
const KEY: &str = "/dctest/watch";

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The longest time between two writes that were taken, or to the end.
    pub longest_gap: Duration,
    /// How many writes were taken.
    pub writes: u32,
    /// How many members were silent at the same time, at most.
    pub most_silent: usize,
    /// Which members were silent at some time, in the order in which they became so.
    pub silent: Vec<u32>,
}

impl Seen {
    /// Takes note of a moment at which these members were silent.
    fn look(&mut self, silent: &[u32]) {
        self.most_silent = self.most_silent.max(silent.len());
        for lrn in silent {
            if !self.silent.contains(lrn) {
                self.silent.push(*lrn);
            }
        }
    }
}

impl Site {
    /// Does something while a writer writes to etcd and all members are looked at.
    ///
    /// # Errors
    /// What is done fails.
    pub async fn watching_etcd<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        self.watching_etcd_of(&self.machines, work).await
    }

    /// The same, of the members of some servers.
    ///
    /// # Errors
    /// What is done fails.
    pub async fn watching_etcd_of<T>(
        &self,
        machines: &[Machine],
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        let mut written = Seen::default();
        let mut looked = Seen::default();
        let done = tokio::select! {
            biased;
            done = work => done?,
            () = self.write_on(machines, &mut written) => unreachable!("it writes on"),
            () = self.look_on(machines, &mut looked) => unreachable!("it looks on"),
        };
        Ok((done, Seen { most_silent: looked.most_silent, silent: looked.silent, ..written }))
    }

    /// Writes on and on, to whichever member takes it.
    async fn write_on(&self, machines: &[Machine], seen: &mut Seen) {
        let endpoints = machines.iter().map(|machine| format!("https://{}:2379", machine.address));
        let endpoints = format!("--endpoints={}", endpoints.collect::<Vec<_>>().join(","));
        let words = ["--dial-timeout=500ms", "--command-timeout=1s", "put", KEY];
        let words = [&[endpoints.as_str()], &words[..]].concat();
        let mut last = Instant::now();
        for number in 0_u64.. {
            // A server that is being restarted is no good place to write from.
            let machine = &machines[number as usize % machines.len()];
            let taken = self.etcdctl_told(machine, &words, &number.to_string()).await.is_ok();
            seen.longest_gap = seen.longest_gap.max(last.elapsed());
            if taken {
                seen.writes += 1;
                last = Instant::now();
            }
        }
    }

    async fn look_on(&self, machines: &[Machine], seen: &mut Seen) {
        loop {
            let answers = join_all(machines.iter().map(|machine| self.answers(machine))).await;
            let silent = machines.iter().zip(answers).filter(|(_, answers)| !answers);
            let silent: Vec<u32> = silent.map(|(machine, _)| machine.lrn).collect();
            seen.look(&silent);
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the member of a server answers at all; one that has no leader does.
    async fn answers(&self, machine: &Machine) -> bool {
        let words = ["curl", "--silent", "--output", "/dev/null", "--max-time", "2"];
        let words = [&words[..], &["http://127.0.0.1:2381/health"]].concat();
        self.ask(machine, &words).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_silent_one_after_another_are_told_from_two_at_once() {
        let mut seen = Seen::default();
        for silent in [&[][..], &[1], &[1], &[], &[0]] {
            seen.look(silent);
        }
        assert_eq!((seen.most_silent, seen.silent.as_slice()), (1, &[1, 0][..]));
        seen.look(&[0, 2]);
        assert_eq!((seen.most_silent, seen.silent), (2, vec![1, 0, 2]));
    }
}
