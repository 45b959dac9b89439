//! From the global options to etcd.

use std::sync::Arc;

use neco_process::config;
use neco_process::exit::Failure;
use neco_store::{EtcdStore, Store};

use crate::cli::Global;
use crate::failure;
use crate::io::Io;

/// A store for the configuration below the root, whose calls end within the time given.
///
/// # Errors
/// The configuration cannot be used. That nothing listens is told by the first call.
pub async fn open(global: &Global, io: &mut Io<'_>) -> Result<Arc<dyn Store>, Failure> {
    let loaded = config::load(&global.root).map_err(failure::of_config)?;
    for warning in &loaded.warnings {
        io.remark(format_args!("warning: {warning}"));
    }
    let mut options = neco_connect::store_options(&loaded.config).map_err(failure::of_connect)?;
    options.deadline = global.timeout;
    options.timeout = options.timeout.min(global.timeout);
    Ok(Arc::new(EtcdStore::connect(options).await.map_err(failure::of_store)?))
}
