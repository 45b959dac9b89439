//! What steps bring into sabakan and CKE, where both and the registries are servers of their own: what they bring, when they
//! bring it again, and what becomes of an update when somebody refuses.
//!
//! Sockets are waited for in real time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use neco_components::{Artifacts, ListedImage, Recipe};
use neco_host::Root;
use neco_registry::testing::{Content as Bytes, FakeRegistry, Kind, TestImage, TestLayer};
use neco_registry::testing::{Door, Fault as RegistryFault, Scope};
use neco_runtime::DockerConfig;
use neco_sabakan::fake::{FakeSabakan, Fault, Rule, ServeOptions};
use neco_sabakan::{
    AssetName, Content, IgnitionTemplate, Limits, Options, Role, Sabakan, SabakanClient, contract,
};
use neco_schema::{ConfigKey, Key, Lrn, Op, UpdateRequest};
use neco_store::MemoryStore;
use neco_worker::{Cke, Internet, Outside, OutsideError, RecipeSteps, Services};

use crate::cluster::{Cluster, edit};
use crate::groups::{CKE, bring_cke};

/// The internet, where files are what they are called, and one cannot be had.
struct Web {
    internet: Internet,
    missing: Arc<Mutex<Option<String>>>,
}

#[async_trait]
impl Outside for Web {
    async fn image(&self, reference: &str) -> Result<Content, OutsideError> {
        self.internet.image(reference).await
    }

    async fn file(&self, url: &str) -> Result<Content, OutsideError> {
        let missing = self.missing.lock().unwrap().clone();
        match missing {
            Some(instead) => self.internet.file(&instead).await,
            None => Ok(Content::bytes(url.as_bytes())),
        }
    }
}

/// CKE that keeps what it is given.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) images: Mutex<Vec<ListedImage>>,
    resources: Mutex<Vec<String>>,
    templates: Mutex<u32>,
    /// Why it takes nothing.
    refuses: Mutex<Option<String>>,
    /// What is refused the next time that it is asked, and then not any more.
    refuses_once: Mutex<BTreeSet<&'static str>>,
    asked: Mutex<Vec<&'static str>>,
}

impl Kept {
    fn answer(&self, what: &'static str) -> Result<(), String> {
        self.asked.lock().unwrap().push(what);
        if self.refuses_once.lock().unwrap().remove(what) {
            return Err("`ckecli` ended with 1: etcdserver: leader changed".to_owned());
        }
        let refuses = self.refuses.lock().unwrap().clone().filter(|_| what != "images");
        refuses.map_or(Ok(()), Err)
    }

    /// How often it was asked this since the last time.
    fn take_asked(&self, what: &str) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap())
            .iter()
            .filter(|asked| **asked == what)
            .count()
    }
}

#[async_trait]
impl Cke for Kept {
    fn is_here(&self) -> bool {
        true
    }

    async fn images(&self) -> Result<Vec<ListedImage>, String> {
        self.answer("images")?;
        Ok(self.images.lock().unwrap().clone())
    }

    async fn set_template(&self, _: &Path) -> Result<(), String> {
        self.answer("template")?;
        *self.templates.lock().unwrap() += 1;
        Ok(())
    }

    async fn set_resources(&self, yaml: &str) -> Result<(), String> {
        self.answer("resources")?;
        self.resources.lock().unwrap().push(yaml.to_owned());
        Ok(())
    }
}

/// A data centre: a sabakan, a registry, CKE, and boot servers that use them.
pub(crate) struct Centre {
    pub(crate) sabakan: Arc<FakeSabakan>,
    pub(crate) client: SabakanClient,
    pub(crate) registry: FakeRegistry,
    pub(crate) cke: Arc<Kept>,
    /// Where the files of the web are taken from instead.
    pub(crate) missing: Arc<Mutex<Option<String>>>,
    pub(crate) cluster: Cluster,
}

/// How often servers try what may pass.
const TRIES: usize = 3;
pub(crate) const CKE_IMAGE: &str = "cybozu/unbound_exporter";

fn image() -> TestImage {
    TestImage::new(Kind::Oci, vec![TestLayer::gzip(Bytes::made(7, 3000))])
}

fn client_of(url: neco_sabakan::Url) -> SabakanClient {
    let limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(500),
        tries: 1,
        silence: Duration::from_millis(500),
        ..Limits::default()
    };
    SabakanClient::new(&Options::new(url, "test").limits(limits)).unwrap()
}

impl Centre {
    pub(crate) async fn of(count: u32) -> Self {
        Self::with(count, |_| {}).await
    }

    /// A data centre whose package `edit` has changed.
    async fn with(count: u32, edit_too: impl Fn(&Path)) -> Self {
        let sabakan = Arc::new(FakeSabakan::start(ServeOptions::default()).await.unwrap());
        let registry = FakeRegistry::start().await.unwrap();
        let (url, host) = (sabakan.url(), registry.host().to_owned());
        let client = client_of(url.clone());
        client.set_ipam(&contract::ipam()).await.unwrap();
        for rack in 0..count {
            let machine = serde_json::json!([{
                "serial": format!("boot{rack}"), "rack": rack, "role": "boot",
                "bmc": {"type": "IPMI-2.0"},
            }]);
            let url = url.join("api/v1/machines").unwrap();
            let told = reqwest::Client::new().post(url).json(&machine).send().await.unwrap();
            assert!(told.status().is_success(), "{told:?}");
        }
        let cke = Arc::new(Kept::default());
        let listed = format!("{host}/{CKE_IMAGE}:0.4");
        *cke.images.lock().unwrap() = ListedImage::list(&listed).unwrap();
        registry.push(CKE_IMAGE, "0.4", &image());
        let missing = Arc::new(Mutex::new(None));
        let (of_servers, web) = (Arc::clone(&cke), Arc::clone(&missing));
        let outfit = move |_: Services, root: &Root, store: &MemoryStore| {
            let logins = Arc::new(DockerConfig::new(root.join(DockerConfig::OF_ROOT)));
            let options = neco_registry::Options {
                credentials: Internet::credentials(logins),
                authorities: crate::outside::authority(),
                attempts: 1,
                request_timeout: Duration::from_secs(5),
                ..Default::default()
            };
            Services {
                sabakan: Arc::new(client_of(url.clone())),
                cke: of_servers.clone(),
                outside: Arc::new(Web {
                    internet: Internet::with_options(Arc::new(store.clone()), options),
                    missing: Arc::clone(&web),
                }),
            }
        };
        let on_registry = |folder: &Path| {
            edit(folder, "artifacts.toml", "ghcr.io/", &format!("{host}/"));
            edit_too(folder);
        };
        let cluster = Cluster::outfitted(count, on_registry, Box::new(outfit)).await;
        for server in &cluster.servers {
            server.set_up("etc/cke/etcd.crt");
            server.set_up("etc/cke/etcd.key");
        }
        let text = cluster.server(0).path("/usr/share/neco/artifacts.toml");
        let pinned = Artifacts::parse(&std::fs::read_to_string(text).unwrap()).unwrap();
        for pinned in pinned.images.values() {
            let repository = pinned.repository.trim_start_matches(&format!("{host}/")).to_owned();
            registry.push(&repository, &pinned.tag, &image());
            registry.push(&format!("{repository}-secret"), &pinned.tag, &image());
        }
        Self { sabakan, client, registry, cke, missing, cluster }
    }

    /// The calls that changed something in sabakan since the last time.
    fn changes(&self) -> Vec<String> {
        let asked = self.sabakan.log().take().into_iter();
        let changes = asked.filter(|asked| asked.method != "GET" && asked.method != "HEAD");
        changes.map(|asked| asked.call()).collect()
    }

    async fn template(&self, role: &str) -> (String, IgnitionTemplate) {
        let role = Role::new(role).unwrap();
        let ids = self.client.ignitions(&role).await.unwrap();
        let newest = ids.last().expect("a template").clone();
        let template = self.client.ignition(&role, &newest).await.unwrap().unwrap();
        (newest.to_string(), template)
    }

    /// Requests an update that ends in an abort at the step `name`, with each of `words` in its cause. Where one server does
    /// something for all of them, that is the server that did it.
    pub(crate) async fn aborts_at(&mut self, name: &str, words: &[&str]) {
        let request = self.cluster.request().await;
        let origin = self.cluster.aborted(&request).await;
        assert_eq!(origin.step, self.cluster.step(name), "{origin:?}");
        for word in words {
            assert!(origin.cause.contains(word), "{:?} has no {word:?}", origin.cause);
        }
    }

    /// What was in the way is gone and an operator recovers; the next request for the same version comes to its good end.
    pub(crate) async fn recovers(&mut self) -> UpdateRequest {
        self.cluster.recovers().await
    }
}

fn assets(calls: &[String]) -> Vec<&str> {
    calls.iter().filter_map(|call| call.strip_prefix("PUT /api/v1/assets/")).collect()
}

/// What archives are for sabakan.
const ARCHIVES: &str = "/api/v1/assets/cybozu-";

/// The assets that an update brings, in order, while sabakan has these faults.
async fn brought_with(faults: Vec<Rule>) -> Vec<String> {
    let mut centre = Centre::of(1).await;
    centre.sabakan.faults().set(faults);
    centre.cluster.update().await;
    let calls = centre.changes();
    centre.cluster.verdict().await;
    assets(&calls).into_iter().map(str::to_owned).collect()
}

fn different(names: &[String]) -> usize {
    names.iter().collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn an_archive_that_sabakan_has_stored_damaged_is_not_left_there() {
    let brought = brought_with(vec![Rule::once("PUT", ARCHIVES, Fault::CorruptRequest)]).await;
    assert_eq!(brought[0], brought[1], "it is uploaded again at once, though it is there");
    assert_eq!(brought.len(), different(&brought) + 1, "and nothing else is");
}

#[tokio::test]
async fn an_archive_that_sabakan_damages_whenever_it_comes_is_brought_by_the_next_update() {
    let mut centre = Centre::of(1).await;
    let damage = Rule::always("PUT", ARCHIVES, Fault::CorruptRequest);
    centre.sabakan.faults().add(damage);
    centre.aborts_at("cke-contents", &["uploading image", "checksum mismatch"]).await;
    let calls = centre.changes();
    let first = assets(&calls)[0].to_owned();
    centre.sabakan.faults().clear();
    centre.recovers().await;
    let calls = centre.changes();
    assert!(assets(&calls).contains(&&*first), "{first} is there damaged: {calls:#?}");
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn an_archive_that_nobody_could_prove_is_sent_again() {
    // It is looked for, sent, and looked at.
    let blind = Rule { skip: 1, ..Rule::once("GET", ARCHIVES, Fault::internal()) };
    let damage = Rule::once("PUT", ARCHIVES, Fault::CorruptRequest);
    let brought = brought_with(vec![damage, blind]).await;
    assert_eq!(brought[0], brought[1], "what lies there may be anything: {brought:#?}");
}

#[tokio::test]
async fn an_archive_that_is_there_as_it_was_sent_is_not_sent_again_for_want_of_an_answer() {
    let brought = brought_with(vec![Rule::once("PUT", ARCHIVES, Fault::LoseAnswer)]).await;
    assert!(!brought.is_empty());
    assert_eq!(brought.len(), different(&brought), "{brought:#?}");
}

#[tokio::test]
async fn everything_that_machines_boot_is_brought_once_and_what_names_it_comes_last() {
    let mut centre = Centre::of(2).await;
    for server in &centre.cluster.servers {
        server.set_up("usr/libexec/neco/neco-operation-cli.tgz");
    }
    centre.cluster.update().await;
    let calls = centre.changes();
    let (assets, version) = (assets(&calls), centre.cluster.version.to_string());
    assert_eq!(assets.len(), 13, "eleven images, one of CKE, a program: {calls:#?}");
    assert!(assets.contains(&"neco-operation-cli.tgz"), "{assets:?}");
    for name in ["cybozu-unbound_exporter-", "cybozu-squid-exporter-", "cybozu-setup-hw-"] {
        assert!(assets.iter().any(|asset| asset.starts_with(name)), "{assets:?} has no {name}");
    }
    let place = |what: &str| {
        let found = calls.iter().position(|call| call.starts_with(what));
        found.unwrap_or_else(|| panic!("{calls:#?} has no {what}"))
    };
    let first_template = place("PUT /api/v1/ignitions/");
    assert!(place("PUT /api/v1/images/coreos/4152.2.1") < first_template);
    let last_asset = calls.iter().rposition(|call| call.contains("/assets/")).unwrap();
    assert!(last_asset < first_template, "{calls:#?}");
    let dhcp = centre.client.dhcp().await.unwrap().expect("settings");
    assert_eq!((dhcp.lease_minutes, dhcp.gateway_offset), (60, 1));
    for role in ["cs", "ss"] {
        let (id, template) = centre.template(role).await;
        assert_eq!(id, version);
        assert_eq!(template.meta["version"], version);
        assert_eq!(template.meta["boot_servers"].as_array().map(Vec::len), Some(2));
        assert_eq!(template.meta["proxy_url"], "");
        assert!(!template.meta.contains_key("authorized_key"));
        let name = template.meta["serf.img"].as_str().unwrap();
        assert!(assets.contains(&name), "{name} of {assets:?}");
        assert!(template.meta["cke:unbound_exporter.ref"].as_str().unwrap().ends_with(":0.4"));
        assert!(template.template.contains_key("storage"), "{template:?}");
    }
    let view = centre.cluster.view();
    for contents in ["sabakan", "cke", "dhcp.json", "cke-template", "user-resources"] {
        assert!(view.contents[contents].value.success, "{contents}");
    }
    centre.cluster.update().await;
    assert_eq!(centre.changes(), Vec::<String>::new(), "nothing changed");
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn what_lies_in_sabakan_is_the_archive_that_docker_loads() {
    let mut centre = Centre::of(1).await;
    centre.cluster.update().await;
    let host = centre.registry.host().replace('/', "-");
    let name = format!("cybozu-serf-{host}-cybozu-serf-0.10.1.7.img");
    let url = centre.sabakan.url().join(&format!("api/v1/assets/{name}")).unwrap();
    let archive = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let names = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let names: Vec<String> = names.collect();
    assert_eq!(names.last().map(String::as_str), Some("manifest.json"), "{names:?}");
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_change_of_what_machines_are_told_brings_another_template_and_nothing_else() {
    let mut centre = Centre::of(2).await;
    centre.cluster.update().await;
    centre.changes();
    let proxy = Key::Config(ConfigKey::NodeProxy);
    centre.cluster.write(Op::put_bytes(&proxy, "http://10.0.49.3:3128")).await;
    centre.cluster.write(Op::put_bytes(&Key::SshPublicKey, "ssh-ed25519 AAAA admin\n")).await;
    centre.cluster.update().await;
    let calls = centre.changes();
    assert_eq!(calls.len(), 2, "one template for each of two roles: {calls:#?}");
    let (id, template) = centre.template("cs").await;
    assert_eq!(id, format!("{}.1", centre.cluster.version));
    assert_eq!(template.meta["proxy_url"], "http://10.0.49.3:3128");
    assert_eq!(template.meta["authorized_key"], "ssh-ed25519 AAAA admin");
    // A boot server less, as after `leave`.
    let lost = centre.cluster.servers.pop().expect("two");
    drop(lost);
    centre.cluster.update().await;
    let (id, template) = centre.template("cs").await;
    assert_eq!(id, format!("{}.2", centre.cluster.version));
    assert_eq!(template.meta["boot_servers"].as_array().map(Vec::len), Some(1));
    assert_eq!(centre.changes().len(), 2);
    // The next version begins anew.
    centre.cluster.upgrade("2026.11.21-1", |_| {}).await;
    centre.cluster.update().await;
    assert_eq!(centre.template("cs").await.0, "2026.11.21-1");
}

#[tokio::test]
async fn a_program_is_uploaded_where_its_digest_differs_alone() {
    let mut centre = Centre::of(1).await;
    centre.cluster.server(0).set_up("usr/libexec/neco/a");
    centre.cluster.server(0).set_up("usr/libexec/neco/b");
    centre.cluster.server(0).set_up("usr/libexec/neco/folder/no-program");
    centre.cluster.update().await;
    centre.changes();
    std::fs::write(centre.cluster.server(0).path("/usr/libexec/neco/b"), "other").unwrap();
    centre.cluster.upgrade("2026.11.21-1", |_| {}).await;
    centre.cluster.update().await;
    assert_eq!(assets(&centre.changes()), ["b"]);
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn resources_and_template_are_given_to_cke_again_when_what_they_say_changes() {
    let resources = |folder: &Path| {
        let text = "exporter: {{ images[\"squid-exporter\"] }}\npause: {{ cke_images.unbound_exporter }}\n\
                    bastion: \"{{ lb_address_bastion }}\"\nenv: {{ env }}\n";
        std::fs::write(folder.join("namespaces.yml"), text).unwrap();
    };
    let mut centre = Centre::with(2, resources).await;
    centre.cluster.update().await;
    let given = |centre: &Centre| centre.cke.resources.lock().unwrap().clone();
    let host = centre.registry.host().to_owned();
    let expected = format!(
        "exporter: {host}/cybozu/squid-exporter:1.0.7\npause: {host}/{CKE_IMAGE}:0.4\nbastion: \"\"\nenv: none\n"
    );
    assert_eq!(given(&centre), [expected]);
    assert_eq!(*centre.cke.templates.lock().unwrap(), 1);
    centre.cluster.update().await;
    assert_eq!(given(&centre).len(), 1, "nothing changed");
    let block = Key::Config(ConfigKey::LbAddressBlockBastion);
    centre.cluster.write(Op::put_bytes(&block, "10.72.48.0/26")).await;
    centre.cluster.update().await;
    let last = given(&centre).pop().unwrap();
    assert!(last.contains("bastion: \"10.72.48.0/26\""), "{last}");
    assert_eq!((given(&centre).len(), *centre.cke.templates.lock().unwrap()), (2, 1));
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn the_private_variant_is_brought_by_a_server_that_may_have_it() {
    let mut centre = Centre::of(1).await;
    let host = centre.registry.host().to_owned();
    let logins = centre.cluster.server(0).path("/root/.docker/config.json");
    std::fs::create_dir_all(logins.parent().unwrap()).unwrap();
    std::fs::write(logins, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dTpw\"}}}}}}")).unwrap();
    centre.registry.set_door(Door::Basic("u".to_owned(), "p".to_owned()));
    centre.cluster.update().await;
    let asked = centre.registry.faults().take_asked();
    let private = |uri: &str| uri.contains("setup-hw-secret/manifests");
    assert!(asked.iter().any(|asked| private(&asked.uri)), "{asked:#?}");
    assert!(asked.iter().all(|asked| !asked.uri.contains("/setup-hw/manifests")), "{asked:#?}");
    let (_, template) = centre.template("cs").await;
    let host = host.replace('/', "-");
    let asset = format!("cybozu-setup-hw-{host}-cybozu-go-setup-hw-1.20.1.img");
    assert_eq!(template.meta["setup-hw.img"], asset);
    assert!(template.meta["setup-hw.ref"].as_str().unwrap().contains("/setup-hw-secret:"));
    centre.cluster.verdict().await;
}

/// A server logs in where the private variants lie.
fn log_in(centre: &Centre, lrn: u32) {
    let logins = centre.cluster.server(lrn).path("/root/.docker/config.json");
    std::fs::create_dir_all(logins.parent().unwrap()).unwrap();
    let host = centre.registry.host();
    std::fs::write(logins, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dTpw\"}}}}}}")).unwrap();
}

/// What machines are told to load, and what the archive that they fetch for it says of itself.
async fn setup_hw(centre: &Centre) -> (bool, Option<String>) {
    let (_, template) = centre.template("cs").await;
    let asset = AssetName::new(template.meta["setup-hw.img"].as_str().unwrap()).unwrap();
    let asset = centre.client.asset(&asset).await.unwrap().expect("an archive");
    let told = template.meta["setup-hw.ref"].as_str().unwrap().contains("/setup-hw-secret:");
    (told, asset.options.get("variant").cloned())
}

#[tokio::test]
async fn an_archive_is_of_the_variant_that_machines_are_told_of_also_when_that_changes() {
    let mut centre = Centre::of(1).await;
    centre.cluster.update().await;
    assert_eq!(setup_hw(&centre).await, (false, Some("public".to_owned())));
    centre.changes();
    log_in(&centre, 0);
    centre.cluster.upgrade("2026.11.21-1", |_| {}).await;
    centre.cluster.update().await;
    assert_eq!(setup_hw(&centre).await, (true, Some("private".to_owned())));
    let calls = centre.changes();
    let brought = assets(&calls);
    assert!(matches!(*brought, [one] if one.contains("setup-hw")), "no other: {brought:?}");
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn servers_with_other_logins_do_not_undo_what_one_of_them_did_for_all() {
    let mut centre = Centre::of(2).await;
    log_in(&centre, 1);
    centre.cluster.update().await;
    let calls = centre.changes();
    let templates = calls.iter().filter(|call| call.starts_with("PUT /api/v1/ignitions/"));
    assert_eq!(templates.count(), 2, "one for each role: {calls:#?}");
    let (told, variant) = setup_hw(&centre).await;
    assert_eq!(variant.as_deref(), Some(if told { "private" } else { "public" }));
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_package_without_what_is_a_sites_own_gives_none_of_it() {
    let bare = |folder: &Path| {
        std::fs::remove_file(folder.join("cke-template.yml")).unwrap();
        std::fs::remove_file(folder.join("namespaces.yml")).unwrap();
        std::fs::remove_dir_all(folder.join("ignitions")).unwrap();
    };
    let mut centre = Centre::with(2, bare).await;
    centre.cluster.update().await;
    let calls = centre.changes();
    assert!(!assets(&calls).is_empty(), "images are the version's, not the site's");
    assert!(!calls.iter().any(|call| call.contains("/ignitions/")), "{calls:#?}");
    assert_eq!(*centre.cke.templates.lock().unwrap(), 0);
    assert!(centre.cke.resources.lock().unwrap().is_empty());
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_package_that_its_steps_cannot_use_is_refused_before_any_effect() {
    let centre = Centre::of(1).await;
    let server = centre.cluster.server(0);
    let folder = server.path("/usr/share/neco");
    let told = || {
        let recipe = Recipe::load(&folder).unwrap();
        RecipeSteps::new(recipe, server.host())
            .map_or_else(|told| told.to_string(), |_| String::new())
    };
    assert_eq!(told(), "");
    edit(&folder, "recipe.toml", "site-data = [\"cke-template.yml\"]\n", "");
    let (named, remedy) = (told(), "site-data: cke-template reads cke-template.yml; name it there");
    assert!(
        named.contains("\nrecipe.toml:") && named.ends_with(remedy),
        "no lack, but a mistake: {named}"
    );
    edit(
        &folder,
        "recipe.toml",
        "contents = \"cke-template\"\n",
        "contents = \"cke-template\"\nsite-data = [\"cke-template.yml\"]\n",
    );
    assert_eq!(told(), "");
    let template = std::fs::read_to_string(folder.join("cke-template.yml")).unwrap();
    std::fs::write(folder.join("cke-template.yml"), "- nodes\n").unwrap();
    assert!(told().contains("\ncke-template.yml: it is no map; "), "{}", told());
    std::fs::write(folder.join("cke-template.yml"), template).unwrap();
    // As an editor leaves it.
    std::fs::write(folder.join("ignitions/common/files/etc/.hostname.swp"), "x").unwrap();
    let named = told();
    let (place, what) = ("\nignitions/common/files/etc/.hostname.swp: ", "names it");
    assert!(named.contains(place) && named.contains(what), "{named}");
}

#[tokio::test]
async fn a_server_that_does_not_know_its_cluster_makes_nothing_that_names_it() {
    let nameless = |folder: &Path| {
        std::fs::remove_file(folder.join("../../../etc/neco/cluster")).unwrap();
    };
    let mut centre = Centre::with(1, nameless).await;
    centre.changes();
    let what = ["the name of the cluster", "/etc/neco/cluster"];
    centre.aborts_at("fetch-images", &what).await;
    assert_eq!(centre.changes(), Vec::<String>::new());
    std::fs::write(centre.cluster.server(0).path("/etc/neco/cluster"), "test\n").unwrap();
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_aborts_and_the_same_request_succeeds_once_it_is() {
    let mut centre = Centre::of(2).await;
    centre.cke.images.lock().unwrap()[0].tag = "9.9".to_owned();
    let what = ["uploading image ", "there is no image", "unbound_exporter:9.9", "name and tag"];
    centre.aborts_at("cke-contents", &what).await;
    centre.registry.push(CKE_IMAGE, "9.9", &image());
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_registry_that_refuses_credentials_says_where_to_log_in() {
    let mut centre = Centre::of(1).await;
    centre.registry.set_door(Door::Basic("u".to_owned(), "p".to_owned()));
    let what = ["uploading image ", "wants a login", "docker --config"];
    centre.aborts_at("cke-contents", &what).await;
    centre.registry.set_door(Door::Open);
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_registry_with_trouble_is_tried_again_and_given_up_in_the_end() {
    let mut centre = Centre::of(1).await;
    let trouble = || RegistryFault::Status(503, Vec::new());
    centre.registry.faults().next(Scope::Manifests, 2, trouble());
    centre.cluster.update().await;
    centre.cluster.write(Op::delete_prefix("contents/")).await;
    centre.cke.images.lock().unwrap()[0].tag = "0.5".to_owned();
    centre.registry.faults().always(Scope::Manifests, trouble());
    let what = ["uploading image ", "unbound_exporter:0.5", "503"];
    centre.aborts_at("cke-contents", &what).await;
    centre.registry.push(CKE_IMAGE, "0.5", &image());
    centre.registry.faults().clear();
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_blob_that_is_lost_ends_the_upload_at_once() {
    let mut centre = Centre::of(1).await;
    centre.registry.lose(CKE_IMAGE, image().blobs().last().unwrap().digest());
    let what = ["uploading image ", "answered 404", "push it again"];
    centre.aborts_at("cke-contents", &what).await;
    let asked = centre.registry.faults().take_asked();
    let blobs = asked.iter().filter(|asked| asked.uri.contains("/blobs/") && asked.status == 404);
    assert_eq!(blobs.count(), 1, "nothing is gained by asking again");
    centre.registry.push(CKE_IMAGE, "0.4", &image());
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn what_sabakan_refuses_aborts_at_once_and_what_ails_it_is_tried_again() {
    for (path, fault, tries, step, words) in [
        (
            "/api/v1/config/dhcp",
            Fault::forbidden(),
            1,
            "dhcp-json",
            ["setting dhcp.json in sabakan", "is forbidden", "127.0.0.1"],
        ),
        (
            "/api/v1/assets/",
            Fault::full_disk(),
            TRIES,
            "cke-contents",
            ["uploading image ", "no space left", "500"],
        ),
        (
            "/api/v1/ignitions/",
            Fault::Status(400, "invalid".to_owned()),
            1,
            "sabakan-contents",
            ["uploading the ignition template of role cs", "400", "invalid"],
        ),
        (
            "/api/v1/images/",
            Fault::Stall,
            TRIES,
            "sabakan-contents",
            ["uploading OS image 4152.2.1", "nothing moved for", "does sabakan run"],
        ),
        (
            "/api/v1/images/",
            Fault::conflict(),
            1,
            "sabakan-contents",
            ["uploading OS image 4152.2.1", "deleted before", "conflicted"],
        ),
    ] {
        let mut centre = Centre::of(1).await;
        centre.sabakan.faults().add(Rule::always("PUT", path, fault));
        centre.aborts_at(step, &words).await;
        let asked = centre.sabakan.log().take();
        let tried = asked.iter().filter(|a| a.method == "PUT" && a.path.starts_with(path)).count();
        assert_eq!(tried, tries, "{step}");
        centre.sabakan.faults().clear();
        centre.recovers().await;
        // Trouble that passes is no reason to abort.
        centre.sabakan.faults().add(Rule::once("PUT", path, Fault::internal()));
        centre.cluster.write(Op::delete_prefix("contents/")).await;
        centre.cluster.upgrade("2026.11.21-1", |_| {}).await;
        centre.cluster.update().await;
        centre.cluster.verdict().await;
    }
}

#[tokio::test]
async fn a_sabakan_that_is_not_there_is_named_and_comes_back() {
    let mut centre = Centre::of(2).await;
    centre.sabakan.faults().add(Rule {
        method: None,
        path: "/".to_owned(),
        skip: 0,
        times: None,
        fault: Fault::ResetRequest(0),
    });
    centre.aborts_at("cke-contents", &["uploading image ", "sabakan cannot be reached"]).await;
    centre.sabakan.faults().clear();
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_kernel_that_is_not_there_is_not_uploaded() {
    let mut centre = Centre::of(1).await;
    // A server that has no such file: the registry.
    let url = format!("http://{}/kernel", centre.registry.host());
    *centre.missing.lock().unwrap() = Some(url);
    let what = ["uploading OS image 4152.2.1", "answered 404", "channel and version"];
    centre.aborts_at("sabakan-contents", &what).await;
    assert_eq!(centre.client.images().await.unwrap(), []);
    *centre.missing.lock().unwrap() = None;
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_boot_server_that_sabakan_does_not_know_is_named() {
    let mut centre = Centre::of(1).await;
    let machines = "/api/v1/machines";
    let none = Fault::Status(404, "requested resource is not found".to_owned());
    centre.sabakan.faults().add(Rule::always("GET", machines, none));
    let what = ["asking sabakan for the boot servers", "sabakan knows 0", "there must be one"];
    centre.aborts_at("sabakan-contents", &what).await;
    centre.sabakan.faults().clear();
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn sources_that_cannot_be_used_are_named_with_file_and_line() {
    let wrong = |folder: &Path| {
        let text = "{{ Metadata \"no-such-key\" }}\n";
        std::fs::write(folder.join("ignitions/common/files/etc/hostname"), text).unwrap();
    };
    let mut centre = Centre::with(1, wrong).await;
    let what = ["ignitions of the package", "etc/hostname:1", "there is no metadata"];
    centre.aborts_at("sabakan-contents", &what).await;
    let resources = |folder: &Path| {
        std::fs::write(folder.join("namespaces.yml"), "a: 1\nb: {{ images.sqiud }}\n").unwrap();
    };
    let mut centre = Centre::with(1, resources).await;
    let what = ["namespaces.yml:2", "images.sqiud", "undefined"];
    centre.aborts_at("user-resources", &what).await;
    let dhcp = |folder: &Path| edit(folder, "dhcp.json", "60", "sixty");
    let mut centre = Centre::with(1, dhcp).await;
    centre.aborts_at("dhcp-json", &["dhcp.json of the package is malformed"]).await;
}

#[tokio::test]
async fn what_cke_refuses_is_told_in_its_words() {
    let mut centre = Centre::of(2).await;
    *centre.cke.refuses.lock().unwrap() = Some("`ckecli` ended with 1: no role".to_owned());
    let what = ["giving CKE its template", "ended with 1: no role"];
    centre.aborts_at("cke", &what).await;
    assert_eq!(centre.cke.take_asked("template"), TRIES, "it does not say whether it may pass");
    *centre.cke.refuses.lock().unwrap() = None;
    centre.recovers().await;
    centre.cluster.verdict().await;
}

/// CKE, and what reads its template, were to change with it.
#[tokio::test]
async fn a_template_that_cke_refuses_leaves_cke_running_with_what_is_new() {
    let mut centre = Centre::of(2).await;
    for server in &centre.cluster.servers {
        server.set_up("usr/sbin/cke");
        bring_cke(server);
    }
    centre.cluster.update().await;
    for server in &centre.cluster.servers {
        std::fs::write(server.path("/usr/sbin/cke"), "another program").unwrap();
    }
    let another = |folder: &Path| {
        let path = folder.join("cke-template.yml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\nanother: thing\n")).unwrap();
    };
    centre.cluster.upgrade("2026.11.21-1", another).await;
    centre.cluster.take_order("");
    *centre.cke.refuses.lock().unwrap() = Some("`ckecli` ended with 1: no role".to_owned());
    centre.aborts_at("cke", &["giving CKE its template", "ended with 1: no role"]).await;
    let all_run = async |centre: &Centre| {
        for server in &centre.cluster.servers {
            for unit in CKE {
                if !server.is_active(unit).await || !server.is_enabled(unit).await {
                    return false;
                }
            }
        }
        true
    };
    centre.cluster.until("CKE runs everywhere", async || all_run(&centre).await).await;
    let order = centre.cluster.take_order("cke.service");
    for lrn in 0..2 {
        let of =
            |what: &str| order.iter().filter(|line| **line == format!("{lrn}: {what}")).count();
        assert_eq!((of("stop cke.service"), of("start cke.service")), (1, 1), "{order:?}");
    }
    *centre.cke.refuses.lock().unwrap() = None;
    centre.recovers().await;
    assert!(all_run(&centre).await);
    assert_eq!(*centre.cke.templates.lock().unwrap(), 2);
    assert_eq!(centre.cluster.take_order("start cke.service"), Vec::<String>::new(), "it ran");
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_command_of_cke_that_fails_once_is_called_again() {
    let resources = |folder: &Path| {
        std::fs::write(folder.join("namespaces.yml"), "a: 1\n").unwrap();
    };
    let mut centre = Centre::with(2, resources).await;
    centre.cke.refuses_once.lock().unwrap().extend(["images", "template", "resources"]);
    centre.cluster.update().await;
    assert!(centre.cke.refuses_once.lock().unwrap().is_empty(), "all was asked");
    assert_eq!(*centre.cke.templates.lock().unwrap(), 1);
    assert_eq!(*centre.cke.resources.lock().unwrap(), ["a: 1\n"]);
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn nothing_is_brought_where_neither_sabakan_nor_cke_is_set_up() {
    let mut centre = Centre::of(2).await;
    for server in &centre.cluster.servers {
        for file in ["etc/sabakan/etcd.key", "etc/cke/etcd.crt"] {
            std::fs::remove_file(server.path(file)).unwrap();
        }
    }
    centre.changes();
    centre.cluster.update().await;
    assert_eq!(centre.changes(), Vec::<String>::new());
    assert!(centre.cke.resources.lock().unwrap().is_empty());
    assert_eq!(*centre.cke.templates.lock().unwrap(), 0);
    assert!(centre.cluster.view().contents.is_empty());
    // One of them is set up later: it does everything.
    centre.cluster.server(1).set_up("etc/sabakan/etcd.key");
    centre.cluster.update().await;
    assert!(!assets(&centre.changes()).is_empty());
    assert!(centre.cluster.server(0).begun("publish sabakan") == 0);
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn what_runs_is_recorded_in_etcd_after_success() {
    let mut centre = Centre::of(1).await;
    let read = |cluster: &Cluster, key: &Key| {
        let range = [neco_schema::Range::from(key)];
        let found = cluster.store.with(|mvcc| mvcc.read(&range, None)).unwrap();
        let value = found.kvs.get(&key.to_string()).map(|kv| kv.value.clone());
        value.map(|value| String::from_utf8(value).unwrap())
    };
    let container = |name: &str| Key::InstalledContainer(Lrn::new(0), name.to_owned());
    let serf = "start serf.service";
    centre.cluster.server(0).units().faults().fail(serf, "no network").unwrap();
    centre.aborts_at("serf", &["starting serf.service", "no network"]).await;
    assert_eq!(read(&centre.cluster, &container("vault")).as_deref(), Some("1.18.1.1"));
    assert_eq!(read(&centre.cluster, &container("serf")), None, "it does not run");
    centre.cluster.server(0).units().faults().clear(serf).unwrap();
    centre.recovers().await;
    for (name, tag) in [("serf", "0.10.1.7"), ("sabakan", "3.1.4"), ("promtail", "3.2.1.2")] {
        assert_eq!(read(&centre.cluster, &container(name)).as_deref(), Some(tag));
    }
    let deb = Key::InstalledDeb(Lrn::new(0), "etcdpasswd".to_owned());
    assert_eq!(read(&centre.cluster, &deb).as_deref(), Some("v1.4.9"));
    centre.cluster.verdict().await;
}
