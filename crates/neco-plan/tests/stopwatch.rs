//! Counted time: what counts as progress within a step, and that the next leader goes on where the last one was.

mod support;

use std::time::Duration;

use neco_plan::{Elapsed, Stopwatch};
use neco_schema::{Condition, Key, Progress, UpdateRequest};
use serde_json::Map;
use support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Two members in step 2, and the stopwatch of a leader that has looked once.
fn in_step_2() -> (Cluster, UpdateRequest, Stopwatch) {
    let request = request(&[0, 1]);
    let mut cluster = Cluster::of(&[0, 1]);
    cluster.release(V1).request(&request).all_planned(&request).all_at(&request, 2);
    let mut stopwatch = Stopwatch::default();
    assert_eq!(look(&mut stopwatch, &cluster), Elapsed::default());
    (cluster, request, stopwatch)
}

/// A look, a minute after the last one.
fn look(stopwatch: &mut Stopwatch, cluster: &Cluster) -> Elapsed {
    stopwatch.look(&cluster.view(), &[], MINUTE)
}

fn says(
    cluster: &mut Cluster,
    request: &UpdateRequest,
    doing: &str,
    bytes: Option<u64>,
    total_bytes: Option<u64>,
) {
    let step = cluster.view().statuses[&lrn(0)].value.step;
    let progress = Progress {
        request: request.id(),
        step,
        attempt: 1,
        doing: doing.to_owned(),
        bytes,
        total_bytes,
        since: at(1),
        unknown: Map::new(),
    };
    cluster.put(Key::Progress(lrn(0)), &progress);
}

#[test]
fn words_alone_are_no_progress() {
    let (mut cluster, request, mut stopwatch) = in_step_2();
    for minute in 1..=20 {
        let word = if minute % 2 == 0 { "fetching etcd" } else { "waiting: no such image" };
        says(&mut cluster, &request, word, None, None);
        assert_eq!(look(&mut stopwatch, &cluster).step, minute * MINUTE);
    }
}

#[test]
fn a_download_is_progress_as_long_as_it_gets_further_than_before() {
    let (mut cluster, request, mut stopwatch) = in_step_2();
    for bytes in [100, 200, 300] {
        says(&mut cluster, &request, "fetching etcd", Some(bytes), Some(1_000));
        assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO, "{bytes} of 1000");
    }
    // It breaks off and begins again, as often as it likes.
    for (minute, bytes) in (1_u32..).zip([300, 0, 100, 300, 50, 300]) {
        says(&mut cluster, &request, "fetching etcd", Some(bytes), Some(1_000));
        assert_eq!(look(&mut stopwatch, &cluster).step, minute * MINUTE, "{bytes} again");
    }
    says(&mut cluster, &request, "fetching etcd", Some(301), Some(1_000));
    assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO);
    // The next file is smaller.
    says(&mut cluster, &request, "fetching serf", Some(10), Some(20));
    assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO);
}

#[test]
fn a_member_that_arrives_is_progress_whatever_it_downloaded_before() {
    let (mut cluster, request, mut stopwatch) = in_step_2();
    says(&mut cluster, &request, "fetching etcd", Some(500), Some(1_000));
    look(&mut stopwatch, &cluster);
    assert_eq!(look(&mut stopwatch, &cluster).step, MINUTE);
    cluster.status(0, &request, 3, Condition::Running);
    assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO);
    assert_eq!(look(&mut stopwatch, &cluster).step, MINUTE);
    cluster.status(1, &request, 3, Condition::Running);
    assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO);
    // Another step, another download.
    says(&mut cluster, &request, "fetching etcd", Some(1), Some(1_000));
    assert_eq!(look(&mut stopwatch, &cluster).step, Duration::ZERO);
}

#[test]
fn the_next_leader_goes_on_and_takes_nothing_old_for_progress() {
    let (mut cluster, request, mut stopwatch) = in_step_2();
    says(&mut cluster, &request, "fetching etcd", Some(500), Some(1_000));
    for _ in 0..4 {
        look(&mut stopwatch, &cluster);
    }
    let written = stopwatch.txn(&cluster.view()).expect("it runs");
    assert!(cluster.commit(&written));
    let mut next = Stopwatch::default();
    let expected = Elapsed { request: 4 * MINUTE, step: 3 * MINUTE };
    assert_eq!(look(&mut next, &cluster), expected);
    says(&mut cluster, &request, "fetching etcd", Some(400), Some(1_000));
    assert_eq!(look(&mut next, &cluster).step, 4 * MINUTE);
}
