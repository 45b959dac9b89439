//! Carries orders out: looks, decides, commits; looks again when somebody else was faster.

use neco_plan::View;
use neco_plan::operator::{Order, Refusal};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::{Key, Op, Revision, Snapshot, Txn};
use neco_store::Committed;
use serde::Serialize;

use crate::cli::{Change, Style};
use crate::failure;
use crate::io::WOULD_BE_DONE;
use crate::session::Session;
use crate::words::one_line;

/// How often an order is decided anew from a fresh view, before somebody has to look into it.
const TRIES: usize = 5;

/// Decides an order: the transaction, or the rule that forbids it.
pub type Decide<'d> = dyn Fn(&View, &Snapshot, &Order) -> Result<Txn, Refusal> + 'd;

/// What became of an order.
#[derive(Debug)]
pub enum Outcome {
    /// It was carried out.
    Done {
        /// From which view.
        view: Box<View>,
        /// At which revision.
        revision: Revision,
        /// What was written.
        writes: Vec<Write>,
    },
    /// It would be carried out.
    Planned {
        /// From which view.
        view: Box<View>,
        /// What would be written.
        writes: Vec<Write>,
    },
    /// It is not carried out.
    Refused(Refusal),
}

/// One write of a transaction, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// A key is set.
    Put {
        /// Which.
        key: String,
        /// To what; stars for a secret.
        value: String,
    },
    /// A key is deleted.
    Delete {
        /// Which.
        key: String,
    },
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put { key, value } => write!(f, "put    {key} {value}"),
            Self::Delete { key } => write!(f, "delete {key}"),
        }
    }
}

/// What `txn` does to what `snapshot` holds. Deleting what is not there is nothing.
pub fn writes(txn: &Txn, snapshot: &Snapshot) -> Vec<Write> {
    let mut writes = Vec::new();
    for op in &txn.ops {
        match op {
            Op::Put { key, value, .. } => {
                let text = one_line(&String::from_utf8_lossy(value));
                let value = match key.parse::<Key>() {
                    Ok(Key::Config(setting)) => setting.concealed(&text),
                    Ok(key) if !key.is_secret() => text,
                    _ => "***".to_owned(),
                };
                writes.push(Write::Put { key: key.clone(), value });
            }
            Op::Delete(range) => {
                let there = snapshot.kvs.keys().filter(|key| range.contains(key));
                writes.extend(there.map(|key| Write::Delete { key: key.clone() }));
            }
        }
    }
    writes
}

/// Asks for an order and carries it out, unless it is a rehearsal.
///
/// # Errors
/// etcd does not answer, or somebody else changes the same records again and again.
pub async fn attempt(
    session: &Session<'_, '_>,
    change: &Change,
    decide: &Decide<'_>,
) -> Result<Outcome, Failure> {
    for _ in 0..TRIES {
        let (snapshot, view) = session.look().await?;
        let txn = match decide(&view, &snapshot, &session.order(change)) {
            Ok(txn) => txn,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let view = Box::new(view);
        let writes = writes(&txn, &snapshot);
        if change.dry_run {
            return Ok(Outcome::Planned { view, writes });
        }
        match session.store.commit(&txn).await.map_err(failure::of_store)? {
            Committed::Done(revision) => return Ok(Outcome::Done { view, revision, writes }),
            Committed::Refused => {}
        }
    }
    Err(failure::conflict())
}

/// Asks for an order, carries it out and tells what came of it; `said` words what was done, from the view before it.
///
/// # Errors
/// As [`attempt`], and a refusal.
pub async fn carry_out(
    session: &mut Session<'_, '_>,
    change: &Change,
    decide: &Decide<'_>,
    said: &dyn Fn(&View) -> String,
) -> Result<ExitCode, Failure> {
    let outcome = attempt(session, change, decide).await?;
    tell(session, outcome, said)
}

/// Tells what came of an order.
///
/// # Errors
/// It was refused.
pub fn tell(
    session: &mut Session<'_, '_>,
    outcome: Outcome,
    said: &dyn Fn(&View) -> String,
) -> Result<ExitCode, Failure> {
    let told = match outcome {
        Outcome::Done { view, revision, writes } => Told {
            format: 1,
            outcome: "done",
            message: said(&view),
            revision: Some(revision.0),
            writes,
        },
        Outcome::Planned { view, writes } => {
            Told { format: 1, outcome: "planned", message: said(&view), revision: None, writes }
        }
        Outcome::Refused(Refusal::AlreadySo(message)) => {
            Told { format: 1, outcome: "unchanged", message, revision: None, writes: Vec::new() }
        }
        Outcome::Refused(refusal) => return Err(failure::of_refusal(refusal)),
    };
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&told)?;
    } else if told.outcome == "planned" {
        io.line(WOULD_BE_DONE)?;
        for write in &told.writes {
            io.line(format_args!("  {write}"))?;
        }
    } else if io.style == Style::Ours {
        let unchanged = if told.outcome == "unchanged" { "unchanged: " } else { "" };
        io.line(format_args!("{unchanged}{}", told.message))?;
    }
    Ok(ExitCode::Done)
}

/// What came of an order, as JSON.
#[derive(Debug, Serialize)]
struct Told {
    format: u32,
    outcome: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    writes: Vec<Write>,
}

#[cfg(test)]
mod tests {
    use neco_schema::KeyValue;

    use super::*;

    #[test]
    fn a_rehearsal_shows_what_is_there_to_be_deleted_and_no_secret() {
        let kv = |key: &str| {
            let kv = KeyValue {
                key: key.to_owned(),
                value: b"v".to_vec(),
                create_revision: Revision(1),
                mod_revision: Revision(1),
                version: 1,
                lease: None,
            };
            (key.to_owned(), kv)
        };
        let snapshot = Snapshot {
            revision: Revision(1),
            cluster_id: 1,
            kvs: [kv("status/current"), kv("status/bootservers/0"), kv("install/1/debs/x")].into(),
        };
        let txn = Txn::default()
            .then(Op::delete_prefix("status/"))
            .then(Op::delete_prefix("contents/"))
            .then(Op::put_bytes(&Key::Config(neco_schema::ConfigKey::GithubToken), "hunter2"))
            .then(Op::put_bytes(&Key::Config(neco_schema::ConfigKey::Env), "prod\n"));
        let shown: Vec<String> = writes(&txn, &snapshot).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "delete status/bootservers/0",
                "delete status/current",
                "put    config/github-token ***",
                "put    config/env prod",
            ]
        );
    }
}
