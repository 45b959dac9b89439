//! A socket in front of Docker's, which notes what is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use neco_runtime::Docker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};

pub(crate) struct Proxy {
    dir: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let listener = UnixListener::bind(dir.path().join("docker.sock")).expect("a socket");
        let noted = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((mut asked, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut begin = vec![0; 4096];
                    let length = asked.read(&mut begin).await?;
                    let line = String::from_utf8_lossy(&begin[..length]);
                    let line = line.lines().next().unwrap_or_default().to_owned();
                    noted.lock().expect("no panic").push(line);
                    let mut docker = UnixStream::connect(Docker::SOCKET).await?;
                    docker.write_all(&begin[..length]).await?;
                    copy_bidirectional(&mut asked, &mut docker).await
                });
            }
        });
        Self { dir, lines }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The first lines of all requests.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }
}
