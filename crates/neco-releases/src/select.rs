//! The choice of the newest release for an environment: pure.

use neco_schema::Environment;

use crate::release::{ListedRelease, Release};
use crate::tag::{TagError, version_of_tag};

/// The version that the environment `test` always follows, as in the original.
pub const TEST_VERSION: &str = "9999.12.31-99999";

/// What [`newest`] found in a list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selection {
    /// The greatest published release of the environment.
    pub release: Option<Release>,
    /// The tags of published releases that have the environment's prefix, but no version behind it.
    pub unparsable: Vec<String>,
}

/// Why the release that the API marks as latest is not one to install.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEligible {
    /// Its tag is none of the environment's.
    #[error("the latest release is no Neco release")]
    Tag(#[from] TagError),
    /// It is a draft.
    #[error("the latest release {0:?} is a draft")]
    Draft(String),
    /// It is marked as not for production.
    #[error("the latest release {0:?} is marked as a pre-release")]
    Prerelease(String),
}

/// Chooses the greatest published release of an environment in a list.
///
/// Drafts and other tags are passed over. Pre-releases count: `dev` and `staging` are there to try them. `prod` does
/// not choose from a list, it follows what [`latest`] accepts; asked for it, pre-releases do not count. `none` follows
/// nothing and `test` only [`TEST_VERSION`]. Of equal versions the one listed first wins.
pub fn newest<'a>(
    env: Environment,
    listed: impl IntoIterator<Item = &'a ListedRelease>,
) -> Selection {
    let mut selection = Selection::default();
    if env == Environment::None {
        return selection;
    }
    let mut best: Option<(neco_schema::NecoVersion, &ListedRelease)> = None;
    for release in listed.into_iter().filter(|release| !release.draft) {
        if env == Environment::Prod && release.prerelease {
            continue;
        }
        match version_of_tag(env, &release.tag) {
            Ok(version) if env == Environment::Test && version.as_str() != TEST_VERSION => {}
            Ok(version) => {
                if best.as_ref().is_none_or(|(best, _)| version.precedence(best).is_gt()) {
                    best = Some((version, release));
                }
            }
            Err(TagError::NoVersion { .. }) => selection.unparsable.push(release.tag.clone()),
            Err(TagError::OtherPrefix { .. }) => {}
        }
    }
    selection.release = best.map(|(version, listed)| Release::new(version, listed.clone()));
    selection
}

/// Judges the release that the API marks as latest, for `prod`.
///
/// The original takes whatever the API names; here it must be published, no pre-release, and tagged `release-V`.
pub fn latest(listed: ListedRelease) -> Result<Release, NotEligible> {
    let version = version_of_tag(Environment::Prod, &listed.tag)?;
    if listed.draft {
        return Err(NotEligible::Draft(listed.tag));
    }
    if listed.prerelease {
        return Err(NotEligible::Prerelease(listed.tag));
    }
    Ok(Release::new(version, listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tag: &str) -> ListedRelease {
        ListedRelease {
            tag: tag.to_owned(),
            draft: false,
            prerelease: false,
            published_at: None,
            assets: Vec::new(),
        }
    }

    fn draft(tag: &str) -> ListedRelease {
        ListedRelease { draft: true, ..listed(tag) }
    }

    fn prerelease(tag: &str) -> ListedRelease {
        ListedRelease { prerelease: true, ..listed(tag) }
    }

    fn chosen(env: Environment, list: &[ListedRelease]) -> Option<String> {
        newest(env, list).release.map(|release| release.version.to_string())
    }

    // reference/neco-cd-core.md §12.3, the GitHub fixture: latest 2022.03.03-0303, greatest published of `release-`
    // 2022.04.04-0404, of `test-` 2022.06.06-0606.
    fn fixture() -> Vec<ListedRelease> {
        vec![
            draft("release-2022.07.07-0707"),
            prerelease("test-2022.06.06-0606"),
            draft("test-2022.08.08-0808"),
            listed("release-2022.03.03-0303"),
            prerelease("release-2022.04.04-0404"),
            listed("release-2022.01.01-0101"),
            listed("release-nonsense"),
            listed("v1.2.3"),
        ]
    }

    #[test]
    fn staging_and_dev_take_the_greatest_of_their_prefix_prereleases_included() {
        let list = fixture();
        assert_eq!(chosen(Environment::Staging, &list).as_deref(), Some("2022.04.04-0404"));
        assert_eq!(chosen(Environment::Dev, &list).as_deref(), Some("2022.06.06-0606"));
        assert_eq!(chosen(Environment::Prod, &list).as_deref(), Some("2022.03.03-0303"));
    }

    #[test]
    fn tags_without_a_version_are_named_and_other_tags_are_not() {
        assert_eq!(newest(Environment::Staging, &fixture()).unparsable, ["release-nonsense"]);
        assert_eq!(newest(Environment::Dev, &fixture()).unparsable, [""; 0]);
    }

    #[test]
    fn the_environment_none_follows_nothing() {
        assert_eq!(newest(Environment::None, &fixture()), Selection::default());
    }

    #[test]
    fn the_environment_test_follows_its_constant_alone() {
        let mut list = fixture();
        assert_eq!(chosen(Environment::Test, &list), None);
        list.push(listed("release-9999.12.31-99999"));
        assert_eq!(chosen(Environment::Test, &list).as_deref(), Some(TEST_VERSION));
        list.push(listed("release-9999.12.31-100000"));
        assert_eq!(chosen(Environment::Test, &list).as_deref(), Some(TEST_VERSION));
    }

    #[test]
    fn versions_are_compared_as_numbers_and_the_order_of_the_list_does_not_count() {
        let tags = ["release-2022.04.04-999", "release-2022.04.04-1000", "release-2021.12.31-5000"];
        for rotation in 0..tags.len() {
            let mut list: Vec<_> = tags.iter().map(|tag| listed(tag)).collect();
            list.rotate_left(rotation);
            assert_eq!(chosen(Environment::Staging, &list).as_deref(), Some("2022.04.04-1000"));
        }
    }

    #[test]
    fn the_latest_release_must_be_a_published_one_of_ours() {
        let version = latest(listed("release-2022.03.03-0303")).map(|r| r.version.to_string());
        assert_eq!(version.as_deref(), Ok("2022.03.03-0303"));
        assert!(matches!(latest(listed("v1.2.3")), Err(NotEligible::Tag(_))));
        assert!(matches!(latest(listed("test-2022.03.03-0303")), Err(NotEligible::Tag(_))));
        assert!(matches!(latest(draft("release-1.0.0")), Err(NotEligible::Draft(_))));
        assert!(matches!(latest(prerelease("release-1.0.0")), Err(NotEligible::Prerelease(_))));
    }
}
