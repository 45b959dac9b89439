//! Answers what an update would change here, as `necoctl plan` asks.

mod package;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_components::Recipe;
use neco_connect::one_line;
use neco_schema::{
    Compare, Key, LeaseId, NecoVersion, Op, Preview, PreviewQuestion, Range, Record, Snapshot, Txn,
    prefixes,
};
use neco_store::{Committed, Follower, Store, StoreError};

pub use package::{PREVIEWS, PreviewPackages};

use crate::steps::{StepHost, dry_run};

/// Delays after something did not work.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// How long one answer may take, with a package to be fetched; whoever asks has given up by then.
const WITHIN: Duration = Duration::from_secs(600);
/// What of its time whoever asks leaves for the answer to arrive; a look has at least as much.
const TO_ANSWER: Duration = Duration::from_secs(2);
/// What etcd takes in one request is 1.5 MiB; an answer beyond this is told without the content of files.
const LARGEST: usize = 1 << 20;

/// Answers questions about what an update would change on this server.
pub struct Previewer {
    host: Arc<StepHost>,
    recipe: Recipe,
    running: NecoVersion,
    packages: PreviewPackages,
}

impl Previewer {
    /// Answers from `recipe`, that of the version that is `running`, and from packages of others.
    pub fn new(
        host: Arc<StepHost>,
        recipe: Recipe,
        running: NecoVersion,
        packages: PreviewPackages,
    ) -> Self {
        Self { host, recipe, running, packages }
    }

    /// Answers for as long as it runs. Nothing that etcd, the disk or a question does ends it.
    pub async fn run(&self) {
        let questions = vec![Range::Prefix(prefixes::PREVIEW.to_owned())];
        let mut follower = Follower::new(Arc::clone(self.store()), questions.clone());
        let mut retry = TRY_AGAIN.retry();
        let mut seen = BTreeSet::new();
        loop {
            follower.changed().await;
            while let Err(error) = self.answer_all(&questions, &mut seen).await {
                tracing::debug!(error = %one_line(&error), "a question about an update waits");
                tokio::time::sleep(retry.pause()).await;
            }
            retry.reset();
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.host.shared.store
    }

    /// Answers every question that was not `seen` yet and has no answer of this server, one after another.
    async fn answer_all(
        &self,
        questions: &[Range],
        seen: &mut BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        loop {
            let snapshot = self.store().read(questions, None).await?;
            let standing: BTreeSet<u64> = standing(&snapshot).collect();
            seen.retain(|lease| standing.contains(lease));
            let next = standing.into_iter().find(|lease| {
                let answer = Key::PreviewAnswer(*lease, self.host.about.lrn).to_string();
                !snapshot.kvs.contains_key(&answer) && !seen.contains(lease)
            });
            let Some(lease) = next else { return Ok(()) };
            let question = &snapshot.kvs[&Key::Preview(lease).to_string()];
            match PreviewQuestion::decode(&question.value) {
                Ok(question) if question.servers.contains(&self.host.about.lrn) => {
                    self.answer(lease, &question).await?;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(key = %question.key, %error, "this question cannot be read; delete the key");
                }
            }
            seen.insert(lease);
        }
    }

    async fn answer(&self, lease: u64, question: &PreviewQuestion) -> Result<(), StoreError> {
        tracing::info!(by = %question.by, version = %question.version, "asked what an update would change");
        let mut look = std::pin::pin!(self.look(question));
        let limit = limit(question.within);
        let looked = tokio::time::timeout(limit, look.as_mut()).await;
        // Whoever is away is asked again without end; that is known as long as somebody still asks.
        let waits_for = self.host.shared.waits_for().borrow().clone();
        let answer = looked.unwrap_or_else(|_| {
            let why = if waits_for.is_empty() { waits_for } else { format!(": {waits_for}") };
            self.failed(format!("no answer within {limit:?}{why}"))
        });
        let (asked, key) = (Key::Preview(lease), Key::PreviewAnswer(lease, self.host.about.lrn));
        // Ids of leases are positive.
        let lease = LeaseId(i64::try_from(lease).unwrap_or_default());
        let txn = Txn::default()
            .when(Compare::exists(&asked))
            .then(Op::put(&key, &within(answer, LARGEST)).with_lease(lease));
        match self.store().commit(&txn).await {
            Ok(Committed::Done(_) | Committed::Refused) => Ok(()),
            // Whoever asked has gone meanwhile.
            Err(StoreError::LeaseGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, error: String) -> Preview {
        let (running, unknown) = (self.running.clone(), serde_json::Map::new());
        Preview { running, recipe: None, steps: Vec::new(), groups: Vec::new(), error, unknown }
    }

    async fn look(&self, question: &PreviewQuestion) -> Preview {
        let looked = if question.version == self.running {
            self.through(&self.recipe, question, None).await
        } else {
            match self.packages.unpacked(&question.version).await {
                Ok(unpacked) => {
                    self.through(&unpacked.recipe, question, Some(unpacked.folder())).await
                }
                Err(why) => Err(why),
            }
        };
        looked.unwrap_or_else(|why| self.failed(why))
    }

    async fn through(
        &self,
        recipe: &Recipe,
        question: &PreviewQuestion,
        package: Option<&Path>,
    ) -> Result<Preview, String> {
        let previewed = dry_run(recipe, &self.host, question, package).await;
        let previewed = previewed.map_err(|error| one_line(&error))?;
        Ok(Preview {
            running: self.running.clone(),
            recipe: Some(recipe.digest().clone()),
            steps: previewed.steps,
            groups: previewed.groups,
            error: String::new(),
            unknown: serde_json::Map::new(),
        })
    }
}

/// How long this server looks for somebody who waits so many seconds: who has given up learns no cause, and keeps others
/// waiting.
fn limit(waits: Option<u64>) -> Duration {
    let Some(waits) = waits.map(Duration::from_secs) else { return WITHIN };
    WITHIN.min(waits.saturating_sub(TO_ANSWER).max(TO_ANSWER))
}

/// The questions that stand there, by lease.
fn standing(snapshot: &Snapshot) -> impl Iterator<Item = u64> {
    snapshot.kvs.keys().filter_map(|key| match key.parse() {
        Ok(Key::Preview(lease)) => Some(lease),
        _ => None,
    })
}

/// The answer, without the content of files where it is too large with it.
fn within(mut answer: Preview, largest: usize) -> Preview {
    if answer.encode().len() > largest {
        for change in answer.steps.iter_mut().flat_map(|step| &mut step.changes) {
            if !change.diff.is_empty() {
                change.diff = "(too much to be shown)\n".to_owned();
            }
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_before_he_gives_up() {
        let limit = |seconds| limit(Some(seconds)).as_secs();
        assert_eq!((limit(60), limit(600), limit(86_400)), (58, 598, 600));
        assert_eq!((limit(3), limit(0)), (2, 2), "a look takes its time");
        assert_eq!(super::limit(None), WITHIN);
    }
}
