//! The end of a server's log, and the line in it that tells why the server ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

const KEPT_LINES: usize = 200;
const KEPT_CHARS: usize = 4096;

/// What etcd says of each client listener when it has loaded its certificates and serves on it.
const SERVING: &str = "serving client traffic";

/// The last lines a server wrote; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<VecDeque<String>>,
    serving: watch::Sender<usize>,
}

impl Tail {
    pub(crate) fn push(&self, line: &str) {
        if line.contains(SERVING) {
            self.0.serving.send_modify(|listeners| *listeners += 1);
        }
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(KEPT_CHARS).collect());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Resolves when so many client listeners are served.
    pub(crate) async fn serves(&self, listeners: usize) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.0.serving.subscribe().wait_for(|serving| *serving >= listeners).await;
    }
}

/// What the server itself gave as the reason, or the last thing it said.
///
/// etcd logs JSON objects. It often reports one error twice: first as a warning in plain words
/// ("failed to start etcd"), then as a fatal line with a misleading title ("discovery failed"). The
/// first line that carries the fatal error is the better one. Complaints about the command line are
/// plain text, the complaint first.
pub(crate) fn own_words(lines: &[String]) -> String {
    let entries: Vec<Entry> = lines.iter().filter_map(|line| Entry::parse(line)).collect();
    if let Some(fatal) = entries.iter().rfind(|e| e.severity >= Severity::Error) {
        let cause = entries.iter().find(|e| {
            e.severity >= Severity::Warning && e.error.is_some() && e.error == fatal.error
        });
        return cause.unwrap_or(fatal).words();
    }
    let plain = |line: &&String| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('{') && !line.starts_with("WARNING:")
    };
    if let Some(line) = lines.iter().find(plain) {
        return line.trim().to_owned();
    }
    entries.last().map_or_else(|| "it said nothing".to_owned(), Entry::words)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Information,
    Warning,
    Error,
}

struct Entry {
    severity: Severity,
    message: String,
    error: Option<String>,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let severity = match value.get("level")?.as_str()? {
            "debug" | "info" => Severity::Information,
            "warn" => Severity::Warning,
            _ => Severity::Error,
        };
        let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self { severity, message: text("msg")?, error: text("error") })
    }

    fn words(&self) -> String {
        match &self.error {
            Some(error) => format!("{}: {error}", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[&str]) -> String {
        own_words(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_plain_warning_is_preferred_to_the_misleading_fatal_title() {
        let said = words(&[
            r#"{"level":"warn","msg":"slow disk","error":"took too long"}"#,
            r#"{"level":"warn","msg":"failed to start etcd","error":"bind: address already in use"}"#,
            r#"{"level":"fatal","msg":"discovery failed","error":"bind: address already in use"}"#,
            r#"{"level":"info","msg":"closed etcd server"}"#,
        ]);
        assert_eq!(said, "failed to start etcd: bind: address already in use");
    }

    #[test]
    fn a_complaint_about_the_command_line_is_its_first_line() {
        let said = words(&["flag provided but not defined: -nosuch", "Usage:", "  etcd [flags]"]);
        assert_eq!(said, "flag provided but not defined: -nosuch");
    }

    #[test]
    fn without_an_error_the_last_message_is_told() {
        let said = words(&[
            "WARNING: 2026/11/21 09:46:05 [core] grpc: transport failed",
            r#"{"level":"info","msg":"ready to serve client requests"}"#,
        ]);
        assert_eq!(said, "ready to serve client requests");
        assert_eq!(words(&[]), "it said nothing");
    }

    #[tokio::test]
    async fn serving_is_noticed_per_listener() {
        let tail = Tail::default();
        tail.push(r#"{"msg":"serving client traffic insecurely, this is strongly discouraged!"}"#);
        let both = tail.serves(2);
        tokio::pin!(both);
        assert!(poll_once(&mut both).await.is_none());
        tail.push(r#"{"msg":"serving client traffic securely","address":"127.0.0.1:1"}"#);
        assert!(poll_once(&mut both).await.is_some());
    }

    /// Polls once.
    async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        use std::task::Poll;
        std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[test]
    fn only_the_end_is_kept() {
        let tail = Tail::default();
        (0..KEPT_LINES + 5).for_each(|n| tail.push(&n.to_string()));
        let lines = tail.lines();
        assert_eq!(lines.len(), KEPT_LINES);
        assert_eq!((lines[0].as_str(), lines[KEPT_LINES - 1].as_str()), ("5", "204"));
    }
}
