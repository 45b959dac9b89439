//! Files of the web, as they lie there.

use std::time::Duration;

use futures::TryStreamExt as _;
use neco_http::{Url, is_redirect, next_hop, shown};
use neco_sabakan::Content;
use neco_schema::Severity;
use reqwest::header::CONTENT_TYPE;
use tokio_util::io::StreamReader;

use super::transport;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Why the web does not give a file. Addresses carry neither user information nor queries.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is none.
    #[error("{url:?} is no address of a file: {why}")]
    Address {
        /// As given.
        url: String,
        /// Why.
        why: String,
    },
    /// Another status than 200.
    #[error("{url} answered {status}{}", if *.status < 500 {
        "; check the channel and version of the OS image in artifacts.toml, and the proxy"
    } else {
        ""
    })]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {why}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why it is not followed.
        why: String,
    },
    /// A page for people.
    #[error("{url} answered a web page instead of a file; a login page or a proxy is in between")]
    Page {
        /// What was asked for.
        url: String,
    },
    /// How long it is cannot be told before, as it must be.
    #[error("{url} does not say how long it is; check the proxy")]
    NoLength {
        /// What was asked for.
        url: String,
    },
    /// It is not what it was a moment ago.
    #[error("{url} had {before} bytes, and has {now} now")]
    Changed {
        /// What was asked for.
        url: String,
        /// At first.
        before: u64,
        /// When it was to be read.
        now: u64,
    },
    /// No connection, or one that broke.
    #[error("fetching {url}: {why}; is the network or the proxy down?")]
    Transport {
        /// What was asked for.
        url: String,
        /// What the transport says.
        why: String,
    },
}

impl WebError {
    /// What to do about it.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Status { status: 408 | 429 | 500.., .. }
            | Self::Changed { .. }
            | Self::Transport { .. } => Severity::TryAgain,
            Self::Address { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Page { .. }
            | Self::NoLength { .. } => Severity::AskAPerson,
        }
    }
}

/// The file at `url`, asked for by `proxy` if there is one: once for its length, and again each time that it is read.
pub(super) async fn file(url: &str, proxy: Option<Url>) -> Result<Content, WebError> {
    let address = |why: String| WebError::Address { url: url.to_owned(), why };
    let url: Url = url.parse().map_err(|error| address(format!("{error}")))?;
    let (_, length) = get(&url, proxy.as_ref()).await?;
    Ok(Content::opener(length, move || {
        let (url, proxy) = (url.clone(), proxy.clone());
        async move {
            let (answer, now) = get(&url, proxy.as_ref()).await.map_err(std::io::Error::other)?;
            if now != length {
                let changed = WebError::Changed { url: shown(&url), before: length, now };
                return Err(std::io::Error::other(changed));
            }
            let broke = move |error| {
                let (url, why) = (shown(&url), transport(error));
                std::io::Error::other(WebError::Transport { url, why })
            };
            Ok(StreamReader::new(answer.bytes_stream().map_err(broke)))
        }
    }))
}

/// Asks for a file; says how long it is.
async fn get(url: &Url, proxy: Option<&Url>) -> Result<(reqwest::Response, u64), WebError> {
    let mut visited = vec![url.clone()];
    loop {
        let at = visited.last().expect("it begins with one");
        let failed = |error| WebError::Transport { url: shown(at), why: transport(error) };
        let client = neco_http::client(at, proxy).map_err(failed)?;
        let client = client.connect_timeout(CONNECT).read_timeout(SILENCE).build();
        let answer = client.map_err(failed)?.get(at.clone()).send().await.map_err(failed)?;
        let status = answer.status();
        let url = shown(at);
        if is_redirect(status) {
            let next = next_hop(&visited, answer.headers());
            visited.push(next.map_err(|why| WebError::Redirect { url, why })?);
            continue;
        }
        if status != reqwest::StatusCode::OK {
            return Err(WebError::Status { url, status: status.as_u16() });
        }
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            return Err(WebError::Page { url });
        }
        return match answer.content_length() {
            Some(length) if length > 0 => Ok((answer, length)),
            _ => Err(WebError::NoLength { url }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers the connections with these texts, one after another, the last one for ever.
    async fn server(answers: &[&str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut answers: Vec<String> = answers.iter().map(|&text| text.to_owned()).collect();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}/kernel")
    }

    fn answer(head: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    async fn refused(answers: &[&str]) -> WebError {
        match file(&server(answers).await, None).await {
            Ok(content) => panic!("{content:?}"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_file_has_a_length_and_redirects_are_followed() {
        let found = server(&[&answer("200 OK", "kernel")]).await;
        let content = file(&found, None).await.expect("a file");
        assert_eq!((content.length(), content.is_repeatable()), (6, true));
        let moved = answer(&format!("302 Found\r\nLocation: {found}"), "");
        let elsewhere = server(&[&moved]).await;
        assert_eq!(file(&elsewhere, None).await.expect("a file").length(), 6);
    }

    #[tokio::test]
    async fn whatever_is_no_file_is_refused_before_it_is_uploaded() {
        let missing = refused(&[&answer("404 Not Found", "no")]).await;
        assert_eq!(missing.severity(), Severity::AskAPerson);
        assert!(missing.to_string().contains("answered 404; check the channel"), "{missing}");
        let trouble = refused(&[&answer("503 Service Unavailable", "later")]).await;
        assert_eq!(trouble.severity(), Severity::TryAgain);
        let page = refused(&[&answer("200 OK\r\nContent-Type: text/html", "<html>")]).await;
        assert!(matches!(page, WebError::Page { .. }), "{page}");
        let endless = refused(&["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"]).await;
        assert!(matches!(endless, WebError::NoLength { .. }), "{endless}");
        let circle = refused(&[&answer("302 Found\r\nLocation: /kernel", "")]).await;
        assert!(matches!(circle, WebError::Redirect { .. }), "{circle}");
        let gone = file("http://127.0.0.1:1/kernel", None).await.expect_err("nobody");
        assert_eq!(gone.severity(), Severity::TryAgain);
        assert!(file("kernel", None).await.is_err());
    }
}
