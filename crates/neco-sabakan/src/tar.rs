//! The archive of an OS image: `kernel` and `initrd.gz`, written while they are read (external-apis §1.4).

use std::io;

use futures::stream::{StreamExt as _, once};

use crate::Content;
use crate::content::Pieces;

const BLOCK: u64 = 512;
/// Eleven octal digits.
const LARGEST: u64 = (1 << 33) - 1;

/// A file that is larger than the header of an archive can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has {length} bytes; an archive can hold {LARGEST} at most")]
pub(crate) struct TooLong {
    name: &'static str,
    length: u64,
}

/// Which file of an archive could not be read. What it was is kept: who reads the cause may know it.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
struct Unread {
    name: &'static str,
    #[source]
    source: io::Error,
}

/// An archive of two files: how long it is, and its bytes.
pub(crate) fn archive(members: [(&'static str, &Content); 2]) -> Result<(u64, Pieces), TooLong> {
    let end = 2 * BLOCK;
    let mut length = end;
    let mut bytes = futures::stream::empty().boxed();
    for (name, content) in members {
        if content.length() > LARGEST {
            return Err(TooLong { name, length: content.length() });
        }
        let padding = content.length().next_multiple_of(BLOCK) - content.length();
        length += BLOCK + content.length() + padding;
        let named = move |source: io::Error| io::Error::new(source.kind(), Unread { name, source });
        let content_bytes = content.stream().map(move |chunk| chunk.map_err(named));
        bytes = bytes
            .chain(just(header(name, content.length())))
            .chain(content_bytes)
            .chain(just(vec![0; padding as usize]))
            .boxed();
    }
    Ok((length, bytes.chain(just(vec![0; end as usize])).boxed()))
}

fn just(bytes: Vec<u8>) -> impl futures::Stream<Item = io::Result<Vec<u8>>> + Send {
    once(async move { Ok(bytes) })
}

/// A header as POSIX has it (`ustar`), for a plain file of root that was made in 1970: the archive of the same two files is
/// always the same.
fn header(name: &str, length: u64) -> Vec<u8> {
    let mut header = vec![0; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is made with spaces where it will stand.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(265, b"root\0");
    put(297, b"root\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn tar_reads_what_was_written_and_the_length_is_as_announced() {
        for (kernel, initrd) in [(0, 1), (511, 512), (513, 300_000)] {
            let (kernel, initrd) = (vec![b'k'; kernel], vec![b'i'; initrd]);
            let contents = [Content::bytes(kernel.clone()), Content::bytes(initrd.clone())];
            let (length, bytes) = archive([("kernel", &contents[0]), ("initrd.gz", &contents[1])])
                .expect("an archive");
            let bytes = bytes.try_concat().await.expect("bytes");
            assert_eq!(bytes.len() as u64, length);
            let dir = tempfile::tempdir().expect("a folder");
            let file = dir.path().join("image.tar");
            std::fs::write(&file, bytes).expect("written");
            let tar = |arguments: &[&str]| {
                let output = Command::new("tar").args(arguments).arg("-f").arg(&file).output();
                let output = output.expect("tar");
                assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
                output.stdout
            };
            assert_eq!(tar(&["-t"]), b"kernel\ninitrd.gz\n");
            assert_eq!(tar(&["-x", "-O", "--occurrence", "kernel"]), kernel);
            assert_eq!(tar(&["-x", "-O", "--occurrence", "initrd.gz"]), initrd);
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_named() {
        let short = Content::reader(9, io::Cursor::new(b"short".to_vec()));
        let (_, bytes) = archive([("kernel", &Content::bytes(*b"k")), ("initrd.gz", &short)])
            .expect("an archive");
        let error = bytes.try_concat().await.expect_err("too short").to_string();
        assert_eq!(error, "initrd.gz: it ended after 5 of 9 bytes");
    }

    #[test]
    fn what_a_header_cannot_say_is_refused() {
        let large = Content::reader(1 << 33, tokio::io::empty());
        let refused = archive([("kernel", &large), ("initrd.gz", &large)]);
        let error = refused.err().expect("refused").to_string();
        assert_eq!(error, "kernel has 8589934592 bytes; an archive can hold 8589934591 at most");
    }
}
