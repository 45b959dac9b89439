//! What can go wrong with a registry, on order; and a record of what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Answers 200 with a page for people.
    Html,
    /// Redirects to the same path below another address.
    RedirectTo(String),
    /// Ends the connection after so many bytes of the body.
    Reset(u64),
    /// Sends so many bytes of the body, then nothing more.
    Stall(u64),
    /// Does not answer at all.
    Silent,
    /// Waits before each piece of the body.
    Slow(Duration),
    /// Changes the last byte of the body.
    Corrupt,
    /// Announces the body as one byte longer than it is, and ends the connection in its place.
    Longer,
    /// Sends everything, whatever range was asked for.
    IgnoreRange,
    /// Says that the list goes on there, in these words.
    Link(String),
    /// Does nothing; to let requests pass before the next fault.
    None,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Lists of tags.
    Tags,
    /// Manifests.
    Manifests,
    /// Blobs.
    Blobs,
    /// Tokens.
    Tokens,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub uri: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// The faults of a registry, and the record of its requests. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: VecDeque<Rule>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Rule {
    scope: Scope,
    fault: Fault,
    left: Option<usize>,
}

impl Faults {
    /// Lets `fault` happen to each request of `scope` until [`clear`](Self::clear).
    pub fn always(&self, scope: Scope, fault: Fault) {
        self.lock().rules.push_back(Rule { scope, fault, left: None });
    }

    /// Lets `fault` happen to the next `times` requests of `scope`, after the faults ordered before it.
    pub fn next(&self, scope: Scope, times: usize, fault: Fault) {
        self.lock().rules.push_back(Rule { scope, fault, left: Some(times) });
    }

    /// All is well again.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// The requests since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// What happens to this request.
    pub(super) fn due(&self, scope: Scope) -> Fault {
        let mut inner = self.lock();
        let due = inner.rules.iter_mut().find(|rule| rule.scope == scope && rule.left != Some(0));
        let Some(rule) = due else { return Fault::None };
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        rule.fault.clone()
    }

    pub(super) fn note(&self, asked: Asked) {
        self.lock().asked.push(asked);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
