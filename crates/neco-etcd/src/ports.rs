//! Chooses free ports that stay free while a member is down.
//!
//! etcd would take port 0 itself, but would then advertise port 0, and a restart could find the
//! port gone: the kernel hands out ephemeral ports to every outgoing connection, and a client that
//! keeps dialling a dead server on loopback can even end up connected to itself. So the ports come
//! from below the ephemeral range. Between choosing and etcd's binding somebody else may take one;
//! whoever starts a server retries on "address already in use".

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

const LOWEST: u16 = 10_000;

/// Where the ephemeral range starts if the kernel does not tell.
const USUAL_EPHEMERAL: u16 = 32_768;

/// A port of `host` on which nobody listens at this moment.
pub(crate) fn free_port(host: &str) -> Result<u16> {
    let (low, high) = range(ephemeral_start());
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..512 {
        let port = low + (next() % u32::from(high - low)) as u16;
        match TcpListener::bind((host, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    Err(Error::NoPort { host: host.to_owned(), source: last })
}

/// A sequence that starts at random, so that two processes rarely meet, and never repeats a port
/// soon, so that two servers of one process do not.
fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if NEXT.load(Ordering::Relaxed) == 0 {
        let seed = RandomState::new().hash_one(std::process::id()) as u32 >> 2;
        let _ = NEXT.compare_exchange(0, seed | 1, Ordering::Relaxed, Ordering::Relaxed);
    }
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(USUAL_EPHEMERAL)
}

/// From and below which port to choose; a machine that gives nearly everything to the ephemeral
/// range leaves no better choice than to share it.
fn range(ephemeral: u16) -> (u16, u16) {
    if ephemeral >= LOWEST + 1000 { (LOWEST, ephemeral) } else { (LOWEST, USUAL_EPHEMERAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let ports: Vec<u16> = (0..50).map(|_| free_port("127.0.0.1").unwrap()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| *port < ephemeral_start()));
    }

    #[test]
    fn a_host_of_another_machine_is_an_error() {
        let error = free_port("192.0.2.1").unwrap_err();
        assert!(matches!(error, Error::NoPort { .. }), "{error}");
    }

    #[test]
    fn a_machine_with_a_wide_ephemeral_range_still_gets_ports() {
        assert_eq!(range(1024), (LOWEST, USUAL_EPHEMERAL));
        assert_eq!(range(32_768), (LOWEST, 32_768));
    }
}
