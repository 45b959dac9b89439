//! Leases on a virtual clock.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::LeaseId;

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    ends: Duration,
}

/// The leases that are alive, and what time it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    now: Duration,
    granted: i64,
    alive: BTreeMap<LeaseId, Lease>,
}

impl Leases {
    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.alive.contains_key(&lease)
    }

    pub(super) fn grant(&mut self, ttl: Duration) -> LeaseId {
        self.granted += 1;
        let id = LeaseId(self.granted);
        let ttl = whole_seconds(ttl);
        self.alive.insert(id, Lease { ttl, ends: self.now + ttl });
        id
    }

    pub(super) fn renew(&mut self, lease: LeaseId) -> Option<Duration> {
        let lease = self.alive.get_mut(&lease)?;
        lease.ends = self.now + lease.ttl;
        Some(lease.ttl)
    }

    pub(super) fn renew_all(&mut self) {
        for lease in self.alive.values_mut() {
            lease.ends = self.now + lease.ttl;
        }
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> bool {
        self.alive.remove(&lease).is_some()
    }

    /// The leases that run out, the earliest first; they are still to be removed.
    pub(super) fn advance(&mut self, time: Duration) -> Vec<LeaseId> {
        self.now += time;
        let mut ended: Vec<(Duration, LeaseId)> = self
            .alive
            .iter()
            .filter(|(_, lease)| lease.ends <= self.now)
            .map(|(id, lease)| (lease.ends, *id))
            .collect();
        ended.sort_unstable();
        ended.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.alive.values().map(|lease| lease.ends.saturating_sub(self.now)).min()
    }
}

/// etcd counts whole seconds, at least one.
pub(crate) fn whole_seconds(ttl: Duration) -> Duration {
    let up = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs((ttl.as_secs() + up).max(1))
}
