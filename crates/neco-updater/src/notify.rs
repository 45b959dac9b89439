//! Notices to people: at least once, and never in the way of an update.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_connect::Secrets;
use neco_plan::View;
use neco_schema::{
    Compare, HistoryRecord, Key, Lrn, NecoVersion, Notice, Op, Outcome, Range, Record, RequestKind,
    Timestamp, Txn, prefixes,
};
use neco_store::{Follower, Store};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::leading::Context;

/// How long one notice may take.
const SEND_WITHIN: Duration = Duration::from_secs(3);
/// How many of the newest records are looked through for notices that were not sent.
const LOOKED_THROUGH: usize = 5;
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

    /// Sends one notice; `false` when nobody wants any.
    ///
    /// # Errors
    /// It was not taken; in words.
    async fn send(&self, told: &Told) -> Result<bool, String>;

    /// Sends one notice as soon as possible, without waiting and without trying again.
    fn tell(&self, told: Told);
}

/// A webhook that takes Slack's attachments, at `config/notification/slack`.
pub struct Slack {
    store: Arc<dyn Store>,
    cluster: String,
    http: reqwest::Client,
    soon: mpsc::Sender<Told>,
}

impl Slack {
    /// Notices about the data centre `cluster`; the webhook is read from `store` each time.
    ///
    /// Must be called in a tokio runtime: a task of its own sends what [`Notify::tell`] takes.
    pub fn new(store: Arc<dyn Store>, cluster: String) -> Arc<Self> {
        neco_process::crypto::install_crypto_provider();
        // Room for what one leader can begin while a webhook hangs; more would be stale news.
        let (soon, mut told) = mpsc::channel::<Told>(16);
        let slack = Arc::new(Self { store, cluster, http: reqwest::Client::new(), soon });
        let sender = Arc::downgrade(&slack);
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                let Some(slack) = sender.upgrade() else { return };
                if let Err(why) = slack.send(&told).await {
                    tracing::warn!(%why, "a notice was not sent");
                }
            }
        });
        slack
    }
}

#[async_trait]
impl Notify for Slack {
    fn name(&self) -> &str {
        "slack"
    }

    async fn send(&self, told: &Told) -> Result<bool, String> {
        let secrets =
            Secrets::read(&*self.store).await.map_err(|error| neco_connect::one_line(&error))?;
        let Some(url) = secrets.slack else { return Ok(false) };
        let body = attachment(&self.cluster, told);
        let answer = self.http.post(url.reveal()).json(&body).timeout(SEND_WITHIN).send().await;
        // The address is a secret: errors are told without it.
        let answer = answer
            .map_err(|error| format!("the webhook cannot be reached: {}", error.without_url()))?;
        if answer.status().is_success() {
            Ok(true)
        } else {
            Err(format!("the webhook answered {}", answer.status()))
        }
    }

    fn tell(&self, told: Told) {
        if self.soon.try_send(told).is_err() {
            tracing::warn!("a notice was dropped: the webhook is slow");
        }
    }
}

/// The message, in the form of the original.
fn attachment(cluster: &str, told: &Told) -> Value {
    let (color, title, text, version, servers, at, last) = match told {
        Told::Begun { version, servers, kind, at } => {
            let detail = match kind {
                RequestKind::Reconfigure => "the set of boot servers is being reconfigured",
                _ => "a release is being rolled out",
            };
            (
                "#439FE0",
                "Update begins",
                "Boot servers began to update.",
                version,
                servers,
                at,
                ("Detail", detail.to_owned()),
            )
        }
        Told::Ended(record) if record.outcome == Outcome::Completed => (
            "good",
            "Update completed successfully",
            "Boot servers were updated successfully :tada: :tada: :tada:",
            &record.version,
            &record.servers,
            &record.started_at,
            ("", String::new()),
        ),
        Told::Ended(record) => (
            "danger",
            "Update failed",
            "The update ended early :crying_cat_face: 'necoctl why' tells what to do.",
            &record.version,
            &record.servers,
            &record.started_at,
            ("Reason", format!("{}: {}", record.outcome, record.cause)),
        ),
    };
    let list = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut fields = vec![
        json!({ "title": "Cluster", "value": cluster, "short": true }),
        json!({ "title": "Version", "value": version.as_str(), "short": true }),
        json!({ "title": "Servers", "value": format!("[{list}]"), "short": true }),
        json!({ "title": "Started at", "value": Timestamp::from_unix(at.get().as_second()).to_string(), "short": true }),
    ];
    if !last.0.is_empty() {
        fields.push(json!({ "title": last.0, "value": last.1 }));
    }
    json!({ "attachments": [
        { "color": color, "author_name": "Boot server updater", "title": title, "text": text, "fields": fields }
    ] })
}

/// Sends the notices about ended requests that the history does not show as sent.
pub struct Notifier {
    context: Arc<Context>,
}

impl Notifier {
    /// Sends what is due while its future is polled.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
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

    async fn send_due(&self, ranges: &[Range]) -> Result<(), String> {
        let store = &self.context.store;
        let words = |error: neco_store::StoreError| neco_connect::one_line(&error);
        let keys = View::assemble(&store.read(ranges, None).await.map_err(words)?);
        let newest = keys.history.keys().rev().take(LOOKED_THROUGH);
        let newest: Vec<Range> =
            newest.map(|(at, id)| Range::from(&Key::History(*at, id.clone()))).collect();
        if newest.is_empty() {
            return Ok(());
        }
        let records = store.read(&newest, None).await.map_err(words)?;
        for kv in records.kvs.values() {
            let Ok(record) = HistoryRecord::decode(&kv.value) else { continue };
            if record.notices.iter().any(|notice| notice.to == self.context.notify.name()) {
                continue;
            }
            if !self.context.notify.send(&Told::Ended(Box::new(record.clone()))).await? {
                return Ok(());
            }
            let mut sent = record;
            sent.notices
                .push(Notice { to: self.context.notify.name().to_owned(), at: self.context.now() });
            let Ok(key) = kv.key.parse::<Key>() else { continue };
            let txn = Txn::default()
                .when(Compare::unchanged(&key, kv.mod_revision))
                .then(Op::put(&key, &sent));
            store.commit(&txn).await.map_err(words)?;
        }
        Ok(())
    }
}
