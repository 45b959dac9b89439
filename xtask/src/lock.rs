//! Verbs that would get in one another's way.

use std::fs::File;
use std::path::Path;

use crate::exit::{Doing, Done};

/// Waits until nobody else holds `file`, and holds it as long as what this returns lives.
pub(crate) fn hold(file: &Path) -> Done<File> {
    let held = File::create(file).doing(|| format!("cannot create {}", file.display()))?;
    held.lock().doing(|| format!("cannot lock {}", file.display()))?;
    Ok(held)
}
