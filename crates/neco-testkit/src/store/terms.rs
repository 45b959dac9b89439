//! Cases of terms: standing for election, leading, and giving leadership back.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neco_store::{Candidate, Over, Stage, TermError};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Rig, WITHIN, all, cases, delete, eventually, one};

cases![
    a_term_told_to_stop_gives_leadership_back,
    a_term_whose_leader_broke_gives_leadership_back,
    a_candidate_told_to_stop_stands_no_more,
    a_candidate_that_was_taken_away_is_told,
];

/// Long enough that no lease ends by itself in a case.
const TTL: Duration = Duration::from_secs(60);

/// A term in the background, with what it was told.
struct Term {
    stop: CancellationToken,
    told: Arc<Mutex<Vec<Stage>>>,
    ended: JoinHandle<Result<(), TermError>>,
}

impl Term {
    fn begin<F>(rig: &Rig, host: &str, lead: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Over> + Send + 'static,
    {
        let candidate = Candidate {
            store: rig.store.clone(),
            election: "updater",
            value: host.to_owned(),
            session_ttl: TTL,
        };
        let (stop, told) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let ended = tokio::spawn({
            let (stop, told) = (stop.clone(), told.clone());
            async move {
                let tell = |stage| told.lock().expect("nobody panics").push(stage);
                candidate.term(&stop, tell, |_| lead()).await
            }
        });
        Self { stop, told, ended }
    }

    fn told(&self) -> Vec<Stage> {
        self.told.lock().expect("nobody panics").clone()
    }

    async fn until(&self, stage: Stage) {
        eventually("the term comes so far", async || self.told().contains(&stage).then_some(()))
            .await;
    }

    /// How the term ends, which is long before its lease does, and what it was told.
    async fn end(self) -> (Result<(), TermError>, Vec<Stage>) {
        let told = Arc::clone(&self.told);
        let ended = timeout(WITHIN, self.ended).await.expect("it ends in time").expect("no panic");
        let told = told.lock().expect("nobody panics").clone();
        (ended, told)
    }
}

async fn candidates(rig: &Rig) -> usize {
    rig.read(&[all("leader/updater//")]).await.kvs.len()
}

async fn a_term_told_to_stop_gives_leadership_back(rig: Rig) {
    let first = Term::begin(&rig, "boot-0", pending);
    first.until(Stage::Leads).await;
    let second = Term::begin(&rig, "boot-1", pending);
    second.until(Stage::Stands).await;
    assert_eq!(second.told(), [Stage::Stands], "another leads");
    first.stop.cancel();
    let (ended, told) = first.end().await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(told.last(), Some(&Stage::Ended));
    second.until(Stage::Leads).await;
    second.stop.cancel();
    let (_, told) = second.end().await;
    assert_eq!(told, [Stage::Stands, Stage::Leads, Stage::Ended]);
    assert_eq!(candidates(&rig).await, 0);
}

async fn a_term_whose_leader_broke_gives_leadership_back(rig: Rig) {
    let broke = async || Over::Broken("a part of it panicked".to_owned());
    let (ended, told) = Term::begin(&rig, "boot-0", broke).end().await;
    assert!(
        matches!(&ended, Err(TermError::Broken(why)) if why == "a part of it panicked"),
        "{ended:?}"
    );
    assert_eq!(told.last(), Some(&Stage::Ended));
    assert_eq!(candidates(&rig).await, 0);
}

async fn a_candidate_told_to_stop_stands_no_more(rig: Rig) {
    let leads = Term::begin(&rig, "boot-0", pending);
    leads.until(Stage::Leads).await;
    let waits = Term::begin(&rig, "boot-1", pending);
    waits.until(Stage::Stands).await;
    waits.stop.cancel();
    let (ended, told) = waits.end().await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(told, [Stage::Stands], "it never led");
    assert_eq!(candidates(&rig).await, 1);
    leads.stop.cancel();
    let _ = leads.end().await;
}

async fn a_candidate_that_was_taken_away_is_told(rig: Rig) {
    let leads = Term::begin(&rig, "boot-0", pending);
    leads.until(Stage::Leads).await;
    let waits = Term::begin(&rig, "boot-1", pending);
    waits.until(Stage::Stands).await;
    let keys = rig.read(&[all("leader/updater//")]).await.kvs;
    let waiting = keys.values().find(|kv| kv.value == b"boot-1").expect("it stands");
    rig.commit(&delete(one(&waiting.key))).await;
    // It looks again when who is before it goes.
    leads.stop.cancel();
    let _ = leads.end().await;
    let (ended, told) = waits.end().await;
    assert!(matches!(ended, Err(TermError::Campaign(_))), "{ended:?}");
    assert_eq!(told, [Stage::Stands]);
}
