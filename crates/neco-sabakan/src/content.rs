//! Bytes to be uploaded: their number is known, and they are read while they are sent.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::ContentDigest;

/// How much is read at a time: enough to keep a connection busy, and all that an upload needs of memory.
const CHUNK: u64 = 128 << 10;

/// Where bytes come from.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Bytes as they are read.
pub(crate) type Pieces = BoxStream<'static, io::Result<Vec<u8>>>;

/// Bytes to be uploaded. They lie nowhere in full: they are read while they are sent. Clones are the same bytes.
#[derive(Clone)]
pub struct Content {
    length: u64,
    sha256: Option<ContentDigest>,
    source: Arc<Source>,
}

enum Source {
    Bytes(Arc<[u8]>),
    File(PathBuf),
    Opener(Box<dyn Fn() -> BoxFuture<'static, io::Result<Reader>> + Send + Sync>),
    Once(Mutex<Option<Reader>>),
}

impl Content {
    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            length: bytes.len() as u64,
            sha256: Some(ContentDigest::of(&bytes)),
            source: Arc::new(Source::Bytes(bytes)),
        }
    }

    /// A file, which is read once here for its digest, and once for each upload. Symlinks are followed.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let named = path.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
            }
            let (mut hasher, mut length) = (Sha256::new(), 0);
            let mut buffer = vec![0; CHUNK as usize];
            loop {
                let read = io::Read::read(&mut file, &mut buffer)?;
                if read == 0 {
                    return Ok((length, ContentDigest::from_hasher(hasher)));
                }
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        });
        let (length, sha256) = hashed.await.map_err(io::Error::other)?.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", named.display()))
        })?;
        Ok(Self { length, sha256: Some(sha256), source: Arc::new(Source::File(named)) })
    }

    /// `length` bytes that `reader` gives: for one upload only, since they cannot be read again.
    pub fn reader(length: u64, reader: impl AsyncRead + Send + 'static) -> Self {
        let reader: Reader = Box::pin(reader);
        Self { length, sha256: None, source: Arc::new(Source::Once(Mutex::new(Some(reader)))) }
    }

    /// `length` bytes that come from the beginning each time that `open` is called: at the begin of each upload, when it is
    /// their turn.
    pub fn opener<F, R>(length: u64, open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<R>> + Send + 'static,
        R: AsyncRead + Send + 'static,
    {
        let open = move || -> BoxFuture<'static, io::Result<Reader>> {
            let opening = open();
            Box::pin(async move {
                let reader: Reader = Box::pin(opening.await?);
                Ok(reader)
            })
        };
        Self { length, sha256: None, source: Arc::new(Source::Opener(Box::new(open))) }
    }

    /// The same, whose digest is known beforehand: sabakan refuses other bytes.
    #[must_use]
    pub fn with_digest(mut self, sha256: ContentDigest) -> Self {
        self.sha256 = Some(sha256);
        self
    }

    /// The same with its digest: all of it is read for that, if nobody knows it yet, so that it must be
    /// [repeatable](Self::is_repeatable) to be sent afterwards.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn hashed(self) -> io::Result<Self> {
        if self.sha256.is_some() {
            return Ok(self);
        }
        let (mut pieces, mut hasher) = (self.stream(), Sha256::new());
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(piece);
        }
        drop(pieces);
        Ok(self.with_digest(ContentDigest::from_hasher(hasher)))
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Their digest, if it is known before they are read.
    pub fn sha256(&self) -> Option<&ContentDigest> {
        self.sha256.as_ref()
    }

    /// Whether they can be read more than once.
    pub fn is_repeatable(&self) -> bool {
        !matches!(*self.source, Source::Once(_))
    }

    async fn open(&self) -> io::Result<Reader> {
        match &*self.source {
            Source::Bytes(bytes) => Ok(Box::pin(io::Cursor::new(bytes.clone()))),
            Source::File(path) => match tokio::fs::File::open(path).await {
                Ok(file) => Ok(Box::pin(file)),
                Err(error) => {
                    Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
                }
            },
            Source::Opener(open) => open().await,
            Source::Once(reader) => {
                let reader = reader.lock().unwrap_or_else(PoisonError::into_inner).take();
                reader
                    .ok_or_else(|| io::Error::other("it was read already, and is there only once"))
            }
        }
    }

    /// The bytes, read as they are asked for: exactly as many as were announced, or an error. The last of them are held back
    /// until it is certain that they are the last, because a server that has all it waits for is content.
    pub(crate) fn stream(&self) -> Pieces {
        let content = self.clone();
        let opening = async move { io::Result::Ok(exactly(content.open().await?, content.length)) };
        futures::stream::once(opening).try_flatten().boxed()
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match &*self.source {
            Source::Bytes(_) => "bytes",
            Source::File(_) => "file",
            Source::Opener(_) => "opener",
            Source::Once(_) => "reader",
        };
        let Self { length, sha256, .. } = self;
        f.debug_struct("Content")
            .field("source", &source)
            .field("length", length)
            .field("sha256", sha256)
            .finish()
    }
}

fn exactly(
    reader: Reader,
    length: u64,
) -> impl futures::Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
    // `None` when the end is certain.
    try_unfold(Some((reader, length)), move |state| async move {
        let Some((mut reader, left)) = state else { return Ok(None) };
        let mut chunk = Vec::with_capacity(CHUNK.min(left).try_into().unwrap_or_default());
        (&mut reader).take(CHUNK.min(left)).read_to_end(&mut chunk).await?;
        let left = left - chunk.len() as u64;
        if left > 0 {
            if (chunk.len() as u64) < CHUNK {
                let text = format!("it ended after {} of {length} bytes", length - left);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            return Ok(Some((chunk, Some((reader, left)))));
        }
        if reader.read(&mut [0]).await? > 0 {
            let text = format!("it goes on after the {length} bytes that were announced");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some((chunk, None)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &Content) -> io::Result<Vec<u8>> {
        content.stream().try_concat().await
    }

    #[tokio::test]
    async fn content_is_exactly_as_long_as_announced() {
        let bytes: Vec<u8> = (0..=255).cycle().take(CHUNK as usize * 2 + 7).collect();
        for length in [0, 1, CHUNK as usize, CHUNK as usize + 1, bytes.len()] {
            let bytes = bytes[..length].to_vec();
            let reader = |length: u64| Content::reader(length, io::Cursor::new(bytes.clone()));
            assert_eq!(read(&reader(length as u64)).await.expect("read"), bytes);
            let error = read(&reader(length as u64 + 1)).await.expect_err("too short");
            assert_eq!(
                error.to_string(),
                format!("it ended after {length} of {} bytes", length + 1)
            );
            if length > 0 {
                let error = read(&reader(length as u64 - 1)).await.expect_err("too long");
                let text = format!("it goes on after the {} bytes that were announced", length - 1);
                assert_eq!(error.to_string(), text);
            }
        }
    }

    #[tokio::test]
    async fn too_much_is_noticed_before_the_last_bytes_are_given_away() {
        let content = Content::reader(4, io::Cursor::new(b"12345".to_vec()));
        let chunks: Vec<_> = content.stream().collect().await;
        assert!(matches!(&chunks[..], [Err(_)]), "{chunks:?}");
    }

    #[tokio::test]
    async fn a_reader_is_read_once_and_everything_else_again() {
        let once = Content::reader(2, io::Cursor::new(b"ab".to_vec()));
        assert!(!once.is_repeatable() && once.sha256().is_none());
        assert_eq!(read(&once).await.expect("read"), b"ab");
        assert!(read(&once).await.is_err());
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("f"), "ab").expect("written");
        let file = Content::file(dir.path().join("f")).await.expect("a file");
        let opener = Content::opener(2, || async { Ok(io::Cursor::new(b"ab".to_vec())) });
        for content in [Content::bytes(*b"ab"), file.clone(), opener] {
            assert!(content.is_repeatable() && content.length() == 2);
            assert_eq!(read(&content).await.expect("read"), b"ab");
            assert_eq!(read(&content).await.expect("read"), b"ab");
        }
        assert_eq!(file.sha256(), Some(&ContentDigest::of(b"ab")));
        let error = Content::file(dir.path()).await.expect_err("a folder").to_string();
        assert!(error.contains("not a plain file"), "{error}");
    }
}
