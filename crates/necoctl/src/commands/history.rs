//! `history`: what became of past updates, and what operators ordered.

use std::time::Duration;

use clap::Args;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::{
    HistoryRecord, HistoryServer, Key, OrderNote, Record, RequestId, Snapshot, Timestamp,
};
use serde::Serialize;

use crate::failure;
use crate::session::Session;
use crate::status::StepNames;
use crate::words::{moment, one_line, span, table};

/// Show past updates, one of them step by step, or what operators ordered.
///
/// The newest is the last. An update is named by its id, or by the beginning of it.
#[derive(Debug, Args)]
pub struct History {
    /// Show the last N only
    #[arg(long, value_name = "N", conflicts_with = "id")]
    last: Option<usize>,
    /// Show who ordered what and why, instead of updates
    #[arg(long, conflicts_with = "id")]
    orders: bool,
    /// The id of an update, or the beginning of one
    id: Option<String>,
}

/// One past update, as JSON.
#[derive(Clone, Debug, Serialize)]
struct Entry {
    started_at: Timestamp,
    id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<HistoryRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<HistoryServer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl History {
    /// Shows it.
    ///
    /// # Errors
    /// There is none; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (snapshot, _) = session.look().await?;
        if self.orders {
            return self.orders(session, &snapshot);
        }
        let mut entries = entries(&snapshot);
        for problem in entries.iter().flat_map(|entry| &entry.problems) {
            session.io.remark(format_args!("warning: {problem}"));
        }
        let malformed = entries.iter().any(|entry| !entry.problems.is_empty());
        match &self.id {
            Some(id) => {
                entries.retain(|entry| entry.id.as_str().starts_with(id.as_str()));
                let entry = match entries.as_slice() {
                    [] => {
                        let what = format!("no update in the history has the id {id}");
                        return Err(failure::nothing_yet(one_line(&what)));
                    }
                    [entry] => entry,
                    several => {
                        let what = format!("{} updates have an id like {id}", several.len());
                        return Err(failure::usage(one_line(&what)).with_hint("give more of it"));
                    }
                };
                show(session, entry)?;
            }
            None => {
                let last = self.last.unwrap_or(usize::MAX);
                let entries = &entries[entries.len().saturating_sub(last)..];
                list(session, entries)?;
            }
        }
        Ok(if malformed { ExitCode::No } else { ExitCode::Done })
    }
}

/// One order, as JSON.
#[derive(Clone, Debug, Serialize)]
struct Given {
    at: Timestamp,
    #[serde(flatten)]
    note: OrderNote,
}

impl History {
    fn orders(
        &self,
        session: &mut Session<'_, '_>,
        snapshot: &Snapshot,
    ) -> Result<ExitCode, Failure> {
        let mut given = Vec::new();
        let mut code = ExitCode::Done;
        for kv in snapshot.kvs.values() {
            let Ok(Key::Order(at)) = kv.key.parse() else { continue };
            match OrderNote::decode(&kv.value) {
                Ok(note) => given.push(Given { at, note }),
                Err(error) => {
                    let text = format!("warning: key {}: {error}; delete the key", kv.key);
                    session.io.remark(one_line(&text));
                    code = ExitCode::No;
                }
            }
        }
        // The fixed form of times sorts as the times do.
        let given = &given[given.len().saturating_sub(self.last.unwrap_or(usize::MAX))..];
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "orders": given }))?;
        } else if given.is_empty() {
            io.line("Nothing was ordered.")?;
        } else {
            let mut rows = vec![["AT", "BY", "ORDER", "REASON"].map(str::to_owned).to_vec()];
            rows.extend(given.iter().map(|Given { at, note }| {
                vec![moment(*at), one_line(&note.by), one_line(&note.order), one_line(&note.reason)]
            }));
            write!(io.out, "{}", table(&rows))?;
        }
        Ok(code)
    }
}

/// The whole history, the oldest first.
fn entries(snapshot: &Snapshot) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for kv in snapshot.kvs.values() {
        let (at, id, server) = match kv.key.parse() {
            Ok(Key::History(at, id)) => (at, id, false),
            Ok(Key::HistoryServer(at, id, _)) => (at, id, true),
            _ => continue,
        };
        let known = entries.iter().position(|entry| entry.started_at == at && entry.id == id);
        let index = known.unwrap_or_else(|| {
            let (record, servers, problems) = (None, Vec::new(), Vec::new());
            entries.push(Entry { started_at: at, id, record, servers, problems });
            entries.len() - 1
        });
        let entry = &mut entries[index];
        let decoded = if server {
            HistoryServer::decode(&kv.value).map(|part| entry.servers.push(part))
        } else {
            HistoryRecord::decode(&kv.value).map(|record| entry.record = Some(record))
        };
        if let Err(error) = decoded {
            let text = format!("key {}: {error}; delete the key", kv.key);
            entry.problems.push(one_line(&text));
        }
    }
    entries.sort_by_key(|entry| entry.started_at);
    for entry in &mut entries {
        entry.servers.sort_by_key(|part| part.lrn);
    }
    entries
}

fn took(from: Timestamp, to: Timestamp) -> String {
    u64::try_from(to.seconds_since(from))
        .map_or_else(|_| "-".to_owned(), |seconds| span(Duration::from_secs(seconds)))
}

fn list(session: &mut Session<'_, '_>, entries: &[Entry]) -> Result<(), Failure> {
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&serde_json::json!({ "format": 1, "history": entries }))?;
        return Ok(());
    }
    if entries.is_empty() {
        io.line("The history is empty.")?;
        return Ok(());
    }
    let title = ["BEGUN", "ID", "VERSION", "KIND", "OUTCOME", "TOOK", "ENDED BY", "CAUSE"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    for entry in entries {
        let begun = moment(entry.started_at);
        let id = one_line(entry.id.as_str());
        rows.push(match &entry.record {
            Some(record) => vec![
                begun,
                id,
                record.version.to_string(),
                kind(record),
                record.outcome.to_string(),
                took(record.started_at, record.ended_at),
                one_line(&record.by),
                one_line(&record.cause),
            ],
            // Its members have begun to write, and it has not ended.
            None => vec![begun, id, "-".into(), "-".into(), "not ended".into()],
        });
    }
    write!(io.out, "{}", table(&rows))?;
    Ok(())
}

fn kind(record: &HistoryRecord) -> String {
    if record.kind.is_empty() { "by the original".to_owned() } else { one_line(&record.kind) }
}

fn show(session: &mut Session<'_, '_>, entry: &Entry) -> Result<(), Failure> {
    let names = StepNames::read(&session.root);
    let io = &mut *session.io;
    if io.is_json() {
        io.json(&serde_json::json!({ "format": 1, "update": entry }))?;
        return Ok(());
    }
    let mut rows = vec![vec!["Update".to_owned(), one_line(entry.id.as_str())]];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("Begun", moment(entry.started_at));
    if let Some(record) = &entry.record {
        let servers: Vec<String> = record.servers.iter().map(ToString::to_string).collect();
        row("Version", record.version.to_string());
        row("Kind", kind(record));
        row("Servers", servers.join(", "));
        let took = took(record.started_at, record.ended_at);
        row("Ended", format!("{} (took {took})", moment(record.ended_at)));
        row("Outcome", record.outcome.to_string());
        row("Ended by", one_line(&record.by));
        if !record.cause.is_empty() {
            row("Cause", one_line(&record.cause));
        }
        if let Some(origin) = &record.origin {
            let cause = one_line(&origin.cause);
            row("Origin", format!("boot server {} in step {}: {cause}", origin.lrn, origin.step));
        }
        for notice in &record.notices {
            row("Notice", format!("{} at {}", one_line(&notice.to), moment(notice.at)));
        }
    } else {
        row("Outcome", "not ended".to_owned());
    }
    write!(io.out, "{}", table(&rows))?;
    for part in &entry.servers {
        io.line(format_args!("\nBoot server {}", part.lrn))?;
        let mut rows = Vec::new();
        for step in &part.steps {
            let name = names.as_ref().and_then(|names| names.name(step.step)).unwrap_or("");
            let took =
                step.ended.map_or_else(|| "not ended".to_owned(), |ended| took(step.begun, ended));
            rows.push(vec![format!("  {}", step.step), name.to_owned(), moment(step.begun), took]);
        }
        write!(io.out, "{}", table(&rows))?;
    }
    Ok(())
}
