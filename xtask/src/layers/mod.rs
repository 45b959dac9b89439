//! The rules between the crates, checked on what cargo and the sources say.

mod arrows;
mod closures;
mod graph;
mod sources;

use crate::exit::Done;
use crate::workspace::Workspace;

/// What was found.
pub(crate) struct Survey {
    pub(crate) picture: String,
    pub(crate) violations: Vec<String>,
}

pub(crate) fn survey(workspace: &Workspace) -> Done<Survey> {
    let (crates, mut violations) = graph::read(&workspace.metadata()?)?;
    violations.extend(arrows::check(&crates));
    violations.extend(closures::check(workspace)?);
    violations.extend(sources::check(workspace, &crates)?);
    Ok(Survey { picture: graph::picture(&crates), violations })
}
