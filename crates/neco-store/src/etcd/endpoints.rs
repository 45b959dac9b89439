//! One client per endpoint, chosen by health, with retries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions};
use neco_base::{Backoff, jittered};
use neco_schema::{LeaseId, Op, Revision, Txn};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::options::{Options, Renew};
use super::repeat::Repeat;
use super::verdict::{Peer, Trouble, Verdict, judge};
use crate::StoreError;

/// The first wait after all endpoints failed, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often the configuration is read again at most, while it does not let us in.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How often endpoints that failed are asked whether they are back.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a call is about, for the texts of errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) revision: Revision,
    pub(super) lease: LeaseId,
    pub(super) operations: usize,
    pub(super) bytes: usize,
}

impl Default for Asked {
    fn default() -> Self {
        Self { revision: Revision(0), lease: LeaseId(0), operations: 0, bytes: 0 }
    }
}

impl Asked {
    pub(super) fn commit(txn: &Txn) -> Self {
        let mut leases = txn.ops.iter().filter_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete(_) => None,
        });
        let bytes = txn.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete(range) => range.text().len(),
        });
        Self {
            lease: leases.next_back().unwrap_or(LeaseId(0)),
            operations: txn.compares.len().max(txn.ops.len()),
            bytes: bytes.sum(),
            ..Self::default()
        }
    }
}

/// The answer to a call.
pub(super) struct Answer<T> {
    pub(super) value: T,
    /// Whether an earlier try may have been executed, too.
    pub(super) doubtful: bool,
    /// Who answered.
    pub(super) endpoint: Arc<Endpoint>,
}

/// One endpoint and its client.
pub(super) struct Endpoint {
    url: String,
    up: watch::Sender<bool>,
    /// Whether it ever answered, be it with a refusal.
    answered: AtomicBool,
    /// Whether the client could not log in because authentication was off.
    let_in_unasked: AtomicBool,
    client: Mutex<Option<Client>>,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            up: watch::Sender::new(true),
            answered: AtomicBool::new(false),
            let_in_unasked: AtomicBool::new(false),
            client: Mutex::new(None),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Whether it is up, and when that changes.
    pub(super) fn state(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Drops the client, so that the next use connects and logs in anew.
    pub(super) async fn forget(&self) {
        *self.client.lock().await = None;
    }

    /// The client; made, and logged in, when there is none.
    pub(super) async fn client(&self, options: &Options, leader: bool) -> Result<Client, Error> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let made = self.make(options, leader).await?;
        *kept = Some(made.clone());
        Ok(made)
    }

    async fn make(&self, options: &Options, leader: bool) -> Result<Client, Error> {
        let plain = options.connect_options(&self.url, leader);
        let Some(user) = &options.user else {
            return Client::connect([&self.url], Some(plain)).await;
        };
        let password = options.password.as_ref().map_or("", |password| password.reveal());
        let with_user = plain.clone().with_user(user, password);
        let result = Client::connect([&self.url], Some(with_user)).await;
        // Until authentication is enabled, everybody may do everything.
        let off = matches!(
            &result,
            Err(Error::GRpcStatus(status))
                if status.message().contains("authentication is not enabled")
        );
        self.let_in_unasked.store(off, Ordering::Relaxed);
        if off { Client::connect([&self.url], Some(plain)).await } else { result }
    }
}

/// Checks options as far as that can be done without a connection. Certificates are parsed, so that nonsense is told at
/// once.
async fn check(options: &Options) -> Result<(), StoreError> {
    options.validate()?;
    for url in &options.endpoints {
        let plain = options.connect_options(url, false);
        if let Err(error) = Client::connect([url], Some(plain)).await {
            let cause = match &error {
                Error::TransportError(error) => super::verdict::chain(error),
                other => other.to_string(),
            };
            return Err(StoreError::Options { problems: vec![format!("{url}: {cause}")] });
        }
    }
    Ok(())
}

/// All endpoints, and the task that looks after those that failed.
pub(super) struct Endpoints {
    shared: Arc<Shared>,
    prober: JoinHandle<()>,
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

struct Shared {
    options: RwLock<Arc<Options>>,
    renew: Option<Renew>,
    renewed: StdMutex<Option<Instant>>,
    /// Why the options that were read last are not used.
    useless: StdMutex<String>,
    all: RwLock<Vec<Arc<Endpoint>>>,
    preferred: AtomicUsize,
    failed: Notify,
}

impl Endpoints {
    pub(super) async fn new(
        options: Options,
        renew: Option<Renew>,
    ) -> Result<Arc<Self>, StoreError> {
        let all: Vec<_> =
            options.endpoints.iter().map(|url| Arc::new(Endpoint::new(url))).collect();
        check(&options).await?;
        let preferred = AtomicUsize::new(rand::random_range(0..all.len()));
        let shared = Arc::new(Shared {
            options: RwLock::new(Arc::new(options)),
            renew,
            renewed: StdMutex::default(),
            useless: StdMutex::default(),
            all: RwLock::new(all),
            preferred,
            failed: Notify::new(),
        });
        let prober = tokio::spawn(probe(shared.clone()));
        Ok(Arc::new(Self { shared, prober }))
    }

    pub(super) fn options(&self) -> Arc<Options> {
        self.shared.options()
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.options().endpoints.clone()
    }

    /// The next call begins with the endpoint of this address, if there is one.
    pub(super) fn begin_with(&self, url: &str) {
        let all = self.shared.all();
        if let Some(index) = all.iter().position(|endpoint| same(endpoint.url(), url)) {
            self.shared.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// Makes a call: first on the endpoint that answered last, then on the others, then, after
    /// ever longer waits, on all of them again, until the call's deadline.
    ///
    /// An error comes with whether a try may have been executed.
    pub(super) async fn call<T, F, Fut>(
        &self,
        repeat: Repeat,
        asked: Asked,
        run: F,
    ) -> Result<Answer<T>, (StoreError, bool)>
    where
        F: Fn(Client) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        let shared = &*self.shared;
        let started = Instant::now();
        let end = started + shared.options().deadline;
        let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry();
        let mut doubtful = false;
        loop {
            let mut last = None;
            let (mut tried, mut lasting, mut certain) = (0, 0, 0);
            let round = shared.round();
            for endpoint in &round {
                let trouble = match shared.attempt(endpoint, end, asked, &run).await {
                    Ok(value) => {
                        shared.prefer(endpoint);
                        return Ok(Answer { value, doubtful, endpoint: endpoint.clone() });
                    }
                    Err(Verdict::Final(error) | Verdict::LogIn(error)) => {
                        shared.prefer(endpoint);
                        return Err((error, doubtful));
                    }
                    Err(Verdict::Again(trouble)) => trouble,
                };
                if trouble.avoid {
                    shared.avoid(endpoint);
                }
                tracing::debug!(reason = trouble.reason, "a try on etcd failed");
                doubtful |= trouble.sent && repeat != Repeat::Always;
                tried += 1;
                lasting += usize::from(trouble.lasting.is_some());
                certain += usize::from(trouble.certain);
                let give_up = Instant::now() >= end || (doubtful && repeat == Repeat::Never);
                last = Some(trouble);
                if give_up {
                    break;
                }
            }
            shared.renew().await;
            let wait = retry.pause();
            let out_of_time = Instant::now() + wait >= end;
            if let Some(trouble) = last {
                // The last round may have been broken off.
                let all_lasting = lasting == tried;
                let all_certain = certain == round.len();
                if out_of_time || all_certain || (doubtful && repeat == Repeat::Never) {
                    let within = started.elapsed();
                    return Err((self.gave_up(trouble, all_lasting, doubtful, within), doubtful));
                }
            }
            sleep(wait).await;
        }
    }

    fn gave_up(
        &self,
        trouble: Trouble,
        all_lasting: bool,
        doubtful: bool,
        within: Duration,
    ) -> StoreError {
        match trouble.lasting {
            Some(lasting) if all_lasting && !doubtful => lasting,
            _ => StoreError::Unreachable {
                endpoints: self.urls(),
                within,
                reason: trouble.reason,
                source: trouble.source.map(|source| source as crate::Cause),
            },
        }
    }
}

impl Shared {
    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self) -> Vec<Arc<Endpoint>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a refusal, or when nobody answers: whoever wrote the configuration may have mended it meanwhile, and members may
    /// have moved.
    async fn renew(&self) {
        let Some(renew) = &self.renew else { return };
        {
            let mut last = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < RENEW_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        let present = self.options();
        let now = match renew() {
            Ok(now) => now,
            Err(why) => return self.useless(why),
        };
        // The clients are bound to the rest.
        let renewed = Options {
            prefix: present.prefix.clone(),
            timeout: present.timeout,
            deadline: present.deadline,
            ..now
        };
        if renewed == *present {
            return self.useless(String::new());
        }
        if let Err(error) = check(&renewed).await {
            return self.useless(error.to_string());
        }
        self.useless(String::new());
        let known = self.all();
        let all = renewed.endpoints.iter().map(|url| {
            let known = known.iter().find(|endpoint| endpoint.url() == url);
            known.map_or_else(|| Arc::new(Endpoint::new(url)), Arc::clone)
        });
        let all: Vec<Arc<Endpoint>> = all.collect();
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all.clone();
        for endpoint in &all {
            endpoint.forget().await;
        }
        tracing::info!("what the configuration says of etcd has changed and is used");
    }

    /// Says why what was read again is not used, once; an empty reason ends that.
    fn useless(&self, why: String) {
        let mut told = self.useless.lock().unwrap_or_else(PoisonError::into_inner);
        if !why.is_empty() && *told != why {
            tracing::warn!(%why, "the configuration was read again and cannot be used");
        }
        *told = why;
    }

    fn avoid(&self, endpoint: &Endpoint) {
        if endpoint.up.send_replace(false) {
            tracing::info!(endpoint = endpoint.url, "etcd endpoint is taken out");
            self.failed.notify_one();
        }
    }

    fn prefer(&self, endpoint: &Arc<Endpoint>) {
        endpoint.answered.store(true, Ordering::Relaxed);
        if let Some(index) = self.all().iter().position(|one| Arc::ptr_eq(one, endpoint)) {
            self.preferred.store(index, Ordering::Relaxed);
        }
        endpoint.up.send_if_modified(|up| !std::mem::replace(up, true));
    }

    /// All endpoints from the preferred one on, those that are down last.
    fn round(&self) -> Vec<Arc<Endpoint>> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut round = self.all();
        let first = first % round.len();
        round.rotate_left(first);
        round.sort_by_key(|endpoint| !endpoint.is_up());
        round
    }

    /// One try on one endpoint. After a refusal the configuration is read again, for the next one.
    async fn attempt<T, F, Fut>(
        &self,
        endpoint: &Endpoint,
        end: Instant,
        asked: Asked,
        run: &F,
    ) -> Result<T, Verdict>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let tried = self.try_once(endpoint, end, asked, run).await;
        if tried.as_ref().is_err_and(Verdict::is_refusal) {
            self.renew().await;
        }
        tried
    }

    /// One try on one endpoint. If its token is not valid any more, it logs in and tries once more.
    async fn try_once<T, F, Fut>(
        &self,
        endpoint: &Endpoint,
        end: Instant,
        asked: Asked,
        run: &F,
    ) -> Result<T, Verdict>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let options = self.options();
        let answered = endpoint.answered.load(Ordering::Relaxed);
        let peer = Peer { answered, ..Peer::of(endpoint.url(), &options) };
        let mut logged_in = false;
        loop {
            let limit =
                options.timeout.min(end.saturating_duration_since(Instant::now())).max(FIRST_WAIT);
            let connected = timeout(limit, endpoint.client(&options, true)).await;
            let unasked = endpoint.let_in_unasked.load(Ordering::Relaxed);
            let result = match connected {
                Ok(Ok(client)) => timeout(limit, run(client)).await,
                Ok(Err(error)) => {
                    // Nothing but the login was sent.
                    return Err(match judge(error, peer, asked) {
                        Verdict::Again(trouble) => {
                            Verdict::Again(Trouble { sent: false, ..trouble })
                        }
                        stands => stands,
                    });
                }
                Err(_) => {
                    let trouble = Trouble::timed_out(endpoint.url(), limit);
                    return Err(Verdict::Again(Trouble { sent: false, ..trouble }));
                }
            };
            let verdict = match result {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => judge(error, peer, asked),
                Err(_) => Verdict::Again(Trouble::timed_out(endpoint.url(), limit)),
            };
            match verdict {
                Verdict::LogIn(_) if !logged_in && options.user.is_some() => {
                    logged_in = true;
                    endpoint.forget().await;
                }
                // Authentication is on by now. Whoever shows a certificate is taken for the user that it names.
                Verdict::Final(StoreError::PermissionDenied { .. }) if !logged_in && unasked => {
                    logged_in = true;
                    endpoint.forget().await;
                }
                other => return Err(other),
            }
        }
    }
}

/// Whether two addresses are one: the configuration may end its own with a slash.
fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Asks endpoints that failed, until they answer a linearizable read.
async fn probe(shared: Arc<Shared>) {
    loop {
        let mut down = shared.all();
        down.retain(|endpoint| !endpoint.is_up());
        if down.is_empty() {
            shared.failed.notified().await;
        }
        sleep(jittered(PROBE_EVERY)).await;
        for endpoint in down {
            let options = shared.options();
            let end = Instant::now() + options.timeout;
            let key = options.prefix.as_bytes();
            let key = if key.is_empty() { b"\0" } else { key };
            let asked = shared
                .attempt(&endpoint, end, Asked::default(), &|client: Client| async move {
                    let options = GetOptions::new().with_count_only();
                    client.kv_client().get(key, Some(options)).await
                })
                .await;
            // Any answer that stands, be it a refusal, is one.
            if !matches!(asked, Err(Verdict::Again(_))) {
                tracing::info!(endpoint = endpoint.url, "etcd endpoint is back");
                endpoint.up.send_replace(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let options = Options::new(["http://a:1", "http://b:1", "http://c:1"]);
        let all = options.endpoints.iter().map(|url| Arc::new(Endpoint::new(url))).collect();
        Shared {
            options: RwLock::new(Arc::new(options)),
            renew: None,
            renewed: StdMutex::default(),
            useless: StdMutex::default(),
            all: RwLock::new(all),
            preferred: AtomicUsize::new(1),
            failed: Notify::new(),
        }
    }

    fn order(shared: &Shared) -> Vec<String> {
        shared.round().iter().map(|endpoint| endpoint.url()[7..8].to_owned()).collect()
    }

    #[test]
    fn what_answered_comes_first_and_what_failed_last() {
        let shared = shared();
        assert_eq!(order(&shared), ["b", "c", "a"]);
        shared.avoid(&shared.all()[1]);
        assert_eq!(order(&shared), ["c", "a", "b"]);
        shared.prefer(&shared.all()[0]);
        assert_eq!(order(&shared), ["a", "c", "b"]);
        shared.avoid(&shared.all()[0]);
        shared.avoid(&shared.all()[2]);
        assert_eq!(order(&shared), ["a", "b", "c"], "all are tried if all are down");
        shared.prefer(&shared.all()[2]);
        assert_eq!(order(&shared), ["c", "a", "b"]);
    }

    #[test]
    fn whoever_waits_on_a_dead_endpoint_is_told() {
        let shared = shared();
        let mut state = shared.all()[0].state();
        assert!(*state.borrow_and_update());
        shared.avoid(&shared.all()[0]);
        assert!(state.has_changed().expect("it is there") && !*state.borrow_and_update());
        shared.avoid(&shared.all()[0]);
        shared.prefer(&shared.all()[0]);
        assert!(*state.borrow_and_update());
    }
}
