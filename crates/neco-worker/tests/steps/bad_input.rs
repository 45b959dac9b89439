//! What is wrong with what a package names: each ends an update with where and why, and no other release is needed once that is
//! mended outside.

use std::time::Duration;

use neco_runtime::Call;

use crate::cluster::{Cluster, SERF};

const IMAGE: &str = "ghcr.io/cybozu/serf:0.10.1.7";

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
