//! The members of etcd follow the servers of a request: in memory, where time is the test's own and crashes are cheap, and
//! with real servers.

mod in_memory;
mod members;
mod real;

pub(crate) use in_memory::InMemory;

use crate::cluster::{Cluster, Server};

pub(crate) const ETCD: &str = "etcd-container.service";
pub(crate) const CONFIG: &str = "/etc/etcd/etcd.conf.yml";

/// What bootstrap or `join` puts on a server that is to be a member.
const CERTIFICATES: [&str; 6] = [
    "/etc/etcd/ca-client.crt",
    "/etc/etcd/ca-peer.crt",
    "/etc/etcd/peer.crt",
    "/etc/etcd/peer.key",
    "/etc/neco/server.crt",
    "/etc/neco/server.key",
];

/// Gives all servers what a member of etcd needs.
pub(crate) fn certify(cluster: &Cluster) {
    for server in &cluster.servers {
        for path in CERTIFICATES {
            server.set_up(path);
        }
    }
}

/// The lines of a server's configuration of etcd that begin so.
pub(crate) fn config(server: &Server, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(server.path(CONFIG)).unwrap();
    text.lines().filter(|line| line.starts_with(key)).map(str::to_owned).collect()
}

/// Where the members would reach the one of a server.
pub(crate) fn peer_url(lrn: u32) -> String {
    neco_host::address::etcd_peer_url(neco_schema::Lrn::new(lrn)).unwrap()
}
