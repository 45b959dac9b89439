//! Stands before a registry and cuts connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A port of the loopback that leads to a registry.
pub struct Cutter {
    host: String,
    cuts: Cuts,
    _task: AbortOnDropHandle<()>,
}

/// How many bytes pass before a connection is cut, and before the next one is.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<VecDeque<usize>>>);

impl Cutter {
    /// Stands before `host`.
    ///
    /// # Errors
    /// There is no port.
    pub async fn before(host: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cuts = Cuts::default();
        let (to, order) = (host.to_owned(), cuts.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (to, order) = (to.clone(), order.clone());
                connections.spawn(async move {
                    if let Ok(far) = TcpStream::connect(to).await {
                        // A connection that ends is what this is for.
                        let _ = carry(near, far, &order).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { host: address.to_string(), cuts, _task: AbortOnDropHandle::new(task) })
    }

    /// Where to ask instead of the registry.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Cuts whichever connection brings the last of so many bytes from now on, and then of so many, and so on.
    pub fn cut(&self, after: &[usize]) {
        self.cuts.0.lock().unwrap_or_else(PoisonError::into_inner).extend(after);
    }

    /// How many cuts are still to come.
    pub fn left(&self) -> usize {
        self.cuts.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Cuts {
    /// How many of `count` bytes may pass, and whether the connection is cut then.
    fn pass(&self, count: usize) -> (usize, bool) {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match cuts.front_mut() {
            Some(left) if *left > count => {
                *left -= count;
                (count, false)
            }
            Some(left) => {
                let passes = *left;
                cuts.pop_front();
                (passes, true)
            }
            None => (count, false),
        }
    }
}

/// Carries bytes both ways, as many of the answers as may pass.
async fn carry(near: TcpStream, far: TcpStream, cuts: &Cuts) -> std::io::Result<()> {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let questions = async {
        tokio::io::copy(&mut near_in, &mut far_out).await?;
        far_out.shutdown().await?;
        // The answer may still be on its way.
        std::future::pending().await
    };
    let answers = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = far_in.read(&mut buffer).await?;
            let (passes, cut) = cuts.pass(count);
            near_out.write_all(&buffer[..passes]).await?;
            if cut || count == 0 {
                return near_out.shutdown().await;
            }
        }
    };
    tokio::select! {
        biased;
        done = answers => done,
        done = questions => done,
    }
}
