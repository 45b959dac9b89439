//! Bodies that are read into memory, and no larger than they may be.

use reqwest::Response;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The cap.
        limit: u64,
    },
    /// The connection broke in the middle.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
}

/// Reads a body of at most `limit` bytes into memory. A larger one that is announced is not begun; one that is not is given
/// up at the first byte too many. How long it may take is the caller's business.
///
/// # Errors
/// The body is larger, or it does not come to its end. The address is in neither: see [`crate::shown`].
pub async fn read_capped(mut response: Response, limit: u64) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    let broken = |source: reqwest::Error| BodyError::Broken(source.without_url());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(BodyError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The body that comes from a server that says `answer` after the status line, read up to `limit` bytes.
    async fn read(answer: &str, limit: u64) -> Result<Vec<u8>, BodyError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url: crate::Url = format!("http://{address}/").parse().expect("a URL");
        let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _ = stream.read(&mut [0; 4096]).await;
            // Whoever has read enough goes away.
            let _ = stream.write_all(answer.as_bytes()).await;
        };
        let ask = async {
            let client = crate::client(&url, None).expect("settings").build().expect("a client");
            read_capped(client.get(url.clone()).send().await.expect("an answer"), limit).await
        };
        tokio::join!(serve, ask).1
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_cap_and_no_byte_further() {
        for answer in [
            "content-length: 6\r\n\r\nabcdef",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(answer, 6).await.expect("a body"), b"abcdef");
            let refused = read(answer, 5).await.expect_err("too large");
            assert!(matches!(refused, BodyError::TooLarge { limit: 5 }), "{answer}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_none() {
        let error = read("content-length: 6\r\n\r\nabc", 6).await.expect_err("cut off");
        assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
    }
}
