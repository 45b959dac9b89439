//! Processes as `/proc` shows them (proc(5)).

use std::fs;

/// The children of a process.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is the first one of a pid namespace below this one (pid_namespaces(7)).
#[must_use]
pub fn is_first_of_its_own(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    is_first(&status)
}

/// `NSpid` has the ids of a process from this namespace inwards.
fn is_first(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_namespace_is_1_in_there_and_something_else_here() {
        assert!(is_first("Name:\tsystemd\nNSpid:\t4711\t1\n"));
        assert!(!is_first("Name:\tsystemd-nspawn\nNSpid:\t4711\n"));
        assert!(!is_first("Name:\tbash\nNSpid:\t4711\t77\n"));
        assert!(!is_first("Name:\tinit\nNSpid:\t1\n"));
    }
}
