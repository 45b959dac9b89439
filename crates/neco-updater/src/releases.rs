//! Which bits a version is.

use neco_connect::{Settings, Sources, one_line};
use neco_schema::{NecoVersion, PackageRef};

/// Finds out which bits `version` is.
///
/// # Errors
/// The release, or its package, cannot be had; in words.
pub(crate) async fn resolve(
    sources: &dyn Sources,
    settings: &Settings,
    package: &str,
    version: &NecoVersion,
) -> Result<PackageRef, String> {
    let source = sources.source(settings).await?;
    let found = source.by_version(settings.env, version).await.map_err(|error| one_line(&error))?;
    let Some(release) = found else {
        return Err(format!(
            "release {} does not exist: publish it, or choose another version",
            settings.env.tag(version)
        ));
    };
    source.resolve(&release, package).await.map_err(|error| one_line(&error))
}
