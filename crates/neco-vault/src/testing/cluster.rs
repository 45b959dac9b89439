//! What the fake servers share, and how one answers.

use std::collections::{BTreeMap, VecDeque};

use neco_base::Secret;
use neco_http::Url;
use serde_json::{Value, json};

use super::secrets::Secrets;
use super::{Asked, Fault};
use crate::State;

/// A request.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: String,
    /// Below `/v1/`.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) token: Option<String>,
    pub(super) not_forwarded: bool,
    pub(super) body: Value,
}

impl Question {
    pub(super) fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST")
    }

    /// A text of the body.
    pub(super) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// Some JSON.
    Json { status: u16, body: Value },
    /// 204.
    Done,
    /// 200 with this body.
    Raw(String),
    /// 307 to this place.
    Redirect(String),
    /// The connection breaks.
    Cut,
    /// None.
    Never,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self::Json { status: 200, body }
    }

    pub(super) fn data(data: Value) -> Self {
        Self::ok(json!({ "data": data, "auth": null }))
    }

    pub(super) fn refused(status: u16, reason: &str) -> Self {
        Self::Json { status, body: json!({ "errors": [reason] }) }
    }

    pub(super) fn absent() -> Self {
        Self::Json { status: 404, body: json!({ "errors": [] }) }
    }
}

#[derive(Debug)]
struct Server {
    url: Url,
    runs: bool,
    sealed: bool,
    /// After how many more looks it is unsealed, if it was given the key.
    unseals_in: Option<u32>,
}

/// What the servers share, and what is peculiar to each.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Server>,
    key: Option<String>,
    leader: Option<usize>,
    /// Who is written down as the leader.
    recorded: Option<usize>,
    elections: bool,
    looks_until_unsealed: u32,
    faults: BTreeMap<(usize, String), VecDeque<Fault>>,
    asked: Vec<Asked>,
    secrets: Secrets,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            key: None,
            leader: None,
            recorded: None,
            elections: true,
            looks_until_unsealed: 0,
            faults: BTreeMap::new(),
            asked: Vec::new(),
            secrets: Secrets::default(),
        }
    }
}

impl Cluster {
    pub(super) fn add(&mut self, url: Url) {
        self.servers.push(Server { url, runs: true, sealed: true, unseals_in: None });
    }

    pub(super) fn address(&self, server: usize) -> Url {
        self.servers[server].url.clone()
    }

    pub(super) fn initialise(&mut self) -> (Secret, Secret) {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        self.key = Some(key.clone());
        (Secret::new(key), Secret::new(self.secrets.new_token("root")))
    }

    pub(super) fn runs(&self, server: usize) -> bool {
        self.servers[server].runs
    }

    pub(super) fn stop(&mut self, server: usize) {
        self.servers[server].runs = false;
        self.seal(server);
    }

    pub(super) fn start(&mut self, server: usize) {
        self.servers[server].runs = true;
    }

    pub(super) fn allow_elections(&mut self, allowed: bool) {
        self.elections = allowed;
        self.elect(None);
    }

    pub(super) fn unseal_after_looks(&mut self, looks: u32) {
        self.looks_until_unsealed = looks;
    }

    pub(super) fn fail(&mut self, server: usize, path: &str, faults: VecDeque<Fault>) {
        self.faults.insert((server, path.to_owned()), faults);
    }

    pub(super) fn asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    pub(super) fn state(&self, server: usize) -> State {
        match &self.servers[server] {
            _ if self.key.is_none() => State::Uninitialised,
            server if server.sealed => State::Sealed,
            _ if self.leader == Some(server) => State::Active,
            _ => State::Standby,
        }
    }

    /// Who is written down as the leader.
    pub(super) fn recorded(&self) -> Option<usize> {
        self.recorded
    }

    /// Gives a server the key, if it is the key.
    pub(super) fn unseal(&mut self, server: usize, key: &str) -> Result<(), &'static str> {
        if !self.servers[server].sealed {
            return Ok(());
        }
        if self.key.as_deref() != Some(key) {
            return Err("invalid key: failed to decrypt keys from storage");
        }
        match self.looks_until_unsealed {
            0 => self.unsealed(server),
            // Given again before it has joined it begins anew.
            looks => self.servers[server].unseals_in = Some(looks),
        }
        Ok(())
    }

    /// Whether a server is sealed: a look that may be the last at one that joins.
    pub(super) fn is_sealed(&mut self, server: usize) -> bool {
        match self.servers[server].unseals_in {
            Some(0) => self.unsealed(server),
            Some(looks) => self.servers[server].unseals_in = Some(looks - 1),
            None => {}
        }
        self.servers[server].sealed
    }

    fn unsealed(&mut self, server: usize) {
        self.servers[server].sealed = false;
        self.servers[server].unseals_in = None;
        self.elect(None);
    }

    fn seal(&mut self, server: usize) {
        self.servers[server].sealed = true;
        self.servers[server].unseals_in = None;
        if self.leader == Some(server) {
            self.leader = None;
            self.elect(Some(server));
        }
    }

    /// Makes somebody the leader, and not the one who was if that can be.
    fn elect(&mut self, not: Option<usize>) {
        if self.leader.is_some() || !self.elections {
            return;
        }
        let able = |server: &usize| self.servers[*server].runs && !self.servers[*server].sealed;
        let able: Vec<usize> = (0..self.servers.len()).filter(able).collect();
        self.leader = able.iter().copied().find(|server| Some(*server) != not);
        self.leader = self.leader.or_else(|| able.first().copied());
        self.recorded = self.leader.or(self.recorded);
    }

    /// What a server says.
    pub(super) fn answer(&mut self, server: usize, question: &Question) -> Reply {
        self.asked.push(Asked {
            server,
            method: question.method.clone(),
            path: question.path.clone(),
            with_token: question.token.is_some(),
            not_forwarded: question.not_forwarded,
        });
        let fault = self.faults.get_mut(&(server, question.path.clone()));
        match fault.and_then(VecDeque::pop_front) {
            None => self.judge(server, question),
            Some(Fault::Cut) => {
                self.judge(server, question);
                Reply::Cut
            }
            Some(Fault::Status(status)) => Reply::refused(status, "a fault of the test"),
            Some(Fault::Hang) => Reply::Never,
            Some(Fault::Body(body)) => Reply::Raw(body),
            Some(Fault::Redirect(location)) => Reply::Redirect(location),
        }
    }

    fn judge(&mut self, server: usize, question: &Question) -> Reply {
        match (question.method.as_str(), question.path.as_str()) {
            ("GET", "sys/health") => return self.health(server, &question.query),
            ("GET", "sys/seal-status") => return self.seal_status(server),
            ("GET", "sys/init") => return Reply::ok(json!({ "initialized": self.key.is_some() })),
            ("PUT", "sys/init") => return self.initialise_over_http(question),
            ("PUT", "sys/unseal") => {
                return match self.unseal(server, question.text("key")) {
                    Ok(()) => self.seal_status(server),
                    Err(reason) => Reply::refused(400, reason),
                };
            }
            _ => {}
        }
        if self.servers[server].sealed {
            return Reply::refused(503, "Vault is sealed");
        }
        if question.path == "sys/leader" {
            return Reply::ok(json!({
                "ha_enabled": true,
                "is_self": self.leader == Some(server),
                "leader_address": self.recorded.map(|leader| self.named(leader)).unwrap_or_default(),
            }));
        }
        if self.leader != Some(server) {
            match self.recorded {
                None => return Reply::refused(500, NOBODY),
                Some(leader) if question.not_forwarded && leader == server => {
                    return Reply::refused(500, NOBODY);
                }
                Some(leader) if question.not_forwarded => {
                    return Reply::Redirect(format!("{}/v1/{}", self.named(leader), question.path));
                }
                // Forwarded to somebody who is gone: neither data nor error.
                Some(_) if self.leader.is_none() => return Reply::Done,
                Some(_) => {}
            }
        }
        if let Err(reply) = self.secrets.admit(question) {
            return reply;
        }
        match (question.method.as_str(), question.path.as_str()) {
            ("PUT", "sys/seal") => {
                // As in Vault: the server that was asked is the one that seals, and only a leader does.
                self.seal(server);
                Reply::Done
            }
            ("PUT", "sys/step-down") => {
                let was = self.leader.take();
                self.elect(was);
                Reply::Done
            }
            _ => self.secrets.answer(question),
        }
    }

    /// The address of a server as it calls itself.
    fn named(&self, server: usize) -> String {
        self.servers[server].url.as_str().trim_end_matches('/').to_owned()
    }

    fn health(&mut self, server: usize, query: &str) -> Reply {
        let sealed = self.is_sealed(server);
        let state = self.state(server);
        let (name, usual) = match state {
            State::Uninitialised => ("uninitcode", 501),
            State::Sealed => ("sealedcode", 503),
            State::Standby => ("standbycode", 429),
            State::Active => ("activecode", 200),
        };
        let wanted = query.split('&').filter_map(|pair| pair.split_once('='));
        let status = wanted
            .filter(|(key, _)| *key == name)
            .find_map(|(_, status)| status.parse().ok())
            .unwrap_or(usual);
        let body = json!({
            "initialized": state != State::Uninitialised,
            "sealed": sealed,
            "standby": state != State::Active,
            "version": "0.0.0-fake",
        });
        Reply::Json { status, body }
    }

    fn seal_status(&mut self, server: usize) -> Reply {
        let sealed = self.is_sealed(server);
        let shares = u32::from(self.key.is_some());
        Reply::ok(json!({
            "type": "shamir", "initialized": self.key.is_some(), "sealed": sealed,
            "t": shares, "n": shares, "progress": 0,
        }))
    }

    fn initialise_over_http(&mut self, question: &Question) -> Reply {
        if self.key.is_some() {
            return Reply::refused(400, "Vault is already initialized");
        }
        let shares = [&question.body["secret_shares"], &question.body["secret_threshold"]];
        if shares.iter().any(|shares| **shares != 1) {
            return Reply::refused(400, "the fake knows keys of one share alone");
        }
        let (key, token) = self.initialise();
        Reply::ok(json!({ "keys_base64": [key.reveal()], "root_token": token.reveal() }))
    }
}

const NOBODY: &str = "local node not active but active cluster node not found";
