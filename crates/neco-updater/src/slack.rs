//! Notices to a webhook that takes Slack's attachments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Secret;
use neco_connect::{Settings, secret};
use neco_http::Url;
use neco_schema::{ConfigKey, Key, Outcome, Range, RequestKind, Revision, Timestamp};
use neco_store::Store;
use serde_json::{Value, json};

use crate::notify::{Notify, Told};

/// How long one notice may take.
const SEND_WITHIN: Duration = Duration::from_secs(3);

/// A webhook that takes Slack's attachments, at `config/notification/slack`; reached through the proxy at
/// `config/proxy`, as releases are.
pub struct Slack {
    store: Arc<dyn Store>,
    cluster: String,
}

struct Webhook {
    url: Secret,
    since: Revision,
    proxy: Option<Url>,
}

impl Slack {
    /// Notices about the data centre `cluster`; webhook and proxy are read from `store` each time.
    pub fn new(store: Arc<dyn Store>, cluster: String) -> Self {
        Self { store, cluster }
    }

    async fn webhook(&self) -> Result<Option<Webhook>, String> {
        let (slack, proxy) = (Key::Config(ConfigKey::Slack), Key::Config(ConfigKey::Proxy));
        let ranges = [Range::from(&slack), Range::from(&proxy)];
        let read = self.store.read(&ranges, None).await;
        let read = read.map_err(|error| neco_connect::one_line(&error))?;
        let Some(stored) = read.kvs.get(&slack.to_string()) else { return Ok(None) };
        let Some(url) = secret(stored) else { return Ok(None) };
        let proxy = read.kvs.get(&proxy.to_string()).map(|kv| (ConfigKey::Proxy, kv.value.clone()));
        let settings = Settings::read(&BTreeMap::from_iter(proxy));
        match settings.problems.first() {
            Some(problem) => Err(problem.to_string()),
            None => Ok(Some(Webhook { url, since: stored.create_revision, proxy: settings.proxy })),
        }
    }
}

#[async_trait]
impl Notify for Slack {
    fn name(&self) -> &str {
        "slack"
    }

    async fn wanted_since(&self) -> Result<Option<Revision>, String> {
        Ok(self.webhook().await?.map(|webhook| webhook.since))
    }

    async fn send(&self, told: &Told) -> Result<(), String> {
        let Some(webhook) = self.webhook().await? else { return Ok(()) };
        let url = Url::parse(webhook.url.reveal()).map_err(|error| {
            format!("key {} is no URL: {error}; set it again", Key::Config(ConfigKey::Slack))
        })?;
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            format!("the webhook cannot be reached: {}", neco_connect::one_line(&error))
        };
        let client = neco_http::client(&url, webhook.proxy.as_ref()).map_err(unreachable)?;
        let client = client.timeout(SEND_WITHIN).build().map_err(unreachable)?;
        let body = attachment(&self.cluster, told);
        let answer = client.post(url).json(&body).send().await.map_err(unreachable)?;
        if answer.status().is_success() {
            Ok(())
        } else if answer.status().is_redirection() {
            Err(format!(
                "the webhook answered {} and is not followed elsewhere: set its present address",
                answer.status()
            ))
        } else {
            Err(format!("the webhook answered {}", answer.status()))
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
