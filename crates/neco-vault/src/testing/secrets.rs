//! What the fake servers keep, and who may ask for it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::authority::Authority;
use super::cluster::{Question, Reply};
use super::policy;

/// What an unsealed cluster keeps.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Names of policies by token.
    tokens: BTreeMap<String, Vec<String>>,
    given: u32,
    mounts: BTreeMap<String, Mounted>,
    auth: BTreeMap<String, String>,
    audit: BTreeMap<String, Value>,
    policies: BTreeMap<String, String>,
    users: BTreeMap<String, (String, Vec<String>)>,
}

#[derive(Debug)]
enum Mounted {
    Pki(Authority),
    Kv(BTreeMap<String, Value>),
}

/// May do everything.
const ROOT: &str = "root";

impl Secrets {
    pub(super) fn new_token(&mut self, policy: &str) -> String {
        self.give(vec![policy.to_owned()])
    }

    fn give(&mut self, policies: Vec<String>) -> String {
        self.given += 1;
        let token = format!("s.fake{:020}", self.given);
        self.tokens.insert(token.clone(), policies);
        token
    }

    /// Whether whoever asks may.
    pub(super) fn admit(&self, question: &Question) -> Result<(), Reply> {
        if question.path.starts_with("auth/userpass/login/") {
            return Ok(());
        }
        let denied = || Reply::refused(403, "permission denied");
        let policies = question.token.as_ref().and_then(|token| self.tokens.get(token));
        let policies = policies.ok_or_else(denied)?;
        let own = question.path == "auth/token/revoke-self";
        let texts: Vec<String> =
            policies.iter().filter_map(|name| self.policies.get(name)).cloned().collect();
        let may = own
            || policies.iter().any(|name| name == ROOT)
            || policy::allows(&texts, &question.method, &question.path);
        if may { Ok(()) } else { Err(denied()) }
    }

    /// Answers whoever may ask.
    pub(super) fn answer(&mut self, question: &Question) -> Reply {
        let path = question.path.as_str();
        match (question.method.as_str(), path) {
            ("GET", "sys/mounts") => return Reply::data(self.listed_mounts()),
            ("GET", "sys/auth") => {
                let kinds = self.auth.iter().map(|(path, kind)| (path, kind.as_str()));
                return Reply::data(listed(kinds.chain([(&"token".to_owned(), "token")])));
            }
            ("GET", "sys/audit") => {
                return Reply::data(listed(self.audit.keys().map(|path| (path, "file"))));
            }
            ("PUT", "auth/token/revoke-self") => {
                self.tokens.retain(|token, _| Some(token) != question.token.as_ref());
                return Reply::Done;
            }
            _ => {}
        }
        if let Some(at) = path.strip_prefix("sys/mounts/") {
            return self.mount(at, question);
        }
        if let Some(at) = path.strip_prefix("sys/auth/").filter(|_| question.is_write()) {
            if self.auth.contains_key(at) {
                return Reply::refused(400, "path is already in use");
            }
            self.auth.insert(at.to_owned(), question.text("type").to_owned());
            return Reply::Done;
        }
        if let Some(at) = path.strip_prefix("sys/audit/").filter(|_| question.is_write()) {
            self.audit.insert(at.to_owned(), question.body["options"].clone());
            return Reply::Done;
        }
        if let Some(name) = path.strip_prefix("sys/policies/acl/") {
            return self.policy(name, question);
        }
        if let Some(name) = path.strip_prefix("auth/userpass/login/") {
            return self.login(name, question);
        }
        if let Some(name) = path.strip_prefix("auth/userpass/users/") {
            return self.user(name, question);
        }
        self.plugin(question)
    }

    fn listed_mounts(&self) -> Value {
        let mounts = self.mounts.iter().map(|(path, mounted)| {
            let mount = match mounted {
                Mounted::Pki(_) => json!({ "type": "pki", "options": null }),
                Mounted::Kv(_) => json!({ "type": "kv", "options": { "version": "1" } }),
            };
            (format!("{path}/"), mount)
        });
        let system = ("sys/".to_owned(), json!({ "type": "system", "options": null }));
        Value::Object(mounts.chain([system]).collect())
    }

    fn mount(&mut self, at: &str, question: &Question) -> Reply {
        if question.method == "DELETE" {
            self.mounts.remove(at);
            return Reply::Done;
        }
        if self.mounts.contains_key(at) {
            return Reply::refused(400, "path is already in use");
        }
        let mounted = match (question.text("type"), question.body["options"]["version"].as_str()) {
            ("pki", _) => Mounted::Pki(Authority::default()),
            ("kv", Some("1")) => Mounted::Kv(BTreeMap::new()),
            _ => return Reply::refused(400, "the fake knows pki and kv without versions"),
        };
        self.mounts.insert(at.to_owned(), mounted);
        Reply::Done
    }

    fn policy(&mut self, name: &str, question: &Question) -> Reply {
        if question.is_write() {
            self.policies.insert(name.to_owned(), question.text("policy").to_owned());
            return Reply::Done;
        }
        match self.policies.get(name) {
            Some(policy) => Reply::data(json!({ "name": name, "policy": policy })),
            None => Reply::absent(),
        }
    }

    fn login(&mut self, name: &str, question: &Question) -> Reply {
        let known =
            self.users.get(name).filter(|(password, _)| password == question.text("password"));
        let Some((_, policies)) = known.filter(|_| self.auth.contains_key("userpass")) else {
            return Reply::refused(400, "invalid username or password");
        };
        let token = self.give(policies.clone());
        Reply::ok(json!({ "data": null, "auth": { "client_token": token } }))
    }

    fn user(&mut self, name: &str, question: &Question) -> Reply {
        if !self.auth.contains_key("userpass") {
            return Reply::absent();
        }
        let policies = question.body["token_policies"].as_array().cloned().unwrap_or_default();
        let policies = policies.iter().filter_map(|name| Some(name.as_str()?.to_owned()));
        let user = (question.text("password").to_owned(), policies.collect());
        self.users.insert(name.to_owned(), user);
        Reply::Done
    }

    /// Answers for what is mounted.
    fn plugin(&mut self, question: &Question) -> Reply {
        let below = |at: &str| question.path.strip_prefix(at)?.strip_prefix('/').map(str::to_owned);
        let found = self.mounts.iter_mut().find_map(|(at, mounted)| Some((below(at)?, mounted)));
        match found {
            None => Reply::refused(404, "no handler for route"),
            Some((rest, Mounted::Pki(authority))) => authority.answer(&rest, question),
            Some((rest, Mounted::Kv(records))) => match question.method.as_str() {
                "GET" => {
                    records.get(&rest).map_or_else(Reply::absent, |it| Reply::data(it.clone()))
                }
                "DELETE" => {
                    records.remove(&rest);
                    Reply::Done
                }
                _ => {
                    records.insert(rest, question.body.clone());
                    Reply::Done
                }
            },
        }
    }
}

/// Kinds by path.
fn listed<'s>(kinds: impl Iterator<Item = (&'s String, &'s str)>) -> Value {
    let listed: Map<String, Value> =
        kinds.map(|(path, kind)| (format!("{path}/"), json!({ "type": kind }))).collect();
    Value::Object(listed)
}
