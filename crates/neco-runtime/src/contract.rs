//! What every engine of [`ContainerRuntime`] keeps: a suite to run against each.

use std::sync::Mutex;

use neco_schema::Severity;

use crate::{ContainerRuntime, ImageRef, PullProgress, Pulled, RunSpec, RuntimeError};

/// A machine with an engine under test.
pub trait Bench: Sync {
    /// The engine.
    fn runtime(&self) -> &dyn ContainerRuntime;

    /// Makes a call, such as `pull IMAGE` or `exec NAME`, fail with a message, or succeed again.
    fn fail(&self, call: &str, message: Option<&str>);
}

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    a_pull_transfers_once_and_its_progress_grows_to_the_end(&new()).await;
    an_image_that_was_not_pulled_does_not_run(&new()).await;
    a_command_that_ended_runs_no_more(&new()).await;
    a_named_container_runs_until_it_is_stopped(&new()).await;
    only_the_exact_image_name_counts_as_running(&new()).await;
    a_name_is_given_to_one_container_at_a_time(&new()).await;
    commands_reach_running_containers_only(&new()).await;
    a_failed_pull_may_be_tried_again(&new()).await;
    a_failed_run_names_call_and_command_and_leaves_nothing_running(&new()).await;
}

fn image(tag: &str) -> ImageRef {
    format!("ghcr.io/cybozu/serf:{tag}").parse().expect("a name")
}

async fn pull(bench: &impl Bench, tag: &str) {
    bench.runtime().pull(&image(tag), &|_| {}).await.expect("pulled");
}

async fn is_running(bench: &impl Bench, tag: &str) -> bool {
    bench.runtime().is_running(&image(tag)).await.expect("an answer")
}

async fn a_pull_transfers_once_and_its_progress_grows_to_the_end(bench: &impl Bench) {
    let seen = Mutex::new(Vec::<PullProgress>::new());
    let report = |progress| seen.lock().expect("no panic").push(progress);
    assert_eq!(bench.runtime().pull(&image("1"), &report).await.expect("pulled"), Pulled::Fetched);
    let first = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert!(first.is_sorted_by_key(|progress| progress.done), "{first:?}");
    let last = first.last().expect("at least one report");
    assert_eq!(last.total, Some(last.done));
    assert_eq!(bench.runtime().pull(&image("1"), &report).await.expect("pulled"), Pulled::Present);
}

async fn an_image_that_was_not_pulled_does_not_run(bench: &impl Bench) {
    pull(bench, "1").await;
    let error = bench.runtime().run(&RunSpec::new(image("2"))).await.expect_err("not pulled");
    assert!(
        matches!(&error, RuntimeError::ImageMissing { image: named } if *named == image("2")),
        "{error}"
    );
    assert_eq!(error.severity(), Severity::AskAPerson);
}

async fn a_command_that_ended_runs_no_more(bench: &impl Bench) {
    pull(bench, "1").await;
    bench.runtime().run(&RunSpec::new(image("1")).command(["true"])).await.expect("run");
    assert!(!is_running(bench, "1").await);
}

async fn a_named_container_runs_until_it_is_stopped(bench: &impl Bench) {
    pull(bench, "1").await;
    assert!(!is_running(bench, "1").await, "a pulled image is no running one");
    bench.runtime().run(&RunSpec::new(image("1")).detached("serf")).await.expect("run");
    assert!(is_running(bench, "1").await);
    for _ in 0..2 {
        bench.runtime().stop("serf").await.expect("stopped");
        assert!(!is_running(bench, "1").await);
    }
}

async fn only_the_exact_image_name_counts_as_running(bench: &impl Bench) {
    pull(bench, "1.0").await;
    bench.runtime().run(&RunSpec::new(image("1.0")).detached("serf")).await.expect("run");
    assert!(!is_running(bench, "1").await);
    assert!(!is_running(bench, "1.0.1").await);
    assert!(is_running(bench, "1.0").await);
    bench.runtime().stop("serf").await.expect("stopped");
}

async fn a_name_is_given_to_one_container_at_a_time(bench: &impl Bench) {
    pull(bench, "1").await;
    let spec = RunSpec::new(image("1")).detached("serf");
    bench.runtime().run(&spec).await.expect("run");
    let error = bench.runtime().run(&spec).await.expect_err("taken");
    assert!(matches!(error, RuntimeError::NameTaken { .. }), "{error}");
    bench.runtime().stop("serf").await.expect("stopped");
    bench.runtime().run(&spec).await.expect("free again");
    bench.runtime().stop("serf").await.expect("stopped");
}

async fn commands_reach_running_containers_only(bench: &impl Bench) {
    let command = ["true".to_owned()];
    let error = bench.runtime().exec("serf", &command).await.expect_err("does not run");
    assert!(matches!(error, RuntimeError::NotRunning { .. }), "{error}");
    pull(bench, "1").await;
    bench.runtime().run(&RunSpec::new(image("1")).detached("serf")).await.expect("run");
    bench.runtime().exec("serf", &command).await.expect("executed");
    bench.runtime().stop("serf").await.expect("stopped");
}

async fn a_failed_pull_may_be_tried_again(bench: &impl Bench) {
    let call = format!("pull {}", image("1"));
    bench.fail(&call, Some("connection reset"));
    let error = bench.runtime().pull(&image("1"), &|_| {}).await.expect_err("it fails");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    assert!(error.to_string().contains(image("1").as_str()), "{error}");
    bench.fail(&call, None);
    pull(bench, "1").await;
}

async fn a_failed_run_names_call_and_command_and_leaves_nothing_running(bench: &impl Bench) {
    pull(bench, "1").await;
    let call = format!("run {}", image("1"));
    bench.fail(&call, Some("no space left"));
    let spec = RunSpec::new(image("1")).command(["install-tools"]).detached("serf");
    let error = bench.runtime().run(&spec).await.expect_err("it fails");
    match &error {
        RuntimeError::Failed { call: named, command, .. } => {
            assert_eq!((named, command.as_slice()), (&call, &["install-tools".to_owned()][..]));
        }
        other => panic!("{other}"),
    }
    assert!(!is_running(bench, "1").await);
    bench.fail(&call, None);
    bench.runtime().run(&spec).await.expect("run");
    bench.runtime().stop("serf").await.expect("stopped");
}
