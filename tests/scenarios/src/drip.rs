//! A slow way to a mirror.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Passes everything on to a mirror, and answers in pieces with a pause after each. Keep it as long as it is asked.
#[derive(Debug)]
pub struct Drip {
    url: String,
    _way: JoinSet<()>,
}

impl Drip {
    /// Lays it before the mirror at `url`.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn before(url: &str, piece: usize, pause: Duration) -> Self {
        let mirror = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut way = JoinSet::new();
        way.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let mirror = mirror.clone();
                connections.spawn(async move {
                    // Whoever loses patience goes away.
                    let _ = pass(client, &mirror, piece, pause).await;
                });
            }
        });
        Self { url: format!("http://{address}/"), _way: way }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn pass(client: TcpStream, mirror: &str, piece: usize, pause: Duration) -> io::Result<()> {
    let server = TcpStream::connect(mirror).await?;
    let ((mut from_client, mut to_client), (from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut from_server = from_server;
        let mut buffer = vec![0; piece];
        loop {
            let mut filled = 0;
            while filled < piece {
                match from_server.read(&mut buffer[filled..]).await? {
                    0 => break,
                    more => {
                        to_client.write_all(&buffer[filled..filled + more]).await?;
                        filled += more;
                    }
                }
            }
            if filled < piece {
                return to_client.shutdown().await;
            }
            sleep(pause).await;
        }
    };
    let (requests, answers) = tokio::join!(requests, answers);
    requests.map(drop).and(answers)
}
