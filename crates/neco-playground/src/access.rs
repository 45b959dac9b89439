//! How the etcd of a site lets clients in.

use neco_etcd::{ClusterOptions, MemberConfig, ServerTls};
use neco_store::Options;

/// An etcd that does not let everybody in. Without it a site's etcd speaks plain text to everybody.
#[derive(Clone, Debug)]
pub struct Access {
    /// The certificates of its members.
    pub tls: ServerTls,
    /// What the site's own client shows: certificates, user and password. The rest is not used.
    pub client: Options,
    /// The lines of every boot server's configuration file that say what its programs show.
    pub config: String,
}

impl Access {
    /// Members that ask for it.
    pub(crate) fn cluster(access: Option<&Self>) -> ClusterOptions {
        let member = access.map(|access| MemberConfig::new("etcd-").tls(access.tls.clone()));
        ClusterOptions { member, ..ClusterOptions::default() }
    }

    /// The options of a client at `endpoints` that is let in.
    pub(crate) fn client(access: Option<&Self>, endpoints: &[String]) -> Options {
        let base = access.map(|access| access.client.clone()).unwrap_or_default();
        Options { endpoints: endpoints.to_vec(), ..base }
    }
}
