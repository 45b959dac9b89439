//! Stand-ins, and a daemon among them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::tz::TimeZone;
use neco_base::Backoff;
use neco_process::clock::SystemClock;
use neco_sabakan::fake::{FakeSabakan, ServeOptions, TlsOptions};
use neco_sabakan::{IpamConfig, MachineQuery, MachineState, Sabakan as _, SabakanClient, Serial};
use neco_schema::{Key, Lrn, Op, Txn};
use neco_serf::{FakeSerf, SerfClient, Status};
use neco_store::{MemoryStore, Store as _};
use sabakan_state_setter::alerts::Alertmanager;
use sabakan_state_setter::hardware::Exporters;
use sabakan_state_setter::keys::SabakanKeys;
use sabakan_state_setter::power::Power;
use sabakan_state_setter::{Context, Drivers, Engine, ListFiles, Observation, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take to come about.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A type that bears nothing for long, one that bears much, one that checks nothing.
pub(crate) const LIST: &str = "machine-types:
  - name: qemu
    grace-period: 1ms
    metrics: &metrics
      - name: cpu
      - {name: disk, selector: {label-prefix: {device: HDD.}}, minimum-healthy-count: 1}
  - name: patient
    grace-period: 1h
    metrics: *metrics
  - name: free
";

/// What an exporter says where all is well.
pub(crate) const WELL: &str =
    "cpu{n=\"1\"} 0\ncpu{n=\"2\"} 0\ndisk{device=\"HDD.1\"} 0\ndisk{device=\"HDD.2\"} 0\n";

/// The stand-ins.
pub(crate) struct Bench {
    pub(crate) store: MemoryStore,
    pub(crate) sabakan: FakeSabakan,
    client: SabakanClient,
    pub(crate) serf: FakeSerf,
    pub(crate) exporters: Web,
    pub(crate) alertmanager: Web,
    pub(crate) power: Arc<FakePower>,
    dir: tempfile::TempDir,
}

/// A daemon that runs.
pub(crate) struct Daemon {
    pub(crate) context: Arc<Context>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Daemon {
    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(WITHIN, &mut self.task).await;
        ended.expect("it ends in time").expect("it ends in order");
    }

    pub(crate) fn observed(&self) -> Observation {
        self.context.observed().borrow().clone()
    }

    /// Waits until it sees this.
    pub(crate) async fn sees(&self, what: &str, is_so: impl Fn(&Observation) -> bool) {
        let mut observed = self.context.observed();
        let seen = tokio::time::timeout(WITHIN, observed.wait_for(|now| is_so(now))).await;
        if seen.is_err() {
            panic!("it does not see {what}: {:#?}", self.observed());
        }
    }

    /// Waits until it has looked so often since now.
    pub(crate) async fn looks(&self, times: u64) {
        let before = self.observed().looks;
        self.sees(&format!("{times} looks"), |now| now.looks >= before + times).await;
    }

    /// Waits until it is in trouble of this kind.
    pub(crate) async fn is_troubled_by(&self, what: &str) {
        let told = |now: &Observation| now.troubles.iter().any(|line| line.contains(what));
        self.sees(what, told).await;
    }
}

/// Management controllers that remember what they were told.
#[derive(Default)]
pub(crate) struct FakePower {
    pub(crate) off: Mutex<Vec<String>>,
    pub(crate) did: Mutex<Vec<String>>,
    pub(crate) refuses: Mutex<Option<String>>,
    /// Who retires machines, and begins anew with them, while their TPM is cleared.
    pub(crate) meanwhile: Mutex<Option<SabakanClient>>,
}

impl FakePower {
    fn act(&self, verb: &str, serial: &Serial) -> Result<(), String> {
        self.did.lock().unwrap().push(format!("{verb} {serial}"));
        self.refuses.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    pub(crate) fn did(&self) -> Vec<String> {
        let mut did = self.did.lock().unwrap().clone();
        did.sort();
        did
    }
}

#[async_trait]
impl Power for FakePower {
    async fn clear_tpm(&self, serial: &Serial) -> Result<(), String> {
        let other = self.meanwhile.lock().unwrap().take();
        if let Some(other) = other {
            for state in [MachineState::Retired, MachineState::Uninitialized] {
                other.set_machine_state(serial, state).await.expect("set");
            }
        }
        self.act("clear", serial)
    }

    async fn is_off(&self, serial: &Serial) -> Result<bool, String> {
        self.act("status", serial)?;
        Ok(self.off.lock().unwrap().contains(&serial.to_string()))
    }

    async fn stop(&self, serial: &Serial) -> Result<(), String> {
        self.act("stop", serial)?;
        self.off.lock().unwrap().push(serial.to_string());
        Ok(())
    }
}

/// Servers of pages: one for each address, with one port for all of them.
pub(crate) struct Web {
    said: Arc<Mutex<Said>>,
    pub(crate) port: u16,
    servers: Mutex<BTreeMap<Ipv4Addr, JoinHandle<()>>>,
}

#[derive(Default)]
struct Said {
    pages: BTreeMap<Ipv4Addr, String>,
    asked: Vec<String>,
    now: usize,
    most: usize,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.servers.lock().unwrap().values().for_each(JoinHandle::abort);
    }
}

impl Web {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let web = Self { said: Arc::default(), port, servers: Mutex::default() };
        web.serve(Ipv4Addr::LOCALHOST, listener);
        web
    }

    fn serve(&self, address: Ipv4Addr, listener: TcpListener) {
        let said = Arc::clone(&self.said);
        let page = move |RawQuery(query): RawQuery| async move {
            {
                let mut said = said.lock().unwrap();
                said.asked.push(format!("{address} {}", query.unwrap_or_default()));
                said.now += 1;
                said.most = said.most.max(said.now);
            }
            // So that others have the time to come.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut said = said.lock().unwrap();
            said.now -= 1;
            match said.pages.get(&address) {
                Some(page) => (StatusCode::OK, page.clone()),
                None => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
            }
        };
        let router = Router::new().fallback(get(page));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        self.servers.lock().unwrap().insert(address, server);
    }

    /// How many were answered at once at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.said.lock().unwrap().most
    }

    /// From now on this is what is said at this address.
    pub(crate) async fn say(&self, address: Ipv4Addr, page: &str) {
        self.said.lock().unwrap().pages.insert(address, page.to_owned());
        if !self.servers.lock().unwrap().contains_key(&address) {
            let place = SocketAddr::from((address, self.port));
            let bound = async {
                loop {
                    match TcpListener::bind(place).await {
                        Ok(listener) => return listener,
                        Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                    }
                }
            };
            let listener = tokio::time::timeout(WITHIN, bound).await;
            self.serve(address, listener.expect("the port is free there"));
        }
    }

    /// From now on it answers that it cannot.
    pub(crate) fn be_ill(&self, address: Ipv4Addr) {
        self.said.lock().unwrap().pages.remove(&address);
    }

    /// Addresses and queries of what was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.said.lock().unwrap().asked.clone()
    }
}

impl Bench {
    /// No machines yet, one registered boot server, which is alive.
    pub(crate) async fn new() -> Self {
        let issued =
            rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("made");
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("ca.crt"), issued.cert.pem()).expect("written");
        let https = TlsOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificates: issued.cert.pem().into_bytes(),
            key: issued.signing_key.serialize_pem().into_bytes(),
        };
        let options = ServeOptions { https: Some(https), ..ServeOptions::default() };
        let sabakan = FakeSabakan::start(options).await.expect("a port");
        let client = client(&sabakan);
        // All machines are this one, which listens at every address of 127.0.0.0/8. Each bench has a net of its own.
        static BENCHES: AtomicU8 = AtomicU8::new(100);
        let net = BENCHES.fetch_add(1, Ordering::SeqCst);
        let ipam: IpamConfig = serde_json::from_value(json!({
            "max-nodes-in-rack": 28, "node-ipv4-pool": format!("127.{net}.0.0/20"), "node-ipv4-offset": null,
            "node-ipv4-range-size": 6, "node-ipv4-range-mask": 26, "node-ip-per-node": 3,
            "node-index-offset": 3, "node-gateway-offset": 1, "bmc-ipv4-pool": "127.72.16.0/20",
            "bmc-ipv4-offset": null, "bmc-ipv4-range-size": 5, "bmc-ipv4-range-mask": 20,
            "bmc-ipv4-gateway-offset": 1,
        }))
        .expect("a configuration");
        client.set_ipam(&ipam).await.expect("set");
        let bench = Self {
            store: MemoryStore::default(),
            sabakan,
            client,
            serf: FakeSerf::start("boot-0").await.expect("a port"),
            exporters: Web::start().await,
            alertmanager: Web::start().await,
            power: Arc::default(),
            dir,
        };
        bench.register_boot_servers(1).await;
        bench.boot_server("boot-0", Status::Alive);
        bench.write_list(LIST);
        bench
    }

    pub(crate) async fn register_boot_servers(&self, count: u32) {
        for lrn in 0..count {
            let put = Op::put_bytes(&Key::BootServer(Lrn::new(lrn)), "");
            self.store.commit(&Txn::default().then(put)).await.expect("put");
        }
    }

    pub(crate) fn boot_server(&self, name: &str, status: Status) {
        let address = Ipv4Addr::new(127, 69, 9, name.as_bytes()[name.len() - 1]);
        self.serf.set(name, address.into(), status, &[("boot-server", "true")]);
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.dir.path().join("list.yml")
    }

    pub(crate) fn write_list(&self, text: &str) {
        // In one piece: a daemon may be reading it.
        let draft = self.dir.path().join("draft.yml");
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(draft, self.list()).expect("renamed");
    }

    /// The list with these alerts.
    pub(crate) fn write_alerts(&self, triggers: &str) {
        let port = self.alertmanager.port;
        self.write_list(&format!(
            "{LIST}alert-monitor:\n  alertmanager-endpoint: http://127.0.0.1:{port}/api/v2/\n  \
             trigger-alerts: {triggers}\n"
        ));
    }

    pub(crate) async fn alert(&self, alerts: Value) {
        self.alertmanager.say(Ipv4Addr::LOCALHOST, &alerts.to_string()).await;
    }

    /// Registers a machine of a type, and puts it into a state. It is alive, and all is well with it.
    pub(crate) async fn machine(&self, serial: &str, kind: &str, state: MachineState) -> Ipv4Addr {
        let machine = json!([{
            "serial": serial, "labels": {"machine-type": kind}, "rack": 0, "role": "cs",
            "bmc": {"type": "IPMI-2.0"},
        }]);
        let url = self.sabakan.url().join("/api/v1/machines").expect("a URL");
        let sent = reqwest::Client::builder().no_proxy().build().expect("a client");
        let sent = sent.post(url).json(&machine).send().await.expect("an answer");
        assert!(sent.status().is_success(), "{}", sent.text().await.unwrap_or_default());
        use MachineState::{Healthy, Retired, Retiring, Uninitialized};
        let way: &[MachineState] = match state {
            Uninitialized => &[],
            Healthy => &[Healthy],
            Retired => &[Retiring, Retired],
            Retiring => &[Retiring],
            ref other => &[Healthy, *other],
        };
        for state in way {
            self.client.set_machine_state(&self::serial(serial), *state).await.expect("set");
        }
        let address = self.machines().await[serial].1;
        self.exporters.say(address, WELL).await;
        self.serf(serial, address, Status::Alive, &[("systemd-units-failed", "")]);
        address
    }

    pub(crate) fn serf(&self, name: &str, at: Ipv4Addr, status: Status, tags: &[(&str, &str)]) {
        self.serf.set(name, at.into(), status, tags);
    }

    async fn machines(&self) -> BTreeMap<String, (MachineState, Ipv4Addr)> {
        let machines = self.client.machines(&MachineQuery::default()).await.expect("machines");
        let one = |machine: neco_sabakan::Machine| {
            (machine.spec.serial.to_string(), (machine.status.state, machine.spec.ipv4[0]))
        };
        machines.into_iter().map(one).collect()
    }

    pub(crate) async fn state(&self, serial: &str) -> MachineState {
        self.machines().await[serial].0
    }

    /// Waits until a machine is in a state.
    pub(crate) async fn becomes(&self, serial: &str, state: MachineState) {
        let reached = async {
            while self.state(serial).await != state {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(WITHIN, reached).await.is_err() {
            panic!("{serial} is {}, not {state}", self.state(serial).await);
        }
    }

    /// As a person does it, by REST.
    pub(crate) async fn put_state(&self, serial: &str, state: MachineState) {
        let url = self.sabakan.url().join(&format!("/api/v1/state/{serial}")).expect("a URL");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let put = client.put(url).body(state.as_str()).send().await.expect("an answer");
        assert!(put.status().is_success(), "{}", put.status());
    }

    pub(crate) async fn put_disk_key(&self, serial: &str) {
        let https = self.sabakan.https_url().expect("HTTPS");
        let url = https.join(&format!("/api/v1/crypts/{serial}/disk")).expect("a URL");
        let ca = std::fs::read(self.dir.path().join("ca.crt")).expect("a file");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build();
        let put = client.expect("a client").put(url).body("key").send().await.expect("an answer");
        assert!(put.status().is_success(), "{}", put.status());
    }

    /// How often disk keys were deleted.
    pub(crate) fn deletions(&self) -> usize {
        self.sabakan.log().all().iter().filter(|asked| asked.method == "DELETE").count()
    }

    /// A daemon on some host.
    pub(crate) fn start(&self, host: &str) -> Daemon {
        self.start_with(host, |_| {})
    }

    pub(crate) fn start_with(&self, host: &str, change: impl FnOnce(&mut Options)) -> Daemon {
        let drivers = Drivers {
            store: Arc::new(self.store.clone()),
            clock: Arc::new(SystemClock::default()),
            serf: Arc::new(SerfClient::new(neco_serf::Options::new(
                self.serf.address().to_string(),
            ))),
            sabakan: Arc::new(client(&self.sabakan)),
            hardware: Arc::new(Exporters::new(self.exporters.port).expect("a client")),
            alerts: Arc::new(Alertmanager::new().expect("a client")),
            keys: Arc::new(SabakanKeys {
                url: self.sabakan.url(),
                https: self.sabakan.https_url().expect("HTTPS"),
                ca: self.dir.path().join("ca.crt"),
                user: "test".to_owned(),
            }),
            power: Arc::clone(&self.power) as Arc<dyn Power>,
        };
        let mut options = Options {
            host: host.to_owned(),
            session_ttl: WITHIN,
            interval: Duration::from_millis(50),
            parallel: 4,
            mass_loss_after: Duration::from_secs(3600),
        };
        change(&mut options);
        let files = ListFiles::new(self.list(), None, TimeZone::UTC);
        let context = Arc::new(Context::new(drivers, options, files));
        let stop = CancellationToken::new();
        let task = tokio::spawn(Engine::new(Arc::clone(&context)).run(stop.clone()));
        Daemon { context, stop, task }
    }
}

/// A client that does not try for long.
pub(crate) fn client(sabakan: &FakeSabakan) -> SabakanClient {
    let mut options = neco_sabakan::Options::new(sabakan.url(), "test");
    options.limits.tries = 1;
    options.limits.answer = WITHIN;
    options.limits.between = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
    SabakanClient::new(&options).expect("a client")
}

fn serial(text: &str) -> Serial {
    Serial::new(text).expect("a serial")
}
