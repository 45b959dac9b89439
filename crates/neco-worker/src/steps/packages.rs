//! The Debian packages of components: fetched as long as that takes, and then installed in one go.

use std::path::{Path, PathBuf};

use neco_components::Deb;
use neco_connect::one_line;

use crate::context::{StepContext, StepError};
use crate::debs::DebError;
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, endlessly};

/// Fetches a package, again and again while what keeps it away may pass. Before each try is a safe point, and a download may
/// be cut off: the next one goes on with it.
///
/// # Errors
/// Cancelled, or the package cannot be had.
pub(crate) async fn fetch(
    context: &StepContext,
    host: &StepHost,
    package: &Deb,
) -> Result<PathBuf, StepError> {
    let what = format!("fetching package {} {}", package.name, package.release);
    let fetch = |_| async {
        let progress = |now: neco_releases::Progress| context.bytes(now.done, now.total);
        let fetched = async { Ok(host.debs.fetch(package, &progress).await) };
        Ok(context.unless_cancelled(&what, fetched).await?.map_err(Trouble::from))
    };
    endlessly(context, &what, fetch).await
}

/// Installs a package from its file, and notes of which release it is.
///
/// # Errors
/// The package manager or the disk refuses.
pub(crate) async fn install(host: &StepHost, package: &Deb, file: &Path) -> Result<(), StepError> {
    let what = format!("installing package {} {}", package.name, package.release);
    let installed = host.debs.install(package, file).await;
    installed.map_err(|error| failed(what, &error))?;
    host.note_package(package)
}

/// Fetches a package once and installs it, where nobody waits for a release that is not to be had.
///
/// # Errors
/// It cannot be had now, or is refused.
pub(crate) async fn bring(host: &StepHost, package: &Deb) -> Result<(), StepError> {
    let what = format!("fetching package {} {}", package.name, package.release);
    let file = host.debs.fetch(package, &|_| {}).await;
    let file = file.map_err(|error| failed(what, &error))?;
    install(host, package, &file).await
}

fn failed(what: String, error: &DebError) -> StepError {
    match error.is_told_by_dpkg_about_the_disk() {
        true => StepError::Disk(format!("{what}: {}", one_line(error))),
        false => StepError::failed(what, error),
    }
}
