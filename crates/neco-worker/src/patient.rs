//! Riding out an absence of systemd or its bus, or of Docker: a call that nobody answered is made again, as long as it takes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_connect::one_line;
use neco_runtime::{
    ContainerRuntime, ExecSpec, ImageRef, LogLines, LogSpec, Output, PullProgress, Pulled, RunSpec,
    RuntimeError,
};
use neco_schema::Severity;
use neco_systemd::{UnitError, UnitName, UnitState, Units};

/// Delays while nobody answers.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Is told what is waited for, with nothing when that is over.
pub type Say = dyn Fn(&str) + Send + Sync;

/// Units that are asked for again while systemd is away. A job that systemd took and that did not come to its end in time is
/// none of that: it stays an error.
pub struct PatientUnits {
    units: Arc<dyn Units>,
    say: Arc<Say>,
}

impl PatientUnits {
    /// The same units; `say` is told what is waited for, with nothing when that is over.
    pub fn new(units: Arc<dyn Units>, say: Arc<Say>) -> Self {
        Self { units, say }
    }

    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Result<T, UnitError>
    where
        F: Future<Output = Result<T, UnitError>>,
    {
        insist(&*self.say, "systemd", is_away, call).await
    }
}

/// Containers that are asked for again while Docker is away. What Docker says itself, such as that a registry does not answer
/// it, is passed on at once.
///
/// A command in a container that runs, and a container that goes on running, are not begun a second time: what Docker has
/// done before it went away, nobody knows.
pub struct PatientRuntime {
    runtime: Arc<dyn ContainerRuntime>,
    say: Arc<Say>,
}

impl PatientRuntime {
    /// The same containers; `say` is told what is waited for, with nothing when that is over.
    pub fn new(runtime: Arc<dyn ContainerRuntime>, say: Arc<Say>) -> Self {
        Self { runtime, say }
    }

    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Result<T, RuntimeError>
    where
        F: Future<Output = Result<T, RuntimeError>>,
    {
        let is_away = |error: &RuntimeError| matches!(error, RuntimeError::Away { .. });
        insist(&*self.say, "Docker", is_away, call).await
    }
}

/// Makes a call until somebody has answered it.
async fn insist<T, E, F>(
    say: &Say,
    whom: &'static str,
    is_away: impl Fn(&E) -> bool,
    call: impl Fn() -> F,
) -> Result<T, E>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut retry = ASK_AGAIN.retry();
    let mut told = Told { say, whom, why: String::new() };
    loop {
        let why = match call().await {
            Err(error) if is_away(&error) => one_line(&error),
            outcome => {
                if !told.why.is_empty() {
                    tracing::info!("{whom} answers again");
                }
                return outcome;
            }
        };
        told.tell(why);
        tokio::time::sleep(retry.pause()).await;
    }
}

/// What was told to be waited for. That it is over is told however the wait ends, also where nobody waits any more.
struct Told<'a> {
    say: &'a Say,
    whom: &'static str,
    why: String,
}

impl Told<'_> {
    fn tell(&mut self, why: String) {
        if self.why != why {
            tracing::warn!(%why, "waiting for {}", self.whom);
        }
        // With every try: others may have said meanwhile that their wait is over.
        (self.say)(&why);
        self.why = why;
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

#[async_trait]
impl ContainerRuntime for PatientRuntime {
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError> {
        self.insist(|| self.runtime.pull(image, progress)).await
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        self.insist(|| self.runtime.has(image)).await
    }

    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError> {
        match spec.name {
            None => self.insist(|| self.runtime.run(spec)).await,
            Some(_) => self.runtime.run(spec).await,
        }
    }

    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError> {
        self.runtime.exec(spec).await
    }

    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError> {
        self.insist(|| self.runtime.logs(name, spec)).await
    }

    async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        self.insist(|| self.runtime.stop(name)).await
    }

    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        self.insist(|| self.runtime.is_running(image)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use neco_systemd::Job;

    use super::*;

    /// Who is told what is waited for, and what that was.
    fn listener() -> (Arc<Say>, Arc<Mutex<Vec<String>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let say = move |why: &str| heard.lock().expect("no panic").push(why.to_owned());
        (Arc::new(say), said)
    }

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
        let (say, said) = listener();
        let units = PatientUnits::new(Arc::new(away), say);
        units.start(&vault()).await.expect("it is there again");
        let mut said = said.lock().expect("no panic").clone();
        said.dedup();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("start") && said[1].is_empty(), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_is_waited_for_no_more() {
        let away = Away { calls: AtomicU32::new(0), until: u32::MAX, then: || Ok(()) };
        let (say, said) = listener();
        let units = PatientUnits::new(Arc::new(away), say);
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, units.start(&vault())).await.is_err());
        let said = said.lock().expect("no panic");
        assert!(said[0].contains("start"), "{said:?}");
        assert_eq!(said.last().map(String::as_str), Some(""), "{said:?}");
    }

    /// Containers of a Docker that answers the third call.
    struct Restarting {
        calls: AtomicU32,
    }

    impl Restarting {
        fn answer<T>(&self, answer: T) -> Result<T, RuntimeError> {
            match self.calls.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => {
                    let (socket, why) = ("/run/docker.sock".into(), "it is silent".to_owned());
                    Err(RuntimeError::Away { socket, why })
                }
                _ => Ok(answer),
            }
        }
    }

    #[async_trait]
    impl ContainerRuntime for Restarting {
        async fn pull(
            &self,
            image: &ImageRef,
            _: &(dyn Fn(PullProgress) + Send + Sync),
        ) -> Result<Pulled, RuntimeError> {
            self.answer(())?;
            let (image, reason) = (image.clone(), "the registry answered 503".to_owned());
            Err(RuntimeError::Pull { image, reason, severity: Severity::TryAgain })
        }
        async fn has(&self, _: &ImageRef) -> Result<bool, RuntimeError> {
            self.answer(true)
        }
        async fn run(&self, _: &RunSpec) -> Result<Output, RuntimeError> {
            self.answer(Output::default())
        }
        async fn exec(&self, _: &ExecSpec) -> Result<Output, RuntimeError> {
            self.answer(Output::default())
        }
        async fn logs(&self, name: &str, _: LogSpec) -> Result<LogLines, RuntimeError> {
            self.answer(())?;
            Err(RuntimeError::NotRunning { name: name.to_owned() })
        }
        async fn stop(&self, _: &str) -> Result<(), RuntimeError> {
            self.answer(())
        }
        async fn is_running(&self, _: &ImageRef) -> Result<bool, RuntimeError> {
            self.answer(true)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_docker_that_restarts_is_asked_again_unless_a_command_may_have_run_already() {
        let (say, said) = listener();
        let docker = || {
            let docker = Restarting { calls: AtomicU32::new(0) };
            PatientRuntime::new(Arc::new(docker), Arc::clone(&say))
        };
        let image: ImageRef = "ghcr.io/cybozu/vault:1".parse().expect("a name");
        assert!(docker().has(&image).await.expect("it is there again"));
        let mut words = std::mem::take(&mut *said.lock().expect("no panic"));
        words.dedup();
        assert_eq!(words, ["Docker does not answer at /run/docker.sock: it is silent", ""]);
        docker().run(&RunSpec::new(image.clone())).await.expect("it is there again");
        let error = docker().pull(&image, &|_| {}).await.expect_err("Docker said so itself");
        assert!(matches!(error, RuntimeError::Pull { .. }), "{error}");
        said.lock().expect("no panic").clear();
        let stays = RunSpec::new(image).detached("vault");
        let error = docker().run(&stays).await.expect_err("it may run");
        assert!(matches!(error, RuntimeError::Away { .. }), "{error}");
        assert!(said.lock().expect("no panic").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_systemd_says_itself_is_passed_on_at_once() {
        let late = || {
            let (unit, after) = (vault(), Duration::from_secs(240));
            Err(UnitError::TimedOut { unit, job: Job::Start, after })
        };
        let units = Arc::new(Away { calls: AtomicU32::new(0), until: 0, then: late });
        let patient = PatientUnits::new(Arc::clone(&units) as Arc<dyn Units>, listener().0);
        let error = patient.start(&vault()).await.expect_err("it took too long");
        assert!(matches!(error, UnitError::TimedOut { .. }), "{error}");
        assert_eq!(units.calls.load(Ordering::Relaxed), 1);
    }
}
