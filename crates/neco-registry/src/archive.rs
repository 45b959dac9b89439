//! Archives for `docker load`, streamed from a registry.
//!
//! ```text
//! <64 hex digits>.json      the configuration
//! <64 hex digits>.tar.gz    one for each layer, as it lies in the registry; .tar if that is not compressed
//! manifest.json             [{"Config": "….json", "RepoTags": ["…"], "Layers": ["….tar.gz", …]}]
//! ```
//!
//! All sizes are in the image's manifest, so that the length is known before the first byte. `manifest.json` comes last:
//! nothing names a layer before all of them were found right. Docker 20.10 loads layers that are plain or compressed by gzip,
//! also the same one twice; it fails at zstd, which it reports as an unexpected end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::{StreamExt as _, try_unfold};
use serde::Serialize;

use crate::blob::{Blob, BlobStream, Wanted};
use crate::deadline::Deadline;
use crate::digest::{Digest, Sum};
use crate::error::RegistryError;
use crate::manifest::{Layer, Packing};
use crate::name::ImageName;

/// What files of a tar file are padded to.
const BLOCK: u64 = 512;
/// What ends a tar file.
static END: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// An archive that `docker load` takes, before its first byte.
///
/// It is the same bytes each time for the same image and the same name. Its length is known; its SHA-256 is not, because
/// nobody has read the layers yet: [`ArchiveStream::sum`] tells it at the end.
pub struct Archive {
    pieces: VecDeque<Piece>,
    length: u64,
    deadline: Deadline,
}

/// A part of an archive.
enum Piece {
    Bytes(Bytes),
    Blob(Wanted),
}

/// The bytes of an archive. An error is the last item; what came before is no archive.
pub struct ArchiveStream {
    inner: BlobStream,
    sum: ArchiveSum,
    adding: Sum,
    /// How many bytes are still to come.
    left: u64,
}

/// Tells the SHA-256 of an archive, once all of it has passed.
#[derive(Clone, Debug, Default)]
pub struct ArchiveSum(Arc<OnceLock<Digest>>);

/// What an archive is made of.
pub(crate) struct Parts<'a> {
    /// For messages.
    pub(crate) image: &'a ImageName,
    /// What it is called once it was loaded.
    pub(crate) named: &'a ImageName,
    pub(crate) id: Digest,
    pub(crate) configuration: &'a Bytes,
    pub(crate) layers: &'a [Layer],
    /// How long all of it may take.
    pub(crate) total: Duration,
}

/// The one entry of `manifest.json`.
#[derive(Serialize)]
struct Entry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Vec<String>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

impl Archive {
    pub(crate) fn new(
        parts: &Parts<'_>,
        wanted: impl Fn(&Layer) -> Wanted,
    ) -> Result<Self, RegistryError> {
        let too_large = || RegistryError::Unsupported {
            image: parts.image.clone(),
            problem: "says it is larger than any archive can be; push it again".to_owned(),
        };
        let deadline = Deadline::new(format!("the archive of {}", parts.image), parts.total);
        let mut archive = Self { pieces: VecDeque::new(), length: 0, deadline };
        let configuration = format!("{}.json", parts.id.hex());
        archive.add_file(&configuration, parts.configuration.clone()).ok_or_else(too_large)?;
        let mut names = Vec::new();
        for layer in parts.layers {
            let ending = match layer.packing {
                Packing::Plain => "tar",
                Packing::Gzip => "tar.gz",
            };
            let name = format!("{}.{ending}", layer.digest.hex());
            if !names.contains(&name) {
                archive.add(&name, layer.size, Piece::Blob(wanted(layer))).ok_or_else(too_large)?;
            }
            names.push(name);
        }
        let repo_tags = parts.named.tag().map(|_| parts.named.to_string()).into_iter().collect();
        let entry = Entry { config: configuration, repo_tags, layers: names };
        let manifest = serde_json::to_vec(&[entry]).expect("texts make JSON");
        archive.add_file("manifest.json", manifest.into()).ok_or_else(too_large)?;
        archive
            .push(END.len() as u64, Piece::Bytes(Bytes::from_static(&END)))
            .ok_or_else(too_large)?;
        Ok(archive)
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes. For an HTTP request make a body of them and set `Content-Length` to [`Archive::length`]: if the stream
    /// fails, the request ends too early, and whoever receives it knows that it is not whole.
    pub fn into_stream(self) -> ArchiveStream {
        let Self { pieces, deadline, length } = self;
        let state = State { pieces, blob: None, deadline };
        let inner = try_unfold(state, |mut state| async move {
            Ok(state.next().await?.map(|bytes| (bytes, state)))
        });
        let inner = inner.boxed();
        ArchiveStream { inner, sum: ArchiveSum::default(), adding: Sum::default(), left: length }
    }

    fn add_file(&mut self, name: &str, content: Bytes) -> Option<()> {
        self.add(name, content.len() as u64, Piece::Bytes(content))
    }

    /// Adds a file; `None` if the archive would get too large.
    fn add(&mut self, name: &str, size: u64, content: Piece) -> Option<()> {
        self.push(BLOCK, Piece::Bytes(header(name, size)))?;
        self.push(size, content)?;
        let padding = size.next_multiple_of(BLOCK) - size;
        self.push(padding, Piece::Bytes(Bytes::from_static(&END[..padding as usize])))
    }

    fn push(&mut self, size: u64, piece: Piece) -> Option<()> {
        // Far below what would overflow, far above what any disk holds.
        self.length = self.length.checked_add(size).filter(|length| *length < 1 << 60)?;
        self.pieces.push_back(piece);
        Some(())
    }
}

/// The header of a file: nothing of it depends on when or by whom it is made.
fn header(name: &str, size: u64) -> Bytes {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("64 digits and an ending fit");
    header.set_size(size);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

/// An archive that is being read.
struct State {
    pieces: VecDeque<Piece>,
    blob: Option<Blob>,
    deadline: Deadline,
}

impl State {
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if let Some(blob) = &mut self.blob {
                match self.deadline.within(blob.next()).await? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => self.blob = None,
                }
            }
            match self.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
                Some(Piece::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Piece::Blob(wanted)) => self.blob = Some(Blob::new(wanted)),
                None => return Ok(None),
            }
        }
    }
}

impl ArchiveStream {
    /// Where the SHA-256 of the archive is told at its end, to compare with what whoever received it says it has.
    pub fn sum(&self) -> ArchiveSum {
        self.sum.clone()
    }
}

impl ArchiveSum {
    /// The SHA-256 of the archive, once all of it has passed.
    pub fn get(&self) -> Option<Digest> {
        self.0.get().copied()
    }
}

impl Stream for ArchiveStream {
    type Item = Result<Bytes, RegistryError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let item = std::task::ready!(this.inner.poll_next_unpin(cx));
        if let Some(Ok(bytes)) = &item {
            this.adding.add(bytes);
            this.left -= bytes.len() as u64;
            // Whoever has as many bytes as were announced does not ask for more.
            if this.left == 0 {
                let _ = this.sum.0.set(std::mem::take(&mut this.adding).digest());
            }
        }
        Poll::Ready(item)
    }
}
