//! A bus for tests that falls silent where it is told to.

use std::collections::BTreeMap;
use std::path::Path;

use futures::StreamExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zbus::connection::Builder;
use zbus::{Connection, Guid, ObjectPath, Variant};

const NO_CHANGES: &[(&str, &str, &str)] = &[];

/// A bus with a systemd that answers some methods, and no others. Dropping it ends it.
pub(super) struct Scripted {
    socket: std::path::PathBuf,
    accepting: JoinHandle<()>,
    unit: watch::Sender<Unit>,
}

/// What every unit is.
#[derive(Clone, Default)]
struct Unit {
    /// The type of the service.
    kind: &'static str,
    /// Since when it is active, in microseconds since the boot.
    since: u64,
}

impl Scripted {
    /// One that listens at `socket` and answers the methods `answered`.
    pub(super) fn bind(socket: &Path, answered: &'static [&'static str]) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let (unit, is) = watch::channel(Unit::default());
        let accepting = tokio::spawn(async move {
            // Dropped with this task, they end.
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, answered, is.clone()));
            }
        });
        Self { socket: socket.to_owned(), accepting, unit }
    }

    /// From now on every unit is active since then, and its service is of this type.
    pub(super) fn running(self, kind: &'static str, since: u64) -> Self {
        self.unit.send_replace(Unit { kind, since });
        self
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(stream: UnixStream, answered: &[&str], unit: watch::Receiver<Unit>) {
    let Ok(stream) = stream.into_std() else { return };
    let bus = Builder::unix_stream(stream).server(Guid::generate()).p2p().build_message_stream();
    // A client that has lost its patience may be gone.
    let Ok(mut calls) = bus.await else { return };
    let connection = Connection::from(&calls);
    while let Some(Ok(call)) = calls.next().await {
        let header = call.header();
        let Some(member) = header.member().filter(|member| answered.contains(&member.as_str()))
        else {
            continue;
        };
        let path = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/1");
        let _ = match member.as_str() {
            "Hello" => connection.reply(&header, &":1.1").await,
            "GetNameOwner" => connection.reply(&header, &":1.0").await,
            "LoadUnit" | "StartUnit" => connection.reply(&header, &path).await,
            "GetUnitFileState" => connection.reply(&header, &"enabled").await,
            "GetAll" => {
                let Unit { kind, since } = unit.borrow().clone();
                // Those of all interfaces at once.
                let properties = BTreeMap::from([
                    ("LoadState", Variant::new("loaded")),
                    ("ActiveState", Variant::new("active")),
                    ("SubState", Variant::new("running")),
                    ("NeedDaemonReload", Variant::new(false)),
                    ("ActiveEnterTimestampMonotonic", Variant::new(since)),
                    ("InactiveExitTimestamp", Variant::new(since)),
                    ("InactiveExitTimestampMonotonic", Variant::new(since)),
                    ("InvocationID", Variant::new(vec![1_u8, 2])),
                    ("Type", Variant::new(kind)),
                ]);
                connection.reply(&header, &properties).await
            }
            "EnableUnitFiles" => connection.reply(&header, &(true, NO_CHANGES)).await,
            "DisableUnitFiles" => connection.reply(&header, &NO_CHANGES).await,
            _ => connection.reply(&header, &()).await,
        };
    }
}
