//! What a member is to be: a builder, and a check that reports every problem at once.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Problems, Result};
use crate::url::ListenUrl;

/// How long a server may take until it is ready.
pub const START_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM, before it is killed.
pub const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How many operations a transaction may have; etcd's own default of 128 is small for Neco.
pub const MAX_TXN_OPS: u32 = 512;

/// The longest election timeout that etcd accepts.
const LONGEST_ELECTION: Duration = Duration::from_secs(50);

/// When old revisions are compacted without anybody asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep the history of this time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revisions(u64),
}

/// TLS of the client listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The server's certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities that client certificates are checked against, PEM.
    pub trusted_ca: Option<PathBuf>,
    /// Whether clients without a certificate are turned away.
    pub client_cert_auth: bool,
}

/// Whether a member starts a cluster or joins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusterState {
    /// All members of the initial cluster start together, for the first time.
    #[default]
    New,
    /// The member was added to a running cluster before.
    Existing,
}

/// The configuration of one member. Everything has a default: [`MemberConfig::default`] is a member
/// of its own on loopback, on free ports, with data that vanishes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    pub(crate) name: String,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) peer_url: Option<String>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) auth_token_ttl: Option<Duration>,
    pub(crate) quota: Option<u64>,
    pub(crate) auto_compaction: Option<AutoCompaction>,
    pub(crate) max_txn_ops: u32,
    pub(crate) election_timeout: Option<Duration>,
    pub(crate) fsync: bool,
    pub(crate) initial_cluster: Vec<(String, String)>,
    pub(crate) cluster_state: ClusterState,
    pub(crate) start_within: Duration,
    pub(crate) stop_within: Duration,
}

impl Default for MemberConfig {
    fn default() -> Self {
        Self::new("default")
    }
}

impl MemberConfig {
    /// A member of this name, all else at its default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            data_dir: None,
            client_urls: Vec::new(),
            peer_url: None,
            tls: None,
            auth_token_ttl: None,
            quota: None,
            auto_compaction: None,
            max_txn_ops: MAX_TXN_OPS,
            election_timeout: None,
            fsync: true,
            initial_cluster: Vec::new(),
            cluster_state: ClusterState::New,
            start_within: START_WITHIN,
            stop_within: STOP_WITHIN,
        }
    }

    /// Renames the member: a host name, which also serves as an identifier in the cluster.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Keeps the data in this directory. Without it, data live as long as the server value.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Adds a client listener, `http://HOST:PORT` or with TLS `https://HOST:PORT`; port 0 takes a
    /// free one. If no listener is on loopback, one is put in front.
    #[must_use]
    pub fn client_url(mut self, url: impl Into<String>) -> Self {
        self.client_urls.push(url.into());
        self
    }

    /// Where the other members reach this one, `http://HOST:PORT`; port 0 takes a free one.
    #[must_use]
    pub fn peer_url(mut self, url: impl Into<String>) -> Self {
        self.peer_url = Some(url.into());
        self
    }

    /// Serves clients over TLS.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long a token of a logged-in user lasts, in whole seconds.
    #[must_use]
    pub fn auth_token_ttl(mut self, ttl: Duration) -> Self {
        self.auth_token_ttl = Some(ttl);
        self
    }

    /// The size in bytes of the database at which etcd refuses writes.
    #[must_use]
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = Some(bytes);
        self
    }

    /// Compacts old revisions without being asked.
    #[must_use]
    pub fn auto_compaction(mut self, mode: AutoCompaction) -> Self {
        self.auto_compaction = Some(mode);
        self
    }

    /// How many operations a transaction may have.
    #[must_use]
    pub fn max_txn_ops(mut self, ops: u32) -> Self {
        self.max_txn_ops = ops;
        self
    }

    /// After how much silence of the leader another is elected; the heartbeat is a tenth of it.
    #[must_use]
    pub fn election_timeout(mut self, timeout: Duration) -> Self {
        self.election_timeout = Some(timeout);
        self
    }

    /// Whether writes reach the disk before they are acknowledged. Switching it off speeds tests
    /// up and is for data nobody needs; etcd before 3.5 cannot, and then goes on syncing.
    #[must_use]
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// All members, this one included, as `(name, peer URL)`, and whether their cluster runs already.
    #[must_use]
    pub fn initial_cluster(
        mut self,
        members: impl IntoIterator<Item = (String, String)>,
        state: ClusterState,
    ) -> Self {
        self.initial_cluster = members.into_iter().collect();
        self.cluster_state = state;
        self
    }

    /// How long the server may take until it is ready.
    #[must_use]
    pub fn start_within(mut self, bound: Duration) -> Self {
        self.start_within = bound;
        self
    }

    /// How long the server may take to end in order before it is killed.
    #[must_use]
    pub fn stop_within(mut self, bound: Duration) -> Self {
        self.stop_within = bound;
        self
    }

    /// Checks everything that can be known before the server starts.
    ///
    /// # Errors
    /// [`Error::Invalid`] with *all* problems.
    pub fn validate(&self) -> Result<()> {
        self.listeners().map(|_| ())
    }

    /// The parsed listeners of a valid configuration.
    pub(crate) fn listeners(&self) -> Result<Listeners> {
        let mut problems = Problems::default();
        self.check_name(&mut problems);
        self.check_data_dir(&mut problems);
        let listeners = self.check_listeners(&mut problems);
        self.check_tls(&mut problems);
        self.check_limits(&mut problems);
        if problems.0.is_empty() {
            Ok(listeners)
        } else {
            Err(Error::Invalid { name: self.name.clone(), problems })
        }
    }

    fn check_name(&self, problems: &mut Problems) {
        let name = &self.name;
        if name.is_empty() {
            problems.add("name", "is empty");
            return;
        }
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !name.chars().all(known) {
            problems
                .add("name", format!("{name:?} may have letters, digits, '.', '-' and '_' only"));
        } else if name.starts_with(['.', '-'])
            || !name.contains(|c: char| c.is_ascii_alphanumeric())
        {
            problems.add("name", format!("{name:?} must start with a letter, a digit or '_'"));
        }
        if name.len() > 253 {
            problems.add("name", "is longer than 253 characters");
        }
    }

    fn check_data_dir(&self, problems: &mut Problems) {
        let Some(dir) = &self.data_dir else { return };
        if dir.as_os_str().is_empty() {
            problems.add("data_dir", "is empty; leave it out for temporary data");
        } else if is_root(dir) {
            problems.add("data_dir", "is the root directory; name one that only etcd uses");
        }
    }

    fn check_listeners(&self, problems: &mut Problems) -> Listeners {
        let tls = self.tls.is_some();
        let mut client: Vec<ListenUrl> = Vec::new();
        let mut parsed_all = true;
        for text in &self.client_urls {
            match text.parse::<ListenUrl>() {
                Ok(url) => {
                    if url.tls && !tls {
                        problems.add("client_url", format!("{url} needs tls to be set"));
                    } else if !url.tls && tls {
                        problems.add("client_url", format!("{url} must be https as tls is set"));
                    }
                    if client.iter().any(|other| other.collides_with(&url)) {
                        problems.add("client_url", format!("{url} is listened on twice"));
                    }
                    client.push(url);
                }
                Err(what) => {
                    parsed_all = false;
                    problems.add("client_url", what);
                }
            }
        }
        if parsed_all && !client.iter().any(ListenUrl::is_loopback) {
            client.insert(0, ListenUrl::loopback(tls));
        }
        let mut peer = ListenUrl::loopback(false);
        if let Some(text) = &self.peer_url {
            match text.parse::<ListenUrl>() {
                Ok(url) => peer = url,
                Err(what) => problems.add("peer_url", what),
            }
            if peer.tls {
                problems.add("peer_url", format!("{peer} must be http: peers have no tls here"));
            }
            if peer.is_unspecified() {
                problems.add("peer_url", format!("{peer} cannot be reached; name one address"));
            }
        }
        if let Some(shared) = client.iter().find(|url| url.collides_with(&peer)) {
            problems
                .add("peer_url", format!("{peer} shares its port with the client URL {shared}"));
        }
        if !self.initial_cluster.is_empty() {
            let own = (self.name.clone(), peer.to_string());
            if !self.initial_cluster.contains(&own) {
                let what = format!("does not contain this member as {}={}", own.0, own.1);
                problems.add("initial_cluster", what);
            }
        }
        Listeners { client, peer }
    }

    fn check_tls(&self, problems: &mut Problems) {
        let Some(tls) = &self.tls else { return };
        let files = [
            ("cert", Some(&tls.cert)),
            ("key", Some(&tls.key)),
            ("trusted_ca", tls.trusted_ca.as_ref()),
        ];
        for (role, file) in files {
            let Some(file) = file else { continue };
            if let Err(error) = std::fs::File::open(file) {
                let what = format!("{role} {} cannot be read: {error}", file.display());
                problems.add("tls", what);
            }
        }
        if tls.client_cert_auth && tls.trusted_ca.is_none() {
            problems.add("tls", "client_cert_auth needs trusted_ca to check certificates against");
        }
    }

    fn check_limits(&self, problems: &mut Problems) {
        let whole_seconds = |d: Duration| d.as_secs() > 0 && d.subsec_nanos() == 0;
        if self.auth_token_ttl.is_some_and(|ttl| !whole_seconds(ttl)) {
            problems.add("auth_token_ttl", "must be a whole number of seconds, at least 1");
        }
        if self.quota.is_some_and(|q| q == 0 || i64::try_from(q).is_err()) {
            problems.add("quota", "must be between 1 and 2^63-1 bytes");
        }
        match self.auto_compaction {
            Some(AutoCompaction::Periodic(period)) if !whole_seconds(period) => {
                problems.add("auto_compaction", "must be a whole number of seconds, at least 1");
            }
            Some(AutoCompaction::Revisions(0)) => {
                problems.add("auto_compaction", "must keep at least 1 revision");
            }
            _ => {}
        }
        if self.max_txn_ops == 0 {
            problems.add("max_txn_ops", "must be at least 1");
        }
        let elects = Duration::from_millis(100)..=LONGEST_ELECTION;
        if self.election_timeout.is_some_and(|timeout| !elects.contains(&timeout)) {
            problems.add("election_timeout", "must be between 100 ms and 50 s");
        }
        for (setting, bound) in
            [("start_within", self.start_within), ("stop_within", self.stop_within)]
        {
            if bound.is_zero() {
                problems.add(setting, "must be more than nothing");
            }
        }
    }
}

/// Where a member listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listeners {
    /// Not empty; one of them is on loopback.
    pub(crate) client: Vec<ListenUrl>,
    pub(crate) peer: ListenUrl,
}

/// Whether a path is `/`, however it is spelled.
fn is_root(path: &Path) -> bool {
    path.has_root()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::CurDir | Component::ParentDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &MemberConfig) -> Vec<&'static str> {
        match config.validate() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid { problems, .. }) => problems.0.iter().map(|p| p.setting).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    fn tls(cert: &Path) -> ServerTls {
        ServerTls {
            cert: cert.to_owned(),
            key: cert.to_owned(),
            trusted_ca: None,
            client_cert_auth: false,
        }
    }

    #[test]
    fn the_default_is_valid_and_on_loopback() {
        let listeners = MemberConfig::default().listeners().unwrap();
        assert_eq!(listeners.client, [ListenUrl::loopback(false)]);
        assert_eq!(listeners.peer, ListenUrl::loopback(false));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config = MemberConfig::new("a,b")
            .data_dir("/./")
            .client_url("https://127.0.0.1:2379")
            .client_url("nonsense")
            .peer_url("http://localhost:2379")
            .tls(ServerTls {
                client_cert_auth: true,
                trusted_ca: None,
                ..tls(Path::new("/nonexistent/cert"))
            })
            .auth_token_ttl(Duration::from_millis(1500))
            .quota(0)
            .auto_compaction(AutoCompaction::Revisions(0))
            .max_txn_ops(0)
            .election_timeout(Duration::from_secs(51))
            .start_within(Duration::ZERO);
        assert_eq!(
            settings(&config),
            [
                "name",
                "data_dir",
                "client_url",
                "peer_url",
                "tls",
                "tls",
                "tls",
                "auth_token_ttl",
                "quota",
                "auto_compaction",
                "max_txn_ops",
                "election_timeout",
                "start_within",
            ]
        );
        let text = config.validate().unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        assert!(
            text.contains("shares its port with the client URL https://127.0.0.1:2379"),
            "{text}"
        );
    }

    #[test]
    fn names_are_host_names() {
        for good in ["boot-0", "a.b_c", "_x", &"n".repeat(253)] {
            assert_eq!(settings(&MemberConfig::new(good)), [""; 0], "{good}");
        }
        for bad in ["", ".a", "-a", "a=b", "a/b", "*", "___", &"n".repeat(254)] {
            assert_eq!(settings(&MemberConfig::new(bad)), ["name"], "{bad}");
        }
    }

    #[test]
    fn a_member_that_listens_elsewhere_listens_on_loopback_too() {
        let listeners =
            MemberConfig::new("m").client_url("http://0.0.0.0:2379").listeners().unwrap();
        let urls: Vec<String> = listeners.client.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://127.0.0.1:0", "http://0.0.0.0:2379"]);
    }

    #[test]
    fn listeners_must_not_share_a_socket() {
        let config = MemberConfig::new("m")
            .client_url("http://localhost:1")
            .client_url("http://127.0.0.1:1");
        assert_eq!(settings(&config), ["client_url"]);
        let config =
            MemberConfig::new("m").client_url("http://0.0.0.0:1").peer_url("http://127.0.0.1:1");
        assert_eq!(settings(&config), ["peer_url"]);
    }

    #[test]
    fn scheme_and_tls_must_agree() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = MemberConfig::new("m").client_url("https://127.0.0.1:1");
        assert_eq!(settings(&plain), ["client_url"]);
        let secure = MemberConfig::new("m").tls(tls(file.path()));
        assert_eq!(settings(&secure), [""; 0]);
        assert_eq!(settings(&secure.client_url("http://127.0.0.1:1")), ["client_url"]);
        let peer = MemberConfig::new("m").peer_url("https://0.0.0.0:1");
        assert_eq!(settings(&peer), ["peer_url", "peer_url"]);
    }

    #[test]
    fn a_member_belongs_to_its_own_cluster() {
        let others = [("n".to_owned(), "http://127.0.0.1:2".to_owned())];
        let config = MemberConfig::new("m").peer_url("http://127.0.0.1:1");
        let config = config.initial_cluster(others, ClusterState::New);
        assert_eq!(settings(&config), ["initial_cluster"]);
    }
}
