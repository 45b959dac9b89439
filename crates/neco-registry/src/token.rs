//! How to say who comes: what a registry asks for, and what it is told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeParser, ChallengeRef};
use neco_base::Secret;
use neco_http::{read_capped, shown};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::body::refused;
use crate::credentials::Login;
use crate::error::RegistryError;
use crate::host::{Host, judge, send};
use crate::name::Repository;

/// The longest answer of a server that makes tokens; they grow with what they say of a user.
const TOKEN_LIMIT: u64 = 64 << 10;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, which somebody else makes.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// What to send along to `repository` after this answer of 401 to `url`, and whether it is or was made from a login.
pub(crate) async fn obtain(
    host: &Host,
    url: &Url,
    response: &Response,
    repository: &Repository,
) -> Result<(HeaderValue, bool), RegistryError> {
    let problem = |problem: String| RegistryError::Challenge {
        registry: host.registry().to_owned(),
        problem,
    };
    let status = response.status();
    let challenge = challenge_of(response.headers()).map_err(|schemes| {
        problem(format!("by {schemes}, which is neither Basic nor Bearer; is this a registry?"))
    })?;
    let login = host.login().await?;
    let (realm, service, scope) = match (challenge, &login) {
        (Challenge::Basic, Some(login)) => return Ok((basic(login).map_err(problem)?, true)),
        (Challenge::Basic, None) => return Err(host.unauthorized(url, status, false)),
        (Challenge::Bearer { realm, service, scope }, _) => (realm, service, scope),
    };
    let mut realm = Url::parse(&realm)
        .map_err(|_| problem(format!("with a token from {realm:?}, which is no URL")))?;
    if !host.is_private(&realm) {
        let at = shown(&realm);
        return Err(problem(format!(
            "with a token from {at}, where anybody on the way can read it"
        )));
    }
    let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", repository.path()));
    realm
        .query_pairs_mut()
        .extend_pairs(service.iter().map(|service| ("service", service)))
        .append_pair("scope", &scope);
    let mut request = host.http().get(realm.clone());
    if let Some(login) = &login {
        request = request.header(AUTHORIZATION, basic(login).map_err(problem)?);
    }
    let patience = host.options().request_timeout;
    let response = send(&realm, request, patience).await?;
    match response.status() {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(host.unauthorized(&realm, status, login.is_some()))
        }
        StatusCode::OK => {
            let body = tokio::time::timeout(patience, read_capped(response, TOKEN_LIMIT)).await;
            let silent = |_| RegistryError::Silent { url: shown(&realm), after: patience };
            let body = body.map_err(silent)?.map_err(|error| refused(&realm, "token", error))?;
            let token = token_in(&realm, Secret::new(body))?;
            let header = sensitive(&format!("Bearer {}", token.reveal()));
            let header = header.ok_or_else(|| {
                problem(format!("with the token of {}, which has odd characters", shown(&realm)))
            })?;
            Ok((header, login.is_some()))
        }
        status if status.is_redirection() || status.is_success() => {
            Err(RegistryError::Status { url: shown(&realm), status: status.as_u16() })
        }
        _ => Err(match judge(&realm, response) {
            Err(error) => error,
            Ok(response) => {
                let status = response.status().as_u16();
                RegistryError::Status { url: shown(&realm), status }
            }
        }),
    }
}

/// The best of what is asked for; else the names of all that is.
fn challenge_of(headers: &HeaderMap) -> Result<Challenge, String> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<ChallengeRef<'_>> =
        texts.flat_map(|text| ChallengeParser::new(text).map_while(Result::ok)).collect();
    let named = |scheme: &str| all.iter().find(|one| one.scheme.eq_ignore_ascii_case(scheme));
    if let Some(bearer) = named("Bearer") {
        let parameter = |name: &str| {
            let found = bearer.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
        };
        if let Some(realm) = parameter("realm") {
            return Ok(Challenge::Bearer {
                realm,
                service: parameter("service"),
                scope: parameter("scope"),
            });
        }
    }
    if named("Basic").is_some() {
        return Ok(Challenge::Basic);
    }
    let schemes: Vec<_> = all.iter().map(|one| one.scheme).collect();
    Err(if schemes.is_empty() { "nothing it names".to_owned() } else { schemes.join(", ") })
}

fn token_in(realm: &Url, body: Secret<Vec<u8>>) -> Result<Secret, RegistryError> {
    /// Both names are in use.
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    // The cause is left out: it may quote the token.
    let malformed = |source: serde_json::Error| RegistryError::Malformed {
        url: shown(realm),
        expected: "token",
        source,
    };
    let Answer { token, access_token } = serde_json::from_slice(body.reveal())
        .map_err(|_| malformed(serde::de::Error::custom("not an object with a token")))?;
    let token = token.filter(|token| !token.is_empty()).or(access_token);
    token.map(Secret::new).ok_or_else(|| malformed(serde::de::Error::missing_field("token")))
}

fn basic(login: &Login) -> Result<HeaderValue, String> {
    if login.user.contains(':') {
        return Err("by name and password, but the name of the login has a colon".to_owned());
    }
    let plain = Secret::new(format!("{}:{}", login.user, login.password.reveal()));
    let text = Secret::new(format!("Basic {}", STANDARD.encode(plain.reveal())));
    sensitive(text.reveal())
        .ok_or_else(|| "by name and password, which have odd characters".to_owned())
}

/// A header that no log shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(texts: &[&str]) -> Result<Challenge, String> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().expect("a header"));
        }
        challenge_of(&headers)
    }

    #[test]
    fn a_registry_says_what_it_wants() {
        let bearer = |scope: Option<&str>| {
            Ok(Challenge::Bearer {
                realm: "https://ghcr.io/token".to_owned(),
                service: Some("ghcr.io".to_owned()),
                scope: scope.map(str::to_owned),
            })
        };
        let pull = Some("repository:cybozu/etcd:pull,push");
        let full = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:cybozu/etcd:pull,push""#;
        assert_eq!(challenge(&[full]), bearer(pull));
        let short = r#"bearer Realm="https://ghcr.io/token", service=ghcr.io, scope="""#;
        assert_eq!(challenge(&[short]), bearer(None));
        assert_eq!(challenge(&["Basic realm=\"neco\""]), Ok(Challenge::Basic));
        assert_eq!(challenge(&["Basic realm=\"neco\"", full]), bearer(pull));
        assert_eq!(
            challenge(&["Bearer service=\"x\", Basic realm=\"neco\""]),
            Ok(Challenge::Basic)
        );
        assert_eq!(
            challenge(&["Negotiate", "Digest realm=\"x\""]),
            Err("Negotiate, Digest".to_owned())
        );
        for odd in [&[][..], &[""], &["\"\""], &["=,="]] {
            assert!(challenge(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_token_is_read_under_both_of_its_names_and_not_told() {
        let realm: Url = "https://ghcr.io/token?scope=x".parse().expect("a URL");
        let read = |text: &str| token_in(&realm, Secret::new(text.as_bytes().to_vec()));
        for text in
            [r#"{"token":"t"}"#, r#"{"access_token":"t"}"#, r#"{"token":"","access_token":"t"}"#]
        {
            assert_eq!(read(text).expect(text).reveal(), "t");
        }
        for text in ["{}", "hunter2", r#"{"token":{"hunter2":1}}"#, r#""hunter2""#] {
            let error = format!("{:?}", read(text).expect_err(text));
            assert!(
                error.contains("https://ghcr.io/token") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_login_is_a_header_that_is_not_shown() {
        let login =
            |user: &str, password: &str| Login { user: user.to_owned(), password: password.into() };
        let header = basic(&login("neco", "a:b?")).expect("a header");
        assert_eq!(header.to_str().expect("text"), "Basic bmVjbzphOmI/");
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert!(basic(&login("ne:co", "x")).is_err());
    }
}
