//! When the steps of the current request began and ended here; for the history.

use neco_schema::{
    HistoryServer, Key, Lrn, Range, Record, RequestId, StepTimes, Timestamp, UpdateRequest,
};
use neco_store::{Store, StoreError};

/// The times of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    request: Option<RequestId>,
    steps: Vec<StepTimes>,
}

impl Times {
    /// Goes on from what stands in etcd for `request`, unless that is known.
    ///
    /// # Errors
    /// etcd does not answer.
    pub(crate) async fn follow(
        &mut self,
        store: &dyn Store,
        request: &UpdateRequest,
        lrn: Lrn,
    ) -> Result<(), StoreError> {
        if self.request.as_ref() == Some(&request.id()) {
            return Ok(());
        }
        let key = Key::HistoryServer(request.started_at, request.id(), lrn);
        let snapshot = store.read(&[Range::from(&key)], None).await?;
        let written =
            snapshot.kvs.values().next().and_then(|kv| HistoryServer::decode(&kv.value).ok());
        *self = Self {
            request: Some(request.id()),
            steps: written.map(|part| part.steps).unwrap_or_default(),
        };
        Ok(())
    }

    /// The times as they will be once `step` is posted at `now`; a closing status ends the last step.
    pub(crate) fn after(&self, step: u32, closing: bool, now: Timestamp) -> Vec<StepTimes> {
        let mut steps = self.steps.clone();
        let begins = !closing && steps.last().is_none_or(|last| last.step < step);
        if let Some(last) =
            steps.last_mut().filter(|last| last.ended.is_none() && (begins || closing))
        {
            last.ended = Some(now);
        }
        if begins {
            steps.push(StepTimes { step, begun: now, ended: None, unknown: Default::default() });
        }
        steps
    }

    /// They are so.
    pub(crate) fn set(&mut self, steps: Vec<StepTimes>) {
        self.steps = steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posted_step_ends_the_one_before() {
        let at = Timestamp::from_unix;
        let mut times = Times::default();
        times.set(times.after(1, false, at(10)));
        times.set(times.after(2, false, at(20)));
        times.set(times.after(2, true, at(30)));
        let expected = [(1, at(10), Some(at(20))), (2, at(20), Some(at(30)))];
        let have: Vec<_> = times.steps.iter().map(|s| (s.step, s.begun, s.ended)).collect();
        assert_eq!(have, expected);
    }
}
