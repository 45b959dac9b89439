//! Which bits a version is, and whether they are all there yet.

use neco_connect::{Settings, Sources, one_line};
use neco_releases::{Release, ReleaseError};
use neco_schema::{NecoVersion, PackageRef};

use crate::leading::Local;

/// Why a version cannot be requested now.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// It is not there, or not all of it; that changes when somebody publishes something. In words.
    Unpublished(String),
    /// It could not be found out; in words.
    Unknown(String),
}

/// Finds out which bits `version` is.
pub(crate) async fn resolve(
    sources: &dyn Sources,
    settings: &Settings,
    local: &Local,
    version: &NecoVersion,
) -> Result<PackageRef, Unresolved> {
    let unknown = |error: ReleaseError| Unresolved::Unknown(one_line(&error));
    let source = sources.source(settings).await.map_err(Unresolved::Unknown)?;
    let found = source.by_version(settings.env, version).await.map_err(unknown)?;
    let Some(release) = found else {
        return Err(Unresolved::Unpublished(format!(
            "release {} does not exist: publish it, or choose another version",
            settings.env.tag(version)
        )));
    };
    if let Some(why) = signature_missing(&release, local) {
        return Err(Unresolved::Unpublished(why));
    }
    source.resolve(&release, &local.package).await.map_err(|error| match error {
        ReleaseError::NoPackage { .. } => Unresolved::Unpublished(one_line(&error)),
        error => unknown(error),
    })
}

/// Why `release` counts as not yet published: the files of a release come one by one, and servers that refuse an
/// unsigned package would give the version up for good.
pub(crate) fn signature_missing(release: &Release, local: &Local) -> Option<String> {
    let package = release.package(&local.package).filter(|_| local.needs_signature)?;
    release.signatures(&package.name).is_empty().then(|| {
        format!(
            "release {} is not complete: its package {} bears no signature; sign it and publish {}.minisig beside it",
            release.tag, package.name, package.name
        )
    })
}
