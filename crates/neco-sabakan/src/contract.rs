//! What every [`Sabakan`] keeps: a suite to run against each.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Cursor;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use async_trait::async_trait;
use neco_schema::{Lrn, Severity};
use serde_json::{Map, Value, json};

use crate::{
    AssetName, AssetUpload, Content, ContentDigest, DhcpConfig, Ensure, Ensured, GraphqlProblem,
    Health, IgnitionId, IgnitionTemplate, IgnitionVersion, ImageId, IpamConfig, KernelParams,
    MachineParams, MachineQuery, MachineState, Role, Sabakan, SabakanError, Serial, UploadProgress,
    boot_servers, the_machine,
};

/// A sabakan under test, in which there is nothing yet.
#[async_trait]
pub trait Bench: Sync {
    /// The client.
    fn sabakan(&self) -> &dyn Sabakan;

    /// Registers a machine, as `sabactl machines create` does. IPAM is set.
    async fn register(&self, serial: &str, rack: u32, role: &str, labels: &[(&str, &str)]);

    /// Stores a disk key of a machine, as the machine itself does.
    async fn add_disk_key(&self, serial: &str, path: &str);
}

/// Runs every clause on a sabakan of its own; panics at the first that is broken.
pub async fn holds<B: Bench, F: Future<Output = B>>(new: impl Fn() -> F) {
    it_answers_and_says_who_and_how_it_is(&new().await).await;
    a_search_that_finds_nothing_is_an_empty_list(&new().await).await;
    machines_are_found_by_what_they_have_and_by_what_they_have_not(&new().await).await;
    a_query_that_contradicts_itself_is_refused(&new().await).await;
    both_kinds_of_search_tell_the_same_of_a_machine(&new().await).await;
    one_boot_server_is_found_in_each_rack(&new().await).await;
    a_state_is_set_where_a_way_leads_there(&new().await).await;
    disk_keys_are_deleted_of_retiring_machines_before_they_retire(&new().await).await;
    settings_are_none_until_they_are_set(&new().await).await;
    the_newest_image_is_at_the_end(&new().await).await;
    an_image_that_was_dropped_does_not_come_back(&new().await).await;
    every_upload_of_an_asset_replaces_it_under_a_new_number(&new().await).await;
    an_asset_with_another_digest_than_announced_is_refused(&new().await).await;
    content_of_another_length_than_announced_leaves_what_was_there(&new().await).await;
    uploads_tell_how_far_they_are(&new().await).await;
    templates_are_listed_by_version_and_never_overwritten(&new().await).await;
    of_each_role_the_ten_highest_templates_are_kept(&new().await).await;
    a_template_that_cannot_be_rendered_is_refused(&new().await).await;
    what_is_there_is_not_sent_again(&new().await).await;
}

/// How addresses are given in the suite.
pub fn ipam() -> IpamConfig {
    IpamConfig {
        max_nodes_in_rack: 28,
        node_ipv4_pool: "10.69.0.0/16".parse().expect("a network"),
        node_ipv4_offset: None,
        node_ipv4_range_size: 6,
        node_ipv4_range_mask: 26,
        node_ip_per_node: 3,
        node_index_offset: 3,
        node_gateway_offset: 1,
        bmc_ipv4_pool: "10.72.16.0/20".parse().expect("a network"),
        bmc_ipv4_offset: Some(Ipv4Addr::new(0, 0, 1, 0)),
        bmc_ipv4_range_size: 5,
        bmc_ipv4_range_mask: 20,
        bmc_ipv4_gateway_offset: 1,
    }
}

fn serial(text: &str) -> Serial {
    Serial::new(text).expect("a serial")
}

fn role(text: &str) -> Role {
    Role::new(text).expect("a role")
}

fn asset_name(text: &str) -> AssetName {
    AssetName::new(text).expect("a name")
}

fn image_id(text: &str) -> ImageId {
    ImageId::new(text).expect("an id")
}

fn ignition_id(text: &str) -> IgnitionId {
    IgnitionId::new(text).expect("an id")
}

/// A template whose one file has this text.
fn template(text: &str) -> IgnitionTemplate {
    let config = json!({
        "ignition": { "version": "2.2.0" },
        "systemd": { "units": [{ "name": "a.service", "contents": text }] },
    });
    let Value::Object(template) = config else { unreachable!("it is written as an object") };
    let meta = Map::from_iter([("version".to_owned(), Value::from("1.0.0"))]);
    IgnitionTemplate { version: IgnitionVersion::V2_2, template, meta }
}

fn reader(text: &'static [u8], length: u64) -> AssetUpload {
    AssetUpload::new(Content::reader(length, Cursor::new(text)))
}

fn known(text: &'static [u8]) -> AssetUpload {
    AssetUpload::new(Content::bytes(text))
}

async fn put_asset(bench: &impl Bench, name: &str, upload: &AssetUpload) -> crate::UploadedAsset {
    let uploaded = bench.sabakan().upload_asset(&asset_name(name), upload, &|_| {}).await;
    uploaded.expect("uploaded")
}

async fn put_image(
    bench: &impl Bench,
    id: &str,
    kernel: &'static [u8],
) -> Result<(), SabakanError> {
    let (kernel, initrd) = (Content::bytes(kernel), Content::bytes(*b"initrd"));
    bench.sabakan().upload_image(&image_id(id), &kernel, &initrd, &|_| {}).await
}

async fn image_ids(bench: &impl Bench) -> Vec<String> {
    let images = bench.sabakan().images().await.expect("an index");
    images.into_iter().map(|image| image.id.to_string()).collect()
}

async fn serials(bench: &impl Bench, query: &MachineQuery) -> Vec<String> {
    let found = bench.sabakan().machines(query).await.expect("machines");
    let mut serials: Vec<_> = found.into_iter().map(|m| m.spec.serial.to_string()).collect();
    serials.sort();
    serials
}

async fn register_some(bench: &impl Bench) {
    bench.sabakan().set_ipam(&ipam()).await.expect("set");
    bench.register("boot0", 0, "boot", &[]).await;
    bench.register("cs0", 0, "cs", &[("datacenter", "dc1"), ("product", "vm")]).await;
    bench.register("cs1", 1, "cs", &[("datacenter", "dc1")]).await;
    bench.register("ss1", 1, "ss", &[("datacenter", "dc2"), ("product", "vm")]).await;
}

async fn it_answers_and_says_who_and_how_it_is(bench: &impl Bench) {
    bench.sabakan().answers().await.expect("an answer");
    assert_eq!(bench.sabakan().health().await.expect("an answer"), Health::Healthy);
    assert!(bench.sabakan().version().await.expect("an answer").starts_with("3."));
}

async fn a_search_that_finds_nothing_is_an_empty_list(bench: &impl Bench) {
    assert_eq!(serials(bench, &MachineQuery::default()).await, Vec::<String>::new());
    let none = MachineParams::default();
    assert_eq!(bench.sabakan().search_machines(&none, &none).await.expect("none"), []);
}

async fn machines_are_found_by_what_they_have_and_by_what_they_have_not(bench: &impl Bench) {
    register_some(bench).await;
    assert_eq!(serials(bench, &MachineQuery::default()).await, ["boot0", "cs0", "cs1", "ss1"]);
    assert_eq!(serials(bench, &MachineQuery::serial(serial("cs1"))).await, ["cs1"]);
    assert_eq!(serials(bench, &MachineQuery::in_rack(1, role("cs"))).await, ["cs1"]);
    let cs0 =
        the_machine(bench.sabakan(), &MachineQuery::serial(serial("cs0"))).await.expect("one");
    for address in &cs0.spec.ipv4 {
        assert_eq!(serials(bench, &MachineQuery::ipv4(*address)).await, ["cs0"]);
    }
    let bmc = cs0.spec.bmc.ipv4.expect("an address");
    assert_eq!(serials(bench, &MachineQuery::ipv4(bmc)).await, Vec::<String>::new());

    let labels: BTreeMap<_, _> = [("datacenter", "dc1"), ("product", "vm")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let mut query = MachineQuery::default();
    query.with.labels = labels.clone();
    assert_eq!(serials(bench, &query).await, ["cs0"]);
    // Machines with all of the labels are left out, not those with one.
    let mut query = MachineQuery::default();
    query.without.labels = labels.clone();
    query.without.role = vec![role("boot"), role("none")];
    assert_eq!(serials(bench, &query).await, ["cs1", "ss1"]);
    let mut query = MachineQuery::default();
    query.with.state = vec![MachineState::Uninitialized, MachineState::Retired];
    query.without.rack = vec![1];
    assert_eq!(serials(bench, &query).await, ["boot0", "cs0"]);

    let having = MachineParams {
        racks: vec![0, 1],
        roles: vec![role("cs"), role("ss")],
        ..Default::default()
    };
    // By GraphQL, one of the labels is enough.
    let not_having = MachineParams { labels: labels.clone(), ..Default::default() };
    let found = bench.sabakan().search_machines(&having, &not_having).await.expect("machines");
    assert_eq!(found.len(), 0, "{found:?}");
    let having =
        MachineParams { labels, states: vec![MachineState::Uninitialized], ..Default::default() };
    let not_having = MachineParams { states: vec![MachineState::Healthy], ..Default::default() };
    let found = bench.sabakan().search_machines(&having, &not_having).await.expect("machines");
    assert_eq!(found.iter().map(|m| m.spec.serial.as_str()).collect::<Vec<_>>(), ["cs0"]);
}

async fn a_query_that_contradicts_itself_is_refused(bench: &impl Bench) {
    let mut query = MachineQuery::in_rack(0, role("cs"));
    query.without.rack = vec![1];
    let error = bench.sabakan().machines(&query).await.expect_err("a contradiction");
    assert_eq!(error.severity(), Severity::Bug, "{error}");
    assert!(error.to_string().contains("rack"), "{error}");
}

async fn both_kinds_of_search_tell_the_same_of_a_machine(bench: &impl Bench) {
    register_some(bench).await;
    let mut by_rest = bench.sabakan().machines(&MachineQuery::default()).await.expect("machines");
    let all = MachineParams::default();
    let mut by_graphql = bench.sabakan().search_machines(&all, &all).await.expect("machines");
    for machines in [&mut by_rest, &mut by_graphql] {
        machines.sort_by(|a, b| a.spec.serial.cmp(&b.spec.serial));
        for machine in machines {
            assert!((0.0..3600.0).contains(&machine.status.duration), "{machine:?}");
            machine.status.duration = 0.0;
        }
    }
    assert_eq!(by_rest, by_graphql);
    let [_, cs0, ..] = &by_rest[..] else { panic!("{by_rest:?}") };
    assert_eq!(cs0.spec.index_in_rack, 4);
    assert_eq!(
        cs0.spec.ipv4,
        ["10.69.0.4", "10.69.0.68", "10.69.0.132"].map(|a| a.parse::<Ipv4Addr>().expect("one"))
    );
    assert_eq!(cs0.info.network.ipv4[1].gateway, Ipv4Addr::new(10, 69, 0, 65));
    assert_eq!(cs0.spec.bmc.ipv4, Some(Ipv4Addr::new(10, 72, 17, 4)));
    assert_eq!(cs0.info.bmc.ipv4.as_ref().expect("an address").maskbits, 20);
    assert_eq!(cs0.spec.labels["product"], "vm");
}

async fn one_boot_server_is_found_in_each_rack(bench: &impl Bench) {
    register_some(bench).await;
    bench.register("boot1", 1, "boot", &[]).await;
    let both = [Lrn::new(1), Lrn::new(0)];
    let addresses = boot_servers(bench.sabakan(), &both).await.expect("addresses");
    assert_eq!(addresses, [Ipv4Addr::new(10, 69, 0, 195), Ipv4Addr::new(10, 69, 0, 3)]);
    let error = boot_servers(bench.sabakan(), &[Lrn::new(2)]).await.expect_err("none");
    assert!(
        error.to_string().starts_with("sabakan knows 0 machines with rack 2 and role boot"),
        "{error}"
    );
}

async fn a_state_is_set_where_a_way_leads_there(bench: &impl Bench) {
    register_some(bench).await;
    let set = |name: &'static str, state| async move {
        bench.sabakan().set_machine_state(&serial(name), state).await
    };
    let error = set("cs0", MachineState::Unhealthy).await.expect_err("no way");
    assert!(error.is_invalid_transition(), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    let healthy = set("cs0", MachineState::Healthy).await.expect("a way");
    assert_eq!(healthy.state, MachineState::Healthy);
    let again = set("cs0", MachineState::Healthy).await.expect("no change");
    assert_eq!(again.timestamp, healthy.timestamp);
    let mut query = MachineQuery::default();
    query.with.state = vec![MachineState::Healthy];
    assert_eq!(serials(bench, &query).await, ["cs0"]);
    let error = set("nobody", MachineState::Healthy).await.expect_err("unknown");
    assert!(error.is_not_found(), "{error}");
}

async fn disk_keys_are_deleted_of_retiring_machines_before_they_retire(bench: &impl Bench) {
    register_some(bench).await;
    bench.add_disk_key("ss1", "pci-1").await;
    bench.add_disk_key("ss1", "pci-0").await;
    let ss1 = serial("ss1");
    let error = bench.sabakan().delete_crypts(&ss1).await.expect_err("not retiring");
    assert!(matches!(error, SabakanError::Server { status: 500, .. }), "{error}");
    bench.sabakan().set_machine_state(&ss1, MachineState::Retiring).await.expect("a way");
    let retired = bench.sabakan().set_machine_state(&ss1, MachineState::Retired).await;
    let error = retired.expect_err("keys exist");
    let is_about_keys =
        matches!(error, SabakanError::Graphql { problem: GraphqlProblem::EncryptionKeyExists, .. });
    assert!(is_about_keys, "{error}");
    let mut paths = bench.sabakan().delete_crypts(&ss1).await.expect("deleted");
    paths.sort();
    assert_eq!(paths, ["pci-0", "pci-1"]);
    assert_eq!(bench.sabakan().delete_crypts(&ss1).await.expect("none left"), Vec::<String>::new());
    bench.sabakan().set_machine_state(&ss1, MachineState::Retired).await.expect("a way");
    let error = bench.sabakan().delete_crypts(&serial("nobody")).await.expect_err("unknown");
    assert!(error.is_not_found(), "{error}");
}

async fn settings_are_none_until_they_are_set(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    assert_eq!(sabakan.ipam().await.expect("an answer"), None);
    assert_eq!(sabakan.dhcp().await.expect("an answer"), None);
    assert_eq!(sabakan.kernel_params().await.expect("an answer"), None);
    let dhcp = DhcpConfig { lease_minutes: 60, gateway_offset: 1, ..Default::default() };
    let params = KernelParams::new("console=ttyS0").expect("parameters");
    for _ in 0..2 {
        sabakan.set_ipam(&ipam()).await.expect("set");
        sabakan.set_dhcp(&dhcp).await.expect("set");
        sabakan.set_kernel_params(&params).await.expect("set");
    }
    assert_eq!(sabakan.ipam().await.expect("an answer"), Some(ipam()));
    assert_eq!(sabakan.dhcp().await.expect("an answer"), Some(dhcp));
    assert_eq!(sabakan.kernel_params().await.expect("an answer"), Some(params));

    let wrong = IpamConfig { node_ip_per_node: 0, ..ipam() };
    let error = sabakan.set_ipam(&wrong).await.expect_err("a number is 0");
    assert!(matches!(error, SabakanError::Refused { status: 400, .. }), "{error}");
    bench.register("cs0", 0, "cs", &[]).await;
    let error = sabakan.set_ipam(&ipam()).await.expect_err("machines exist");
    assert!(matches!(error, SabakanError::Server { status: 500, .. }), "{error}");
}

async fn the_newest_image_is_at_the_end(bench: &impl Bench) {
    assert_eq!(image_ids(bench).await, Vec::<String>::new());
    put_image(bench, "1.0.0", b"kernel").await.expect("uploaded");
    put_image(bench, "2.0.0", b"kernel").await.expect("uploaded");
    assert_eq!(image_ids(bench).await, ["1.0.0", "2.0.0"]);
    let first = bench.sabakan().images().await.expect("an index").remove(0);
    put_image(bench, "1.0.0", b"kernel").await.expect("the same once more");
    assert_eq!(image_ids(bench).await, ["2.0.0", "1.0.0"]);
    assert_eq!(bench.sabakan().images().await.expect("an index").pop(), Some(first.clone()));
    assert!(first.exists && first.size >= 5 * 512, "{first:?}");
    let error = put_image(bench, "1.0.0", b"other").await.expect_err("another content");
    assert!(matches!(error, SabakanError::Server { status: 500, .. }), "{error}");
    assert_eq!(image_ids(bench).await, ["2.0.0", "1.0.0"]);
}

async fn an_image_that_was_dropped_does_not_come_back(bench: &impl Bench) {
    for id in ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"] {
        put_image(bench, id, b"kernel").await.expect("uploaded");
    }
    assert_eq!(image_ids(bench).await, ["2.0", "3.0", "4.0", "5.0", "6.0"]);
    let error = put_image(bench, "1.0", b"kernel").await.expect_err("dropped");
    assert!(error.is_conflict(), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
}

async fn every_upload_of_an_asset_replaces_it_under_a_new_number(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    assert_eq!(sabakan.assets().await.expect("names"), []);
    assert_eq!(sabakan.asset(&asset_name("b")).await.expect("an answer"), None);
    let mut upload = known(b"one").content_type("text/plain");
    upload.options = [("version".to_owned(), "1".to_owned())].into();
    let first = put_asset(bench, "b", &upload).await;
    put_asset(bench, "a", &known(b"two")).await;
    let again = put_asset(bench, "b", &upload).await;
    assert!(!first.replaced && again.replaced && first.id != again.id, "{first:?} {again:?}");
    assert_eq!(sabakan.assets().await.expect("names"), [asset_name("a"), asset_name("b")]);
    let meta = sabakan.asset(&asset_name("b")).await.expect("an answer").expect("an asset");
    assert_eq!((meta.id, meta.size, meta.exists), (again.id, 3, true));
    assert_eq!(meta.sha256, ContentDigest::of(b"one"));
    assert_eq!((meta.content_type.as_str(), meta.options), ("text/plain", upload.options));
    // Content whose digest nobody knew before it was read.
    let read = put_asset(bench, "b", &reader(b"three", 5)).await;
    assert_eq!(read.sha256, ContentDigest::of(b"three"));
    let empty = put_asset(bench, "empty", &reader(b"", 0)).await;
    assert_eq!(empty.sha256, ContentDigest::of(b""));
}

async fn an_asset_with_another_digest_than_announced_is_refused(bench: &impl Bench) {
    put_asset(bench, "a", &known(b"right")).await;
    let content =
        Content::reader(5, Cursor::new(b"wrong")).with_digest(ContentDigest::of(b"right"));
    let upload = AssetUpload::new(content);
    let refused = bench.sabakan().upload_asset(&asset_name("a"), &upload, &|_| {}).await;
    let error = refused.expect_err("another digest");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    let meta = bench.sabakan().asset(&asset_name("a")).await.expect("an answer").expect("one");
    assert_eq!(meta.sha256, ContentDigest::of(b"right"));
}

async fn content_of_another_length_than_announced_leaves_what_was_there(bench: &impl Bench) {
    put_asset(bench, "a", &known(b"right")).await;
    for (length, expected) in
        [(9, "it ended after 5 of 9 bytes"), (3, "it goes on after the 3 bytes")]
    {
        let upload = reader(b"wrong", length);
        let refused = bench.sabakan().upload_asset(&asset_name("a"), &upload, &|_| {}).await;
        let SabakanError::Content { source, .. } = refused.expect_err("another length") else {
            panic!("another error");
        };
        assert!(source.to_string().starts_with(expected), "{source}");
    }
    let kernel = Content::reader(9, Cursor::new(b"wrong"));
    let refused = bench
        .sabakan()
        .upload_image(&image_id("1.0"), &kernel, &Content::bytes(*b"i"), &|_| {})
        .await;
    assert!(matches!(refused, Err(SabakanError::Content { .. })), "{refused:?}");
    let meta = bench.sabakan().asset(&asset_name("a")).await.expect("an answer").expect("one");
    assert_eq!(meta.sha256, ContentDigest::of(b"right"));
    assert_eq!(image_ids(bench).await, Vec::<String>::new());
}

async fn uploads_tell_how_far_they_are(bench: &impl Bench) {
    let seen = Mutex::new(Vec::<UploadProgress>::new());
    let progress = |progress| seen.lock().expect("no panic").push(progress);
    let upload = AssetUpload::new(Content::bytes(vec![7; 3_000_000]));
    bench.sabakan().upload_asset(&asset_name("a"), &upload, &progress).await.expect("uploaded");
    let seen = seen.into_inner().expect("no panic");
    assert!(seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert_eq!(seen.last(), Some(&UploadProgress { done: 3_000_000, total: 3_000_000 }));
}

async fn templates_are_listed_by_version_and_never_overwritten(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    sabakan.set_ipam(&ipam()).await.expect("set");
    let cs = role("cs");
    assert_eq!(sabakan.ignitions(&cs).await.expect("ids"), []);
    let ids = ["2026.11.21-40152", "1.0.0", "2026.2.3-1"].map(ignition_id);
    for id in &ids {
        assert_eq!(sabakan.ignition(&cs, id).await.expect("an answer"), None);
        sabakan.upload_ignition(&cs, id, &template("{{ .Spec.Serial }}")).await.expect("uploaded");
    }
    let [newest, oldest, middle] = ids;
    let expected = [oldest.clone(), middle, newest];
    assert_eq!(sabakan.ignitions(&cs).await.expect("ids"), expected);
    let refused = sabakan.upload_ignition(&cs, &oldest, &template("other")).await;
    let error = refused.expect_err("it is there");
    assert!(error.is_conflict(), "{error}");
    let stored = sabakan.ignition(&cs, &oldest).await.expect("an answer");
    assert_eq!(stored, Some(template("{{ .Spec.Serial }}")));
    assert_eq!(sabakan.ignitions(&role("ss")).await.expect("ids"), []);
}

async fn of_each_role_the_ten_highest_templates_are_kept(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    sabakan.set_ipam(&ipam()).await.expect("set");
    let cs = role("cs");
    for number in (1..=12).rev() {
        let id = ignition_id(&format!("1.{number}"));
        sabakan.upload_ignition(&cs, &id, &template("")).await.expect("uploaded");
    }
    let kept = sabakan.ignitions(&cs).await.expect("ids");
    let expected: Vec<_> = (3..=12).map(|number| ignition_id(&format!("1.{number}"))).collect();
    assert_eq!(kept, expected);
}

async fn a_template_that_cannot_be_rendered_is_refused(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    let (cs, id) = (role("cs"), ignition_id("1.0.0"));
    let is_refused = |result: Result<(), SabakanError>| match result {
        Err(SabakanError::Refused { status: 400, .. }) => {}
        other => panic!("{other:?}"),
    };
    // The machine for which it is rendered once has addresses.
    is_refused(sabakan.upload_ignition(&cs, &id, &template("")).await);
    sabakan.set_ipam(&ipam()).await.expect("set");
    is_refused(sabakan.upload_ignition(&cs, &id, &template("{{ Metadata \"nope\" }}")).await);
    is_refused(sabakan.upload_ignition(&cs, &id, &template("{{ if true }}")).await);
    sabakan.upload_ignition(&cs, &id, &template("{{ Metadata \"version\" }}")).await.expect("fine");
    let large = template(&"x".repeat(IgnitionTemplate::MAX));
    let error = sabakan.upload_ignition(&cs, &id, &large).await.expect_err("too large");
    assert!(matches!(error, SabakanError::Oversized { .. }), "{error}");
}

async fn what_is_there_is_not_sent_again(bench: &impl Bench) {
    let sabakan = bench.sabakan();
    sabakan.set_ipam(&ipam()).await.expect("set");
    let ensure = Ensure::default();
    let none = |_: UploadProgress| {};
    let (a, cs) = (asset_name("a"), role("cs"));
    for (content, expected) in
        [(b"one", Ensured::Uploaded), (b"one", Ensured::Present), (b"two", Ensured::Uploaded)]
    {
        let ensured = ensure.asset(sabakan, &a, &known(content), &none).await;
        assert_eq!(ensured.expect("there"), expected);
    }
    // Without a digest, nobody can know.
    let ensured = ensure.asset(sabakan, &a, &reader(b"two", 3), &none).await;
    assert_eq!(ensured.expect("there"), Ensured::Uploaded);

    put_image(bench, "1.0", b"kernel").await.expect("uploaded");
    let (kernel, initrd) = (Content::bytes(*b"kernel"), Content::bytes(*b"initrd"));
    for (id, expected) in [
        ("2.0", Ensured::Uploaded),
        ("2.0", Ensured::Present),
        // Not the newest, and there all the same.
        ("1.0", Ensured::Present),
    ] {
        let ensured = ensure.image(sabakan, &image_id(id), &kernel, &initrd, &none).await;
        assert_eq!(ensured.expect("there"), expected, "{id}");
    }
    assert_eq!(image_ids(bench).await, ["1.0", "2.0"]);

    for (id, expected) in
        [("1.0", Ensured::Uploaded), ("2.0", Ensured::Uploaded), ("1.0", Ensured::Present)]
    {
        let ensured = ensure.ignition(sabakan, &cs, &ignition_id(id), &template("")).await;
        assert_eq!(ensured.expect("there"), expected, "{id}");
    }
}
