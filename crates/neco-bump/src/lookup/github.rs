//! Releases of packages on GitHub.

use neco_artifacts::Deb;
use neco_releases::{GithubClient, ListedRelease, ReleaseError, is_package_of};

use neco_base::one_line;

use super::{Found, Options};
use crate::decide::Offer;

/// The releases of a package that are not drafts.
pub(super) async fn releases(deb: &Deb, options: &Options) -> Result<Found, String> {
    let settings = neco_releases::Options {
        api_url: options.github_api.clone(),
        token: options.github_token.clone(),
        attempts: options.attempts,
        ..neco_releases::Options::new(&deb.owner, &deb.repository)
    };
    let pages = settings.max_pages;
    let client = GithubClient::new(settings).map_err(|error| told(&error))?;
    let releases = client.list_newest(pages).await.map_err(|error| told(&error))?;
    Ok(found(releases, deb.name.as_str()))
}

/// What there is of the package `name` in these releases.
fn found(releases: Vec<ListedRelease>, name: &str) -> Found {
    let mut found = Found::default();
    for release in releases.into_iter().filter(|release| !release.draft) {
        let (offer, sha256) = offer(release, name);
        found.sha256.insert(offer.text.clone(), sha256);
        found.offers.push(offer);
    }
    found
}

/// A release, and what its package must be. One without a package cannot be installed.
fn offer(release: ListedRelease, name: &str) -> (Offer, Option<String>) {
    let package = release.assets.into_iter().find(|asset| is_package_of(&asset.name, name));
    let unfit = package.is_none().then(|| format!("has no file {name}_*.deb"));
    let sha256 = package.and_then(|package| package.sha256);
    (Offer { text: release.tag, prerelease: release.prerelease, unfit }, sha256)
}

/// What the client says of its settings is meant for those of the daemons, which are called otherwise here.
fn told(error: &ReleaseError) -> String {
    const TOKEN: &str = "GITHUB_TOKEN or --github-token-file";
    match error {
        ReleaseError::Unauthorized { url, token_sent: true } => {
            format!("{url} answered 401: GitHub refuses the token; correct {TOKEN}")
        }
        ReleaseError::Forbidden { url, token_sent: true } => {
            format!("{url} answered 403: the token may not read this repository; correct {TOKEN}")
        }
        ReleaseError::Unauthorized { url, .. } => {
            format!("{url} answered 401: it wants a token; set {TOKEN}")
        }
        ReleaseError::Forbidden { url, .. } => {
            format!("{url} answered 403: it wants a token; set {TOKEN}")
        }
        ReleaseError::NoRepository { url } => format!(
            "{url} answered 404: there is no such repository, or the token may not see it; check owner and repository"
        ),
        ReleaseError::Option { option: "github-token", problem } => {
            format!("the GitHub token {problem} with {TOKEN}")
        }
        other => one_line(other).replace("release.api_url", "--github-api"),
    }
}

#[cfg(test)]
mod tests {
    use neco_releases::Asset;

    use super::*;

    #[test]
    fn drafts_are_none_and_marks_and_digests_go_along() {
        let release =
            |tag: &str, draft, prerelease, file: &str, sha256: Option<&str>| ListedRelease {
                tag: tag.to_owned(),
                draft,
                prerelease,
                published_at: None,
                assets: vec![Asset {
                    name: file.to_owned(),
                    url: "https://host/file".parse().expect("a URL"),
                    size: 1,
                    sha256: sha256.map(str::to_owned),
                }],
            };
        let found = found(
            vec![
                release("v4", true, false, "agent_4_amd64.deb", Some("d4")),
                release("v3", false, true, "agent_3_amd64.deb", Some("d3")),
                release("v2", false, false, "agent_2_amd64.deb", None),
                release("v1", false, false, "agent.zip", Some("d1")),
            ],
            "agent",
        );
        let offers: Vec<_> = found
            .offers
            .iter()
            .map(|offer| (offer.text.as_str(), offer.prerelease, offer.unfit.is_some()))
            .collect();
        assert_eq!(offers, [("v3", true, false), ("v2", false, false), ("v1", false, true)]);
        let digest = |tag: &str| found.sha256[tag].as_deref();
        assert_eq!((digest("v3"), digest("v2"), digest("v1")), (Some("d3"), None, None));
    }

    #[test]
    fn settings_have_the_names_that_they_have_here() {
        let url = || "https://api.github.com/repos/o/r/releases".to_owned();
        let errors = [
            ReleaseError::Unauthorized { url: url(), token_sent: true },
            ReleaseError::Unauthorized { url: url(), token_sent: false },
            ReleaseError::Forbidden { url: url(), token_sent: true },
            ReleaseError::Forbidden { url: url(), token_sent: false },
            ReleaseError::NoRepository { url: url() },
            ReleaseError::Status { url: url(), status: 418 },
            ReleaseError::Redirect { url: url(), problem: "in a loop".to_owned() },
            ReleaseError::WrongContent {
                url: url(),
                expected: "JSON",
                content_type: "x".to_owned(),
            },
            ReleaseError::TooLarge { url: url(), limit: 1, announced: false },
            ReleaseError::Option {
                option: "github-token",
                problem: "is odd; set it again".to_owned(),
            },
            ReleaseError::Option { option: "release.api_url", problem: "is none".to_owned() },
        ];
        for error in errors {
            let text = told(&error);
            for strange in ["release.", "config.yml", "necoctl", "github-token "] {
                assert!(!text.replace(&url(), "").contains(strange), "{text}");
            }
        }
    }
}
