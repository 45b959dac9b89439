//! Processes as `/proc` shows them (proc(5)).

use std::fs;

/// When a process started, in ticks since the host booted: an id that is used again has another time. Nothing if there is
/// no such process, or only what is left of it until its parent has noticed.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // State is the third field, the start is the 22nd.
    fields.nth(18)?.parse().ok()
}

/// The children of a process.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_gone_when_it_has_ended() {
        let own = i32::try_from(std::process::id()).unwrap();
        let since = start_time(own).unwrap();
        assert_eq!(start_time(own), Some(since));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_ne!(start_time(pid), Some(since));
    }
}
