//! Bodies that are spoilt on order.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::faults::Fault;

pub(super) type Pieces = BoxStream<'static, std::io::Result<Bytes>>;

/// The body with what was ordered done to it, and the length that is announced.
pub(super) fn spoil(body: Pieces, length: u64, fault: &Fault) -> (Pieces, u64) {
    // A pause, so that what was sent is on its way before the connection ends.
    let reset = || {
        stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(std::io::ErrorKind::ConnectionReset.into())
        })
    };
    match *fault {
        Fault::Reset(after) => (first(body, after).chain(reset()).boxed(), length),
        Fault::Stall(after) => (first(body, after).chain(stream::pending()).boxed(), length),
        Fault::Longer => (body.chain(reset()).boxed(), length + 1),
        Fault::Slow(pause) => {
            let slow = body.then(move |piece| async move {
                tokio::time::sleep(pause).await;
                piece
            });
            (slow.boxed(), length)
        }
        Fault::Corrupt => {
            let mut left = length;
            let changed = body.map(move |piece| {
                let mut piece = piece?.to_vec();
                left -= piece.len() as u64;
                if let Some(last) = piece.last_mut().filter(|_| left == 0) {
                    *last ^= 1;
                }
                Ok(piece.into())
            });
            (changed.boxed(), length)
        }
        _ => (body, length),
    }
}

/// The first bytes of a body.
fn first(body: Pieces, mut left: u64) -> Pieces {
    let cut = body.map(move |piece| {
        let mut piece = piece?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        Ok(piece)
    });
    cut.take_while(|piece| {
        let goes_on = !matches!(piece, Ok(piece) if piece.is_empty());
        async move { goes_on }
    })
    .boxed()
}
