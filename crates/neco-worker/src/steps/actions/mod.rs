//! What steps do that data cannot say: one file, or folder, for each action that a recipe may name.

pub(crate) mod cke_contents;
pub(crate) mod cke_template;
pub(crate) mod dhcp_json;
pub(crate) mod etcd;
pub(crate) mod fetch_images;
pub(crate) mod sabakan_contents;
pub(crate) mod user_resources;

use neco_base::Tree;
use neco_components::{Problems, Recipe, Report};
use neco_sabakan::ignition::check_references;

/// The actions that recipes may name.
pub(crate) const NAMES: [&str; 8] = [
    fetch_images::NAME,
    dhcp_json::NAME,
    cke_template::NAME,
    cke_contents::NAME,
    sabakan_contents::NAME,
    user_resources::NAME,
    etcd::endpoints::NAME,
    etcd::NAME,
];

/// Looks at what the actions of a recipe read from the package, as far as that can be known before they run: sources of
/// ignition templates that name what is there and are named, a template of CKE that is one.
///
/// # Errors
/// All problems, with file and line where that is known.
pub(crate) fn check(recipe: &Recipe, ignitions: &Tree) -> Result<(), Problems> {
    let report = Report::default();
    if let Err(problems) = check_references(ignitions) {
        report.add_all(problems.below(Recipe::IGNITIONS));
    }
    cke_template::check(recipe, &report);
    report.conclude(())
}
