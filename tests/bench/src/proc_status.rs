//! What the kernel says about the memory of a process.

use anyhow::Context;

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    /// What is its own: heap and stacks, without what is mapped from files.
    pub(crate) anon: u64,
    /// All of it.
    pub(crate) all: u64,
}

impl Resident {
    /// Of a process that runs now.
    ///
    /// # Errors
    /// It does not run, or the kernel tells something else than expected.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} has no RssAnon and VmRSS"))
    }

    fn parse(status: &str) -> Option<Self> {
        Some(Self { anon: field(status, "RssAnon")?, all: field(status, "VmRSS")? })
    }
}

/// A field such as `VmRSS:      6060 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Name:\tneco-worker
VmHWM:\t   11268 kB
VmRSS:\t    9824 kB
RssAnon:\t    3156 kB
RssFile:\t    6668 kB
Threads:\t3
";

    #[test]
    fn the_fields_are_read_in_bytes() {
        let found = Resident::parse(STATUS);
        assert_eq!(found, Some(Resident { anon: 3156 * 1024, all: 9824 * 1024 }));
    }

    #[test]
    fn a_process_without_memory_has_no_figures() {
        // A zombie, or a thread of the kernel.
        assert_eq!(Resident::parse("Name:\tkthreadd\nThreads:\t1\n"), None);
        assert_eq!(Resident::parse("VmRSS:\t 1 MB\nRssAnon:\t 1 kB\n"), None);
        assert!(Resident::of(u32::MAX).is_err());
    }

    #[test]
    fn this_process_has_some() {
        let own = Resident::of(std::process::id()).expect("this process runs");
        assert!(own.anon > 0 && own.all >= own.anon, "{own:?}");
    }
}
