//! A watch that survives its connection.
//!
//! One server-side watch covers the smallest span that holds all ranges, and what lies between them is
//! left out here: only so do changes of several ranges come in the order of their revisions, and only
//! so does the cursor move on with everything that happens nearby.
//!
//! What surprises a newcomer: etcd says a lost watch in four ways. A broken connection, a stream that
//! ends without an error, a "canceled" message with a compact revision (no error, no reason), and a
//! "canceled" message with a reason. And a server whose token for us ran out denies permission.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Error, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use neco_base::{Backoff, Retry};
use neco_schema::{Range, Revision};
use tokio::sync::watch;
use tokio::time::sleep;

use super::MAX_ANSWER;
use super::endpoints::{Asked, Endpoint, Endpoints};
use super::repeat::Repeat;
use super::wire::{Space, Span, head};
use crate::{Change, StoreError, Watch, WatchEvent};

const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A watch on a real etcd cluster.
pub(super) struct EtcdWatch {
    endpoints: Arc<Endpoints>,
    space: Space,
    ranges: Vec<Range>,
    span: Span,
    /// The first revision that was not told yet; 0 for "from now on".
    next: Revision,
    cluster_id: Option<u64>,
    state: State,
    retry: Retry,
    denied: bool,
}

enum State {
    Closed,
    Open(Box<Open>),
    Lost(Revision),
}

struct Open {
    stream: WatchStream,
    /// A message that came while opening and is still to be looked at.
    first: Option<WatchResponse>,
    endpoint: Arc<Endpoint>,
    up: watch::Receiver<bool>,
}

impl EtcdWatch {
    pub(super) async fn open(
        endpoints: Arc<Endpoints>,
        space: Space,
        ranges: &[Range],
        from: Revision,
    ) -> Result<Self, StoreError> {
        let mut watch = Self {
            span: space.span_of(ranges),
            endpoints,
            space,
            ranges: ranges.to_vec(),
            next: Revision(from.0.max(0)),
            cluster_id: None,
            state: State::Closed,
            retry: Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry(),
            denied: false,
        };
        watch.reopen().await?;
        Ok(watch)
    }

    /// Opens the stream on whatever endpoint answers.
    async fn reopen(&mut self) -> Result<(), StoreError> {
        let mut options =
            WatchOptions::new().with_progress_notify().with_start_revision(self.next.0);
        if let Some(end) = &self.span.end {
            options = options.with_range(end.clone());
        }
        let start = &self.span.start;
        let answer = self
            .endpoints
            .call(Repeat::Always, Asked::default(), |client| {
                let (start, options) = (start.clone(), options.clone());
                async move {
                    let mut client = client.watch_client().max_decoding_message_size(MAX_ANSWER);
                    let mut stream = client.watch(start, Some(options)).await?;
                    let closed = || Error::WatchError("the stream ended".to_owned());
                    let created = stream.message().await?.ok_or_else(closed)?;
                    Ok((stream, created))
                }
            })
            .await
            .map_err(|(error, _)| error)?;
        let (stream, created) = answer.value;
        let (cluster_id, revision) = head(created.header());
        if self.next.0 == 0 {
            self.next = Revision(revision.0 + 1);
        }
        let known = *self.cluster_id.get_or_insert(cluster_id);
        let went_back = revision.0 + 1 < self.next.0 && self.newest().await?.0 + 1 < self.next.0;
        if known != cluster_id || went_back {
            tracing::warn!(%revision, next = %self.next, "etcd was restored or replaced");
            self.state = State::Lost(revision);
            return Ok(());
        }
        let up = answer.endpoint.state();
        let endpoint = answer.endpoint;
        self.state = State::Open(Box::new(Open { stream, first: Some(created), endpoint, up }));
        Ok(())
    }

    /// The newest revision. A member that lags behind answers a watch with an older one.
    async fn newest(&self) -> Result<Revision, StoreError> {
        let start = &self.span.start;
        let answer = self.endpoints.call(Repeat::Always, Asked::default(), |client| async move {
            let options = GetOptions::new().with_count_only();
            client.kv_client().get(start.clone(), Some(options)).await
        });
        let answer = answer.await.map_err(|(error, _)| error)?;
        Ok(head(answer.value.header()).1)
    }

    /// What a message says, if anything. `Err` if the stream is not usable any more.
    fn look_at(&mut self, message: &WatchResponse) -> Result<Option<WatchEvent>, Closed> {
        if message.compact_revision() > 0 {
            return Err(Closed::Compacted(Revision(message.compact_revision())));
        }
        if message.canceled() {
            return Err(Closed::Canceled(message.cancel_reason().to_owned()));
        }
        let mut changes = Vec::new();
        let mut last = None;
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = Revision(kv.mod_revision());
            if revision < self.next {
                continue;
            }
            last = Some(revision);
            let key = self.space.relative(kv.key());
            if self.ranges.iter().any(|range| range.contains(&key)) {
                changes.push(self.change(event, key, revision));
            }
        }
        if let Some(last) = last {
            self.next = Revision(last.0 + 1);
            self.retry.reset();
            let progress = WatchEvent::Progress(last);
            let event = if changes.is_empty() { progress } else { WatchEvent::Changed(changes) };
            return Ok(Some(event));
        }
        if message.created() || !message.events().is_empty() {
            return Ok(None);
        }
        // Progress is told, and not relied upon: it was wrong in some versions of etcd.
        let (_, revision) = head(message.header());
        Ok((revision.0 + 1 >= self.next.0).then_some(WatchEvent::Progress(revision)))
    }

    fn change(&self, event: &etcd_client::Event, key: String, revision: Revision) -> Change {
        let put = event.event_type() == EventType::Put;
        Change { key, revision, kv: event.kv().filter(|_| put).map(|kv| self.space.key_value(kv)) }
    }
}

/// How a stream ended.
enum Closed {
    Compacted(Revision),
    Canceled(String),
    Broken(String),
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            let open = match &mut self.state {
                State::Lost(revision) => return Ok(WatchEvent::Lost { revision: *revision }),
                State::Closed => {
                    sleep(self.retry.pause()).await;
                    match self.reopen().await {
                        Ok(()) => {}
                        Err(StoreError::Unreachable { .. }) => {}
                        Err(error) => return Err(error),
                    }
                    continue;
                }
                State::Open(open) => open,
            };
            let message = match open.first.take() {
                Some(first) => Ok(first),
                None => open.message().await,
            };
            let endpoint = open.endpoint.clone();
            let closed = match message {
                Ok(message) => match self.look_at(&message) {
                    Ok(Some(event)) => {
                        self.denied = false;
                        return Ok(event);
                    }
                    Ok(None) => continue,
                    Err(closed) => closed,
                },
                Err(reason) => Closed::Broken(reason),
            };
            self.state = State::Closed;
            match closed {
                Closed::Compacted(revision) => self.state = State::Lost(revision),
                Closed::Broken(reason) => {
                    tracing::debug!(endpoint = endpoint.url(), reason, "a watch broke off");
                }
                Closed::Canceled(reason) => {
                    tracing::debug!(endpoint = endpoint.url(), reason, "a watch was canceled");
                    let denied = reason.contains("permission denied") || reason.contains("token");
                    if denied && self.denied {
                        let user = self.endpoints.options().user.clone();
                        let endpoint = endpoint.url().to_owned();
                        return Err(StoreError::PermissionDenied { endpoint, user });
                    }
                    self.denied = denied;
                    if denied {
                        // The token may have run out, which a watch is not told: log in again.
                        endpoint.forget().await;
                    }
                }
            }
        }
    }
}

impl Open {
    /// The next message. An endpoint that other calls found dead is given up.
    async fn message(&mut self) -> Result<WatchResponse, String> {
        tokio::select! {
            biased;
            message = self.stream.message() => match message {
                Ok(Some(message)) => Ok(message),
                Ok(None) => Err("the stream ended".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            _ = self.up.wait_for(|up| !up) => Err("the endpoint is down".to_owned()),
        }
    }
}
