//! Files of components where the root is the machine's own: there they get their owners, and commands that validate them run.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neco_components::{Desired, DesiredFile, Recipe, diff};
use neco_host::Root;
use neco_host::fs::RealFs;
use neco_host::journal::MemoryJournal;
use neco_plan::Local;
use neco_process::clock::SystemClock;
use neco_runtime::DockerConfig;
use neco_schema::{Lrn, NecoVersion, Timestamp, UpdateRequest};
use neco_store::MemoryStore;
use neco_systemd::Systemd;
use neco_worker::{About, Patience, SandboxDebs, Services, Shared, StepHost};

const VERSION: &str = "2026.11.20-1";
const TEMPLATE: &str = "templates/agent.conf.j2";

/// A package with a component that is one file, and this machine, which is to have it.
struct Site {
    dir: tempfile::TempDir,
    host: StepHost,
}

impl Site {
    /// `more` is what the file says beside its path and template.
    fn new(more: &str) -> Self {
        crate::must_be_a_machine();
        let dir = tempfile::tempdir().expect("room");
        let at = |path: &str| dir.path().join(path);
        for folder in ["package/components", "package/templates", "etc", "elsewhere"] {
            std::fs::create_dir_all(at(folder)).expect("made");
        }
        let path = at("etc/agent.conf").display().to_string();
        let component = format!(
            "format = 1\nname = \"agent\"\n[[file]]\npath = \"{path}\"\ntemplate = \"agent.conf.j2\"\n{more}\n"
        );
        let component = component.replace("KEY", &at("etc/own.key").display().to_string());
        let recipe = "format = 1\n[[step]]\nname = \"agent\"\ncomponent = \"agent\"\n";
        std::fs::write(at("package/components/agent.toml"), component).expect("written");
        std::fs::write(at("package/recipe.toml"), recipe).expect("written");
        std::fs::write(at("package").join(TEMPLATE), "good\n").expect("written");
        let shape = Recipe::load(at("package")).expect("a recipe").shape();
        let version: NecoVersion = VERSION.parse().expect("a version");
        let local = Local::new(Lrn::new(0), "0".repeat(32), version, shape);
        let store = Arc::new(MemoryStore::default());
        let journal = Arc::new(MemoryJournal::new());
        let shared = Shared::new(store.clone(), Arc::new(SystemClock::default()), journal, local)
            .expect("shared");
        // Whatever the machine is called, what is rendered here does not name it.
        if !Path::new("/etc/neco/cluster").exists() {
            std::fs::create_dir_all("/etc/neco").expect("made");
            std::fs::write("/etc/neco/cluster", "test\n").expect("written");
        }
        // Files are all that is used of this machine.
        let elsewhere = Root::new(at("elsewhere")).expect("a root");
        let services = Services::sandbox(&elsewhere, Arc::new(RealFs));
        let host = StepHost {
            root: Root::new("/").expect("the root"),
            fs: Arc::new(RealFs),
            units: Arc::new(Systemd::new()),
            runtime: Arc::new(neco_runtime::Recorder::new(elsewhere.path())),
            logins: Arc::new(DockerConfig::new(elsewhere.join(DockerConfig::OF_ROOT))),
            debs: Arc::new(SandboxDebs::new(elsewhere)),
            members: store,
            sabakan: services.sabakan,
            cke: services.cke,
            outside: services.outside,
            patience: Patience::default(),
            shared,
            about: About {
                lrn: Lrn::new(0),
                os_name: "Debian".to_owned(),
                os_version: "12".to_owned(),
                serial: "S1".to_owned(),
            },
        };
        Self { dir, host }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("etc/agent.conf")
    }

    /// From here on the package says that the file holds this.
    fn says(&self, text: &str) {
        std::fs::write(self.dir.path().join("package").join(TEMPLATE), text).expect("written");
    }

    fn desired(&self) -> Desired {
        let recipe = Recipe::load(self.dir.path().join("package")).expect("a recipe");
        let at = Timestamp::from_unix(1_000);
        let version = VERSION.parse().expect("a version");
        let request = UpdateRequest::new(version, vec![Lrn::new(0)], at);
        let facts = self.host.facts(&request).expect("an address");
        self.host.desired(recipe.component("agent").expect("the component"), &facts).expect("made")
    }

    fn file(&self) -> DesiredFile {
        self.desired().file(self.path()).expect("its file").clone()
    }

    /// Whether anything is to be done.
    async fn differs(&self) -> bool {
        let desired = self.desired();
        let observed = self.host.observe_now(&desired).await.expect("it can be looked at");
        !diff(&desired, &observed).is_empty()
    }
}

/// Owner, group and permission bits.
fn belongs(path: &Path) -> (u32, u32, u32) {
    let found = std::fs::metadata(path).expect("a file");
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

#[tokio::test]
#[ignore = "needs a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_file_gets_its_owner_and_its_group_and_gets_them_back() {
    for (more, expected) in [
        ("owner = \"10000\"\ngroup = \"10001\"\nmode = \"4750\"", (10_000, 10_001, 0o4750)),
        ("owner = \"10000\"", (10_000, 0, 0o644)),
        ("group = \"10001\"", (0, 10_001, 0o644)),
    ] {
        let site = Site::new(more);
        assert!(site.differs().await, "it is not there");
        site.host.write(&site.file()).await.expect("written");
        assert_eq!(belongs(&site.path()), expected, "{more}");
        assert!(!site.differs().await, "{more}");
        // The bits stay as they are: another owner is a difference of its own.
        std::os::unix::fs::chown(site.path(), Some(7), Some(8)).expect("changed");
        let bits = std::fs::Permissions::from_mode(expected.2);
        std::fs::set_permissions(site.path(), bits).expect("changed");
        assert!(site.differs().await, "{more}");
        site.host.write(&site.file()).await.expect("written");
        assert_eq!(belongs(&site.path()), expected, "{more}");
        assert!(!site.differs().await, "{more}");
    }
}

#[tokio::test]
#[ignore = "needs a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_secret_of_others_gets_the_owner_who_reads_it() {
    for (more, expected) in [
        ("owner = \"10000\"\ngroup = \"10001\"", (10_000, 10_001, 0o640)),
        // What is not said stays with whoever it belongs to: others put it there.
        ("group = \"10001\"", (7, 10_001, 0o640)),
        ("owner = \"10000\"", (10_000, 8, 0o640)),
        ("", (7, 8, 0o640)),
    ] {
        let site = Site::new(&format!("[[secret]]\npath = \"KEY\"\nmode = \"0640\"\n{more}"));
        let key = site.dir.path().join("etc/own.key");
        std::fs::write(&key, "secret").expect("written");
        std::os::unix::fs::chown(&key, Some(7), Some(8)).expect("changed");
        site.host.write(&site.file()).await.expect("written");
        assert!(site.differs().await, "everybody reads it: {more}");
        site.host.restrict(&site.desired().secrets[0]).expect("kept from others");
        assert_eq!(belongs(&key), expected, "{more}");
        assert_eq!(std::fs::read_to_string(&key).expect("readable"), "secret");
        assert!(!site.differs().await, "{more}");
    }
}

#[tokio::test]
#[ignore = "needs a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_file_that_its_command_does_not_accept_leaves_the_old_one() {
    // It looks at what is about to become the file, which nobody else can read.
    let script = "stat -c %a \\\"$1\\\" > /run/neco-contract-mode && grep -q good \\\"$1\\\" || { echo 'no good' >&2; exit 3; }";
    let command = format!("validate = [\"/bin/sh\", \"-c\", \"{script}\", \"look\", \"{{}}\"]");
    let site = Site::new(&format!("{command}\nmode = \"0440\"\nowner = \"10000\""));
    site.host.write(&site.file()).await.expect("accepted");
    let seen = std::fs::read_to_string("/run/neco-contract-mode").expect("it was looked at");
    std::fs::remove_file("/run/neco-contract-mode").expect("removed");
    assert_eq!(seen, "600\n");
    let old = std::fs::metadata(site.path()).expect("a file").ino();

    site.says("bad\n");
    assert!(site.differs().await);
    let error = site.host.write(&site.file()).await.expect_err("refused").to_string();
    let path = site.path().display().to_string();
    for word in [path.as_str(), "is not accepted", "no good", "3"] {
        assert!(error.contains(word), "{error:?} has no {word:?}");
    }
    assert!(!error.contains('\n'), "{error}");
    assert_eq!(std::fs::read_to_string(site.path()).expect("readable"), "good\n");
    assert_eq!(belongs(&site.path()), (10_000, 0, 0o440));
    assert_eq!(std::fs::metadata(site.path()).expect("a file").ino(), old, "it is the very file");
    let left = |folder: &Path| std::fs::read_dir(folder).expect("a folder").count();
    assert_eq!(left(&site.dir.path().join("etc")), 1, "nothing lies beside it");
    assert_eq!(left(Path::new("/var/lib/neco/candidates")), 0, "nor where it was looked at");

    site.says("good again\n");
    site.host.write(&site.file()).await.expect("accepted");
    assert_eq!(std::fs::read_to_string(site.path()).expect("readable"), "good again\n");
    assert!(!site.differs().await);
}
