//! What is to happen, and what is not, when things go wrong in a data centre: each story in a file, named by behaviour.

mod package_installs_cleanly;
mod release_reaches_everybody;

use std::time::Duration;

use crate::suite::Story;

/// How long a story may take that does not say otherwise.
const LONG: Duration = Duration::from_secs(180);

/// All stories, in the order in which they are told.
pub const STORIES: &[Story] = &[package_installs_cleanly::STORY, release_reaches_everybody::STORY];
