//! `audit`: whether what happened keeps the invariants of the update protocol.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use neco_plan::View;
use neco_plan::invariants::{Auditor, Feed};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::Lrn;
use neco_schema::journal::Mark;

use crate::audit::report::{AuditReport, nothing};
use crate::audit::{history, journals, rules};
use crate::cli::duration;
use crate::failure;
use crate::session::Session;

/// Look whether everything that has happened keeps the invariants of the update protocol.
///
/// Reads the history that etcd still has, the journal of this server, and copies of those of other servers; changes
/// nothing. Ends with 1 and names the first invariant that does not hold, with the revision. docs/invariants.md
/// lists them.
#[derive(Debug, Args)]
pub struct Audit {
    /// Read a copy of the directory /var/lib/neco/journal of another server as well; may be given for each
    #[arg(long = "journal", value_name = "LRN=DIR", value_parser = journals::argument)]
    journals: Vec<(Lrn, PathBuf)>,
    /// How long reading the history may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    within: Duration,
}

impl Audit {
    /// Looks.
    ///
    /// # Errors
    /// A journal cannot be read; etcd does not answer; there is no history.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        // Before the history: what they have seen is in it, then.
        let mut journals = journals::read(&session.root, &self.journals)?;
        let present = session.store.read(&history::everything(), None).await;
        let present = present.map_err(failure::of_store)?;
        let found = Mark { cluster_id: present.cluster_id, revision: present.revision, epoch: 0 };
        journals.read.iter_mut().for_each(|journal| journal.place(found));
        let rules = rules(&session.root, &present);
        let begin = |beginning: Option<&neco_schema::Snapshot>| {
            let rules = rules.clone();
            let mut feed = Feed::new(match beginning {
                Some(beginning) => Auditor::start_from(beginning, rules),
                None => Auditor::new(rules),
            });
            for journal in &journals.read {
                feed.add_journal(journal.lrn, &journal.lines, journal.begin);
            }
            feed
        };
        let store = session.store.as_ref();
        let (feed, extent) = history::replay(store, &present, self.within, begin).await?;
        let (report, tallies) = feed.finish(extent.present);
        let view = View::assemble(&present);
        let report = AuditReport::new(&report, extent, &journals, &tallies, &view);
        if report.is_empty() {
            return Err(failure::nothing_yet(nothing(extent)));
        }
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&report)?;
        } else {
            write!(io.out, "{}", report.text())?;
        }
        Ok(if report.holds { ExitCode::Done } else { ExitCode::No })
    }
}
