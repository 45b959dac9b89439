//! Bytes of blobs, in memory or made while they are sent.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};

use crate::digest::{Digest, Sum};

/// Made content comes in pieces of this size.
const PIECE: u64 = 64 << 10;

/// The content of a blob.
#[derive(Clone)]
pub struct Content {
    digest: Digest,
    size: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Memory(Bytes),
    /// One piece, of which each is made by writing its number over the beginning.
    Made(Arc<[u8]>),
}

impl Content {
    /// These bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), size: bytes.len() as u64, source: Source::Memory(bytes) }
    }

    /// So many bytes that cannot be compressed; others for each `seed`. They are made anew each time they are read.
    pub fn made(seed: u64, size: u64) -> Self {
        // An xorshift generator: nothing of it repeats, and it is the same each time.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
        let mut piece = Vec::with_capacity(PIECE as usize);
        while piece.len() < PIECE as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        let source = Source::Made(piece.into());
        let mut sum = Sum::default();
        let mut at = 0;
        while at < size {
            let bytes = source.piece(at, size);
            at += bytes.len() as u64;
            sum.add(&bytes);
        }
        Self { digest: sum.digest(), size, source }
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All of it, in memory.
    pub fn bytes(&self) -> Bytes {
        let mut whole = BytesMut::new();
        while (whole.len() as u64) < self.size {
            whole.extend_from_slice(&self.source.piece(whole.len() as u64, self.size));
        }
        whole.freeze()
    }

    /// A part of it, piece by piece.
    pub(crate) fn stream(
        &self,
        range: Range<u64>,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let source = self.source.clone();
        let pieces = move |at| (at < range.end).then(|| source.piece(at, range.end));
        stream::unfold((range.start, pieces), |(at, pieces)| async move {
            let bytes = pieces(at)?;
            Some((Ok(bytes.clone()), (at + bytes.len() as u64, pieces)))
        })
    }
}

impl Source {
    /// What comes from `at`, up to `end` at most.
    fn piece(&self, at: u64, end: u64) -> Bytes {
        match self {
            Self::Memory(bytes) => bytes.slice(at as usize..end.min(at + PIECE) as usize),
            Self::Made(piece) => {
                let (number, from) = (at / PIECE, (at % PIECE) as usize);
                let mut made = BytesMut::from(&piece[..]);
                made[..8].copy_from_slice(&number.to_le_bytes());
                let end = PIECE.min(end - number * PIECE) as usize;
                made.freeze().slice(from..end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn made_content_is_the_same_from_wherever_it_is_read() {
        let size = 2 * PIECE + 100;
        let content = Content::made(7, size);
        let whole = content.bytes();
        assert_eq!((whole.len() as u64, Digest::of(&whole)), (size, content.digest()));
        for range in [0..size, 5..size, PIECE - 1..PIECE + 1, 2 * PIECE..size, size..size] {
            let parts: Vec<Bytes> =
                content.stream(range.clone()).try_collect().await.expect("bytes");
            assert_eq!(
                parts.concat(),
                whole[range.start as usize..range.end as usize],
                "{range:?}"
            );
        }
        assert_ne!(Content::made(8, size).digest(), content.digest());
    }
}
