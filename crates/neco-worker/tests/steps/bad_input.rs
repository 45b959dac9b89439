//! What is wrong with what a package names: each ends an update with where and why, and no other release is needed once that is
//! mended outside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use neco_runtime::Call;
use neco_schema::Origin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{Cluster, SERF, edit};

pub(crate) const IMAGE: &str = "ghcr.io/cybozu/serf:0.10.1.7";

/// A server that says `hunter2` to the registry.
fn log_in(cluster: &Cluster, lrn: u32) {
    let config = cluster.server(lrn).path("/root/.docker/config.json");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    // The login `neco:hunter2`.
    let text = r#"{"auths": {"ghcr.io": {"auth": "bmVjbzpodW50ZXIy"}}}"#;
    std::fs::write(config, text).unwrap();
}

/// How often the registry was asked for the image in vain.
fn refused(cluster: &Cluster, lrn: u32) -> usize {
    let calls = cluster.server(lrn).containers().calls().unwrap();
    let asked = format!("pull {IMAGE}");
    calls
        .iter()
        .filter(|c| matches!(&c.effect, Call::Failed { what, .. } if *what == asked))
        .count()
}

#[tokio::test(start_paused = true)]
async fn an_image_that_its_registry_does_not_give_aborts_at_once_and_the_same_version_once_it_does()
{
    for (login, said, words) in [
        (
            false,
            "manifest for ghcr.io/cybozu/serf:0.10.1.7 not found: manifest unknown",
            ["does not have it", "correct its name and tag"],
        ),
        (
            false,
            "name unknown: repository name not known to registry",
            ["does not have it", "correct its name and tag"],
        ),
        (false, "no basic auth credentials", ["ghcr.io wants a login", "docker --config"]),
        (
            true,
            "unauthorized: authentication required",
            ["ghcr.io does not accept the login of neco", "docker --config"],
        ),
    ] {
        let mut cluster = Cluster::of(3).await;
        if login {
            log_in(&cluster, 1);
        }
        let pull = format!("pull {IMAGE}");
        cluster.server(1).containers().faults().fail(&pull, said).unwrap();
        let begun = tokio::time::Instant::now();
        let request = cluster.request().await;
        let origin = cluster.aborted(&request).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "no deadline was waited for");
        assert_eq!((origin.lrn.get(), origin.step), (1, cluster.step("fetch-images")));
        for word in words.into_iter().chain([IMAGE, said]) {
            assert!(origin.cause.contains(word), "{:?} has no {word:?}", origin.cause);
        }
        assert!(!origin.cause.contains("hunter2"), "{origin:?}");
        assert_eq!(refused(&cluster, 1), 1, "nothing is gained by asking again");
        assert_eq!(cluster.take_order(SERF), Vec::<String>::new(), "nothing was touched");
        cluster.server(1).containers().faults().clear(&pull).unwrap();
        cluster.recovers().await;
        cluster.verdict().await;
    }
}

/// Requests what is there; all abort for this reason, at step `serf`.
async fn aborts_at_serf(cluster: &mut Cluster, words: &[&str]) -> Origin {
    let request = cluster.request().await;
    let origin = cluster.aborted(&request).await;
    assert_eq!(origin.step, cluster.step("serf"), "{origin:?}");
    for word in words {
        assert!(origin.cause.contains(word), "{:?} has no {word:?}", origin.cause);
    }
    origin
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_never_becomes_active_aborts_within_its_bound_and_the_same_version_once_it_does()
 {
    let mut cluster = Cluster::of(3).await;
    cluster.faults.start_slowly(SERF);
    let begun = tokio::time::Instant::now();
    let words = ["serf was not ready within 30s", "serf.service", "it is activating"];
    let origin = aborts_at_serf(&mut cluster, &words).await;
    assert!(begun.elapsed() > Duration::from_secs(30), "it had its time");
    assert!(begun.elapsed() < Duration::from_secs(60), "and no more");
    // One after another: nobody else takes its serf down for that.
    let started = cluster.take_order(&format!("start {SERF}"));
    assert_eq!(started, [format!("{}: start {SERF}", origin.lrn)]);
    cluster.faults.become_ready();
    cluster.recovers().await;
    for server in &cluster.servers {
        assert!(server.is_active(SERF).await);
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_start_never_ends_aborts_within_its_bound_and_the_same_version_once_it_does() {
    let mut cluster = Cluster::of(3).await;
    let start = format!("start {SERF}");
    cluster.server(1).units().faults().hold(&start).unwrap();
    let words = ["starting serf.service", "90s"];
    let origin = aborts_at_serf(&mut cluster, &words).await;
    assert_eq!(origin.lrn.get(), 1);
    cluster.server(1).units().faults().clear(&start).unwrap();
    cluster.recovers().await;
    assert!(cluster.server(1).is_active(SERF).await);
    cluster.verdict().await;
}

/// Two servers that ask this of a serf that really runs, and give it six seconds: more than one answer may take.
async fn asking(probe: &str) -> Cluster {
    let more = |folder: &Path| {
        // All others that would be asked do not run.
        edit(folder, "components/vault.toml", "check = \"vault-leader\"", "");
        for other in ["components/vault.toml", "components/sabakan.toml"] {
            let path = folder.join(other);
            let text = std::fs::read_to_string(&path).unwrap();
            let (silent, _) = text.split_once("[[ready.http]]").expect("it is asked last");
            std::fs::write(path, silent).unwrap();
        }
        edit(folder, "components/serf.toml", "within = \"30s\"", "within = \"6s\"");
        let path = folder.join("components/serf.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n{probe}\n")).unwrap();
    };
    let cluster = Cluster::with(2, more).await;
    for server in &cluster.servers {
        server.set_up("etc/neco/sandbox-asks-probes");
    }
    cluster
}

#[tokio::test]
async fn a_program_that_accepts_and_says_nothing_aborts_within_its_bound_and_the_same_version_once_it_speaks()
 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let speaks = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&speaks);
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            if says.load(Ordering::SeqCst) {
                let _ = socket.read(&mut [0; 1024]).await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = socket.write_all(answer.as_bytes()).await;
            } else {
                silent.push(socket);
            }
        }
    }));
    let mut cluster = asking(&format!("[[ready.http]]\nurl = \"http://{address}/health\"")).await;
    let url = format!("http://{address}/health");
    let words = ["serf was not ready within 6s", &url, "no answer within 5s"];
    aborts_at_serf(&mut cluster, &words).await;
    speaks.store(true, Ordering::SeqCst);
    cluster.recovers().await;
    cluster.verdict().await;
}

#[tokio::test]
async fn a_port_that_takes_nobody_aborts_within_its_bound_and_the_same_version_once_it_does() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = socket.listen(1).unwrap();
    // Whoever comes after these waits for somebody to accept them.
    let mut waiting = Vec::new();
    let full = async {
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            waiting.push(stream);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), full).await.expect("no queue is that long");
    let mut cluster = asking(&format!("[[ready.tcp]]\naddress = \"{address}\"")).await;
    let at = address.to_string();
    let words = ["serf was not ready within 6s", at.as_str(), "no answer within 5s"];
    aborts_at_serf(&mut cluster, &words).await;
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    }));
    cluster.recovers().await;
    cluster.verdict().await;
}

#[tokio::test]
async fn a_command_that_hangs_aborts_within_its_bound_and_the_same_version_once_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (program, hangs) = (folder.path().join("status"), folder.path().join("hangs"));
    let text = format!("#!/bin/sh\ntest -e {} || exit 0\nexec sleep 600\n", hangs.display());
    std::fs::write(&program, text).unwrap();
    std::fs::write(&hangs, "").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    let mut cluster = asking(&format!("[[ready.command]]\ncommand = [\"{program}\"]")).await;
    let words = ["serf was not ready within 6s", program.as_str(), "no answer within 5s"];
    aborts_at_serf(&mut cluster, &words).await;
    std::fs::remove_file(&hangs).unwrap();
    cluster.recovers().await;
    cluster.verdict().await;
}

const TEMPLATE: &str = "templates/serf.json.j2";

fn with_line(folder: &Path, line: &str) {
    let path = folder.join(TEMPLATE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}{line}")).unwrap();
}

/// A release whose template asks for a server that this cluster does not have. That cannot be seen before: the package is for
/// clusters of any size.
#[tokio::test(start_paused = true)]
async fn a_template_that_asks_for_what_is_not_there_aborts_and_a_release_with_a_mended_one_heals() {
    const LINE: &str = "{{ servers[2].node0 }}";
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", |folder| with_line(folder, LINE)).await;
    cluster.take_order(SERF);
    let request = cluster.request().await;
    let origin = cluster.aborted(&request).await;
    assert_eq!(origin.step, 1, "before anything is done");
    for word in ["serf.json.j2", "undefined"] {
        assert!(origin.cause.contains(word), "{:?} has no {word:?}", origin.cause);
    }
    assert_eq!(cluster.take_order(SERF), Vec::<String>::new());
    // The package of the same version is built anew.
    cluster.upgrade("2026.11.21-1", |folder| edit(folder, TEMPLATE, LINE, "")).await;
    cluster.recovers().await;
    // As it is, it aborts, and no recovery helps; the leader goes on to the release that mends it.
    cluster.upgrade("2026.11.22-2", |folder| with_line(folder, LINE)).await;
    let request = cluster.request().await;
    cluster.aborted(&request).await;
    cluster.upgrade("2026.11.23-3", |folder| edit(folder, TEMPLATE, LINE, "")).await;
    let mended = cluster.version.clone();
    cluster.release(&mended).await;
    cluster.leads_to_the_end(&mended).await;
    cluster.verdict().await;
}

/// What no cluster has is seen before: such a recipe is not loaded, and its package not built.
#[test]
fn a_template_with_an_unknown_variable_makes_no_recipe() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/usr/share/neco");
    let folder = tempfile::tempdir().unwrap();
    crate::cluster::copy(&package, folder.path());
    with_line(folder.path(), "{{ no_such_thing }}");
    let error = neco_components::Recipe::load(folder.path()).expect_err("it is not loaded");
    let told = error.to_string();
    assert!(told.contains(&format!("{TEMPLATE}:")) && told.contains("no_such_thing"), "{told}");
    edit(folder.path(), TEMPLATE, "{{ no_such_thing }}", "");
    neco_components::Recipe::load(folder.path()).expect("it is mended");
}
