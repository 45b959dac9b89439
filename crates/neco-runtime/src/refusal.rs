//! Why a registry did not give an image, out of the words in which Docker passes that on. Engines that pretend are told such
//! words, and make the same of them.

use std::io::ErrorKind;

use neco_schema::Severity;

use crate::{ImageRef, Logins, RuntimeError};

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A login, or a better one.
    Login,
    /// Somebody who publishes the image, or corrects its name.
    Unknown,
    /// Room on the disk of Docker.
    Disk(ErrorKind),
    /// Something else that a person has to do.
    Hopeless,
    /// Time: the network or the registry is in trouble.
    Passing,
}

/// Says what `message` of Docker, with the status it came with, is about. Docker answers most of it with 500, so the words
/// decide.
pub(crate) fn of(image: &ImageRef, status: Option<u16>, message: &str) -> Refusal {
    // A name may hold any of the words; it comes alone, and as part of an address at the registry.
    let path = image.repository().trim_start_matches(image.registry());
    let words = message.replace(image.repository(), "").replace(&format!("/v2{path}"), "");
    let words = words.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    if says(&[
        "no basic auth credentials",
        "unauthorized",
        "authentication required",
        "denied",
        "403 forbidden",
    ]) {
        Refusal::Login
    } else if says(&["no space left"]) {
        Refusal::Disk(ErrorKind::StorageFull)
    } else if says(&["disk quota exceeded"]) {
        Refusal::Disk(ErrorKind::QuotaExceeded)
    } else if says(&["read-only file system"]) {
        Refusal::Disk(ErrorKind::ReadOnlyFilesystem)
    } else if says(&["x509:", "http response to https client", "no matching manifest"])
        || status == Some(400)
    {
        Refusal::Hopeless
    } else if status == Some(404) || says(&["manifest unknown", "name unknown", ": not found"]) {
        Refusal::Unknown
    } else {
        Refusal::Passing
    }
}

/// The error of a pull that was refused so, by a registry to which somebody came as `came_with`, or as nobody.
pub(crate) fn error(
    image: &ImageRef,
    refusal: Refusal,
    message: String,
    came_with: Option<&str>,
    logins: &dyn Logins,
) -> RuntimeError {
    let registry = image.registry();
    if let Refusal::Disk(kind) = refusal {
        let source = std::io::Error::from(kind);
        return RuntimeError::Disk { image: image.clone(), reason: message, source };
    }
    let (reason, severity) = match refusal {
        Refusal::Passing => (message, Severity::TryAgain),
        Refusal::Hopeless | Refusal::Disk(_) => (message, Severity::AskAPerson),
        Refusal::Unknown => {
            let remedy = "publish it, or correct its name and tag";
            (format!("{registry} does not have it ({message}); {remedy}"), Severity::AskAPerson)
        }
        Refusal::Login => {
            let why = came_with.map_or_else(
                || format!("{registry} wants a login"),
                |user| format!("{registry} does not accept the login of {user}"),
            );
            let remedy = logins.remedy(registry);
            (format!("{why} ({message}); give it one by {remedy}"), Severity::AskAPerson)
        }
    };
    RuntimeError::Pull { image: image.clone(), reason, severity }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_docker_are_understood() {
        let image: ImageRef = "ghcr.io/unauthorized/serf:1".parse().expect("a name");
        for (status, message, refusal) in [
            (
                500,
                "Head \"https://ghcr.io/v2/unauthorized/serf/manifests/1\": no basic auth credentials",
                Refusal::Login,
            ),
            (
                500,
                "Head \"https://ghcr.io/v2/unauthorized/serf/manifests/1\": unauthorized: authentication required",
                Refusal::Login,
            ),
            (500, "error from registry: denied\ndenied", Refusal::Login),
            (
                404,
                "pull access denied for x, repository does not exist or may require 'docker login'",
                Refusal::Login,
            ),
            (
                404,
                "manifest for ghcr.io/unauthorized/serf:1 not found: manifest unknown: manifest unknown",
                Refusal::Unknown,
            ),
            (
                500,
                "failed to resolve reference \"ghcr.io/unauthorized/serf:1\": ghcr.io/unauthorized/serf:1: not found",
                Refusal::Unknown,
            ),
            (400, "invalid reference format", Refusal::Hopeless),
            (
                500,
                "Get \"https://ghcr.io/v2/\": x509: certificate signed by unknown authority",
                Refusal::Hopeless,
            ),
            (
                500,
                "write /var/lib/docker/tmp/x: no space left on device",
                Refusal::Disk(ErrorKind::StorageFull),
            ),
            (
                500,
                "Get \"https://ghcr.io/v2/unauthorized/serf\": dial tcp 1.2.3.4:443: connect: connection refused",
                Refusal::Passing,
            ),
            (500, "dial tcp: lookup ghcr.io: no such host", Refusal::Passing),
            (500, "received unexpected HTTP status: 503 Service Unavailable", Refusal::Passing),
            (500, "toomanyrequests: slow down", Refusal::Passing),
        ] {
            assert_eq!(of(&image, Some(status), message), refusal, "{message}");
        }
        assert_eq!(of(&image, None, "unexpected EOF"), Refusal::Passing);
    }
}
