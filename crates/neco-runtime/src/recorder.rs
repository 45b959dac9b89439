//! The engine of sandboxes: records what would be run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_sandbox::{Entries, Entry, FaultError, Faults, Ledger};

use crate::containers::Containers;
use crate::{
    Call, ContainerRuntime, DockerConfig, ExecSpec, ImageRef, LogLine, LogLines, LogSpec,
    Logins as _, Output, PullProgress, Pulled, RunSpec, RuntimeError, refusal, watch,
};

/// Keeps the images and containers of one root in files and runs nothing.
///
/// | File under the root | Holds |
/// |---|---|
/// | `var/lib/neco/sandbox-containers.json` | images that were pulled, containers that run |
/// | `var/log/neco/containers.log` | one numbered JSON line per call, except questions |
/// | `etc/neco/sandbox-faults.json` | calls that shall fail or hang, such as `pull IMAGE`, `run IMAGE`, `exec NAME`, `stop NAME`; see [`Faults`] |
///
/// A pull that fails is refused by its registry in the words of the fault, and they mean here what they mean when Docker says
/// them: `manifest unknown` is for a person, `connection refused` passes. Whoever logged in is who
/// [`DockerConfig::OF_ROOT`] below the root names.
///
/// Any number of processes may share a root.
#[derive(Clone, Debug)]
pub struct Recorder {
    ledger: Arc<Ledger<Containers, Call>>,
    faults: Faults,
    logins: DockerConfig,
    pull_time: Duration,
}

impl Recorder {
    /// The state, relative to the root.
    pub const STATE: &str = "var/lib/neco/sandbox-containers.json";
    /// The log of calls, relative to the root.
    pub const LOG: &str = "var/log/neco/containers.log";
    /// The faults, relative to the root.
    pub const FAULTS: &str = Faults::FILE;
    /// How long a call may hang where nothing else is said.
    pub const DEADLINE: Duration = Duration::from_secs(600);

    /// The parts in which a pull reports its progress.
    const PARTS: u32 = 4;
    /// The size that every image pretends to have.
    const BYTES: u64 = 64 << 20;

    /// The containers of the machine whose files lie under `root`.
    pub fn new(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        Self {
            ledger: Arc::new(Ledger::new(root.join(Self::STATE), root.join(Self::LOG))),
            faults: Faults::new(root.join(Self::FAULTS), Self::DEADLINE),
            logins: DockerConfig::new(root.join(DockerConfig::OF_ROOT.trim_start_matches('/'))),
            pull_time: Duration::ZERO,
        }
    }

    /// Lets every transfer of an image take this long.
    #[must_use]
    pub fn with_pull_time(mut self, pull_time: Duration) -> Self {
        self.pull_time = pull_time;
        self
    }

    /// The faults of this root.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Lets the running container `name` write a line.
    ///
    /// # Errors
    /// It does not run, or the record cannot be changed.
    pub fn say(&self, name: &str, line: LogLine) -> Result<(), RuntimeError> {
        self.ledger.update(|containers, _| containers.say(name, line))?
    }

    /// All calls so far, oldest first.
    pub fn calls(&self) -> Result<Vec<Entry<Call>>, RuntimeError> {
        Ok(self.ledger.entries()?)
    }

    /// Lets `call` pass, or gives the message with which it shall fail.
    async fn pass(&self, call: &str) -> Result<Option<String>, RuntimeError> {
        match self.faults.pass(&[call]).await {
            Ok(()) => Ok(None),
            Err(FaultError::Asked { message }) => {
                let failed = Call::Failed { what: call.to_owned(), message: message.clone() };
                self.update(move |_, entries| {
                    entries.note(failed);
                })
                .await?;
                Ok(Some(message))
            }
            Err(FaultError::Held { after, .. }) => {
                Err(RuntimeError::TimedOut { call: call.to_owned(), after })
            }
            Err(other) => Err(RuntimeError::Faults(other)),
        }
    }

    /// The same for what fails as a command does.
    async fn pass_command(&self, call: &str, command: &[String]) -> Result<(), RuntimeError> {
        match self.pass(call).await? {
            None => Ok(()),
            Some(stderr) => Err(RuntimeError::Failed {
                call: call.to_owned(),
                command: command.to_vec(),
                status: Some(1),
                stderr,
            }),
        }
    }

    /// The error of a pull that its registry refused in these words.
    async fn refused(&self, image: &ImageRef, message: String) -> RuntimeError {
        let login = match self.logins.login(image.registry()).await {
            Ok(login) => login.map(|login| login.user),
            Err(why) => return RuntimeError::Login { why },
        };
        let refusal = refusal::of(image, None, &message);
        refusal::error(image, refusal, message, login.as_deref(), &self.logins)
    }

    async fn update<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Containers, &mut Entries<Call>) -> T + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let ledger = Arc::clone(&self.ledger);
        Ok(tokio::task::spawn_blocking(move || ledger.update(change)).await??)
    }
}

#[async_trait]
impl ContainerRuntime for Recorder {
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError> {
        if let Some(message) = self.pass(&format!("pull {image}")).await? {
            return Err(self.refused(image, message).await);
        }
        if !self.ledger.read()?.has(image) {
            for part in 0..Self::PARTS {
                let done = Self::BYTES / u64::from(Self::PARTS) * u64::from(part);
                progress(PullProgress { done, total: Some(Self::BYTES) });
                tokio::time::sleep(self.pull_time / Self::PARTS).await;
            }
            progress(PullProgress { done: Self::BYTES, total: Some(Self::BYTES) });
        }
        let image = image.clone();
        self.update(move |containers, entries| {
            containers.pull(&image, &mut |call| {
                entries.note(call);
            })
        })
        .await
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        Ok(self.ledger.read()?.has(image))
    }

    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError> {
        self.pass_command(&format!("run {}", spec.image), &spec.command).await?;
        let spec = spec.clone();
        self.update(move |containers, entries| {
            containers.run(&spec, &mut |call| {
                entries.note(call);
            })
        })
        .await?
    }

    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError> {
        self.pass_command(&format!("exec {}", spec.container), &spec.command).await?;
        let spec = spec.clone();
        self.update(move |containers, entries| {
            containers.exec(&spec, &mut |call| {
                entries.note(call);
            })
        })
        .await?
    }

    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError> {
        let (ledger, name) = (Arc::clone(&self.ledger), name.to_owned());
        watch::lines(spec, move || ledger.read()?.log(&name))
    }

    async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        self.pass_command(&format!("stop {name}"), &[]).await?;
        let name = name.to_owned();
        self.update(move |containers, entries| {
            containers.stop(&name, &mut |call| {
                entries.note(call);
            });
        })
        .await
    }

    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        Ok(self.ledger.read()?.is_running(image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogSource;
    use crate::contract::{self, Bench, Refused};

    struct Machine {
        root: tempfile::TempDir,
        recorder: Recorder,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let recorder = Recorder::new(root.path());
            Self { root, recorder }
        }
    }

    impl Bench for Machine {
        fn runtime(&self) -> &dyn ContainerRuntime {
            &self.recorder
        }

        fn repository(&self) -> String {
            "ghcr.io/cybozu/serf".to_owned()
        }

        fn fail(&self, call: &str, message: Option<&str>) {
            match message {
                Some(message) => self.recorder.faults().fail(call, message),
                None => self.recorder.faults().clear(call),
            }
            .expect("writable");
        }

        fn refused(&self, why: Refused) -> ImageRef {
            contract::refused_in_words(self, why)
        }

        fn say(&self, line: &str) {
            let line = LogLine { source: LogSource::Stdout, text: line.to_owned() };
            self.recorder.say(contract::NAME, line).expect("it runs");
        }
    }

    fn serf() -> ImageRef {
        "ghcr.io/cybozu/serf:0.10.1.7".parse().expect("a name")
    }

    #[tokio::test]
    async fn the_recorder_keeps_the_contract() {
        contract::holds(Machine::new).await;
    }

    #[tokio::test]
    async fn the_log_holds_every_call_as_a_line() {
        let machine = Machine::new();
        let runtime = machine.runtime();
        for _ in 0..2 {
            runtime.pull(&serf(), &|_| {}).await.expect("pulled");
        }
        let tools =
            RunSpec::new(serf()).command(["install-tools"]).mount("/usr/local/bin", "/host");
        runtime.run(&tools).await.expect("run");
        let log = std::fs::read_to_string(machine.root.path().join(Recorder::LOG)).expect("a log");
        // The times differ from run to run.
        let timeless = |line: &str| {
            let (seq, rest) = line.split_once(",\"at\":").expect("a time");
            format!("{seq},{}\n", rest.split_once(',').expect("a call").1)
        };
        let image = "ghcr.io/cybozu/serf:0.10.1.7";
        assert_eq!(
            log.lines().map(timeless).collect::<String>(),
            format!(
                "{{\"seq\":1,\"call\":\"pull\",\"image\":\"{image}\",\"fetched\":true}}\n\
                 {{\"seq\":2,\"call\":\"pull\",\"image\":\"{image}\",\"fetched\":false}}\n\
                 {{\"seq\":3,\"call\":\"run\",\"image\":\"{image}\",\"command\":[\"install-tools\"],\
                 \"mounts\":[{{\"source\":\"/usr/local/bin\",\"target\":\"/host\",\"read_only\":false}}],\
                 \"name\":null}}\n"
            )
        );
    }

    #[tokio::test]
    async fn a_registry_that_refuses_a_login_is_told_whose_it_was_and_without_the_password() {
        let machine = Machine::new();
        let config = machine.root.path().join("root/.docker/config.json");
        std::fs::create_dir_all(config.parent().expect("a folder")).expect("made");
        // The login `neco:hunter2`.
        let text = "{\"auths\": {\"ghcr.io\": {\"auth\": \"bmVjbzpodW50ZXIy\"}}}";
        std::fs::write(&config, text).expect("written");
        machine.fail(&format!("pull {}", serf()), Some("unauthorized: authentication required"));
        let error = machine.runtime().pull(&serf(), &|_| {}).await.expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(text.contains("ghcr.io does not accept the login of neco"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_takes_its_time_and_one_that_is_cut_off_leaves_no_image() {
        let machine = Machine::new();
        let recorder = machine.recorder.clone().with_pull_time(Duration::from_secs(20));
        let slow =
            tokio::time::timeout(Duration::from_secs(10), recorder.pull(&serf(), &|_| {})).await;
        assert!(slow.is_err(), "half of the time is not enough");
        let error = recorder.run(&RunSpec::new(serf())).await.expect_err("no image");
        assert!(matches!(error, RuntimeError::ImageMissing { .. }), "{error}");
        assert_eq!(machine.recorder.calls().expect("readable"), Vec::new());
    }

    #[tokio::test]
    async fn another_process_on_the_same_root_sees_the_same_containers() {
        let machine = Machine::new();
        machine.runtime().pull(&serf(), &|_| {}).await.expect("pulled");
        machine.runtime().run(&RunSpec::new(serf()).detached("serf")).await.expect("run");
        let other = Recorder::new(machine.root.path());
        assert!(other.is_running(&serf()).await.expect("an answer"));
    }
}
