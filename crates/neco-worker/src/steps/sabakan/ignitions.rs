//! Ignition templates: what worker servers are made of when they boot.

use std::net::Ipv4Addr;

use neco_sabakan::ignition::{Metadata, Tree, build, entry_point, roles};
use neco_sabakan::{AssetName, IgnitionId, IgnitionTemplate, Role};
use neco_schema::NecoVersion;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::sabakan::assets::WantedImage;
use crate::steps::tries::{Trouble, patiently};

/// What templates may refer to, beside the addresses of the boot servers.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Meant {
    /// The version of the request.
    pub(crate) version: NecoVersion,
    /// Every image that is pinned.
    pub(crate) images: Vec<WantedImage>,
    /// Those that CKE runs.
    pub(crate) cke_images: Vec<WantedImage>,
    /// The key that machines let in, if one was made.
    pub(crate) authorized_key: Option<String>,
    /// The proxy of the nodes, if one is set.
    pub(crate) proxy_url: Option<String>,
    /// The block of external addresses, if one is set.
    pub(crate) external_ip_address_block: Option<String>,
}

/// Uploads the template of every role. One that is there already in this form is left alone; where the version has another one,
/// such as before a boot server joined, the new one follows it as `VERSION.1`, `VERSION.2`.
///
/// # Errors
/// Cancelled, the sources are not as they should be, or sabakan does not take them.
pub(crate) async fn upload(
    context: &StepContext,
    host: &StepHost,
    tree: &Tree,
    meant: &Meant,
    boot_servers: &[Ipv4Addr],
) -> Result<(), StepError> {
    let wrong = |error: &dyn std::fmt::Display| {
        StepError::Failed(format!("ignitions of the package: {}", one_line(error)))
    };
    let metadata = metadata(meant, boot_servers)?;
    for role in roles(tree) {
        let entry = entry_point(tree, &role, &host.cluster()?);
        let template =
            build(tree, &entry, metadata.clone()).map_err(|problems| wrong(&problems))?;
        context.fence().await?;
        let what = format!("uploading the ignition template of role {role} to sabakan");
        let try_it = || one(host, &role, &meant.version, &template);
        patiently(context, host.patience, &what, try_it).await?;
    }
    Ok(())
}

/// Problems are one a line.
fn one_line(problems: &dyn std::fmt::Display) -> String {
    let text = problems.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

async fn one(
    host: &StepHost,
    role: &Role,
    version: &NecoVersion,
    template: &IgnitionTemplate,
) -> Result<(), Trouble> {
    let ids = host.sabakan.ignitions(role).await?;
    let newest = ids.iter().filter_map(|id| turn_of(id, version)).max();
    if let Some(turn) = newest {
        let there = host.sabakan.ignition(role, &id(version, turn)?).await?;
        if there.as_ref() == Some(template) {
            return Ok(());
        }
    }
    let next = id(version, newest.map_or(0, |turn| turn + 1))?;
    match host.sabakan.upload_ignition(role, &next, template).await {
        // The answer to an upload of ours was lost, or somebody else was quicker: the next look tells.
        Err(error) if error.is_conflict() => Err(Trouble::passing(error)),
        uploaded => Ok(uploaded?),
    }
}

/// Which of the templates of `version` an id names, if it names one: 0 is the first.
fn turn_of(id: &IgnitionId, version: &NecoVersion) -> Option<u64> {
    match id.as_str().strip_prefix(version.as_str())? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok().filter(|turn| *turn > 0),
    }
}

fn id(version: &NecoVersion, turn: u64) -> Result<IgnitionId, Trouble> {
    let text = if turn == 0 { version.to_string() } else { format!("{version}.{turn}") };
    IgnitionId::new(text).map_err(Trouble::lasting)
}

fn metadata(meant: &Meant, boot_servers: &[Ipv4Addr]) -> Result<Metadata, StepError> {
    let mut metadata = Metadata::new(
        &meant.version,
        boot_servers,
        meant.proxy_url.as_deref(),
        meant.external_ip_address_block.as_deref(),
    );
    let asset = |image: &WantedImage| {
        AssetName::new(&image.asset).map_err(|error| StepError::Failed(error.to_string()))
    };
    for image in &meant.images {
        metadata = metadata.image(&image.name, &asset(image)?, &image.reference);
    }
    for image in &meant.cke_images {
        metadata = metadata.cke_image(&image.name, &asset(image)?, &image.reference);
    }
    if let Some(key) = &meant.authorized_key {
        metadata = metadata.authorized_key(key);
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_one_version_follow_one_another() {
        let version: NecoVersion = "2026.11.21-40152".parse().expect("a version");
        let turn = |text: &str| turn_of(&IgnitionId::new(text).expect("an id"), &version);
        assert_eq!(turn("2026.11.21-40152"), Some(0));
        assert_eq!(turn("2026.11.21-40152.12"), Some(12));
        for other in ["2026.11.21-40153", "2026.11.21-401521", "2026.11.21-40152.0", "1.0"] {
            assert_eq!(turn(other), None, "{other}");
        }
        let ids: Vec<IgnitionId> =
            [0, 1, 2, 10].map(|turn| id(&version, turn).expect("an id")).into();
        for pair in ids.windows(2) {
            assert_eq!(pair[0].cmp_version(&pair[1]), std::cmp::Ordering::Less, "{pair:?}");
        }
        let later = IgnitionId::new("2026.11.21-40153").expect("an id");
        assert_eq!(ids[3].cmp_version(&later), std::cmp::Ordering::Less, "the next version wins");
    }
}
