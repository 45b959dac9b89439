//! Configuration files, good and bad.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_base::Secret;
use neco_process::config::{
    Config, ConfigError, Identity, Loaded, Login, Pem, Report, Tls, Unsigned, load,
};

struct Root(tempfile::TempDir);

impl Root {
    fn new(main: &str) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.put("etc/neco/config.yml", main);
        root
    }

    fn with(self, name: &str, text: &str) -> Self {
        self.put(&format!("etc/neco/config.d/{name}"), text);
        self
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn load(&self) -> Loaded {
        load(self.0.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn config(&self) -> Config {
        self.load().config
    }

    fn report(&self) -> Report {
        match load(self.0.path()) {
            Err(ConfigError::Invalid(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    /// The problems, without the directory that differs each time.
    fn problems(&self) -> Vec<String> {
        self.lines(&self.report().problems)
    }

    fn warnings(&self) -> Vec<String> {
        self.lines(&self.load().warnings)
    }

    fn lines(&self, problems: &[neco_process::config::Problem]) -> Vec<String> {
        let root = format!("{}/etc/neco/", self.0.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect()
    }
}

/// As the original writes it.
const ORIGINAL: &str = r#"endpoints:
- https://10.69.0.3:2379
- https://10.69.0.195:2379
password: ""
prefix: /neco/
timeout: 2s
tls-ca: ""
tls-ca-file: ""
tls-cert: ""
tls-cert-file: /etc/neco/etcd.crt
tls-key: ""
tls-key-file: /etc/neco/etcd.key
username: ""
"#;

#[test]
fn the_file_of_the_original_is_read_without_a_remark() {
    let root = Root::new(ORIGINAL);
    let loaded = root.load();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.files, [root.path("etc/neco/config.yml")]);
    let Config { etcd, release, listen, cache } = loaded.config;
    assert_eq!(etcd.endpoints, ["https://10.69.0.3:2379", "https://10.69.0.195:2379"]);
    assert_eq!((&*etcd.prefix, etcd.timeout), ("/neco/", Duration::from_secs(2)));
    assert_eq!(etcd.login, None);
    let identity = Identity {
        cert: Pem::File(root.path("etc/neco/etcd.crt")),
        key: Secret::new(Pem::File(root.path("etc/neco/etcd.key"))),
    };
    assert_eq!(etcd.tls, Some(Tls { ca: None, identity: Some(identity) }));
    assert_eq!((&*release.owner, &*release.repository), ("cybozu-go", "neco"));
    assert_eq!((&*release.package, &*release.api_url), ("neco", "https://api.github.com"));
    assert_eq!(release.unsigned, Unsigned::Refuse);
    assert_eq!(release.timeout, Duration::from_secs(30));
    assert_eq!(listen.of("worker"), Some("127.0.0.1:0"));
    assert_eq!(cache, root.path("var/cache/neco"));
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "# nothing yet\n", "---\n", "{}", "endpoints:\nrelease:\nlisten:\n"] {
        let root = Root::new(text);
        let config = root.config();
        assert_eq!(config.etcd.endpoints, ["http://127.0.0.1:2379"], "{text:?}");
        assert_eq!(config.etcd.timeout, Duration::from_secs(2), "{text:?}");
        assert_eq!(root.warnings(), [""; 0], "{text:?}");
    }
}

#[test]
fn releases_are_given_some_time_to_answer() {
    for (text, what) in [("0s", "is not more than nothing"), ("soon", "")] {
        let problems = Root::new(&format!("release: {{timeout: {text}}}\n")).problems();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        let told = problem.contains("release.timeout") && problem.contains("for example 30s");
        assert!(told && problem.contains(what), "{problem}");
    }
}

#[test]
fn json_is_read_as_well() {
    let root = Root::new(r#"{"endpoints": ["127.0.0.1:2379"], "timeout": "1h30m"}"#);
    let config = root.config();
    assert_eq!(config.etcd.endpoints, ["127.0.0.1:2379"]);
    assert_eq!(config.etcd.timeout, Duration::from_secs(5400));
}

#[test]
fn our_own_sections_are_read() {
    let root = Root::new(
        "release: {owner: o, repository: r.x, package: neco, api_url: 'http://127.0.0.1:8080/api/', \
         unsigned: allow, timeout: 1m}\ncache: /srv/cache\nlisten: {worker: '127.0.0.1:0', updater: '[::1]:1'}\n",
    );
    let config = root.config();
    assert_eq!(config.release.api_url, "http://127.0.0.1:8080/api");
    assert_eq!(config.release.unsigned, Unsigned::Allow);
    assert_eq!(config.release.timeout, Duration::from_secs(60));
    assert_eq!(config.cache, root.path("srv/cache"));
    assert_eq!(config.listen.of("worker"), Some("127.0.0.1:0"));
    assert_eq!(config.listen.of("updater"), Some("[::1]:1"));
    assert_eq!(config.listen.of("other"), Some("127.0.0.1:0"));
    assert_eq!(root.warnings(), [""; 0]);
    let root = Root::new("listen: localhost:0\n");
    assert_eq!(root.config().listen.of("worker"), Some("localhost:0"));
    assert_eq!(Root::new("listen: none\n").config().listen.of("worker"), None);
    let listen = Root::new("listen: {updater: none}\n").config().listen;
    assert_eq!((listen.of("updater"), listen.of("worker")), (None, Some("127.0.0.1:0")));
}

#[test]
fn drop_ins_win_key_by_key_in_the_order_of_their_names() {
    let root = Root::new(
        "timeout: 1s\nrelease: {owner: a, api_url: 'https://aa'}\nendpoints: [a:1, b:1]\n",
    )
    .with("20-site.yml", "release: {owner: c}\nendpoints: [c:1]\n")
    .with("10-base.yml", "release: {owner: b, repository: b}\ntimeout: 3s\n")
    .with("30-none.yml.bak", "{{{")
    .with(".hidden.yml", "{{{");
    let config = root.config();
    assert_eq!(config.release.owner, "c");
    assert_eq!(config.release.repository, "b");
    assert_eq!(config.release.api_url, "https://aa");
    assert_eq!(config.etcd.endpoints, ["c:1"]);
    assert_eq!(config.etcd.timeout, Duration::from_secs(3));
    let files: Vec<_> =
        root.load().files.iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    assert_eq!(files, ["config.yml", "10-base.yml", "20-site.yml"]);
}

#[test]
fn drop_ins_that_contradict_each_other_are_warned_of() {
    let root = Root::new("prefix: /a/\ntimeout: 1s\npassword: hunter2\nusername: u\n")
        .with("10.yml", "prefix: /b/\ntimeout: 2s\npassword: hunter3\nendpoints: [a:1]\n")
        .with("20.yml", "timeout: 3s\npassword: hunter4\nendpoints: [a:1]\n")
        .with("30.yml", "release: {owner: a}\ntls-ca-file: /a\n")
        .with("40.yml", "release: {owner: b}\ntls-ca-file: /b\n");
    let said = |line: &str, by: &str| {
        format!(
            "{line}: is overridden by config.d/{by}, which says otherwise; remove one of the two"
        )
    };
    assert_eq!(
        root.warnings(),
        [
            said("config.yml:1: prefix", "10.yml"),
            said("config.d/10.yml:2: timeout", "20.yml"),
            said("config.d/10.yml:3: password", "20.yml"),
            said("config.d/30.yml:1: release.owner", "40.yml"),
            said("config.d/30.yml:2: tls-ca-file", "40.yml"),
        ]
    );
    assert_eq!(root.config().etcd.prefix, "/b/");
}

#[test]
fn what_is_no_text_file_is_named_with_its_cause() {
    let main = "etc/neco/config.yml";
    let root = Root::new("");
    let report = |root: &Root| load(root.0.path()).expect_err("no text").report();
    fs::write(root.path(main), b"endpoints: [\xff]\n").unwrap();
    let text = report(&root);
    assert!(text.contains("must be a text file") && text.contains("UTF-8"), "{text}");
    fs::remove_file(root.path(main)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.path(main)).unwrap();
    let text = report(&root);
    assert!(text.contains(main) && text.ends_with("it is no regular file"), "{text}");
    fs::remove_file(root.path(main)).unwrap();
    std::os::unix::fs::symlink("nowhere", root.path(main)).unwrap();
    assert!(report(&root).contains("does not exist"), "a link to nothing");
}

#[test]
fn a_certificate_is_read_from_a_small_regular_file_only() {
    let root = Root::new("");
    root.put("large.crt", &"x".repeat((1 << 20) + 1));
    for (path, cause) in [
        (PathBuf::from("/dev/null"), "it is no regular file"),
        (root.path("large.crt"), "it is larger than 1 MiB"),
        (root.path("none.crt"), "No such file"),
    ] {
        let error = Pem::File(path.clone()).read().expect_err(cause);
        let ConfigError::Unreadable { path: named, source } = &error else { panic!("{error}") };
        assert!(*named == path && source.to_string().contains(cause), "{error}: {source}");
    }
    root.put("right.crt", "PEM");
    assert_eq!(Pem::File(root.path("right.crt")).read().unwrap(), "PEM");
}

#[test]
fn a_byte_order_mark_is_nothing_and_a_tab_is_a_problem_with_its_line() {
    let root = Root::new("\u{feff}prefix: /x/\n");
    assert_eq!(root.config().etcd.prefix, "/x/");
    let problems = Root::new("release:\n\towner: a\n").problems();
    assert!(problems.len() == 1 && problems[0].starts_with("config.yml:2: "), "{problems:?}");
}

#[test]
fn a_drop_in_can_unset_a_key() {
    let root =
        Root::new("prefix: /x/\nrelease: {owner: a}\n").with("a.yml", "prefix: ''\nrelease:\n");
    let config = root.config();
    assert_eq!(config.etcd.prefix, "/neco/");
    assert_eq!(config.release.owner, "cybozu-go");
}

#[test]
fn a_missing_file_is_named_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let error = load(root.path()).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { .. }), "{error}");
    let text = error.to_string();
    let path = root.path().join("etc/neco/config.yml");
    assert!(text.starts_with(&format!("{} does not exist;", path.display())), "{text}");
    assert!(text.contains("endpoints: [") && !text.contains('\n'), "{text}");
}

#[test]
fn an_unreadable_file_is_named() {
    let root = Root::new("");
    fs::remove_file(root.path("etc/neco/config.yml")).unwrap();
    fs::create_dir(root.path("etc/neco/config.yml")).unwrap();
    let error = load(root.0.path()).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path, .. } if path.ends_with("config.yml")));
    let root = Root::new("").with("big.yml", &"# fill\n".repeat(200_000));
    let error = load(root.0.path()).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path, .. } if path.ends_with("big.yml")));
}

#[test]
fn all_problems_of_all_files_are_in_one_report() {
    let root = Root::new(
        "endpoints:\n- https://10.69.0.3\n- 5\n- ftp://h:1\n\
         prefix: neco\n\
         timeout: 2x\n\
         username: admin\n\
         tls-cert-file: etc/neco/etcd.crt\n\
         tls-key-file: /etc/neco/etcd.key\n",
    )
    .with(
        "10.yml",
        "release:\n  unsigned: maybe\n  owner: a/b\n  package: Neco\n  api_url: github\n",
    )
    .with("20.yml", "listen: 10080\ncache: relative\n")
    .with("30.yml", "a: [\n");
    assert_eq!(root.problems()[0], "config.d/30.yml:1: unclosed bracket '['; correct the YAML");
    assert_eq!(
        root.problems()[1..],
        [
            "config.yml:2: endpoints[0]: \"https://10.69.0.3\" is not the URL of an etcd server; \
         write https://HOST:PORT",
            "config.yml:3: endpoints[1]: is a number instead of a URL; \
         write for example [\"https://10.69.0.3:2379\"]",
            "config.yml:4: endpoints[2]: \"ftp://h:1\" is not the URL of an etcd server; \
         write https://HOST:PORT",
            "config.yml:5: prefix: \"neco\" does not start and end in /; write for example /neco/",
            "config.yml:6: timeout: \"2x\" is not a duration; write for example 2s or 500ms",
            "config.yml:7: username: \"admin\" has no password; set password too",
            "config.yml:8: tls-cert-file: \"etc/neco/etcd.crt\" is not an absolute path; start it with /",
            "config.d/10.yml:3: release.owner: \"a/b\" is not the name of a GitHub owner; write for example cybozu-go",
            "config.d/10.yml:4: release.package: \"Neco\" is not the name of the package of this version; write for example neco",
            "config.d/10.yml:5: release.api_url: \"github\" is not a URL; \
         write https://HOST or http://HOST:PORT",
            "config.d/10.yml:2: release.unsigned: \"maybe\" is neither allow nor refuse; \
         write one of the two",
            "config.d/20.yml:1: listen: is a number instead of a text; put it in quotes",
            "config.d/20.yml:2: cache: \"relative\" is not an absolute path; start it with /",
        ]
    );
    let text = root.report().to_string();
    assert!(text.starts_with("the configuration has 14 problems\n  "), "{text}");
    assert_eq!(text.lines().count(), 15);
}

#[test]
fn a_single_problem_is_a_single_line() {
    let root = Root::new("timeout: 0s\n");
    let text = root.report().to_string();
    let end =
        "config.yml:1: timeout: \"0s\" is not more than nothing; write for example 2s or 500ms";
    assert!(text.ends_with(end) && !text.contains('\n'), "{text}");
}

#[test]
fn wrong_types_are_problems() {
    for (text, problem) in [
        ("- a\n", "config.yml:1: holds a list instead of keys; write KEY: VALUE lines"),
        ("just words\n", "config.yml:1: holds a text instead of keys; write KEY: VALUE lines"),
        (
            "timeout: [2s]\n",
            "config.yml:1: timeout: is a list instead of a text; \
                              write one value after the colon",
        ),
        (
            "username: yes\n",
            "config.yml:1: username: is a yes or no instead of a text; put it in quotes",
        ),
        (
            "release: x\n",
            "config.yml:1: release: is a text instead of a mapping; \
                           write its keys below it, indented",
        ),
        (
            "endpoints: https://h:1\n",
            "config.yml:1: endpoints: is a text instead of a list; \
                           write for example [\"https://10.69.0.3:2379\"]",
        ),
    ] {
        assert_eq!(Root::new(text).problems(), [problem], "{text:?}");
    }
}

#[test]
fn unknown_keys_are_warnings_that_name_them() {
    let root = Root::new("tls_ca_file: /x\ncolour: red\nrelease:\n  apiUrl: x\n");
    assert_eq!(
        root.warnings(),
        [
            "config.yml:4: release.apiUrl: is unknown and ignored; write release.api_url",
            "config.yml:1: tls_ca_file: is unknown and ignored; write tls-ca-file",
            "config.yml:2: colour: is unknown and ignored; remove it, or correct its name",
        ]
    );
}

#[test]
fn what_works_but_not_as_written_is_a_warning() {
    let root = Root::new(
        "timeout: ''\nendpoints: [h:1, h:1/]\ntls-ca: x\ntls-ca-file: /ca\ntls-key-file: /key\n\
         password: x\nlisten: 0.0.0.0:80\n",
    )
    .with("site.yaml", "{{{");
    assert_eq!(
        root.warnings(),
        [
            "config.d/site.yaml: is not read; end its name in .yml",
            "config.yml:2: endpoints[1]: h:1 stands there twice; remove one",
            "config.yml:1: timeout: is empty, 2s is used; write a duration, or remove it",
            "config.yml:6: password: is ignored without username; set username, or remove it",
            "config.yml:3: tls-ca: is ignored because tls-ca-file is set; remove one of the two",
            "config.yml:5: tls-key-file: is ignored without tls-cert-file; set tls-cert-file, or remove it",
            "config.yml:7: listen: 0.0.0.0:80 can be reached from other machines, without a password; \
         prefer 127.0.0.1",
        ]
    );
    let etcd = root.config().etcd;
    assert_eq!(etcd.endpoints, ["h:1"]);
    assert_eq!(etcd.tls, Some(Tls { ca: Some(Pem::File(root.path("ca"))), identity: None }));
}

#[test]
fn a_secret_that_everybody_may_read_is_a_warning() {
    let text = "username: u\npassword: hunter2\n";
    let root = Root::new(text).with("tls.yml", "tls-key: '-----BEGIN hunter2'\n");
    let set = |file: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.path(file), mode).unwrap();
    };
    let about = || {
        let found = root.warnings();
        found.into_iter().filter(|text| text.contains("every user")).collect::<Vec<_>>()
    };
    let files = ["etc/neco/config.yml", "etc/neco/config.d/tls.yml"];
    files.iter().for_each(|file| set(file, 0o644));
    let said = about();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("config.yml:2: password: can be read by every user"), "{said:#?}");
    assert!(said[0].contains("; chmod o-r ") && said[1].contains("tls-key"), "{said:#?}");
    assert!(said.iter().all(|text| !text.contains("hunter2")), "{said:#?}");
    files.iter().for_each(|file| set(file, 0o640));
    assert_eq!(about(), [""; 0]);
}

#[test]
fn a_key_given_twice_is_a_problem_with_its_line() {
    let problems = Root::new("prefix: /a/\ntimeout: 1s\nprefix: /b/\n").problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("config.yml:3: duplicate"), "{problems:?}");
}

#[test]
fn inline_certificates_and_login_are_read() {
    let root = Root::new(
        "username: u\npassword: '12'\ntls-cert: |\n  -----BEGIN CERTIFICATE-----\n  AA\n\
         tls-key-file: /key\n",
    );
    let etcd = root.config().etcd;
    let login = Login { username: "u".to_owned(), password: Secret::from("12") };
    assert_eq!(etcd.login, Some(login));
    let identity = etcd.tls.unwrap().identity.unwrap();
    assert_eq!(identity.cert.read().unwrap(), "-----BEGIN CERTIFICATE-----\nAA\n");
    let error = identity.key.reveal().read().unwrap_err();
    assert!(error.to_string().contains("/key, which must be"), "{error}");
    root.put("key", "text");
    assert_eq!(identity.key.reveal().read().unwrap(), "text");
}

#[test]
fn secrets_are_in_no_output() {
    let secret = "hunter2";
    let loaded = Root::new(&format!(
        "username: u\npassword: {secret}\ntls-cert: '-----BEGIN C'\ntls-key: '-----BEGIN {secret}'\n"
    ))
    .load();
    let printed = format!("{loaded:?}");
    assert!(printed.contains("***") && !printed.contains(secret), "{printed}");
    for text in [
        format!("username: u\npassword: \"{secret}\n"),
        format!("password: {secret}: x\n"),
        format!("password: [{secret}\n"),
        format!("password: &{secret}\npassword: *{secret}x\n"),
        format!("password: {{{secret}: 1}}\n"),
        format!("tls-cert: x\ntls-key: {secret}\n"),
        format!("password: \"\\q{secret}\"\n"),
        format!("password: !{secret} x\npassword: y\n"),
        format!("{secret}: 1\n  bad: indent\n"),
    ] {
        let report = Root::new(&text).report();
        // The name of a key or of an anchor is no secret; a value is.
        let printed = format!("{report} {report:?}");
        let is_name = text.starts_with(secret) || text.contains('&');
        assert!(is_name || !printed.contains(secret), "{text:?}: {printed}");
        assert!(report.problems.iter().all(|p| p.line.is_some()), "{text:?}: {printed}");
    }
}

#[test]
fn paths_stay_below_the_root() {
    let root = Root::new("cache: /../../../tmp/x\ntls-ca-file: /etc/../../ca\n");
    assert_eq!(root.config().cache, root.path("tmp/x"));
    let tls = root.config().etcd.tls.unwrap();
    assert_eq!(tls.ca, Some(Pem::File(root.path("ca"))));
    assert_ne!(root.path("x"), Path::new("/x"));
}

#[test]
fn a_file_that_may_not_be_read_is_no_missing_file() {
    let root = Root::new("");
    let main = root.path("etc/neco/config.yml");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o000)).unwrap();
    match load(root.0.path()) {
        // The superuser reads everything.
        Ok(_) => assert!(fs::File::open(&main).is_ok()),
        Err(error) => assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}"),
    }
}
