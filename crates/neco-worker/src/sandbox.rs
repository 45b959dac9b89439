//! What can be made to fail or to hang in a sandbox, beside its units, containers, files and packages: whole steps, and
//! downloads.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use neco_connect::{Settings, Sources};
use neco_plan::RecipeShape;
use neco_releases::{Asset, Downloaded, Limits, Progress, Release, ReleaseError, ReleaseSource};
use neco_sandbox::Faults;
use neco_schema::journal::Effect;
use neco_schema::{Environment, NecoVersion, PackageRef, RequestId, UpdateRequest, Way};
use tokio::sync::Notify;

use crate::context::{StepContext, StepError};
use crate::steps::{PlanError, Steps};

/// The faults of the sandbox below `root`.
#[must_use]
pub fn faults(root: &Path) -> Faults {
    Faults::below(root)
}

/// Steps that can be made to fail or to hang before they do anything: the call is `step` and the step's name.
pub struct SandboxSteps {
    steps: Arc<dyn Steps>,
    faults: Faults,
}

impl SandboxSteps {
    /// The same steps, under `faults`.
    pub fn new(steps: Arc<dyn Steps>, faults: Faults) -> Self {
        Self { steps, faults }
    }
}

#[async_trait]
impl Steps for SandboxSteps {
    async fn run(&self, context: &StepContext) -> Result<(), StepError> {
        let call = format!("step {}", self.steps.name(context.step));
        let passed = async {
            self.faults.pass(&[&call]).await.map_err(|fault| StepError::Failed(fault.to_string()))
        };
        context.unless_cancelled("it is held", passed).await?;
        self.steps.run(context).await
    }

    fn shape(&self) -> &RecipeShape {
        self.steps.shape()
    }

    fn name(&self, step: u32) -> String {
        self.steps.name(step)
    }

    async fn changes(&self, request: &UpdateRequest) -> Result<Vec<String>, PlanError> {
        self.steps.changes(request).await
    }

    async fn note_runs(&self, request: &UpdateRequest) {
        self.steps.note_runs(request).await;
    }

    async fn restore(&self, group: &str, request: &RequestId, way: Way) -> Result<(), StepError> {
        self.steps.restore(group, request, way).await
    }

    async fn left(&self, group: &str) -> Vec<String> {
        self.steps.left(group).await
    }

    async fn complete(&self, effect: &Effect) -> Result<(), StepError> {
        self.steps.complete(effect).await
    }
}

/// Sources whose downloads can be made to fail or to hang in their middle: the call is `fetch` and the file's name.
pub struct SandboxSources {
    sources: Arc<dyn Sources>,
    faults: Faults,
}

impl SandboxSources {
    /// The same sources, under `faults`.
    pub fn new(sources: Arc<dyn Sources>, faults: Faults) -> Self {
        Self { sources, faults }
    }
}

#[async_trait]
impl Sources for SandboxSources {
    async fn source(&self, settings: &Settings) -> Result<Arc<dyn ReleaseSource>, String> {
        let (source, faults) = (self.sources.source(settings).await?, self.faults.clone());
        Ok(Arc::new(SandboxSource { source, faults }))
    }
}

struct SandboxSource {
    source: Arc<dyn ReleaseSource>,
    faults: Faults,
}

#[async_trait]
impl ReleaseSource for SandboxSource {
    async fn fetch(
        &self,
        asset: &Asset,
        expected: Option<&PackageRef>,
        dest: &Path,
        limits: &Limits,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Downloaded, ReleaseError> {
        let begun = Notify::new();
        let tell = |progressed: Progress| {
            if progressed.done > 0 {
                begun.notify_one();
            }
            progress(progressed);
        };
        let fetched = self.source.fetch(asset, expected, dest, limits, &tell);
        tokio::pin!(fetched);
        tokio::select! {
            biased;
            () = begun.notified() => {}
            fetched = &mut fetched => return fetched,
        }
        let passed = self.faults.pass(&[&format!("fetch {}", asset.name)]).await;
        passed.map_err(|fault| ReleaseError::Io {
            action: "fetching",
            path: dest.to_owned(),
            source: std::io::Error::other(fault),
        })?;
        fetched.await
    }

    async fn newest(&self, env: Environment) -> Result<Option<Release>, ReleaseError> {
        self.source.newest(env).await
    }

    async fn by_version(
        &self,
        env: Environment,
        version: &NecoVersion,
    ) -> Result<Option<Release>, ReleaseError> {
        self.source.by_version(env, version).await
    }

    async fn resolve(&self, release: &Release, name: &str) -> Result<PackageRef, ReleaseError> {
        self.source.resolve(release, name).await
    }

    async fn read(&self, asset: &Asset, limit: u64) -> Result<Vec<u8>, ReleaseError> {
        self.source.read(asset, limit).await
    }
}
