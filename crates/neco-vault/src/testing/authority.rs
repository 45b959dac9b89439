//! A certification authority of the fake.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use super::cluster::{Question, Reply};

/// What is mounted as `pki`.
#[derive(Debug, Default)]
pub(super) struct Authority {
    ca: Option<Ca>,
    roles: BTreeMap<String, Value>,
}

#[derive(Debug)]
struct Ca {
    key: String,
    certificate: String,
}

impl Authority {
    /// Answers for `rest`, the path below the mount.
    pub(super) fn answer(&mut self, rest: &str, question: &Question) -> Reply {
        match (question.is_write(), rest) {
            (true, "root/generate/exported") => {
                let Ok(ca) = generate(question.text("common_name")) else { return broken() };
                let bundle = format!("{}{}", ca.key, ca.certificate);
                self.ca = Some(ca);
                Reply::data(json!({ "certificate": bundle }))
            }
            (true, "config/ca") => match import(question.text("pem_bundle")) {
                Some(ca) => {
                    self.ca = Some(ca);
                    Reply::Done
                }
                None => Reply::refused(400, "the bundle holds no key and certificate"),
            },
            (false, "cert/ca") => match &self.ca {
                Some(ca) => Reply::data(json!({ "certificate": ca.certificate })),
                None => Reply::refused(400, "no default issuer currently configured"),
            },
            (write, rest) => match (write, rest.split_once('/')) {
                (true, Some(("roles", name))) => {
                    self.roles.insert(name.to_owned(), question.body.clone());
                    Reply::Done
                }
                (true, Some(("issue", name))) => match (self.roles.get(name), &self.ca) {
                    (None, _) => Reply::refused(400, "unknown role"),
                    (_, None) => Reply::refused(400, "no default issuer currently configured"),
                    (Some(role), Some(ca)) => issue(ca, role, question).unwrap_or_else(broken_by),
                },
                _ => Reply::absent(),
            },
        }
    }
}

fn broken() -> Reply {
    Reply::refused(500, "the fake cannot make this certificate")
}

fn broken_by(error: rcgen::Error) -> Reply {
    Reply::refused(400, &error.to_string())
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn generate(common_name: &str) -> Result<Ca, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(Ca { key: key.serialize_pem(), certificate: params.self_signed(&key)?.pem() })
}

/// The key and the certificate of a bundle.
fn import(bundle: &str) -> Option<Ca> {
    let at = bundle.find("-----BEGIN CERTIFICATE")?;
    let (key, certificate) = bundle.split_at(at);
    let (key, certificate) = (key.to_owned(), certificate.to_owned());
    Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).ok()?).ok()?;
    Some(Ca { key, certificate })
}

fn issue(ca: &Ca, role: &Value, question: &Question) -> Result<Reply, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let names = |field: &str| {
        let listed = question.text(field).split(',').filter(|name| !name.is_empty());
        listed.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut hosts = names("alt_names");
    if question.body["exclude_cn_from_sans"] != true {
        hosts.push(question.text("common_name").to_owned());
    }
    let mut params = CertificateParams::new(hosts)?;
    for address in names("ip_sans") {
        match address.parse::<IpAddr>() {
            Ok(address) => params.subject_alt_names.push(SanType::IpAddress(address)),
            Err(_) => return Ok(Reply::refused(400, "the value is not a valid IP address")),
        }
    }
    params.distinguished_name = named(question.text("common_name"));
    params.use_authority_key_identifier_extension = true;
    for (flag, purpose) in [
        ("client_flag", ExtendedKeyUsagePurpose::ClientAuth),
        ("server_flag", ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        if role[flag] != false {
            params.extended_key_usages.push(purpose);
        }
    }
    let seconds = |value: &Value| value.as_str()?.strip_suffix('s')?.parse::<u64>().ok();
    let ttl = seconds(&question.body["ttl"]).or_else(|| seconds(&role["ttl"])).unwrap_or(3600);
    let now = std::time::SystemTime::now();
    // Clocks of two machines differ a little.
    params.not_before = (now - Duration::from_secs(30)).into();
    params.not_after = (now + Duration::from_secs(ttl)).into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Reply::data(json!({
        "certificate": certificate.pem(),
        "private_key": key.serialize_pem(),
        "issuing_ca": ca.certificate,
    })))
}
