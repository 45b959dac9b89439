//! Contents of assets and images, and the file that outlives a restart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::answer::Refusal;
use super::model::Model;
use crate::ContentDigest;

/// Contents that are no larger are kept in memory where there is no directory; of others, digest and size are known.
const IN_MEMORY: usize = 8 << 20;

/// The model and the contents, in a directory or in memory.
#[derive(Debug)]
pub(super) struct Store {
    model: Mutex<Model>,
    directory: Option<PathBuf>,
    memory: Mutex<BTreeMap<ContentDigest, Bytes>>,
    incoming: AtomicU64,
}

/// A body that was received.
pub(super) struct Received {
    pub(super) size: u64,
    pub(super) sha256: ContentDigest,
}

impl Store {
    /// Begins with what lies in the directory, if something does.
    pub(super) fn open(directory: Option<&Path>) -> io::Result<Self> {
        let mut model = Model::default();
        if let Some(directory) = directory {
            std::fs::create_dir_all(directory.join("contents"))?;
            match std::fs::read(directory.join("state.json")) {
                Ok(text) => model = serde_json::from_slice(&text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            model: Mutex::new(model),
            directory: directory.map(Path::to_owned),
            memory: Mutex::default(),
            incoming: AtomicU64::new(0),
        })
    }

    /// Looks.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Model) -> T) -> T {
        look(&lock(&self.model))
    }

    /// Changes, all or nothing, and writes it down.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Model) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut model = lock(&self.model);
        let mut changed = model.clone();
        let result = change(&mut changed)?;
        if let Some(directory) = &self.directory {
            save(directory, &changed).map_err(Refusal::internal)?;
        }
        *model = changed;
        Ok(result)
    }

    /// Takes a body and keeps it under its digest. `see` is shown every piece.
    pub(super) async fn receive(
        &self,
        body: Body,
        mut see: impl FnMut(&[u8]) + Send,
    ) -> Result<Received, Refusal> {
        let mut pieces = body.into_data_stream();
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut memory = Some(Vec::new());
        let mut file = match &self.directory {
            Some(directory) => {
                let number = self.incoming.fetch_add(1, Ordering::Relaxed);
                let path = directory.join(format!("incoming-{number}"));
                let file = tokio::fs::File::create(&path).await.map_err(Refusal::internal)?;
                Some((path, file))
            }
            None => None,
        };
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(Refusal::internal)?;
            hasher.update(&piece);
            see(&piece);
            size += piece.len() as u64;
            if let Some((_, file)) = &mut file {
                file.write_all(&piece).await.map_err(Refusal::internal)?;
            } else if memory.as_ref().is_some_and(|kept| kept.len() + piece.len() <= IN_MEMORY) {
                memory.iter_mut().for_each(|kept| kept.extend_from_slice(&piece));
            } else {
                memory = None;
            }
        }
        let sha256 = ContentDigest::from_hasher(hasher);
        if let Some((path, mut file)) = file {
            file.flush().await.map_err(Refusal::internal)?;
            let place = self.place(&sha256).unwrap_or_default();
            tokio::fs::rename(path, place).await.map_err(Refusal::internal)?;
        } else if let Some(kept) = memory {
            lock(&self.memory).insert(sha256.clone(), kept.into());
        }
        Ok(Received { size, sha256 })
    }

    /// A content as a body.
    pub(super) async fn content(&self, sha256: &ContentDigest) -> Result<Body, Refusal> {
        if let Some(place) = self.place(sha256) {
            let file = tokio::fs::File::open(place).await.map_err(Refusal::internal)?;
            return Ok(Body::from_stream(ReaderStream::new(file)));
        }
        let kept = lock(&self.memory).get(sha256).cloned();
        kept.map(Body::from).ok_or_else(|| {
            Refusal::internal("the stand-in keeps contents as large as this in a directory only")
        })
    }

    fn place(&self, sha256: &ContentDigest) -> Option<PathBuf> {
        let directory = self.directory.as_ref()?;
        Some(directory.join("contents").join(sha256.as_str()))
    }
}

fn save(directory: &Path, model: &Model) -> io::Result<()> {
    let part = directory.join("state.json.part");
    std::fs::write(&part, serde_json::to_vec(model)?)?;
    std::fs::rename(part, directory.join("state.json"))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
