//! Riding out an absence of systemd or of its bus: a call that was not answered is made again, as long as it takes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_connect::one_line;
use neco_schema::Severity;
use neco_systemd::{UnitError, UnitName, UnitState, Units};

/// Delays while systemd does not answer.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Units that are asked for again while systemd is away. A job that systemd took and that did not come to its end in time is
/// none of that: it stays an error.
pub struct PatientUnits {
    units: Arc<dyn Units>,
    say: Box<dyn Fn(&str) + Send + Sync>,
}

impl PatientUnits {
    /// The same units; `say` is told what is waited for, with nothing when that is over.
    pub fn new(units: Arc<dyn Units>, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { units, say: Box::new(say) }
    }

    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Result<T, UnitError>
    where
        F: Future<Output = Result<T, UnitError>>,
    {
        let mut retry = ASK_AGAIN.retry();
        let mut told = Told { say: &*self.say, why: String::new() };
        loop {
            let error = match call().await {
                Err(error) if is_away(&error) => error,
                outcome => {
                    if !told.why.is_empty() {
                        tracing::info!("systemd answers again");
                    }
                    return outcome;
                }
            };
            told.tell(one_line(&error));
            tokio::time::sleep(retry.pause()).await;
        }
    }
}

/// What was told to be waited for. That it is over is told however the wait ends, also where nobody waits any more.
struct Told<'a> {
    say: &'a (dyn Fn(&str) + Send + Sync),
    why: String,
}

impl Told<'_> {
    fn tell(&mut self, why: String) {
        if self.why != why {
            tracing::warn!(%why, "waiting for systemd");
            (self.say)(&why);
            self.why = why;
        }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.why.is_empty() {
            (self.say)("");
        }
    }
}

/// Whether an error says that nobody was there to be asked.
fn is_away(error: &UnitError) -> bool {
    error.severity() == Severity::TryAgain && !matches!(error, UnitError::TimedOut { .. })
}

#[async_trait]
impl Units for PatientUnits {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.insist(|| self.units.daemon_reload()).await
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.enable(unit)).await
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.disable(unit)).await
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.start(unit)).await
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.stop(unit)).await
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.restart(unit)).await
    }

    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.insist(|| self.units.reload(unit)).await
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        self.insist(|| self.units.start_transient(unit, argv)).await
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.insist(|| self.units.state(unit)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use neco_systemd::Job;

    use super::*;

    /// Units of a systemd that is away for a number of calls.
    struct Away {
        calls: AtomicU32,
        until: u32,
        then: fn() -> Result<(), UnitError>,
    }

    impl Away {
        fn answer(&self) -> Result<(), UnitError> {
            if self.calls.fetch_add(1, Ordering::Relaxed) < self.until {
                let (call, after) = ("start".to_owned(), Duration::from_secs(30));
                return Err(UnitError::NoAnswer { call, after });
            }
            (self.then)()
        }
    }

    #[async_trait]
    impl Units for Away {
        async fn daemon_reload(&self) -> Result<(), UnitError> {
            self.answer()
        }
        async fn enable(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn disable(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn start(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn stop(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn restart(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn reload(&self, _: &UnitName) -> Result<(), UnitError> {
            self.answer()
        }
        async fn start_transient(&self, _: &UnitName, _: &[String]) -> Result<(), UnitError> {
            self.answer()
        }
        async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
            self.answer()?;
            Err(UnitError::NotFound { unit: unit.clone(), job: Job::Start })
        }
    }

    fn vault() -> UnitName {
        "vault.service".parse().expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_answered_is_made_until_somebody_does() {
        let away = Away { calls: AtomicU32::new(0), until: 20, then: || Ok(()) };
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let units = PatientUnits::new(Arc::new(away), move |why: &str| {
            heard.lock().expect("no panic").push(why.to_owned());
        });
        units.start(&vault()).await.expect("it is there again");
        let said = said.lock().expect("no panic");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("start") && said[1].is_empty(), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_is_waited_for_no_more() {
        let away = Away { calls: AtomicU32::new(0), until: u32::MAX, then: || Ok(()) };
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let units = PatientUnits::new(Arc::new(away), move |why: &str| {
            heard.lock().expect("no panic").push(why.to_owned());
        });
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, units.start(&vault())).await.is_err());
        let said = said.lock().expect("no panic");
        assert!(said[0].contains("start"), "{said:?}");
        assert_eq!(said.last().map(String::as_str), Some(""), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_systemd_says_itself_is_passed_on_at_once() {
        let late = || {
            let (unit, after) = (vault(), Duration::from_secs(240));
            Err(UnitError::TimedOut { unit, job: Job::Start, after })
        };
        let units = Arc::new(Away { calls: AtomicU32::new(0), until: 0, then: late });
        let patient = PatientUnits::new(Arc::clone(&units) as Arc<dyn Units>, |_: &str| {});
        let error = patient.start(&vault()).await.expect_err("it took too long");
        assert!(matches!(error, UnitError::TimedOut { .. }), "{error}");
        assert_eq!(units.calls.load(Ordering::Relaxed), 1);
    }
}
