//! A stand-in and a client of it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_sabakan::contract::Bench;
use neco_sabakan::fake::{FakeSabakan, ServeOptions, TlsOptions};
use neco_sabakan::{Limits, Options, Sabakan, SabakanClient};
use serde_json::json;

/// A stand-in, and the real client that speaks to it.
pub(crate) struct Stage {
    pub(crate) fake: FakeSabakan,
    pub(crate) client: SabakanClient,
    /// Speaks without manners.
    pub(crate) raw: reqwest::Client,
}

/// A certificate for this machine that vouches for itself, and its key.
pub(crate) fn certificate() -> (String, String) {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Limits with which tests do not wait.
pub(crate) fn quick() -> Limits {
    Limits {
        between: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)),
        ..Limits::default()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(ServeOptions::default(), quick()).await
    }

    pub(crate) async fn with(mut options: ServeOptions, limits: Limits) -> Self {
        let (certificate, key) = certificate();
        options.https = Some(TlsOptions {
            address: "127.0.0.1:0".parse().expect("an address"),
            certificates: certificate.clone().into_bytes(),
            key: key.into_bytes(),
        });
        let fake = FakeSabakan::start(options).await.expect("a stand-in");
        let https = fake.https_url().expect("an address");
        let options = Options::new(fake.url(), "tester").https(https, certificate).limits(limits);
        let client = SabakanClient::new(&options).expect("a client");
        // A client of anything installs what TLS needs.
        let raw = neco_http::client(&fake.url(), None).expect("settings");
        let raw = raw.tls_danger_accept_invalid_certs(true).build().expect("a client");
        Self { fake, client, raw }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.fake.url())
    }

    pub(crate) fn keys_url(&self, path: &str) -> String {
        format!("{}{path}", self.fake.https_url().expect("an address"))
    }

    /// Method and path of what was asked since the last call.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.fake.log().take().iter().map(|asked| asked.call()).collect()
    }

    /// Sets a state as `sabactl` does.
    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        told(self.raw.put(self.url(path)).body(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        told(self.raw.get(self.url(path))).await
    }
}

pub(crate) async fn told(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a text"))
}

#[async_trait]
impl Bench for Stage {
    fn sabakan(&self) -> &dyn Sabakan {
        &self.client
    }

    async fn register(&self, serial: &str, rack: u32, role: &str, labels: &[(&str, &str)]) {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let machine = json!([{
            "serial": serial, "rack": rack, "role": role, "labels": labels,
            "bmc": { "type": "IPMI-2.0" },
        }]);
        let request = self.raw.post(self.url("api/v1/machines")).json(&machine);
        assert_eq!(told(request).await, (201, String::new()));
    }

    async fn add_disk_key(&self, serial: &str, path: &str) {
        let url = self.keys_url(&format!("api/v1/crypts/{serial}/{path}"));
        let (status, body) = told(self.raw.put(url).body("secret")).await;
        assert_eq!((status, body), (201, format!("{{\"status\":201,\"path\":\"{path}\"}}")));
    }
}
