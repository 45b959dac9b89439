//! Which failure ends the program with which exit code. The only place that decides it.

use std::io;

use neco_connect::ConnectError;
use neco_plan::operator::Refusal;
use neco_process::config::ConfigError;
use neco_process::exit::{ExitCode, Failure};
use neco_store::StoreError;
use neco_vault::VaultError;

/// etcd did not do what it was asked.
pub fn of_store(error: StoreError) -> Failure {
    let (code, hint) = match &error {
        StoreError::Unreachable { .. } => (
            ExitCode::Unknown,
            Some(
                "look at etcd and at 'endpoints' in the configuration file; --timeout waits longer",
            ),
        ),
        StoreError::Unknown { .. } => {
            (ExitCode::Unknown, Some("'necoctl status' tells what became of it"))
        }
        StoreError::Compacted { .. } | StoreError::LeaseGone { .. } | StoreError::NotNow { .. } => {
            (ExitCode::Conflict, Some("try again"))
        }
        StoreError::Tls { .. }
        | StoreError::Unauthenticated { .. }
        | StoreError::PermissionDenied { .. }
        | StoreError::Options { .. }
        | StoreError::FutureRevision { .. }
        | StoreError::DuplicateKey
        | StoreError::TooManyOperations { .. }
        | StoreError::TooLarge { .. }
        | StoreError::NoSpace { .. }
        | StoreError::MemberExists
        | StoreError::MemberGone
        | StoreError::Refused { .. }
        | StoreError::Malformed { .. } => (ExitCode::No, None),
    };
    let failure = match error {
        // The text has what was heard; the causes beneath only say it again at length.
        StoreError::Unreachable { .. } | StoreError::Unknown { .. } => {
            Failure::new(code, anyhow::anyhow!("{error}"))
        }
        error => Failure::new(code, error),
    };
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// An order is not carried out. That it is so already is no failure and is not asked here.
pub fn of_refusal(refusal: Refusal) -> Failure {
    let code = match &refusal {
        Refusal::AlreadySo(_) => ExitCode::Done,
        Refusal::Absent(_) => ExitCode::NothingYet,
        Refusal::Unsafe(_) => ExitCode::Refused,
        // The deadline of the wait has passed.
        Refusal::NotYet { .. } => ExitCode::Unknown,
    };
    Failure::new(code, refusal)
}

/// Somebody else was faster, again and again.
pub fn conflict() -> Failure {
    Failure::new(
        ExitCode::Conflict,
        anyhow::anyhow!("somebody else changes the same records at the same time"),
    )
    .with_hint("try again; 'necoctl status' tells how it stands")
}

/// There is nothing to be shown yet.
pub fn nothing_yet(what: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::NothingYet, anyhow::anyhow!("{what}"))
}

/// Says what to do about a file that may not be read or written, where nobody has said it.
#[must_use]
pub fn with_rights(failure: Failure) -> Failure {
    let causes = failure.error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let denied = causes.into_iter().any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
    if failure.hint.is_some() || !denied {
        return failure;
    }
    failure.with_hint("run it as root, or as somebody who may do that")
}

/// The command line asks for something that cannot be.
pub fn usage(what: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Usage, anyhow::anyhow!("{what}"))
}

/// A stored record cannot be read.
pub fn malformed(key: impl std::fmt::Display, error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::No, anyhow::anyhow!("key {key}: {error}"))
        .with_hint("put a right value there or delete the key")
}

/// The configuration file cannot be used.
pub fn of_config(error: ConfigError) -> Failure {
    Failure::new(ExitCode::No, error)
}

/// What the configuration file says does not make a connection.
pub fn of_connect(error: ConnectError) -> Failure {
    match error {
        ConnectError::Store(error) => of_store(error),
        ConnectError::Config(error) => of_config(error),
    }
}

/// Vault did not do what it was asked.
pub fn of_vault(error: VaultError) -> Failure {
    let code = match &error {
        VaultError::Deadline { .. } => ExitCode::Unknown,
        _ => ExitCode::No,
    };
    Failure::new(code, error).with_hint("'journalctl -u vault' tells what Vault says itself")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use neco_schema::{LeaseId, Lrn, Revision};

    use super::*;

    #[test]
    fn every_refusal_has_the_code_of_the_design() {
        let not_yet = Refusal::NotYet { what: "w".into(), servers: vec![Lrn::new(1)] };
        for (refusal, code) in [
            (Refusal::AlreadySo("so".into()), 0),
            (Refusal::Absent("none".into()), 3),
            (Refusal::Unsafe("--force".into()), 5),
            (not_yet, 2),
        ] {
            let text = refusal.to_string();
            let failure = of_refusal(refusal);
            assert_eq!(failure.code as u8, code, "{text}");
            assert!(failure.to_string().contains(&text));
        }
    }

    #[test]
    fn who_may_not_is_told_who_may() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let within = anyhow::Error::from(denied()).context("reading /x");
        let failure = with_rights(Failure::from(within));
        assert!(failure.hint.is_some_and(|hint| hint.contains("as root")));
        let said = Failure::from(denied()).with_hint("ask bob");
        assert_eq!(with_rights(said).hint.as_deref(), Some("ask bob"));
        let other = Failure::from(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(with_rights(other).hint, None);
    }

    #[test]
    fn every_store_error_has_the_code_of_the_design() {
        let endpoint = || "http://e:2379".to_owned();
        for (error, code) in [
            (
                StoreError::Unreachable {
                    endpoints: vec![endpoint()],
                    within: Duration::from_secs(1),
                    reason: String::new(),
                    source: None,
                },
                2,
            ),
            (StoreError::Unknown { endpoints: vec![], reason: String::new(), source: None }, 2),
            (StoreError::Compacted { revision: Revision(1) }, 4),
            (StoreError::LeaseGone { lease: LeaseId(1) }, 4),
            (StoreError::PermissionDenied { endpoint: endpoint(), user: None }, 1),
            (StoreError::NoSpace { endpoint: endpoint() }, 1),
            (StoreError::Malformed { key: "k".into(), reason: "r".into() }, 1),
        ] {
            assert_eq!(of_store(error.clone()).code as u8, code, "{error}");
        }
    }
}
