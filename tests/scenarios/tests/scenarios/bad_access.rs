//! An etcd that asks for certificates and passwords, and programs that show it the wrong ones.

use std::fs;
use std::ops::Range;
use std::path::Path;

use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, Permission, PermissionType, TlsOptions,
};
use neco_base::Secret;
use neco_etcd::{MemberConfig, Server, ServerTls};
use neco_playground::{Access, BootServer};
use neco_scenarios::{Said, Scenario, all_say_more, lines, necoctl, processes, restarted};
use neco_schema::PREFIX;
use neco_store::Options;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};

/// The user of the daemons, and a password that nobody may see.
const USER: &str = "neco";
const PASSWORD: &str = "pw-whatNobodyMaySee-7f3a";
/// Years in which a certificate is valid.
const ALWAYS: Range<i32> = 1975..4096;
const EXPIRED: Range<i32> = 1975..1976;
const NOT_YET: Range<i32> = 4095..4096;
/// How often one thing may be said of one refusal: by the loop, and by what runs beside it.
const SAID: usize = 3;

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
struct Pair {
    cert: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// One for either side.
    fn issue(&self, names: &[&str], years: Range<i32>) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn local(&self, years: Range<i32>) -> Pair {
        self.issue(&["127.0.0.1", "localhost"], years)
    }
}

/// The files that the members of etcd read for every connection.
fn serve(dir: &Path, pair: &Pair) {
    fs::write(dir.join("server.crt"), &pair.cert).expect("room");
    fs::write(dir.join("server.key"), &pair.key).expect("room");
}

/// What a client shows.
#[derive(Clone)]
struct Shown {
    ca: String,
    pair: Option<(String, String)>,
    login: Option<(&'static str, &'static str)>,
}

impl Shown {
    /// As lines of a configuration file.
    fn lines(&self) -> String {
        let block = |key: &str, pem: &str| {
            let body: String = pem.lines().map(|line| format!("  {line}\n")).collect();
            format!("{key}: |\n{body}")
        };
        let mut text = block("tls-ca", &self.ca);
        if let Some((cert, key)) = &self.pair {
            text += &block("tls-cert", cert);
            text += &block("tls-key", key);
        }
        if let Some((user, password)) = self.login {
            text += &format!("username: {user}\npassword: \"{password}\"\n");
        }
        text
    }

    fn options(&self) -> Options {
        let (cert, key) = self.pair.clone().expect("a certificate");
        Options {
            ca: Some(self.ca.clone().into_bytes()),
            cert: Some(cert.into_bytes()),
            key: Some(Secret::new(key.into_bytes())),
            user: Some(USER.to_owned()),
            password: Some(PASSWORD.into()),
            ..Options::default()
        }
    }

    fn with_pair(&self, pair: Pair) -> Self {
        Self { pair: Some((pair.cert, pair.key)), ..self.clone() }
    }
}

/// One way not to be let in.
struct Wrong {
    what: &'static str,
    /// The whole configuration file.
    config: String,
    /// What every line about it has.
    words: Vec<String>,
    /// Whether it is mended without a restart.
    renewed: bool,
}

/// Users `root` and `neco`, the latter with a role for the prefix, and one without any role; and nobody else any more.
async fn ask_for_users(url: &str, shown: &Shown) {
    let (cert, key) = shown.pair.clone().expect("a certificate");
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(&shown.ca))
        .identity(Identity::from_pem(cert, key));
    let options = ConnectOptions::new().with_tls(tls);
    let mut client = Client::connect([url], Some(options)).await.expect("a client");
    client.user_add("root", "root-password", None).await.expect("added");
    client.user_grant_role("root", "root").await.expect("granted");
    client.role_add(USER).await.expect("added");
    let permission = Permission::new(PermissionType::Readwrite, PREFIX).with_prefix();
    client.role_grant_permission(USER, permission).await.expect("granted");
    for user in [USER, "nobody"] {
        client.user_add(user, PASSWORD, None).await.expect("added");
    }
    client.user_grant_role(USER, USER).await.expect("granted");
    client.auth_enable().await.expect("enabled");
}

/// The daemons of a server.
fn programs(server: &BootServer) -> Vec<&'static str> {
    let updater = server.updater().map(|_| "neco-updater");
    std::iter::once("neco-worker").chain(updater).collect()
}

/// How many lines of the daemons of a server call etcd silent and do not say what may be wrong.
fn unexplained(server: &BootServer, wrong: &Wrong) -> usize {
    let about = |line: &&String| {
        let hints = wrong.words.iter().filter(|word| !word.starts_with("http"));
        !hints.into_iter().any(|word| line.contains(word.as_str()))
    };
    let said = |daemon| lines(server, daemon, &[" WARN ", "etcd does not answer"]);
    programs(server).into_iter().map(|daemon| said(daemon).iter().filter(about).count()).sum()
}

/// Lets the daemons of a server begin with something wrong, and looks at what they and the command line say; puts it
/// right, and waits until they go on.
async fn kept_out(scenario: &Scenario, server: &BootServer, wrong: &Wrong, right: &str) {
    let file = server.root().join("etc/neco/config.yml");
    let words: Vec<&str> =
        std::iter::once(" WARN ").chain(wrong.words.iter().map(String::as_str)).collect();
    let complaints = Said::by_daemons(server, &words);
    let silent = unexplained(server, wrong);
    fs::write(&file, &wrong.config).expect("room");
    let waiting = restarted(server).await;
    all_say_more(scenario, &complaints).await;
    assert_eq!(unexplained(server, wrong), silent, "{}", wrong.what);

    let told = necoctl(server, &["status", "--timeout=3s"]).await.ended(1);
    let report: Vec<&str> = told.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(report.len(), 1, "{}: {}", wrong.what, told.err);
    for word in &wrong.words {
        assert!(report[0].contains(word.as_str()), "{}: {word} in {}", wrong.what, told.err);
    }
    assert!(!format!("{}{}", told.out, told.err).contains(PASSWORD), "{}", wrong.what);
    assert_eq!(processes(server), waiting, "{}: nobody ended for it", wrong.what);

    let again = Said::by_daemons(server, &["etcd answers again"]);
    fs::write(&file, right).expect("room");
    if wrong.renewed {
        all_say_more(scenario, &again).await;
        assert_eq!(processes(server), waiting, "{}: nobody was started for it", wrong.what);
    } else {
        restarted(server).await;
    }
    for said in complaints {
        let said = said.since(scenario);
        assert!(said.len() <= SAID, "{}: said again and again: {said:#?}", wrong.what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn whoever_is_not_let_into_etcd_says_why_and_comes_in_once_that_is_mended() {
    let (authority, stranger) = (Authority::new("the site's"), Authority::new("a stranger's"));
    let dir = tempfile::tempdir().expect("room");
    serve(dir.path(), &authority.local(ALWAYS));
    fs::write(dir.path().join("ca.crt"), authority.0.pem()).expect("room");
    let tls = ServerTls {
        cert: dir.path().join("server.crt"),
        key: dir.path().join("server.key"),
        trusted_ca: Some(dir.path().join("ca.crt")),
        client_cert_auth: true,
    };
    let pair = authority.local(ALWAYS);
    let body = pair.key.lines().nth(1).expect("a body").to_owned();
    let shown = Shown {
        ca: authority.0.pem(),
        pair: Some((pair.cert, pair.key)),
        login: Some((USER, PASSWORD)),
    };
    let access = Access { tls, client: shown.options(), config: shown.lines() };
    let secrets = vec![PASSWORD.to_owned(), body];
    let scenario = Scenario::begin_guarded(access, secrets).await;

    // First everything is right: an update over TLS, by clients that show certificates and log in.
    let endpoint = scenario.etcd().await.endpoints().swap_remove(0);
    ask_for_users(&endpoint, &shown).await;
    let version = scenario.publish_update().await;
    scenario.completed(&version).await;

    let server = scenario.server(1);
    let right = fs::read_to_string(server.root().join("etc/neco/config.yml")).expect("a file");
    let plain = Server::start(MemberConfig::default()).await.expect("another etcd");
    let ours = shown.lines();
    let with = |other: &Shown| right.replacen(&ours, &other.lines(), 1);
    let wrong = |what, other: Shown, words: &[&str]| Wrong {
        what,
        config: with(&other),
        words: words
            .iter()
            .map(|&word| word.to_owned())
            .chain(["https://127.0.0.1:".to_owned()])
            .collect(),
        renewed: true,
    };
    let refused = "accept the client certificate: check tls-cert-file and tls-key-file";
    let foreign = stranger.local(ALWAYS);
    let cases = [
        wrong(
            "another authority",
            Shown { ca: stranger.0.pem(), ..shown.clone() },
            &["no trusted connection to etcd", "tls-ca-file"],
        ),
        wrong(
            "no certificate",
            Shown { pair: None, ..shown.clone() },
            &["may require a client certificate: set tls-cert-file and tls-key-file"],
        ),
        wrong("a stranger's certificate", shown.with_pair(foreign), &[refused]),
        wrong("an expired certificate", shown.with_pair(authority.local(EXPIRED)), &[refused]),
        wrong("a certificate of later", shown.with_pair(authority.local(NOT_YET)), &[refused]),
        wrong(
            "a wrong password",
            Shown { login: Some((USER, "a guess")), ..shown.clone() },
            &["does not let user \"neco\" in", "check username and password"],
        ),
        wrong(
            "an unknown user",
            Shown { login: Some(("somebody", PASSWORD)), ..shown.clone() },
            &["does not let user \"somebody\" in", "check username and password"],
        ),
        wrong(
            "a user without a role",
            Shown { login: Some(("nobody", PASSWORD)), ..shown.clone() },
            &["does not permit user \"nobody\"", "grant the user a role"],
        ),
        Wrong {
            what: "plain text to a server of TLS",
            config: with(&Shown { ca: String::new(), pair: None, login: None })
                .replace("tls-ca: |\n", "")
                .replace("https://127", "http://127"),
            words: ["http://127.0.0.1:", "write https://"].map(str::to_owned).to_vec(),
            renewed: false,
        },
        Wrong {
            what: "TLS to a server of plain text",
            config: format!(
                "endpoints: ['{}']\n",
                plain.client_url().replace("http://", "https://")
            ),
            words: ["https://127.0.0.1:", "write http://"].map(str::to_owned).to_vec(),
            renewed: false,
        },
    ];
    for case in &cases {
        kept_out(&scenario, server, case, &right).await;
    }

    // The certificates of the members: they show others to everybody who comes.
    for (pair, words) in [
        (authority.local(EXPIRED), "expired"),
        (authority.local(NOT_YET), "not valid yet"),
        (authority.issue(&["elsewhere.example"], ALWAYS), "not valid for name"),
    ] {
        let words = [" WARN ", "https://127.0.0.1:", words, "check the server's certificate"];
        let complaints = Said::by_daemons(server, &words);
        serve(dir.path(), &pair);
        let waiting = restarted(server).await;
        all_say_more(&scenario, &complaints).await;
        let told = necoctl(server, &["status", "--timeout=3s"]).await.ended(1).err;
        assert!(words[1..].iter().all(|word| told.contains(word)), "{told}");
        let again = Said::by_daemons(server, &["etcd answers again"]);
        serve(dir.path(), &authority.local(ALWAYS));
        all_say_more(&scenario, &again).await;
        assert_eq!(processes(server), waiting, "nobody ended for it");
    }

    // What cannot be used at all is waited out as well.
    let file = server.root().join("etc/neco/config.yml");
    let missing = format!(
        "{}tls-ca-file: /etc/neco/none.crt\n",
        with(&Shown { ca: String::new(), ..shown.clone() }).replacen("tls-ca: |\n", "", 1)
    );
    let nonsense =
        with(&Shown { ca: shown.ca.replace("CERTIFICATE", "NONSENSE"), ..shown.clone() });
    fs::write(&file, &missing).expect("room");
    let waiting = restarted(server).await;
    for (config, words) in [
        (&missing, ["none.crt", "must be a text file"]),
        (&nonsense, ["tls-ca: holds no PEM block", "correct the configuration file"]),
    ] {
        fs::write(&file, config).expect("room");
        for daemon in programs(server) {
            scenario.logged(server, daemon, &words).await;
        }
        let told = necoctl(server, &["status"]).await.ended(1).err;
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
    assert_eq!(processes(server), waiting, "they wait for the right one");
    fs::write(&file, &right).expect("room");

    let healing = scenario.packages().healing().expect("a third package").clone();
    scenario.publish_sound(&healing).await;
    scenario.completed(&healing).await;
    scenario.verdict(&healing).await;
}
