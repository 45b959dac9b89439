//! What this server's steps and installations act through: the real drivers, or those of a sandbox.

use std::sync::Arc;
use std::time::Duration;

use neco_host::fs::FileSystem;
use neco_host::{
    DetachedProcess, Dpkg, PackageManager, RealFs, Root, RunDetached, Sandbox, SandboxFs,
};
use neco_runtime::{ContainerRuntime, Docker, DockerConfig, Logins};
use neco_sabakan::{Limits, Options, Sabakan, SabakanClient};
use neco_sandbox::Faults;
use neco_store::Store;
use neco_systemd::{Systemd, Units};

use crate::cke::{Cke, Ckecli, SandboxCke};
use crate::install::{Daemons, SandboxDaemons, SystemdDaemons, SystemdDetached};
use crate::outside::{Internet, Outside, SandboxOutside};
use crate::patient::{PatientRuntime, PatientUnits, Say};
use crate::published::SandboxSabakan;

/// The drivers of one server.
#[derive(Clone)]
pub struct Drivers {
    /// Its files.
    pub fs: Arc<dyn FileSystem>,
    /// Its units.
    pub units: Arc<dyn Units>,
    /// Its containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Who it is to registries of images.
    pub logins: Arc<dyn Logins>,
    /// Its packages.
    pub packages: Arc<dyn PackageManager>,
    /// What outlives its daemons.
    pub detached: Arc<dyn RunDetached>,
    /// Its daemons.
    pub daemons: Arc<dyn Daemons>,
}

impl Drivers {
    /// systemd, Docker and dpkg of this machine, whose files are below `root`; `say` is told that systemd or Docker is waited
    /// for, with nothing when that is over.
    pub fn real(root: &Root, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let say: Arc<Say> = Arc::new(say);
        let units: Arc<dyn Units> = Arc::new(Systemd::new());
        let patient: Arc<dyn Units> = Arc::new(PatientUnits::new(units, Arc::clone(&say)));
        let logins: Arc<dyn Logins> = Arc::new(DockerConfig::new(DockerConfig::OF_ROOT));
        let docker = Docker::default().with_logins(Arc::clone(&logins));
        Self {
            fs: Arc::new(RealFs),
            runtime: Arc::new(PatientRuntime::new(Arc::new(docker), say)),
            logins,
            packages: Arc::new(Dpkg::system()),
            detached: Arc::new(SystemdDetached::new(root.clone(), Arc::clone(&patient))),
            daemons: Arc::new(SystemdDaemons::new(Arc::clone(&patient))),
            units: patient,
        }
    }

    /// Records of what would be done below `root`; an image takes `pull_time`.
    pub fn sandbox(root: &Root, pull_time: Duration) -> Self {
        Self {
            fs: Arc::new(SandboxFs::new(root.clone())),
            units: Arc::new(neco_systemd::Recorder::new(root.path())),
            runtime: Arc::new(neco_runtime::Recorder::new(root.path()).with_pull_time(pull_time)),
            logins: Arc::new(DockerConfig::new(root.join(DockerConfig::OF_ROOT))),
            packages: Arc::new(Sandbox::new(root.clone())),
            detached: Arc::new(DetachedProcess::new(root.clone())),
            daemons: Arc::new(SandboxDaemons::new(root.path().to_owned())),
        }
    }
}

/// What the steps of one server act through beyond it: what its data centre runs, and what lies outside.
#[derive(Clone)]
pub struct Services {
    /// The sabakan of this server.
    pub sabakan: Arc<dyn Sabakan>,
    /// CKE.
    pub cke: Arc<dyn Cke>,
    /// What lies outside of the data centre.
    pub outside: Arc<dyn Outside>,
}

impl Services {
    /// Where sabakan takes changes: on its own server alone.
    const SABAKAN: &str = "http://127.0.0.1:10080";
    /// Who makes them, for its log.
    const USER: &str = "neco-worker";
    /// How long an upload may take that comes from the internet as it goes: as long as the original downloads
    /// (external-apis §2). One that stands still is found out much earlier.
    const UPLOAD_WITHIN: Duration = Duration::from_secs(3600);

    /// Those of this machine; the way outside is as `store` says, with `logins` for registries.
    pub fn real(store: Arc<dyn Store>, logins: Arc<dyn Logins>) -> Self {
        let url = Self::SABAKAN.parse().expect("a constant that parses");
        let options = Options::new(url, Self::USER);
        let limits = Limits { upload: Self::UPLOAD_WITHIN, ..options.limits };
        let sabakan = SabakanClient::new(&Options { limits, ..options });
        Self {
            sabakan: Arc::new(sabakan.expect("a client for a constant")),
            cke: Arc::new(Ckecli::default()),
            outside: Arc::new(Internet::new(store, logins)),
        }
    }

    /// Records of what would be done below `root`.
    pub fn sandbox(root: &Root, fs: Arc<dyn FileSystem>) -> Self {
        Self {
            sabakan: Arc::new(SandboxSabakan::new(root.clone(), fs)),
            cke: Arc::new(SandboxCke::new(root.clone())),
            outside: Arc::new(SandboxOutside::new(Faults::below(root.path()))),
        }
    }
}
