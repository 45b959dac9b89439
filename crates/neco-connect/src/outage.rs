//! A time without etcd, told once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use neco_schema::Severity;
use neco_store::StoreError;

use crate::one_line;

/// Tells when etcd ceases to answer and when it answers again, each once, however often it is asked in between.
#[derive(Debug, Default)]
pub struct Outage {
    /// What was said about the present outage; empty while etcd answers.
    said: Mutex<BTreeSet<String>>,
}

impl Outage {
    /// etcd did not answer, or refused: logged unless that was said since it last answered. Gives the line.
    pub fn failed(&self, error: &StoreError) -> String {
        let line = trouble(error);
        // The endpoint tried last and what it said differ from try to try; only what a person has to do counts.
        let kind = match error {
            StoreError::Tls { remedy, .. } => (*remedy).to_owned(),
            StoreError::Unauthenticated { reason, .. } => reason.clone(),
            StoreError::PermissionDenied { .. } => "permission".to_owned(),
            error if error.severity() == Severity::TryAgain => String::new(),
            _ => line.clone(),
        };
        if self.said().insert(kind) {
            tracing::warn!("{line}");
        }
        line
    }

    /// etcd answered.
    pub fn answered(&self) {
        let mut said = self.said();
        if !said.is_empty() {
            said.clear();
            tracing::info!("etcd answers again");
        }
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with etcd and what to do about it, in one line.
fn trouble(error: &StoreError) -> String {
    match error {
        // The text has what was heard; the causes beneath only say it again at length.
        StoreError::Unreachable { .. } | StoreError::Unknown { .. } => {
            format!("{error}; start etcd, or correct 'endpoints' in the configuration file")
        }
        error => one_line(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn unreachable(reason: &str) -> StoreError {
        StoreError::Unreachable {
            endpoints: vec!["http://10.69.0.3:2379".to_owned()],
            within: Duration::from_secs(2),
            reason: reason.to_owned(),
            source: None,
        }
    }

    #[test]
    fn one_outage_is_said_once_though_its_words_change() {
        let outage = Outage::default();
        let line = outage.failed(&unreachable("connection refused"));
        assert!(line.contains("10.69.0.3") && line.contains("'endpoints'"), "{line}");
        outage.failed(&unreachable("no route to host"));
        let lost = StoreError::Unknown { endpoints: vec![], reason: String::new(), source: None };
        outage.failed(&lost);
        assert_eq!(outage.said().len(), 1);
        outage.answered();
        assert!(outage.said().is_empty());
        outage.failed(&unreachable("connection refused"));
        assert_eq!(outage.said().len(), 1);
    }

    #[test]
    fn what_a_person_has_to_mend_is_said_beside_it() {
        let outage = Outage::default();
        outage.failed(&unreachable("connection refused"));
        let full = StoreError::NoSpace { endpoint: "http://10.69.0.3:2379".to_owned() };
        outage.failed(&full);
        outage.failed(&full);
        assert_eq!(outage.said().len(), 2);
        for endpoint in ["https://10.69.0.3:2379", "https://10.69.0.195:2379"] {
            let (endpoint, remedy) = (endpoint.to_owned(), "set tls-ca-file");
            outage.failed(&StoreError::Tls {
                endpoint,
                reason: "UnknownIssuer".to_owned(),
                remedy,
            });
        }
        assert_eq!(outage.said().len(), 3, "of several members the first is named");
    }
}
