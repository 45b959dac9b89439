//! The grammar of release tags: `release-V` and `test-V`, by environment.

use neco_schema::{Environment, NecoVersion, VersionError};

/// What the tags of an environment's releases begin with.
///
/// `test-` for `dev`, `release-` for all others: the build that a data centre of developers tries is tagged apart from
/// the one that production runs.
pub fn tag_prefix(env: Environment) -> &'static str {
    match env {
        Environment::Dev => "test-",
        Environment::None | Environment::Test | Environment::Staging | Environment::Prod => {
            "release-"
        }
    }
}

/// Why a tag does not name a release of an environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// It belongs to another environment, or to something that is no Neco release.
    #[error("tag {tag:?} does not begin with {prefix:?}")]
    OtherPrefix {
        /// The tag.
        tag: String,
        /// What it would have to begin with.
        prefix: &'static str,
    },
    /// It has the prefix, but no version follows.
    #[error("tag {tag:?} names no version")]
    NoVersion {
        /// The tag.
        tag: String,
        /// What is wrong with what follows the prefix.
        #[source]
        source: VersionError,
    },
}

/// The version that a tag names in an environment.
///
/// The inverse of [`Environment::tag`].
pub fn version_of_tag(env: Environment, tag: &str) -> Result<NecoVersion, TagError> {
    let prefix = tag_prefix(env);
    let version = tag
        .strip_prefix(prefix)
        .ok_or_else(|| TagError::OtherPrefix { tag: tag.to_owned(), prefix })?;
    version.parse().map_err(|source| TagError::NoVersion { tag: tag.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Environment; 5] = [
        Environment::None,
        Environment::Test,
        Environment::Dev,
        Environment::Staging,
        Environment::Prod,
    ];

    #[test]
    fn a_tag_names_the_version_it_was_made_from() {
        let version: NecoVersion = "2021.04.19-13965".parse().expect("a version");
        for env in ALL {
            assert_eq!(version_of_tag(env, &env.tag(&version)), Ok(version.clone()), "{env}");
            assert!(env.tag(&version).starts_with(tag_prefix(env)), "{env}");
        }
    }

    #[test]
    fn a_tag_of_another_environment_is_told_from_one_without_a_version() {
        assert!(matches!(
            version_of_tag(Environment::Staging, "test-2022.06.06-0606"),
            Err(TagError::OtherPrefix { prefix: "release-", .. })
        ));
        assert!(matches!(
            version_of_tag(Environment::Dev, "release-2022.06.06-0606"),
            Err(TagError::OtherPrefix { prefix: "test-", .. })
        ));
        for bad in ["release-", "release-v1", "release-../1", "release-1.0.0 "] {
            assert!(
                matches!(version_of_tag(Environment::Prod, bad), Err(TagError::NoVersion { .. })),
                "{bad}"
            );
        }
        assert!(version_of_tag(Environment::Prod, "2021.04.19-13965").is_err());
    }
}
