//! What an update would change is told before it, and is what it changes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_components::Recipe;
use neco_connect::{Settings, Sources};
use neco_host::{PackageCache, Root, Unsigned};
use neco_releases::ReleaseSource;
use neco_schema::{
    ChangeKind, Key, LeaseId, Lrn, Op, Preview, PreviewQuestion, PreviewedChange, Range, Record,
    StepPreview,
};
use neco_store::Store;
use neco_worker::install::Fetcher;
use neco_worker::preview::{PreviewPackages, Previewer};

use crate::cluster::{Cluster, SERF, VAULT, change_serf, change_vault, edit};

/// Longer than a server tries that cannot look.
const ANSWERED_WITHIN: Duration = Duration::from_secs(900);

/// GitHub does not answer.
struct NoReleases;

#[async_trait]
impl Sources for NoReleases {
    async fn source(&self, _: &Settings) -> Result<Arc<dyn ReleaseSource>, String> {
        Err("GitHub does not answer".to_owned())
    }
}

/// Who answers for a server.
fn previewer(cluster: &Cluster, lrn: u32) -> Previewer {
    let server = cluster.server(lrn);
    let root = Root::new(server.path("/")).unwrap();
    let recipe = Recipe::load(server.path("/usr/share/neco")).unwrap();
    let cache = PackageCache::in_dir(server.path("/var/cache/previews"));
    let store: Arc<dyn Store> = Arc::new(cluster.store.clone());
    let package = "neco".to_owned();
    let fetcher =
        Fetcher::new(root, cache.clone(), store, Arc::new(NoReleases), package, Unsigned::Allow);
    let installs = PackageCache::in_dir(server.path("/var/cache/packages"));
    let packages = PreviewPackages::new(installs, cache, fetcher);
    Previewer::new(server.host(), recipe, cluster.version.clone(), packages)
}

/// The answers of all servers to a question about `version`.
pub(crate) async fn ask(cluster: &Cluster, version: &str) -> Vec<Preview> {
    let lease = cluster.store.grant(Duration::from_secs(60)).await.unwrap();
    let answers = ask_with(cluster, version, lease).await;
    cluster.store.revoke(lease).await.unwrap();
    let left = cluster.store.read(&[Range::Prefix("preview/".to_owned())], None).await.unwrap();
    assert!(left.kvs.is_empty(), "answers go with the question: {:?}", left.kvs.keys());
    answers
}

async fn ask_with(cluster: &Cluster, version: &str, lease: LeaseId) -> Vec<Preview> {
    let id = u64::try_from(lease.0).unwrap();
    let servers: Vec<Lrn> = cluster.servers.iter().map(|server| Lrn::new(server.lrn)).collect();
    let question = PreviewQuestion {
        version: version.parse().unwrap(),
        servers: servers.clone(),
        within: Some(60),
        by: "somebody".to_owned(),
        unknown: serde_json::Map::new(),
    };
    cluster.write(Op::put(&Key::Preview(id), &question).with_lease(lease)).await;
    let tasks: Vec<_> = (0..)
        .zip(&servers)
        .map(|(lrn, _)| {
            let previewer = previewer(cluster, lrn);
            tokio::spawn(async move { previewer.run().await })
        })
        .collect();
    let mut answers = Vec::new();
    for lrn in servers {
        let key = Key::PreviewAnswer(id, lrn).to_string();
        let answered = async {
            loop {
                match cluster.store.with(|mvcc| mvcc.get(&key)) {
                    Some(kv) => break kv,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let kv = tokio::time::timeout(ANSWERED_WITHIN, answered).await.expect("an answer");
        assert_eq!(kv.lease, Some(lease));
        answers.push(Preview::decode(&kv.value).unwrap());
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    answers
}

fn step<'a>(answer: &'a Preview, name: &str) -> &'a StepPreview {
    answer.steps.iter().find(|step| step.name == name).unwrap()
}

fn of_kind(answer: &Preview, kind: ChangeKind) -> Vec<&PreviewedChange> {
    let changes = answer.steps.iter().flat_map(|step| &step.changes);
    changes.filter(|change| change.kind == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_what_is_done() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    let change = |folder: &Path| {
        change_serf(folder);
        change_vault(folder);
    };
    cluster.upgrade("2026.11.21-1", change).await;
    cluster.take_order("");
    let told = ask(&cluster, "2026.11.21-1").await;
    assert_eq!(cluster.order(), Vec::<String>::new(), "a look changes nothing");
    for (answer, server) in told.iter().zip(&cluster.servers) {
        assert_eq!((answer.error.as_str(), &answer.running), ("", &cluster.version));
        let recipe = Recipe::load(server.path("/usr/share/neco")).unwrap();
        assert_eq!(answer.recipe.as_ref(), Some(recipe.digest()));
        assert_eq!(answer.steps.len(), recipe.len() as usize);
        let vault = &step(answer, "vault").changes;
        let file = vault.iter().find(|change| change.kind == ChangeKind::File).unwrap();
        assert_eq!(file.subject, "/etc/vault/config.hcl");
        assert!(file.diff.contains("1000d\"\n") && file.diff.contains("30d\"\n"), "{}", file.diff);
        assert_eq!(step(answer, "serf").scope, "one server at a time, turn serf");
        let group = answer.groups.iter().find(|group| group.name == "vault").unwrap();
        assert_eq!(
            (group.units.as_slice(), group.because.as_slice()),
            (&[VAULT.to_owned()][..], &["vault".to_owned()][..])
        );
        let others = answer.groups.iter().filter(|group| group.name != "vault");
        assert!(others.clone().all(|group| group.because.is_empty()), "{:?}", answer.groups);
    }
    let files = |answer: &Preview| -> Vec<String> {
        of_kind(answer, ChangeKind::File).iter().map(|change| change.subject.clone()).collect()
    };
    let before: Vec<_> = cluster.servers.iter().map(super::cluster::Server::files).collect();
    cluster.update().await;
    for ((answer, server), before) in told.iter().zip(&cluster.servers).zip(before) {
        let after = server.files();
        let mut written: Vec<String> = after
            .iter()
            .filter(|(path, now)| before.get(*path) != Some(now))
            .map(|(path, _)| format!("/{}", path.strip_prefix(server.path("/")).unwrap().display()))
            .collect();
        // What one server does for all is told as an action.
        written.retain(|path| !path.starts_with("/var/lib/neco/published/"));
        written.sort();
        let mut expected = files(answer);
        expected.sort();
        assert_eq!(written, expected);
        let restarted: Vec<&str> = of_kind(answer, ChangeKind::Unit)
            .iter()
            .map(|change| change.subject.as_str())
            .collect();
        assert_eq!(restarted, [VAULT, SERF]);
    }
    let order = cluster.order();
    for unit in [VAULT, SERF] {
        let starts = order.iter().filter(|line| line.ends_with(&format!("start {unit}")));
        assert_eq!(starts.count(), 2, "{order:?}");
    }
    assert_eq!(order.iter().filter(|line| line.contains(" start ")).count(), 4, "{order:?}");
    let told = ask(&cluster, "2026.11.21-1").await;
    for answer in &told {
        let changes: Vec<_> = answer.steps.iter().flat_map(|step| &step.changes).collect();
        assert!(changes.iter().all(|change| change.kind == ChangeKind::Action), "{changes:?}");
        assert!(answer.groups.iter().all(|group| group.because.is_empty()));
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_is_fetched_and_is_no_reason_for_an_outage() {
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    // Somebody has removed all images.
    std::fs::remove_file(cluster.server(0).path(neco_runtime::Recorder::STATE)).unwrap();
    let told = ask(&cluster, &cluster.version.to_string()).await.remove(0);
    let images: Vec<&str> =
        step(&told, "fetch-images").changes.iter().map(|change| change.subject.as_str()).collect();
    assert_eq!(images.len(), 6, "{images:?}");
    assert!(step(&told, "vault").changes.iter().any(|change| change.kind == ChangeKind::Image));
    assert!(told.groups.iter().all(|group| group.because.is_empty()), "{:?}", told.groups);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_package_cannot_be_had_is_told_so_and_later_questions_are_answered() {
    let cluster = Cluster::of(1).await;
    let told = ask(&cluster, "2026.12.24-1").await.remove(0);
    assert!(told.error.contains("GitHub does not answer"), "{}", told.error);
    assert_eq!((told.recipe, told.steps.len()), (None, 0));
    cluster.write(Op::put_bytes(&Key::Preview(0xabc), "{")).await;
    let told = ask_beside(&cluster).await;
    assert_eq!(told.error, "");
    cluster.verdict().await;
}

/// An answer while a question stands there that cannot be read.
async fn ask_beside(cluster: &Cluster) -> Preview {
    let lease = cluster.store.grant(Duration::from_secs(60)).await.unwrap();
    ask_with(cluster, &cluster.version.to_string(), lease).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn what_only_a_site_can_give_is_told_where_the_package_has_it() {
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    for (version, brings) in [("2026.11.21-1", false), ("2026.11.21-2", true)] {
        let change = |folder: &Path| match brings {
            true => std::fs::write(folder.join("cke-template.yml"), "nodes: []\n").unwrap(),
            false => ["cke-template.yml", "namespaces.yml"]
                .iter()
                .for_each(|name| std::fs::remove_file(folder.join(name)).unwrap()),
        };
        cluster.upgrade(version, change).await;
        let told = ask(&cluster, version).await.remove(0);
        let actions = of_kind(&told, ChangeKind::Action);
        let given = |action: &str| actions.iter().any(|change| change.subject == action);
        assert_eq!((given("cke-template"), given("user-resources")), (brings, false), "{told:?}");
        assert!(given("sabakan-contents"), "images are the version's: {told:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_that_this_server_cannot_render_is_told_with_its_place() {
    let with_unknown = |folder: &Path| {
        edit(
            folder,
            "templates/serf.json.j2",
            "{{ serial | tojson }}",
            "{{ others[0].node0 | tojson }}",
        );
    };
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", with_unknown).await;
    let told = ask(&cluster, "2026.11.21-1").await.remove(0);
    assert!(told.error.contains("serf.json.j2"), "{}", told.error);
}

#[tokio::test(start_paused = true)]
async fn another_mode_of_a_file_is_told_and_is_no_reason_for_an_outage() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    let config = cluster.server(0).path("/etc/vault/config.hcl");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let told = ask(&cluster, &cluster.version.to_string()).await.remove(0);
    let changes: Vec<_> = told.steps.iter().flat_map(|step| &step.changes).collect();
    let mode = changes.iter().find(|change| change.subject == "/etc/vault/config.hcl");
    assert_eq!(mode.expect("it is told").what, "mode 0600 becomes 0644");
    assert!(told.groups.iter().all(|group| group.because.is_empty()), "{:?}", told.groups);
    std::fs::write(&config, "another").unwrap();
    let told = ask(&cluster, &cluster.version.to_string()).await.remove(0);
    let down: Vec<_> = told.groups.iter().flat_map(|group| &group.because).collect();
    assert_eq!(down, ["vault"]);
}

/// Whoever is away is asked again without end; who asked is told before he has gone.
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_look_says_how_long_it_tried_and_who_is_away() {
    let cluster = Cluster::of(1).await;
    cluster.faults.no_docker.lock().unwrap().insert(0);
    let lease = cluster.store.grant(Duration::from_secs(3600)).await.unwrap();
    let told = ask_with(&cluster, &cluster.version.to_string(), lease).await.remove(0);
    assert!(told.error.starts_with("no answer within 58s: "), "{}", told.error);
    assert!(told.error.contains("/run/docker.sock"), "{}", told.error);
    assert_eq!((told.recipe, told.steps.len(), told.groups.len()), (None, 0, 0));
}
