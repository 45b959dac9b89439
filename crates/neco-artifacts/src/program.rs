//! Programs inside of Neco's own package.

use neco_toml::{Fields, Name};
use serde::Serialize;

use crate::artifacts::sha256;

/// A program that Neco's package carries inside itself, such as `cke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// What it is called in `/usr/bin`.
    pub name: Name,
    /// Where it is fetched from when the package is made.
    pub url: String,
    /// What it must be. A package is not made with a program whose digest nobody has written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its unit file beside `artifacts.toml`, below `units/`, if it is a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Program {
    pub(crate) fn read(entry: &Fields<'_>) -> Option<Self> {
        let name = entry.required_parsed("name", "name the program, such as \"cke\"");
        let url = entry.required("url", "write the address it is fetched from");
        let remote = |url: &str| {
            url.strip_prefix("https://")
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic()))
        };
        if let Some(url) = url.as_ref().filter(|url| !remote(url.value)) {
            let what = format!("{:?} cannot be fetched from", url.value);
            entry.problem("url", &what, "write an address that begins with https://");
        }
        let sha256 = sha256(entry);
        let unit = entry.text("unit").and_then(|found| {
            let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
            let stem = found.value.strip_suffix(".service");
            let good = stem.is_some_and(|stem| {
                stem.starts_with(|c: char| c.is_ascii_alphanumeric()) && stem.chars().all(plain)
            });
            if !good {
                let what = format!("{:?} is not the name of a service", found.value);
                entry.problem("unit", &what, "write one such as \"cke.service\"");
            }
            good.then(|| found.value.to_owned())
        });
        Some(Self { name: name?.value, url: url?.value.to_owned(), sha256, unit })
    }
}
