//! What an error of the client library means: an answer that stands, or a reason to try again.

use std::error::Error as _;
use std::sync::Arc;

use etcd_client::Error;
use tonic::{Code, Status};

use super::endpoints::Asked;
use super::options::Options;
use crate::StoreError;

/// What to make of a failed try.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Trying again changes nothing.
    Final(StoreError),
    /// The token is not valid: log in again.
    LogIn(StoreError),
    /// Another try may go better.
    Again(Trouble),
}

/// A failure that may pass.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Whether the server may have executed the call.
    pub(super) sent: bool,
    /// Whether this endpoint should be left alone for a while.
    pub(super) avoid: bool,
    /// What was heard, for people.
    pub(super) reason: String,
    /// The error that a call ends with if all endpoints fail like this.
    pub(super) lasting: Option<StoreError>,
    /// Whether that error is known to stay, so that nothing is gained by trying until the deadline.
    pub(super) certain: bool,
    pub(super) source: Option<Arc<Error>>,
}

impl Verdict {
    /// Whether we were not let in, as far as anybody can tell.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::LogIn(_) => true,
            Self::Final(error) => matches!(
                error,
                StoreError::Unauthenticated { .. } | StoreError::PermissionDenied { .. }
            ),
            Self::Again(trouble) => trouble.lasting.is_some(),
        }
    }
}

impl Trouble {
    pub(super) fn timed_out(url: &str, after: std::time::Duration) -> Self {
        Self {
            sent: true,
            avoid: true,
            reason: format!("{url} gave no answer for {}s", after.as_secs_f64()),
            lasting: None,
            certain: false,
            source: None,
        }
    }
}

/// Who was spoken to, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) url: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) has_identity: bool,
    /// Whether it ever answered.
    pub(super) answered: bool,
}

impl<'a> Peer<'a> {
    /// The endpoint at `url`, spoken to as `options` say.
    pub(super) fn of(url: &'a str, options: &'a Options) -> Self {
        let (user, has_identity) = (options.user.as_deref(), options.cert.is_some());
        Self { url, user, has_identity, answered: false }
    }

    fn is_tls(&self) -> bool {
        self.url.starts_with("https://")
    }

    fn unauthenticated(&self, reason: &str) -> StoreError {
        StoreError::Unauthenticated {
            endpoint: self.url.to_owned(),
            user: self.user.map(str::to_owned),
            reason: reason.to_owned(),
        }
    }

    fn denied(&self) -> StoreError {
        StoreError::PermissionDenied {
            endpoint: self.url.to_owned(),
            user: self.user.map(str::to_owned),
        }
    }

    fn not_now(&self, reason: &str) -> StoreError {
        StoreError::NotNow { endpoint: self.url.to_owned(), reason: reason.to_owned() }
    }

    fn refused(&self, error: Error) -> StoreError {
        StoreError::Refused {
            endpoint: self.url.to_owned(),
            reason: error.to_string(),
            source: Some(Arc::new(error)),
        }
    }
}

const NO_CLIENT_CERT: &str =
    "the server may require a client certificate: set tls-cert-file and tls-key-file";
const REFUSED_CERT: &str =
    "the server does not accept the client certificate: check tls-cert-file and tls-key-file";
const DROPPED_CERT: &str =
    "the server may not accept the client certificate: check tls-cert-file and tls-key-file";
const RESET_WITHOUT_CERT: &str = "the server may require a client certificate: set tls-cert-file and tls-key-file; \
     or it speaks no TLS: write http:// in 'endpoints'";
const RESET_WITH_CERT: &str = "the server may not accept the client certificate: check tls-cert-file and tls-key-file; \
     or it speaks no TLS: write http:// in 'endpoints'";
const UNKNOWN_CA: &str =
    "set tls-ca-file to the certificate of the authority that signed the server's";
const WRONG_CERT: &str = "check the server's certificate: its names, dates and authority";

const SPEAKS_TLS: &str = "the server may speak TLS: write https:// in 'endpoints'";
const SPEAKS_NO_TLS: &str = "the server may speak no TLS: write http:// in 'endpoints'";

/// How a connection that the other side gives up looks from here.
const DROPPED: [&str; 3] = ["broken pipe", "connection closed", "connection reset"];

/// Judges the error of one try.
pub(super) fn judge(error: Error, peer: Peer<'_>, asked: Asked) -> Verdict {
    let status = match &error {
        Error::GRpcStatus(status) => status,
        Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) => {
            return again(true, true, error, peer);
        }
        Error::LeaseKeepAliveError(_) => return again(true, false, error, peer),
        _ => return Verdict::Final(peer.refused(error)),
    };
    let said = status.message().to_owned();
    let says = |words: &str| said.contains(words);
    match status.code() {
        Code::Unauthenticated => Verdict::LogIn(peer.unauthenticated(&said)),
        Code::PermissionDenied => Verdict::Final(peer.denied()),
        Code::InvalidArgument if says("authentication failed") => {
            Verdict::Final(peer.unauthenticated("wrong user name or password"))
        }
        Code::InvalidArgument if says("user name is empty") => {
            Verdict::LogIn(peer.unauthenticated("the server requires a user"))
        }
        Code::InvalidArgument if says("revision of auth store is old") => {
            Verdict::LogIn(peer.unauthenticated(&said))
        }
        // A token outlived the server's authentication.
        Code::FailedPrecondition if says("authentication is not enabled") => {
            Verdict::LogIn(peer.unauthenticated(&said))
        }
        Code::InvalidArgument if says("duplicate key") => Verdict::Final(StoreError::DuplicateKey),
        Code::InvalidArgument if says("too many operations") => {
            Verdict::Final(StoreError::TooManyOperations { operations: asked.operations })
        }
        Code::InvalidArgument if says("request is too large") => {
            Verdict::Final(StoreError::TooLarge { bytes: asked.bytes })
        }
        Code::ResourceExhausted if says("larger than max") => {
            Verdict::Final(StoreError::TooLarge { bytes: asked.bytes })
        }
        Code::ResourceExhausted if says("database space exceeded") => {
            Verdict::Final(StoreError::NoSpace { endpoint: peer.url.to_owned() })
        }
        Code::ResourceExhausted if says("too many requests") => again(false, false, error, peer),
        Code::OutOfRange if says("compacted") => {
            Verdict::Final(StoreError::Compacted { revision: asked.revision })
        }
        Code::OutOfRange if says("future revision") => {
            Verdict::Final(StoreError::FutureRevision { revision: asked.revision })
        }
        Code::NotFound if says("lease not found") => {
            Verdict::Final(StoreError::LeaseGone { lease: asked.lease })
        }
        Code::NotFound if says("member not found") => Verdict::Final(StoreError::MemberGone),
        // Within one second the same address makes the same identity.
        Code::FailedPrecondition
            if says("Peer URLs already exists") || says("member ID already exist") =>
        {
            Verdict::Final(StoreError::MemberExists)
        }
        // Under several codes. It is said of the cluster: the endpoint is as good as the others.
        _ if says("not enough started members")
            || says("too many learner members")
            || says("unhealthy cluster") =>
        {
            Verdict::Final(peer.not_now(&said))
        }
        Code::Unavailable if says("no leader") || says("for learner") => {
            again(false, true, error, peer)
        }
        Code::Unavailable if says("leader changed") => again(true, false, error, peer),
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss => {
            let sent = !never_connected(status);
            again(sent, true, error, peer)
        }
        _ => Verdict::Final(peer.refused(error)),
    }
}

fn again(sent: bool, avoid: bool, error: Error, peer: Peer<'_>) -> Verdict {
    let heard = heard(&error);
    let remedy = remedy(&heard, peer);
    let lasting = remedy.map(|remedy| StoreError::Tls {
        endpoint: peer.url.to_owned(),
        reason: heard.clone(),
        remedy: remedy.text(),
    });
    let reason = match remedy {
        Some(remedy) => format!("{}: {heard} ({})", peer.url, remedy.text()),
        None => format!("{}: {heard}", peer.url),
    };
    let certain = matches!(remedy, Some(Remedy::Sure(_)));
    Verdict::Again(Trouble { sent, avoid, reason, lasting, certain, source: Some(Arc::new(error)) })
}

/// What to do about a connection that fails for a reason that stays.
#[derive(Clone, Copy)]
enum Remedy {
    /// It stays until somebody does that.
    Sure(&'static str),
    /// It may also be a server that is going away.
    Perhaps(&'static str),
}

impl Remedy {
    fn text(self) -> &'static str {
        match self {
            Self::Sure(text) | Self::Perhaps(text) => text,
        }
    }
}

fn remedy(heard: &str, peer: Peer<'_>) -> Option<Remedy> {
    // The system begins its words with a capital letter, libraries do not.
    let heard = heard.to_lowercase();
    let hears = |words: &[&str]| words.iter().any(|words| heard.contains(&words.to_lowercase()));
    if !peer.is_tls() {
        // A TLS server drops whoever speaks plain text to it. One that has answered was none.
        return (hears(&DROPPED) && !peer.answered).then_some(Remedy::Perhaps(SPEAKS_TLS));
    }
    if hears(&["InvalidContentType", "corrupt message"]) {
        return Some(Remedy::Sure(SPEAKS_NO_TLS));
    }
    if hears(&["tls handshake eof"]) {
        return (!peer.answered).then_some(Remedy::Perhaps(SPEAKS_NO_TLS));
    }
    if hears(&["UnknownIssuer", "BadSignature"]) {
        Some(Remedy::Sure(UNKNOWN_CA))
    } else if hears(&["invalid peer certificate"]) {
        Some(Remedy::Sure(WRONG_CERT))
    } else if hears(&["received fatal alert"]) {
        Some(Remedy::Sure(if peer.has_identity { REFUSED_CERT } else { NO_CLIENT_CERT }))
    // A server that misses the certificate, or another one, drops the connection after the handshake; whether its alert is
    // read before that is a matter of luck. One that speaks no TLS takes the handshake for a bad request, and resets it.
    } else if hears(&["connection reset"]) && !peer.answered {
        let with = peer.has_identity;
        Some(Remedy::Perhaps(if with { RESET_WITH_CERT } else { RESET_WITHOUT_CERT }))
    } else if hears(&DROPPED) || hears(&["operation was canceled"]) {
        Some(Remedy::Perhaps(if peer.has_identity { DROPPED_CERT } else { NO_CLIENT_CERT }))
    } else {
        None
    }
}

/// The layers of the error, outermost first, each said once. The library's own type hides them.
fn heard(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut parts = vec![status.message().to_owned()];
    let mut cause = status.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = error.source();
    }
    parts.retain(|part| !part.is_empty() && part != "transport error");
    if parts.is_empty() { format!("{:?}", status.code()) } else { parts.join(": ") }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Whether no connection was made, so that nothing can have been executed.
fn never_connected(status: &Status) -> bool {
    let text = chain(status);
    ["tcp connect error", "dns error", "invalid peer certificate"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    fn judged(code: Code, said: &str) -> Verdict {
        judged_with(false, code, said)
    }

    fn judged_with(has_identity: bool, code: Code, said: &str) -> Verdict {
        let (url, user) = ("https://boot-0:2379", Some("neco"));
        let peer = Peer { url, user, has_identity, answered: false };
        judge(Error::GRpcStatus(Status::new(code, said)), peer, Asked::default())
    }

    #[test]
    fn only_who_never_answered_in_plain_text_may_want_tls() {
        for (answered, hint) in [(false, true), (true, false)] {
            let url = "http://boot-0:2379";
            let peer = Peer { url, user: None, has_identity: false, answered };
            let status = Status::new(Code::Unknown, "stream closed because of a broken pipe");
            let verdict = judge(Error::GRpcStatus(status), peer, Asked::default());
            let Verdict::Again(trouble) = verdict else { panic!("it may pass") };
            assert_eq!(trouble.reason.contains("write https://"), hint, "{}", trouble.reason);
            assert!(!trouble.certain, "it is tried again until the deadline");
        }
    }

    #[test]
    fn what_stands_is_told_at_once() {
        for (code, said, severity) in [
            (Code::PermissionDenied, "etcdserver: permission denied", Severity::AskAPerson),
            (Code::InvalidArgument, "etcdserver: authentication failed, …", Severity::AskAPerson),
            (Code::InvalidArgument, "etcdserver: request is too large", Severity::Bug),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Severity::AskAPerson,
            ),
            (Code::OutOfRange, "… required revision has been compacted", Severity::TryAgain),
            (Code::NotFound, "etcdserver: requested lease not found", Severity::TryAgain),
            (Code::NotFound, "etcdserver: member not found", Severity::TryAgain),
            (
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
                Severity::TryAgain,
            ),
            (Code::FailedPrecondition, "etcdserver: Peer URLs already exists", Severity::TryAgain),
            (Code::Unavailable, "etcdserver: unhealthy cluster", Severity::TryAgain),
            (Code::FailedPrecondition, "etcdserver: something else", Severity::AskAPerson),
        ] {
            match judged(code, said) {
                Verdict::Final(error) => assert_eq!(error.severity(), severity, "{error}"),
                other => panic!("{said}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_a_connection_never_made_is_known_to_have_done_nothing() {
        for (code, said, sent) in [
            (Code::Unavailable, "tcp connect error", false),
            (Code::Unavailable, "etcdserver: no leader", false),
            (Code::Unavailable, "etcdserver: leader changed", true),
            (Code::Unavailable, "etcdserver: request timed out", true),
            (Code::Unknown, "h2 protocol error: error reading a body from connection", true),
            (Code::Cancelled, "operation was canceled", true),
        ] {
            match judged(code, said) {
                Verdict::Again(trouble) => assert_eq!(trouble.sent, sent, "{said}"),
                other => panic!("{said}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_dropped_connection_hints_at_the_client_certificate() {
        let hints = [
            (false, "may require a client certificate"),
            (true, "may not accept the client certificate"),
        ];
        let broken = "connection error: stream closed because of a broken pipe";
        for (code, said) in [(Code::Cancelled, "operation was canceled"), (Code::Unknown, broken)] {
            for (has_identity, hint) in hints {
                let verdict = judged_with(has_identity, code, said);
                let Verdict::Again(trouble) = verdict else { panic!("it may pass") };
                assert!(trouble.reason.contains(hint), "{}", trouble.reason);
                let lasting = trouble.lasting.expect("it may also stay");
                assert_eq!(lasting.severity(), Severity::AskAPerson);
                assert!(!trouble.certain, "it is tried again until the deadline");
            }
        }
    }

    #[test]
    fn a_connection_that_the_system_says_was_reset_hints_at_both_ends_of_it() {
        let reset = "Connection reset by peer (os error 104)";
        let verdict = judged_with(false, Code::Unavailable, reset);
        let Verdict::Again(trouble) = verdict else { panic!("it may pass") };
        for hint in ["may require a client certificate", "write http://"] {
            assert!(trouble.reason.contains(hint), "{}", trouble.reason);
        }
    }
}
