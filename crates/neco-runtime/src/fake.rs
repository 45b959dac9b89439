//! The engine of unit tests: containers in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::containers::Containers;
use crate::{
    Call, ContainerRuntime, DockerConfig, ExecSpec, ImageRef, LogLine, LogLines, LogSpec, Output,
    PullProgress, Pulled, RunSpec, RuntimeError, refusal, watch,
};

/// Containers in memory, with scripted failures. Clones share the containers.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    containers: Containers,
    failures: Vec<Failure>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Failure {
    call: String,
    message: String,
    left: Option<u32>,
}

impl Fake {
    /// A machine without images and containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `call`, such as `pull IMAGE` or `exec NAME`, fails: `times` times, or always when that is `None`. The words
    /// of a pull mean what they mean when Docker says them: `manifest unknown` is for a person.
    pub fn fail(&self, call: &str, message: &str, times: Option<u32>) {
        let failure = Failure { call: call.to_owned(), message: message.to_owned(), left: times };
        self.with(|machine| machine.failures.push(failure));
    }

    /// Forgets all scripted failures.
    pub fn heal(&self) {
        self.with(|machine| machine.failures.clear());
    }

    /// Lets the running container `name` write a line.
    ///
    /// # Errors
    /// It does not run.
    pub fn say(&self, name: &str, line: LogLine) -> Result<(), RuntimeError> {
        self.with(|machine| machine.containers.say(name, line))
    }

    /// All calls so far, oldest first, except questions.
    pub fn calls(&self) -> Vec<Call> {
        self.with(|machine| machine.calls.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.machine.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pass(
        &self,
        call: String,
        refuse: impl FnOnce(String) -> RuntimeError,
    ) -> Result<(), RuntimeError> {
        let message = self.with(|machine| {
            let fits = |failure: &&mut Failure| failure.call == call && failure.left != Some(0);
            let failure = machine.failures.iter_mut().find(fits)?;
            failure.left = failure.left.map(|left| left - 1);
            let message = failure.message.clone();
            machine.calls.push(Call::Failed { what: call.clone(), message: message.clone() });
            Some(message)
        });
        message.map_or(Ok(()), |message| Err(refuse(message)))
    }

    fn act<T>(&self, act: impl FnOnce(&mut Containers, &mut dyn FnMut(Call)) -> T) -> T {
        self.with(|machine| {
            let Machine { containers, calls, .. } = machine;
            act(containers, &mut |call| calls.push(call))
        })
    }
}

fn failed(call: String, command: &[String]) -> impl FnOnce(String) -> RuntimeError {
    let command = command.to_vec();
    move |stderr| RuntimeError::Failed { call, command, status: Some(1), stderr }
}

#[async_trait]
impl ContainerRuntime for Fake {
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError> {
        self.pass(format!("pull {image}"), |message| {
            let refusal = refusal::of(image, None, &message);
            refusal::error(image, refusal, message, None, &DockerConfig::default())
        })?;
        let pulled = self.act(|containers, note| containers.pull(image, note));
        if pulled == Pulled::Fetched {
            progress(PullProgress { done: 1, total: Some(1) });
        }
        Ok(pulled)
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        Ok(self.act(|containers, _| containers.has(image)))
    }

    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError> {
        let call = format!("run {}", spec.image);
        self.pass(call.clone(), failed(call, &spec.command))?;
        self.act(|containers, note| containers.run(spec, note))
    }

    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError> {
        let call = format!("exec {}", spec.container);
        self.pass(call.clone(), failed(call, &spec.command))?;
        self.act(|containers, note| containers.exec(spec, note))
    }

    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError> {
        let (fake, name) = (self.clone(), name.to_owned());
        watch::lines(spec, move || fake.with(|machine| machine.containers.log(&name)))
    }

    async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        let call = format!("stop {name}");
        self.pass(call.clone(), failed(call, &[]))?;
        self.act(|containers, note| containers.stop(name, note));
        Ok(())
    }

    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        Ok(self.act(|containers, _| containers.is_running(image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogSource;
    use crate::contract::{self, Bench, Refused};

    impl Bench for Fake {
        fn runtime(&self) -> &dyn ContainerRuntime {
            self
        }

        fn repository(&self) -> String {
            "ghcr.io/cybozu/serf".to_owned()
        }

        fn fail(&self, call: &str, message: Option<&str>) {
            match message {
                Some(message) => Fake::fail(self, call, message, None),
                None => self.heal(),
            }
        }

        fn refused(&self, why: Refused) -> ImageRef {
            contract::refused_in_words(self, why)
        }

        fn say(&self, line: &str) {
            let line = LogLine { source: LogSource::Stdout, text: line.to_owned() };
            Fake::say(self, contract::NAME, line).expect("it runs");
        }
    }

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        contract::holds(Fake::new).await;
    }

    #[tokio::test]
    async fn a_scripted_failure_ends_after_its_number_of_times() {
        let fake = Fake::new();
        let image: ImageRef = "example/serf:1".parse().expect("a name");
        Fake::fail(&fake, "pull example/serf:1", "reset", Some(1));
        assert!(fake.pull(&image, &|_| {}).await.is_err());
        fake.pull(&image, &|_| {}).await.expect("healed");
    }
}
