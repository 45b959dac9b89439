//! The records of what runs on this server, `install/<LRN>/containers/<name>` and `install/<LRN>/debs/<name>`: they are
//! written after success, never before, so that a crash in between leaves an older truth and no lie.

use neco_components::Component;
use neco_schema::Key;

use crate::context::StepContext;
use crate::steps::stored;

/// Records the image and the Debian package of a component that was brought here. A record that is right already is left
/// alone.
pub(crate) async fn record(context: &StepContext, component: &Component) {
    let lrn = context.lrn;
    let image = component
        .image
        .iter()
        .map(|image| (Key::InstalledContainer(lrn, image.name.to_string()), image.tag.clone()));
    let package = component
        .package
        .iter()
        .map(|package| (Key::InstalledDeb(lrn, package.name.to_string()), package.release.clone()));
    let records: Vec<(Key, String)> = image.chain(package).collect();
    stored::ensure(context, &records).await;
}
