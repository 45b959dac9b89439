//! Asks a member whether it serves: it has a leader and answers a read.
//!
//! etcd answers `/health` on its metrics listener too, without TLS and client certificates. That
//! listener is a Unix socket in the server's working directory, which only its owner can enter, so
//! that no port is spent on it and no other process can answer in its place. What a killed server
//! left of it, the next one removes itself.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The listener as etcd is told it.
pub(crate) const LISTEN_URL: &str = "unix://health:0";

/// The socket as it appears in the working directory.
const SOCKET: &str = "health:0";

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: u64 = 64 * 1024;

/// Whether the member with this process id says that it is healthy.
pub(crate) async fn is_healthy(pid: u32) -> bool {
    matches!(timeout(ANSWER_TIMEOUT, ask(pid)).await, Ok(Ok(true)))
}

async fn ask(pid: u32) -> io::Result<bool> {
    // Short whatever the working directory is called: a socket's path may have 107 bytes.
    let mut stream = UnixStream::connect(format!("/proc/{pid}/cwd/{SOCKET}")).await?;
    stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(says_healthy(&String::from_utf8_lossy(&answer)))
}

fn says_healthy(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let ok = head.split_whitespace().nth(1) == Some("200");
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    ok && body["health"] == "true"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_counts() {
        assert!(says_healthy("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"health\":\"true\"}"));
        assert!(says_healthy("HTTP/1.0 200 OK\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}\n"));
        assert!(!says_healthy("HTTP/1.0 503 Unavailable\r\n\r\n{\"health\":\"true\"}"));
        assert!(!says_healthy("HTTP/1.0 200 OK\r\n\r\n{\"health\":\"false\"}"));
        assert!(!says_healthy("HTTP/1.0 200 OK\r\n\r\ntrue"));
        assert!(!says_healthy(""));
    }
}
