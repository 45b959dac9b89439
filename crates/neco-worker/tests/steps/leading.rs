//! What a leader does with an update, and an operator with one that was aborted: by the very functions that theirs are made of.

use neco_plan::operator::{self, Order, Recovery, Refusal};
use neco_plan::{
    Action, Elapsed, LeaderContext, Limits, View, Waiting, Window, next_action, publish_release,
};
use neco_schema::{Compare, Key, NecoVersion, Timestamp, UpdateRequest};
use neco_store::{Committed, Store as _};

use crate::cluster::Cluster;

impl Cluster {
    /// A leader that nobody disputes.
    fn leader(&self) -> LeaderContext {
        LeaderContext {
            leadership: Compare::absent(&Key::Withdrawn("2000.01.01-1".parse().unwrap())),
            now: self.now(),
            host: "boot-0".to_owned(),
            package: None,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.later())
    }

    /// A release is out.
    pub(crate) async fn release(&self, version: &NecoVersion) {
        let out = publish_release(&self.view(), &self.leader(), version);
        if let Some(out) = out {
            let committed = self.store.commit(&out).await.unwrap();
            assert!(matches!(committed, Committed::Done(_)), "{committed:?}");
        }
    }

    /// The leader acts until it waits, and this is so.
    async fn leads_until(&self, what: &str, is_so: impl Fn(&View, &Waiting) -> bool) {
        let hour = std::time::Duration::from_secs(3600);
        let limits = Limits { request: hour, step: hour, window: Window::Open, probes: Vec::new() };
        let context = self.leader();
        let mut told = String::new();
        self.until(what, async || {
            let view = self.view();
            let action = next_action(&view, &limits, &Elapsed::default());
            // Shown where a test fails.
            if told != format!("{action:?}") {
                told = format!("{action:?}");
                println!("leader: {told}");
            }
            match (action.txn(&view, &context), &action) {
                (None, Action::Wait(waiting)) => return is_so(&view, waiting),
                (None, other) => panic!("{other:?} writes nothing"),
                // One that somebody came before is decided anew.
                (Some(txn), _) => drop(self.store.commit(&txn).await.unwrap()),
            }
            false
        })
        .await;
    }

    /// The leader asks for the version that is due; all servers complete it.
    pub(crate) async fn leads_to_the_end(&self, version: &NecoVersion) -> UpdateRequest {
        let asked = |view: &View, _: &Waiting| {
            view.current().is_some_and(|request| !request.stop && request.version == *version)
        };
        self.leads_until("the leader asks for it", asked).await;
        let request = self.view().current().expect("a request").clone();
        self.completed(&request).await;
        request
    }

    /// The leader stops what was aborted and does nothing more about it, though the cause is gone: not before an operator
    /// says `necoctl recover --retry`. Then it asks for the same version again, and all servers complete it.
    pub(crate) async fn recovers(&mut self) -> UpdateRequest {
        self.release(&self.version).await;
        let recovery = |_: &View, waiting: &Waiting| matches!(waiting, Waiting::Recovery { .. });
        self.leads_until("the leader waits for a recovery", recovery).await;
        let aborted = self.view().current().expect("a request").clone();
        let by = "operator@boot-0".to_owned();
        let order = Order { by, reason: "it was seen to".to_owned(), now: self.now() };
        let how = Recovery { retry: true, ..Recovery::default() };
        self.until("it is put away", async || match operator::recover(&self.view(), how, &order) {
            Ok(txn) => {
                matches!(self.store.commit(&txn).await.unwrap(), Committed::Done(_))
            }
            Err(Refusal::NotYet { .. }) => false,
            Err(refusal) => panic!("{refusal}"),
        })
        .await;
        assert_eq!(self.view().current(), None);
        let request = self.leads_to_the_end(&aborted.version.clone()).await;
        assert_ne!(request.id(), aborted.id());
        request
    }
}
