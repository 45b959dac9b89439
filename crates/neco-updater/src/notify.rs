//! Notices to people: at least once, and never in the way of an update.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_plan::View;
use neco_schema::{
    Compare, HistoryRecord, Key, KeyValue, Lrn, NecoVersion, Notice, Op, Range, Record, RequestId,
    RequestKind, Revision, Timestamp, Txn, prefixes,
};
use neco_store::{Committed, Follower};
use tokio::sync::mpsc;

use crate::leading::Context;

/// How many records are read at once.
const READ_AT_ONCE: usize = 20;
/// Delays after a notice that was not sent.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A request was made.
    Begun {
        /// Its version.
        version: NecoVersion,
        /// Its members.
        servers: Vec<Lrn>,
        /// Why it was made.
        kind: RequestKind,
        /// When.
        at: Timestamp,
    },
    /// A request ended.
    Ended(Box<HistoryRecord>),
}

/// Sends notices.
#[async_trait]
pub trait Notify: Send + Sync + 'static {
    /// The name that stands in the history for it.
    fn name(&self) -> &str;

    /// Since which revision notices are wanted; `None` while nobody wants any.
    ///
    /// # Errors
    /// It is not known; in words.
    async fn wanted_since(&self) -> Result<Option<Revision>, String>;

    /// Sends one notice; nothing is sent while nobody wants any.
    ///
    /// # Errors
    /// It was not taken; in words.
    async fn send(&self, told: &Told) -> Result<(), String>;
}

/// Sends news as they come, each once and none again; runs as long as somebody has news.
pub(crate) async fn send_news(notify: Arc<dyn Notify>, mut news: mpsc::Receiver<Told>) {
    while let Some(told) = news.recv().await {
        if let Err(why) = notify.send(&told).await {
            tracing::warn!(%why, "a notice was not sent");
        }
    }
}

/// Sends the notices about ended requests that the history does not show as sent.
pub(crate) struct Notifier {
    context: Arc<Context>,
    /// The newest record up to which nothing is due.
    told: Option<(Timestamp, RequestId)>,
}

impl Notifier {
    /// Sends what is due while its future is polled.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, told: None }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let ranges = vec![Range::KeysOnly(prefixes::HISTORY.to_owned())];
        let mut follower = Follower::every(
            Arc::clone(&self.context.store),
            ranges.clone(),
            Duration::from_secs(60),
        );
        let mut retry = TRY_AGAIN.retry();
        loop {
            match self.send_due(&ranges).await {
                Ok(()) => {
                    retry.reset();
                    follower.changed().await;
                }
                Err(why) => {
                    tracing::warn!(%why, "a notice was not sent");
                    tokio::time::sleep(retry.pause()).await;
                }
            }
        }
    }

    /// Goes through all records that are kept, oldest first; what was gone through is not read again.
    async fn send_due(&mut self, ranges: &[Range]) -> Result<(), String> {
        let context = Arc::clone(&self.context);
        let words = |error: neco_store::StoreError| neco_connect::one_line(&error);
        let keys = View::assemble(&context.store.read(ranges, None).await.map_err(words)?);
        let left: Vec<_> =
            keys.history.into_keys().filter(|key| self.told.as_ref() < Some(key)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let Some(since) = context.notify.wanted_since().await? else { return Ok(()) };
        for some in left.chunks(READ_AT_ONCE) {
            let key = |(at, id): &(Timestamp, RequestId)| Key::History(*at, id.clone());
            let wanted: Vec<Range> = some.iter().map(|of| Range::from(&key(of))).collect();
            let records = context.store.read(&wanted, None).await.map_err(words)?;
            for of in some {
                let key = key(of);
                // Without it, it was tidied away in the meantime.
                if let Some(kv) = records.kvs.get(&key.to_string())
                    && !self.tell(&key, kv, since).await?
                {
                    return Ok(());
                }
                self.told = Some(of.clone());
            }
        }
        Ok(())
    }

    /// Tells of one record, if that is due; `false` if it has changed meanwhile and is to be looked at again.
    async fn tell(&self, key: &Key, kv: &KeyValue, since: Revision) -> Result<bool, String> {
        let notify = &self.context.notify;
        let Ok(mut record) = HistoryRecord::decode(&kv.value) else { return Ok(true) };
        let sent = record.notices.iter().any(|notice| notice.to == notify.name());
        // Whoever asks for notices now does not ask for what was long over.
        if sent || kv.create_revision < since {
            return Ok(true);
        }
        notify.send(&Told::Ended(Box::new(record.clone()))).await?;
        record.notices.push(Notice {
            to: notify.name().to_owned(),
            at: self.context.now(),
            unknown: Default::default(),
        });
        let txn = Txn::default()
            .when(Compare::unchanged(key, kv.mod_revision))
            .then(Op::put(key, &record));
        let committed = self.context.store.commit(&txn).await;
        let committed = committed.map_err(|error| neco_connect::one_line(&error))?;
        Ok(matches!(committed, Committed::Done(_)))
    }
}
