//! What a process keeps of the memory that it no longer needs.

/// Blocks of this many bytes and more are mapped each for itself, and go back to the system when they are freed.
const MAPPED: libc::c_int = 128 * 1024;

/// Gives memory back to the system soon after it was freed.
///
/// glibc begins with the same bound, and raises it, up to 32 MiB, to the size of each mapped block that is freed, and keeps
/// twice as much at the end of its heap: a daemon that has once read a package holds many megabytes while it waits for the
/// next one, months later. A bound that was set stays (`mallopt(3)`, `M_MMAP_THRESHOLD`). To be called before there are
/// other threads; what a site has set by `GLIBC_TUNABLES` is replaced. It does nothing where another C library allocates.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the C library alone knows its allocator")]
        // SAFETY: both arguments are plain numbers, and glibc takes its own lock.
        let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
        if taken != 1 {
            tracing::debug!("memory that is freed is kept as the C library sees fit");
        }
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::fs;
    use std::hint::black_box;

    use super::*;

    /// More than glibc maps by default, and less than it keeps after a larger block was freed.
    const BLOCK: usize = 8 << 20;

    /// Resident memory that is no file's, in bytes (`proc_pid_status(5)`).
    fn anonymous() -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("a Linux system");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    #[test]
    fn freed_blocks_leave_the_process_even_after_larger_ones_were_freed() {
        give_back_early();
        let before = anonymous();
        // The first raises the bound, were it not set; the small one above the second keeps that within the heap.
        drop(black_box(vec![1_u8; 2 * BLOCK]));
        let block = black_box(vec![1_u8; BLOCK]);
        let above = black_box(vec![1_u8; 1000]);
        assert!(anonymous() >= before + BLOCK / 2, "the block is resident");
        drop(block);
        assert!(anonymous() < before + BLOCK / 2, "the block is gone");
        drop(above);
    }
}
