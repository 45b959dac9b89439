//! A receiver of notices, as a chat service is one.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::post;
use jiff::Timestamp;
use neco_plan::invariants::Fact;
use neco_schema::{HistoryRecord, Record};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::recording::{Event, Recording};

/// What makes its address a secret.
pub(crate) const SECRET: &str = "T0whatNobodyMaySeeEither";

type Taken = Arc<Mutex<Vec<(Timestamp, Value)>>>;

/// Takes everything that is posted to it, until it is dropped.
pub(crate) struct Webhook {
    url: String,
    taken: Taken,
    _server: JoinSet<()>,
}

impl Webhook {
    /// Listens on a free port of the loopback device.
    ///
    /// # Panics
    /// There is none.
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let taken = Taken::default();
        let router = Router::new()
            .route(&format!("/services/{SECRET}"), post(take))
            .with_state(Arc::clone(&taken));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url: format!("http://{address}/services/{SECRET}"), taken, _server: server }
    }

    /// Where to post.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Adds to a recording which of the requests in its history were told of as ended.
    pub(crate) fn add_to(&self, recording: &mut Recording) {
        let mut ended = Vec::new();
        for (_, change) in recording.changes_mut() {
            if change.key.starts_with("history/")
                && let Some(kv) = &change.after
                && let Ok(record) = HistoryRecord::decode(&kv.value)
            {
                // The notice names whole seconds.
                let begun = record.started_at.get().as_second();
                ended.push((record.id, record.version.to_string(), begun));
            }
        }
        for (at, message) in self.taken.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let told = &message["attachments"][0];
            if told["title"] == "Update begins" {
                continue;
            }
            let field = |title: &str| {
                let fields = told["fields"].as_array().into_iter().flatten();
                let found = fields.into_iter().find(|field| field["title"] == title)?;
                found["value"].as_str()
            };
            let begun = field("Started at").and_then(|at| at.parse::<Timestamp>().ok());
            let about = ended.iter().find(|(_, version, at)| {
                Some(version.as_str()) == field("Version")
                    && Some(*at) == begun.map(Timestamp::as_second)
            });
            let (request, ..) = about.unwrap_or_else(|| panic!("about what? {message}"));
            recording.add(*at, Event::Fact(Fact::NoticeSent { request: request.clone() }));
        }
    }
}

async fn take(State(taken): State<Taken>, Json(message): Json<Value>) {
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    taken.push((Timestamp::now(), message));
}
