//! Whose a container is: containers of a caller that is gone are nobody's.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::RunSpec;

/// The label that says who made a container.
const OWNER: &str = "com.cybozu.neco.owner";

/// The label that says by which call.
pub(super) const CALL: &str = "com.cybozu.neco.call";

/// The calls of this process that are under way.
static UNDER_WAY: Mutex<Calls> = Mutex::new(Calls { last: 0, numbers: BTreeSet::new() });

struct Calls {
    last: u64,
    numbers: BTreeSet<u64>,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    number: u64,
}

impl Owner {
    pub(super) fn new() -> Self {
        let mut calls = calls();
        calls.last += 1;
        let number = calls.last;
        calls.numbers.insert(number);
        Self { number }
    }

    /// The labels of a container that this call makes.
    pub(super) fn labels(&self, spec: &RunSpec) -> HashMap<String, String> {
        let process = process(std::process::id()).unwrap_or_default();
        let owner = format!("{process} {}", self.number);
        HashMap::from([(OWNER.to_owned(), owner), (CALL.to_owned(), call(spec))])
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        calls().numbers.remove(&self.number);
    }
}

/// A call, as its label says it.
pub(super) fn call(spec: &RunSpec) -> String {
    serde_json::to_string(spec).unwrap_or_else(|_| spec.image.to_string())
}

/// Whether the call that made a container with these labels is under way; `None` if it was not made by such a call.
pub(super) fn is_under_way(labels: &HashMap<String, String>) -> Option<bool> {
    let owner = labels.get(OWNER)?;
    let (process_then, number) = owner.rsplit_once(' ')?;
    let pid = process_then.split(' ').nth(1)?.parse().ok()?;
    let lives = process(pid).is_some_and(|process_now| process_now == process_then);
    let ours = pid == std::process::id();
    let counts = || number.parse().is_ok_and(|number| calls().numbers.contains(&number));
    Some(lives && (!ours || counts()))
}

/// Names a process that lives, for ever: the boot, its id, and when it started.
fn process(pid: u32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold spaces and parentheses; the start is the 20th field after it.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {pid} {started}", boot.trim()))
}

fn calls() -> MutexGuard<'static, Calls> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_under_way_until_it_is_dropped() {
        let spec = RunSpec::new("example/serf:1".parse().expect("a name"));
        let owner = Owner::new();
        let labels = owner.labels(&spec);
        assert_eq!(is_under_way(&labels), Some(true));
        drop(owner);
        assert_eq!(is_under_way(&labels), Some(false));
    }

    #[tokio::test]
    async fn a_process_that_is_gone_or_another_of_its_id_has_no_calls() {
        let mut sleep = tokio::process::Command::new("sleep");
        let mut child = sleep.arg("1000").kill_on_drop(true).spawn().expect("sleep");
        let process = child.id().and_then(process).expect("it lives");
        let labels = |owner: String| HashMap::from([(OWNER.to_owned(), owner)]);
        let whose = |process: &str| is_under_way(&labels(format!("{process} 1")));
        assert_eq!(whose(&process), Some(true));
        assert_eq!(whose(&format!("{process}0")), Some(false), "started later");
        assert_eq!(whose(&format!("x{process}")), Some(false), "of another boot");
        child.kill().await.expect("ended");
        assert_eq!(whose(&process), Some(false));
        assert_eq!(is_under_way(&HashMap::new()), None, "not ours to judge");
        assert_eq!(is_under_way(&labels("nonsense".into())), None);
    }
}
