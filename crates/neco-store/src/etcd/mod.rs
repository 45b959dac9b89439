//! The store on a real etcd cluster.
//!
//! - [`options`](Options): where and who.
//! - `endpoints`: one client per endpoint, health, retries. The client library's own balancer goes on
//!   choosing dead members, so it is never given more than one.
//! - `verdict`: what an error of the client library means.
//! - `repeat`: whether a transaction may be sent again.
//! - `wire`: our vocabulary in the client library's.
//! - `watch`, `health`, `members`.

mod endpoints;
mod health;
mod members;
mod options;
mod repeat;
mod verdict;
mod watch;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{GetOptions, KvClient, TxnOp, TxnOpResponse};
use neco_schema::{KeyValue, LeaseId, Op, Range, Revision, Snapshot, Txn};

pub use self::options::{Options, Renew};

use self::endpoints::{Asked, Endpoints};
use self::repeat::Repeat;
use self::watch::EtcdWatch;
use self::wire::{Space, Span};
use crate::{ClusterHealth, Committed, KeepAlive, Store, StoreError, Watch};

/// Keys read at once.
const PAGE: i64 = 500;

/// Ranges read in one transaction; etcd takes 128 operations unless told otherwise.
const RANGES: usize = 64;

/// The largest answer accepted. The library's 4 MiB are less than a page of large values.
const MAX_ANSWER: usize = 256 << 20;

/// How often a read is begun anew because its revision was compacted in between.
const READS: usize = 5;

/// A store on a real etcd cluster.
#[derive(Clone)]
pub struct EtcdStore {
    endpoints: Arc<Endpoints>,
    space: Space,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("space", &self.space).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Prepares the clients. Nothing needs to listen yet; see [`EtcdStore::ping`].
    ///
    /// # Errors
    /// The options cannot be used.
    pub async fn connect(options: Options) -> Result<Self, StoreError> {
        let space = Space::new(&options.prefix);
        Ok(Self { endpoints: Endpoints::new(options, None).await?, space })
    }

    /// The same, and while etcd does not let us in or nobody answers, endpoints, certificates, user and password are asked for
    /// anew: whoever mends them, or moves the members, need not restart anything.
    ///
    /// # Errors
    /// The options cannot be used.
    pub async fn connect_renewing(options: Options, renew: Renew) -> Result<Self, StoreError> {
        let space = Space::new(&options.prefix);
        Ok(Self { endpoints: Endpoints::new(options, Some(renew)).await?, space })
    }

    /// Makes a real call: a linearizable read. Returns the cluster's identity and newest revision.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub async fn ping(&self) -> Result<(u64, Revision), StoreError> {
        // A read of nothing would be allowed to everybody.
        let snapshot = self.read(&[Range::Key("ping".to_owned())], None).await?;
        Ok((snapshot.cluster_id, snapshot.revision))
    }

    /// Compacts the history of the whole cluster up to a revision.
    ///
    /// # Errors
    /// It is compacted already, or in the future; whatever keeps the store from answering.
    pub async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        let asked = Asked { revision: at, ..Asked::default() };
        let answer = self.endpoints.call(Repeat::Always, asked, |client| async move {
            client.kv_client().compact(at.0, None).await
        });
        match answer.await {
            // The answer of an earlier try was lost, and that try had done it.
            Err((StoreError::Compacted { .. }, true)) => Ok(()),
            Err((error, _)) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    async fn read_once(
        &self,
        ranges: &[Range],
        at: Option<Revision>,
    ) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        let mut pinned = at.filter(|at| at.0 > 0);
        // Without ranges there still is a revision to read.
        let chunks: Vec<&[Range]> =
            if ranges.is_empty() { vec![&[]] } else { ranges.chunks(RANGES).collect() };
        for chunk in chunks {
            let mut todo: Vec<(bool, Span)> = chunk
                .iter()
                .map(|range| (matches!(range, Range::KeysOnly(_)), self.space.span(range)))
                .collect();
            loop {
                let page = self.read_page(&todo, pinned).await?;
                snapshot.cluster_id = page.cluster_id;
                let revision = *pinned.get_or_insert(page.revision);
                snapshot.revision = revision;
                let mut rest = Vec::new();
                for ((bare, span), (kvs, more)) in todo.iter().zip(page.ranges) {
                    if more && let Some(last) = kvs.last() {
                        rest.push((*bare, span.after(last.key())));
                    }
                    for kv in &kvs {
                        keep(&mut snapshot.kvs, self.space.key_value(kv), *bare);
                    }
                }
                if rest.is_empty() {
                    break;
                }
                todo = rest;
            }
        }
        Ok(snapshot)
    }

    /// One transaction of range requests.
    async fn read_page(
        &self,
        spans: &[(bool, Span)],
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let gets: Vec<TxnOp> = spans
            .iter()
            .map(|(bare, span)| {
                let mut options = GetOptions::new().with_limit(PAGE);
                if let Some(end) = &span.end {
                    options = options.with_range(end.clone());
                }
                if *bare {
                    options = options.with_keys_only();
                }
                if let Some(at) = at {
                    options = options.with_revision(at.0);
                }
                TxnOp::get(span.start.clone(), Some(options))
            })
            .collect();
        let asked = Asked { revision: at.unwrap_or_default(), ..Asked::default() };
        let answer = self
            .endpoints
            .call(Repeat::Always, asked, |client| {
                let txn = etcd_client::Txn::new().and_then(gets.clone());
                async move { large(client.kv_client()).txn(txn).await }
            })
            .await
            .map_err(|(error, _)| error)?
            .value;
        let (cluster_id, revision) = wire::head(answer.header());
        let ranges = answer
            .op_responses()
            .into_iter()
            .filter_map(|response| match response {
                TxnOpResponse::Get(mut get) => {
                    let more = get.more();
                    Some((get.take_kvs(), more))
                }
                _ => None,
            })
            .collect();
        Ok(Page { cluster_id, revision, ranges })
    }

    /// After an answer was lost: whether the writes of `txn` stand as it would have left them.
    async fn stands(&self, txn: &Txn) -> Result<Option<Revision>, StoreError> {
        let ranges: Vec<Range> = txn
            .ops
            .iter()
            .map(|op| match op {
                Op::Put { key, .. } => Range::Key(key.clone()),
                Op::Delete(Range::Key(key)) => Range::Key(key.clone()),
                Op::Delete(range) => Range::KeysOnly(range.text().to_owned()),
            })
            .collect();
        let now = self.read(&ranges, None).await?;
        Ok(repeat::stands(txn, &now))
    }
}

/// What one transaction of range requests answered: per range the keys, and whether there are more.
struct Page {
    cluster_id: u64,
    revision: Revision,
    ranges: Vec<(Vec<etcd_client::KeyValue>, bool)>,
}

/// Keeps a key, and its value if any of the ranges gave it.
fn keep(kvs: &mut BTreeMap<String, KeyValue>, kv: KeyValue, bare: bool) {
    if !bare || !kvs.contains_key(&kv.key) {
        kvs.insert(kv.key.clone(), kv);
    }
}

fn large(kv: KvClient) -> KvClient {
    kv.max_decoding_message_size(MAX_ANSWER)
}

#[async_trait]
impl Store for EtcdStore {
    async fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError> {
        let mut tries = 1;
        loop {
            match self.read_once(ranges, at).await {
                Err(StoreError::Compacted { .. }) if at.is_none() && tries < READS => tries += 1,
                result => return result,
            }
        }
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let repeat = repeat::of(txn);
        let asked = Asked::commit(txn);
        let request = self.space.txn(txn);
        let answer = self
            .endpoints
            .call(repeat, asked, |client| {
                let request = request.clone();
                async move { large(client.kv_client()).txn(request).await }
            })
            .await;
        match answer {
            Ok(answer) if answer.value.succeeded() => {
                Ok(Committed::Done(wire::head(answer.value.header()).1))
            }
            Ok(answer) if !answer.doubtful => Ok(Committed::Refused),
            Err((error, false)) => Err(error),
            // An earlier try may have done it, which would explain the refusal of this one.
            doubt => {
                let reason = match doubt {
                    Err((error, _)) => error,
                    Ok(_) => StoreError::Unknown {
                        endpoints: self.endpoints.urls(),
                        reason: "the answer was lost and the next try refused".to_owned(),
                        source: None,
                    },
                };
                if !repeat::is_decidable(txn) {
                    return Err(reason.into_unknown());
                }
                match self.stands(txn).await {
                    Ok(Some(revision)) => Ok(Committed::Done(revision)),
                    Ok(None) | Err(_) => Err(reason.into_unknown()),
                }
            }
        }
    }

    async fn watch(&self, ranges: &[Range], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let watch =
            EtcdWatch::open(self.endpoints.clone(), self.space.clone(), ranges, from).await?;
        Ok(Box::new(watch))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = wire::whole_seconds(ttl);
        let answer = self
            .endpoints
            .call(Repeat::Always, Asked::default(), |client| async move {
                client.lease_client().grant(seconds, None).await
            })
            .await
            .map_err(|(error, _)| error)?;
        Ok(LeaseId(answer.value.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        let asked = Asked { lease, ..Asked::default() };
        let answer = self
            .endpoints
            .call(Repeat::Always, asked, |client| async move {
                match client.lease_client().keep_alive(lease.0).await {
                    // The library asks once by itself, and does not tell for how long.
                    Ok((mut keeper, mut answers)) => {
                        keeper.keep_alive().await?;
                        Ok(answers.message().await?.map_or(0, |answer| answer.ttl()))
                    }
                    Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(0),
                    Err(error) => Err(error),
                }
            })
            .await
            .map_err(|(error, _)| error)?;
        Ok(match u64::try_from(answer.value) {
            Ok(seconds) if seconds > 0 => KeepAlive::Alive(Duration::from_secs(seconds)),
            _ => KeepAlive::Expired,
        })
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let asked = Asked { lease, ..Asked::default() };
        let answer = self.endpoints.call(Repeat::Always, asked, |client| async move {
            client.lease_client().revoke(lease.0).await
        });
        match answer.await {
            Ok(_) | Err((StoreError::LeaseGone { .. }, _)) => Ok(()),
            Err((error, _)) => Err(error),
        }
    }

    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        health::ask(&self.endpoints).await
    }
}
