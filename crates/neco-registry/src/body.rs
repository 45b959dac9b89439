//! Small answers, which are read as a whole.

use neco_http::{BodyError, read_capped, shown};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};

use crate::error::RegistryError;
use crate::host::broken;

/// The error of a body that was not read.
pub(crate) fn refused(url: &Url, what: &'static str, error: BodyError) -> RegistryError {
    match error {
        BodyError::TooLarge { limit } => RegistryError::TooLarge { url: shown(url), what, limit },
        BodyError::Broken(source) => broken(url, source),
    }
}

/// Reads the whole of a small answer.
pub(crate) async fn read(
    url: &Url,
    response: Response,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, RegistryError> {
    refuse_pages(url, &response, what)?;
    read_capped(response, limit).await.map_err(|error| refused(url, what, error))
}

/// Nothing in a registry is a web page.
pub(crate) fn refuse_pages(
    url: &Url,
    response: &Response,
    expected: &'static str,
) -> Result<(), RegistryError> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match content_type.filter(|content_type| content_type.starts_with("text/html")) {
        Some(content_type) => Err(RegistryError::WrongContent {
            url: shown(url),
            expected,
            content_type: content_type.to_owned(),
        }),
        None => Ok(()),
    }
}
