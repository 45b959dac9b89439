//! The stand-in's odd shapes, as bytes (external-apis §1, §8).

mod common;

use common::{Stage, told};
use neco_sabakan::Sabakan as _;
use neco_sabakan::contract::{Bench as _, ipam};
use neco_sabakan::fake::{Asked, FakeSabakan, Fault, Rule, ServeOptions};
use serde_json::{Value, json};

const FORBIDDEN_WAY: &str =
    "transition from [ uninitialized ] to [ unhealthy ] is forbidden: Internal Server Error";

fn error(status: u16, text: &str) -> (u16, String) {
    (status, json!({ "status": status, "error": text }).to_string())
}

#[tokio::test]
async fn what_is_empty_has_the_shape_that_sabakan_gives_it() {
    let stage = Stage::new().await;
    let not_found = error(404, "requested resource is not found");
    assert_eq!(stage.get("api/v1/machines").await, not_found);
    assert_eq!(stage.get("api/v1/config/dhcp").await, not_found);
    assert_eq!(stage.get("api/v1/kernel_params/coreos").await, not_found);
    assert_eq!(stage.get("").await, not_found);
    assert_eq!(stage.get("api/v1/images/coreos").await, (200, "[]".to_owned()));
    assert_eq!(stage.get("api/v1/assets").await, (200, "[]".to_owned()));
    assert_eq!(stage.get("api/v1/ignitions/cs").await, (200, "null".to_owned()));
    let put = stage.put("api/v1/config/dhcp", "{\"gateway-offset\":1}").await;
    assert_eq!(put, (200, "null".to_owned()));
    let put = stage.put("api/v1/kernel_params/coreos", "console=ttyS0").await;
    assert_eq!(put, (200, "null".to_owned()));
    assert_eq!(stage.get("api/v1/kernel_params/coreos").await.1, "console=ttyS0");
    assert_eq!(stage.put("api/v1/machines", "[]").await, error(405, "method not allowed"));
    assert_eq!(stage.get("version").await, (200, json!({ "version": "3.1.4" }).to_string()));
    // Over TLS there are disk keys alone.
    assert_eq!(told(stage.raw.get(stage.keys_url("version"))).await, not_found);
    assert_eq!(stage.get("api/v1/crypts/x/y").await, not_found);
}

#[tokio::test]
async fn assets_have_numbers_in_texts_and_want_their_headers() {
    let stage = Stage::new().await;
    let put = |body: &'static str| stage.raw.put(stage.url("api/v1/assets/a")).body(body);
    let typed = |body| put(body).header("content-type", "text/plain");
    let missing = error(400, "invalid request: content type is not specified");
    assert_eq!(told(put("x")).await, missing);
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>("x")]);
    let chunked = typed("").body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(told(chunked).await, error(411, "content-length is required"));
    let digested = |digest: &str| typed("x").header("X-Sabakan-Asset-SHA256", digest);
    assert_eq!(told(digested("zz")).await.0, 400);
    assert_eq!(told(digested(&"0".repeat(64))).await.0, 500);
    assert_eq!(told(typed("x").header("X-Sabakan-Asset-Options-a", "-")).await.0, 400);
    let optional = typed("x").header("X-Sabakan-Asset-Options-Version", "1.0");
    assert_eq!(told(optional).await, (201, "{\"status\":201,\"id\":\"1\"}".to_owned()));
    assert_eq!(told(typed("yy")).await, (200, "{\"status\":200,\"id\":\"2\"}".to_owned()));
    let meta: Value =
        serde_json::from_str(&stage.get("api/v1/assets/a/meta").await.1).expect("JSON");
    assert_eq!(
        (&meta["id"], &meta["size"], &meta["exists"]),
        (&json!("2"), &json!(2), &json!(true))
    );
    assert_eq!(meta["options"], json!({}));
    assert_eq!(meta["urls"], json!([stage.url("api/v1/assets/a")]));

    let got = stage.raw.get(stage.url("api/v1/assets/a")).send().await.expect("an answer");
    assert_eq!(got.headers()["x-sabakan-asset-id"], "2");
    assert_eq!(got.headers()["content-type"], "text/plain");
    assert_eq!(got.text().await.expect("a text"), "yy");
    // A replica that has no copy yet sends elsewhere.
    stage.fake.lose_copy("a");
    let got = stage.raw.get(stage.url("api/v1/assets/a")).send().await.expect("an answer");
    assert_eq!(got.status().as_u16(), 302);
    assert_eq!(got.headers()["location"], *stage.url("api/v1/assets/a"));
    let deleted = told(stage.raw.delete(stage.url("api/v1/assets/a"))).await;
    assert_eq!(deleted, (200, String::new()));
    assert_eq!(stage.get("api/v1/assets/a/meta").await.0, 404);
}

#[tokio::test]
async fn archives_that_are_no_images_are_refused() {
    let stage = Stage::new().await;
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["kernel", "initrd.gz", "extra"] {
        std::fs::write(dir.path().join(name), name.repeat(1000)).expect("written");
    }
    let tar = |names: &[&str]| {
        let output = std::process::Command::new("tar")
            .args(["--format=ustar", "-c", "-C"])
            .arg(dir.path())
            .args(names)
            .output()
            .expect("tar");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let whole = tar(&["initrd.gz", "kernel"]);
    let put = async |id: &str, body: Vec<u8>| {
        stage.put(&format!("api/v1/images/coreos/{id}"), body).await.0
    };
    assert_eq!(put("1.0", tar(&["kernel"])).await, 400);
    assert_eq!(put("1.0", tar(&["kernel", "initrd.gz", "extra"])).await, 400);
    assert_eq!(put("1.0", whole[..2000].to_vec()).await, 500);
    assert_eq!(put("1.0", b"x".repeat(5000)).await, 500);
    assert_eq!(put("1_0", whole.clone()).await, 400);
    assert_eq!(put("1.0", whole.clone()).await, 201);
    let got = stage.raw.get(stage.url("api/v1/images/coreos/1.0")).send().await.expect("an answer");
    assert_eq!(got.headers()["content-type"], "application/tar");
    assert_eq!(got.bytes().await.expect("bytes"), whole);
    let deleted = told(stage.raw.delete(stage.url("api/v1/images/coreos/1.0"))).await;
    assert_eq!(deleted, (200, String::new()));
    assert_eq!(put("1.0", whole).await, 409);
}

#[tokio::test]
async fn machines_are_registered_all_or_none() {
    let stage = Stage::new().await;
    let post = |machines: Value| {
        let request = stage.raw.post(stage.url("api/v1/machines")).json(&machines);
        async { told(request).await.0 }
    };
    let machine = |serial: &str, role: &str| json!({ "serial": serial, "rack": 0, "role": role, "bmc": { "type": "IPMI-2.0" } });
    assert_eq!(post(json!([machine("a", "cs")])).await, 500);
    stage.client.set_ipam(&ipam()).await.expect("set");
    for wrong in [
        json!({}),
        json!([machine("", "cs")]),
        json!([machine("a", "-")]),
        json!([{ "serial": "a", "rack": 0, "role": "cs", "bmc": { "type": "" } }]),
        json!([{ "serial": "a", "rack": 0, "role": "cs", "labels": { "-": "" }, "bmc": { "type": "x" } }]),
    ] {
        assert_eq!(post(wrong.clone()).await, 400, "{wrong}");
    }
    assert_eq!(post(json!([machine("a", "boot"), machine("b", "cs")])).await, 201);
    assert_eq!(post(json!([machine("c", "cs"), machine("d", "boot")])).await, 409);
    assert_eq!(post(json!([machine("c", "cs"), machine("b", "cs")])).await, 409);
    let many: Vec<_> = (0..28).map(|number| machine(&format!("m{number}"), "cs")).collect();
    assert_eq!(post(json!(many)).await, 500);
    let (status, all) = stage.get("api/v1/machines?serial=&labels=").await;
    let all: Vec<Value> = serde_json::from_str(&all).expect("JSON");
    assert_eq!((status, all.len()), (200, 2));
    assert_eq!(stage.get("api/v1/machines?labels=x").await.0, 500);
    assert_eq!(stage.get("api/v1/machines?rack=0&without-rack=1").await.0, 400);

    assert_eq!(stage.put("api/v1/labels/b/datacenter", "dc1").await, (200, String::new()));
    assert_eq!(stage.get("api/v1/machines?labels=datacenter%3Ddc1").await.0, 200);
    assert_eq!(stage.put("api/v1/state/b", "unhealthy").await, error(500, FORBIDDEN_WAY));
    assert_eq!(stage.put("api/v1/state/b", "nonsense").await.0, 400);
    assert_eq!(stage.put("api/v1/state/nobody", "healthy").await.0, 404);
    assert_eq!(stage.put("api/v1/state/b", "retiring").await, (200, String::new()));
    assert_eq!(stage.get("api/v1/state/b").await, (200, "retiring".to_owned()));
    let remove = || told(stage.raw.delete(stage.url("api/v1/machines/b")));
    assert_eq!(remove().await.0, 500);
    assert_eq!(stage.put("api/v1/state/b", "retired").await.0, 200);
    assert_eq!(remove().await, (200, String::new()));
}

#[tokio::test]
async fn graphql_answers_what_was_asked_for_and_nothing_else() {
    let stage = Stage::new().await;
    stage.client.set_ipam(&ipam()).await.expect("set");
    stage.register("a", 0, "cs", &[]).await;
    let ask = |body: Value| {
        let request = stage.raw.post(stage.url("graphql")).json(&body);
        async move {
            let (status, text) = told(request).await;
            (status, serde_json::from_str::<Value>(&text).expect("JSON"))
        }
    };
    let query = "query($s: [MachineState!]) { searchMachines(having: {states: $s, racks: [0]}) \
                 { spec { serial labels { name } } status { now: state } } }";
    let asked = json!({ "query": query, "variables": { "s": ["UNINITIALIZED"] } });
    let found = json!({ "data": { "searchMachines": [
        { "spec": { "serial": "a", "labels": null }, "status": { "now": "UNINITIALIZED" } }
    ] } });
    assert_eq!(ask(asked).await, (200, found));
    let (status, answer) =
        ask(json!({ "query": "{ machine(serial: \"b\") { spec { serial } } }" })).await;
    assert_eq!(status, 200);
    assert_eq!(answer["errors"], json!([{ "message": "not found", "path": ["machine"] }]));
    let change = "mutation { setMachineState(serial: \"a\", state: UNHEALTHY) { state } }";
    let (status, answer) = ask(json!({ "query": change })).await;
    assert_eq!(status, 200);
    let extensions = json!({ "serial": "a", "type": "INVALID_STATE_TRANSITION" });
    assert_eq!(answer["errors"][0]["extensions"], extensions);
    for wrong in [
        "nonsense",
        "{ searchMachines { spec { nonsense } } }",
        "{ searchMachines { spec } }",
        "{ searchMachines { spec { serial { x } } } }",
        "{ searchMachines(nonsense: 1) { spec { serial } } }",
        "{ searchMachines(having: {states: [NONSENSE]}) { spec { serial } } }",
        "query($s: ID!) { machine(serial: $s) { spec { serial } } }",
        "mutation { setMachineState(serial: \"a\", state: NONSENSE) { state } }",
        "{ searchMachines",
    ] {
        assert_eq!(ask(json!({ "query": wrong })).await.0, 422, "{wrong}");
    }
    let untyped = stage.raw.post(stage.url("graphql")).body("{\"query\":\"{x}\"}");
    assert_eq!(told(untyped).await.0, 400);
    let by_get = stage.get("graphql?query=%7BsearchMachines%7Bspec%7Bserial%7D%7D%7D").await;
    assert_eq!(by_get.0, 200, "{by_get:?}");
}

#[tokio::test]
async fn a_stand_in_with_a_directory_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = || ServeOptions { directory: Some(dir.path().to_owned()), ..Default::default() };
    let stage = Stage::with(options(), common::quick()).await;
    stage.client.set_ipam(&ipam()).await.expect("set");
    stage.register("a", 0, "cs", &[("x", "y")]).await;
    stage.add_disk_key("a", "pci-0").await;
    let put = stage.raw.put(stage.url("api/v1/assets/a")).header("content-type", "text/plain");
    told(put.body("content")).await;
    let machines = stage.client.machines(&Default::default()).await.expect("machines");
    stage.fake.stop().await;

    let again = Stage::with(options(), common::quick()).await;
    assert_eq!(again.client.ipam().await.expect("an answer"), Some(ipam()));
    let found = again.client.machines(&Default::default()).await.expect("machines");
    assert_eq!(found[0].spec, machines[0].spec);
    assert_eq!(again.get("api/v1/assets/a").await, (200, "content".to_owned()));
    let key = told(again.raw.get(again.keys_url("api/v1/crypts/a/pci-0"))).await;
    assert_eq!(key, (200, "secret".to_owned()));
    let put = again.raw.put(again.url("api/v1/assets/b")).header("content-type", "text/plain");
    assert_eq!(told(put.body("x")).await.1, "{\"status\":201,\"id\":\"2\"}");
}

#[tokio::test]
async fn stories_set_faults_and_read_the_log_over_http() {
    let options = ServeOptions { control: true, ..Default::default() };
    let fake = FakeSabakan::start(options).await.expect("a stand-in");
    let raw = neco_http::client(&fake.url(), None).expect("settings").build().expect("a client");
    let url = |path: &str| format!("{}{path}", fake.url());
    let rules = vec![Rule::once("GET", "/version", Fault::full_disk())];
    let set = raw.put(url("stand-in/faults")).json(&rules);
    assert_eq!(told(set).await, (200, String::new()));
    assert_eq!(told(raw.get(url("version"))).await.0, 500);
    assert_eq!(told(raw.get(url("version"))).await.0, 200);
    let log = told(raw.get(url("stand-in/log"))).await.1;
    let log: Vec<Asked> = serde_json::from_str(&log).expect("a log");
    assert_eq!(log.iter().map(|asked| asked.status).collect::<Vec<_>>(), [Some(500), Some(200)]);
    told(raw.delete(url("stand-in/log"))).await;
    assert!(fake.log().all().is_empty());
    let secret = FakeSabakan::start(ServeOptions::default()).await.expect("a stand-in");
    assert_eq!(told(raw.get(format!("{}stand-in/log", secret.url()))).await.0, 404);
}
