//! What is the same in every daemon's `main`: the installed version, a configuration to wait for, pages to serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::listener::{Listener, Pages, Readiness};
use crate::notify;
use crate::root::under;

/// The file that says which version is installed; the binaries are the same in every package of a build.
pub const VERSION_FILE: &str = "/usr/share/neco/VERSION";

/// How often a configuration that cannot be used is read again.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// The version cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reading the installed version from {}; reinstall the package neco", path.display())]
pub struct VersionError {
    path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The version of the installed package, as its own file says.
///
/// # Errors
/// There is no such file, or what it says is no version.
pub fn installed_version<T>(root: &Path) -> Result<T, VersionError>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let path = under(root, Path::new(VERSION_FILE));
    let read = fs::read_to_string(&path).map_err(Into::into);
    let version = read.and_then(|text| text.trim().parse().map_err(Into::into));
    version.map_err(|source| VersionError { path, source })
}

/// Waits for a configuration that can be used, and gives it with what `use_it` makes of it; every report about one that
/// cannot is logged once. `None` when `stop` comes first.
pub async fn wait_for_config<T>(
    root: &Path,
    stop: &CancellationToken,
    use_it: impl AsyncFn(&Config) -> Result<T, String>,
) -> Option<(Config, T)> {
    let mut said = String::new();
    let mut warned = Vec::new();
    loop {
        let report = match config::load(root) {
            Ok(loaded) => {
                for warning in loaded.warnings {
                    if !warned.contains(&warning) {
                        tracing::warn!("{warning}");
                        warned.push(warning);
                    }
                }
                match use_it(&loaded.config).await {
                    Ok(used) => {
                        notify::status("");
                        return Some((loaded.config, used));
                    }
                    Err(report) => report,
                }
            }
            Err(error) => error.report(),
        };
        if report != said {
            for line in report.lines() {
                tracing::error!("{line}");
            }
            tracing::info!("waiting for a configuration that can be used");
            notify::status("waiting for a configuration that can be used, see the log");
            said = report;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(READ_AGAIN) => {}
        }
    }
}

/// Puts what a daemon observes on its status page, as long as it observes.
pub async fn follow<T: Serialize>(mut observed: watch::Receiver<T>, page: watch::Sender<Value>) {
    loop {
        page.send_replace(serde_json::to_value(&*observed.borrow_and_update()).unwrap_or_default());
        if observed.changed().await.is_err() {
            return;
        }
    }
}

/// Serves the pages of a daemon; `status` is told whenever it changes. The first argument of `registered` may add metrics.
pub fn serve(
    address: &str,
    name: &str,
    version: &str,
    readiness: watch::Receiver<Readiness>,
    status: watch::Receiver<Value>,
    registered: impl FnOnce(&mut Registry),
) -> Listener {
    let mut registry = Registry::with_prefix("neco");
    let labels =
        vec![("daemon".to_owned(), name.to_owned()), ("version".to_owned(), version.to_owned())];
    registry.register("build", "What runs here", Info::new(labels));
    registered(&mut registry);
    Listener::start(address, Pages { metrics: Arc::new(registry), readiness, status })
}
