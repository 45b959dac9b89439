//! Bodies that are read while they are sent, and what is known of them meanwhile.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::ContentDigest;
use crate::content::Pieces;

/// What is to be sent.
pub(super) struct Body {
    pub(super) length: u64,
    pub(super) bytes: Pieces,
    /// Whether the digest is wanted.
    pub(super) hash: bool,
}

/// What is known of a body that is being sent.
pub(super) struct Flow {
    sent: watch::Receiver<u64>,
    length: u64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    failure: Option<io::Error>,
    hasher: Option<Sha256>,
}

impl Body {
    pub(super) fn begin(self) -> (reqwest::Body, Flow) {
        let (count, sent) = watch::channel(0);
        let hasher = self.hash.then(Sha256::new);
        let shared = Arc::new(Mutex::new(Shared { failure: None, hasher }));
        let flow = Flow { sent, length: self.length, shared: shared.clone() };
        let bytes = self.bytes.map(move |chunk| match chunk {
            Ok(chunk) => {
                if let Some(hasher) = &mut lock(&shared).hasher {
                    hasher.update(&chunk);
                }
                count.send_modify(|count| *count += chunk.len() as u64);
                Ok(chunk)
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                lock(&shared).failure = Some(error);
                Err(told)
            }
        });
        (reqwest::Body::wrap_stream(bytes), flow)
    }
}

impl Flow {
    /// Waits until more was taken to be sent, and tells how much it is now. Never ends where no more will be. Safe to drop.
    pub(super) async fn moved(&mut self) -> u64 {
        if self.sent.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.sent.borrow_and_update()
    }

    /// Why what is to be sent could not be read.
    pub(super) fn failure(&self) -> Option<io::Error> {
        lock(&self.shared).failure.take()
    }

    /// The digest of what was sent, if it was wanted and is all.
    pub(super) fn digest(&self) -> Option<ContentDigest> {
        let complete = *self.sent.borrow() == self.length;
        let hasher = complete.then(|| lock(&self.shared).hasher.take()).flatten();
        hasher.map(ContentDigest::from_hasher)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
