//! The recipe of the package that is installed here.

use std::path::Path;

use neco_components::Recipe;
use neco_process::under;

/// The recipe below `root`, if there is one that can be read.
pub fn installed(root: &Path) -> Option<Recipe> {
    Recipe::load(under(root, Path::new(Recipe::FOLDER))).ok()
}
