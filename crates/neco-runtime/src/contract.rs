//! What every engine of [`ContainerRuntime`] keeps: a suite to run against each.

use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use neco_schema::Severity;

use crate::{
    ContainerRuntime, ExecSpec, ImageRef, LogLine, LogLines, LogSource, LogSpec, PullProgress,
    Pulled, RunSpec, RuntimeError,
};

/// A machine with an engine under test, on which there is no image and no container [`NAME`] yet.
pub trait Bench: Sync {
    /// The engine.
    fn runtime(&self) -> &dyn ContainerRuntime;

    /// Where the images lie. Those with the tags [`TAGS`] can be had; their own command runs until it is stopped, and they
    /// hold the commands `cat`, `false`, `true` and `install-tools`.
    fn repository(&self) -> String;

    /// Makes `pull IMAGE` or `run IMAGE` fail, or succeed again. An engine that fails by itself has its own words for it.
    fn fail(&self, call: &str, message: Option<&str>);

    /// An image that its registry does not give, and never gave, for this reason.
    fn refused(&self, why: Refused) -> ImageRef;

    /// Lets the container [`NAME`] write a line to its standard output.
    fn say(&self, line: &str);
}

/// Why a registry does not give an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has the repository, but no such tag.
    NoTag,
    /// It has no such repository.
    NoRepository,
    /// It wants a login, and gets none.
    NoLogin,
}

/// [`Bench::refused`] of an engine that fails in the words that it is told.
pub fn refused_in_words(bench: &impl Bench, why: Refused) -> ImageRef {
    let (tag, words) = match why {
        Refused::NoTag => ("9.9", "manifest unknown: manifest unknown"),
        Refused::NoRepository => ("9.8", "name unknown: repository name not known to registry"),
        Refused::NoLogin => ("9.7", "no basic auth credentials"),
    };
    let image = image(bench, tag);
    bench.fail(&format!("pull {image}"), Some(words));
    image
}

/// The tags of the images.
pub const TAGS: [&str; 4] = ["1", "1.0", "1.0.1", "2"];

/// The name of the container that the suite runs.
pub const NAME: &str = "neco-contract";

/// How long a line may take.
const SOON: Duration = Duration::from_secs(30);

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    a_pull_transfers_once_and_its_progress_grows_to_the_end(&new()).await;
    an_image_that_was_not_pulled_does_not_run(&new()).await;
    a_command_that_ended_runs_no_more(&new()).await;
    a_command_that_fails_tells_its_status_and_runs_no_more(&new()).await;
    a_named_container_runs_until_it_is_stopped(&new()).await;
    only_the_exact_image_name_counts_as_running(&new()).await;
    a_name_is_given_to_one_container_at_a_time(&new()).await;
    commands_reach_running_containers_only(&new()).await;
    a_command_reads_what_it_is_given(&new()).await;
    a_command_that_fails_in_a_container_tells_its_status(&new()).await;
    the_newest_lines_of_a_container_can_be_read(&new()).await;
    lines_are_followed_until_the_container_ends(&new()).await;
    a_failed_pull_may_be_tried_again(&new()).await;
    what_a_registry_does_not_give_is_told_to_a_person_with_a_remedy(&new()).await;
    a_failed_run_names_call_and_command_and_leaves_nothing_running(&new()).await;
}

fn image(bench: &impl Bench, tag: &str) -> ImageRef {
    format!("{}:{tag}", bench.repository()).parse().expect("a name")
}

fn spec(bench: &impl Bench, tag: &str) -> RunSpec {
    RunSpec::new(image(bench, tag))
}

async fn pull(bench: &impl Bench, tag: &str) {
    bench.runtime().pull(&image(bench, tag), &|_| {}).await.expect("pulled");
}

/// Pulls an image and lets a container of it run.
async fn start(bench: &impl Bench, tag: &str) {
    pull(bench, tag).await;
    bench.runtime().run(&spec(bench, tag).detached(NAME)).await.expect("run");
}

async fn stop(bench: &impl Bench) {
    bench.runtime().stop(NAME).await.expect("stopped");
}

async fn is_running(bench: &impl Bench, tag: &str) -> bool {
    bench.runtime().is_running(&image(bench, tag)).await.expect("an answer")
}

async fn a_pull_transfers_once_and_its_progress_grows_to_the_end(bench: &impl Bench) {
    let seen = Mutex::new(Vec::<PullProgress>::new());
    let report = |progress| seen.lock().expect("no panic").push(progress);
    assert_eq!(
        bench.runtime().pull(&image(bench, "1"), &report).await.expect("pulled"),
        Pulled::Fetched
    );
    assert!(bench.runtime().has(&image(bench, "1")).await.expect("an answer"));
    assert!(!bench.runtime().has(&image(bench, "2")).await.expect("an answer"));
    let first = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert!(first.is_sorted_by_key(|progress| progress.done), "{first:?}");
    let last = first.last().expect("at least one report");
    assert_eq!(last.total, Some(last.done));
    assert_eq!(
        bench.runtime().pull(&image(bench, "1"), &report).await.expect("pulled"),
        Pulled::Present
    );
}

async fn an_image_that_was_not_pulled_does_not_run(bench: &impl Bench) {
    pull(bench, "1").await;
    let error = bench.runtime().run(&spec(bench, "2")).await.expect_err("not pulled");
    assert!(
        matches!(&error, RuntimeError::ImageMissing { image: named } if *named == image(bench, "2")),
        "{error}"
    );
    assert_eq!(error.severity(), Severity::AskAPerson);
}

async fn a_command_that_ended_runs_no_more(bench: &impl Bench) {
    pull(bench, "1").await;
    bench.runtime().run(&spec(bench, "1").command(["true"])).await.expect("run");
    assert!(!is_running(bench, "1").await);
}

async fn a_command_that_fails_tells_its_status_and_runs_no_more(bench: &impl Bench) {
    pull(bench, "1").await;
    let error = bench.runtime().run(&spec(bench, "1").command(["false"])).await.expect_err("false");
    match &error {
        RuntimeError::Failed { call, command, status, .. } => {
            assert_eq!(*call, format!("run {}", image(bench, "1")));
            assert_eq!((command.as_slice(), *status), (&["false".to_owned()][..], Some(1)));
        }
        other => panic!("{other}"),
    }
    assert!(!is_running(bench, "1").await);
}

async fn a_named_container_runs_until_it_is_stopped(bench: &impl Bench) {
    pull(bench, "1").await;
    assert!(!is_running(bench, "1").await, "a pulled image is no running one");
    bench.runtime().run(&spec(bench, "1").detached(NAME)).await.expect("run");
    assert!(is_running(bench, "1").await);
    for _ in 0..2 {
        stop(bench).await;
        assert!(!is_running(bench, "1").await);
    }
}

async fn only_the_exact_image_name_counts_as_running(bench: &impl Bench) {
    start(bench, "1.0").await;
    assert!(!is_running(bench, "1").await);
    assert!(!is_running(bench, "1.0.1").await);
    assert!(is_running(bench, "1.0").await);
    stop(bench).await;
}

async fn a_name_is_given_to_one_container_at_a_time(bench: &impl Bench) {
    pull(bench, "1").await;
    let spec = spec(bench, "1").detached(NAME);
    bench.runtime().run(&spec).await.expect("run");
    let error = bench.runtime().run(&spec).await.expect_err("taken");
    match &error {
        RuntimeError::NameTaken { name, image: by } => {
            assert_eq!((name.as_str(), by.as_str()), (NAME, image(bench, "1").as_str()));
        }
        other => panic!("{other}"),
    }
    stop(bench).await;
    bench.runtime().run(&spec).await.expect("free again");
    stop(bench).await;
}

async fn commands_reach_running_containers_only(bench: &impl Bench) {
    let command = ExecSpec::new(NAME, ["true"]);
    let error = bench.runtime().exec(&command).await.expect_err("does not run");
    assert!(matches!(error, RuntimeError::NotRunning { .. }), "{error}");
    start(bench, "1").await;
    bench.runtime().exec(&command).await.expect("executed");
    stop(bench).await;
}

async fn a_command_reads_what_it_is_given(bench: &impl Bench) {
    start(bench, "1").await;
    // More than any buffer between here and there.
    let words: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let cat = ExecSpec::new(NAME, ["cat"]);
    let output = bench.runtime().exec(&cat.clone().input(words.clone())).await.expect("executed");
    assert!(output.stdout == words, "{} bytes came back", output.stdout.len());
    let output = bench.runtime().exec(&cat).await.expect("executed");
    assert_eq!(output.stdout, b"", "nothing was given");
    let deaf = ExecSpec::new(NAME, ["true"]).input(words);
    bench.runtime().exec(&deaf).await.expect("a command need not read");
    stop(bench).await;
}

async fn a_command_that_fails_in_a_container_tells_its_status(bench: &impl Bench) {
    start(bench, "1").await;
    let error = bench.runtime().exec(&ExecSpec::new(NAME, ["false"])).await.expect_err("false");
    match &error {
        RuntimeError::Failed { call, command, status, .. } => {
            assert_eq!(*call, format!("exec {NAME}"));
            assert_eq!((command.as_slice(), *status), (&["false".to_owned()][..], Some(1)));
        }
        other => panic!("{other}"),
    }
    assert!(is_running(bench, "1").await, "the container goes on");
    stop(bench).await;
}

/// The next line, which comes soon; `None` at the end.
async fn next(lines: &mut LogLines) -> Option<String> {
    let line = tokio::time::timeout(SOON, lines.next()).await.expect("soon");
    line.map(|line| {
        let LogLine { source, text } = line.expect("a line");
        assert_eq!(source, LogSource::Stdout);
        text
    })
}

/// The newest lines, when the last of them is `last`: it may take a moment from a container to its log.
async fn newest(bench: &impl Bench, tail: u32, last: &str) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let lines = bench.runtime().logs(NAME, LogSpec::last(tail)).await.expect("a log");
        let lines: Vec<_> = lines.map(|line| line.expect("a line").text).collect().await;
        if lines.last().is_some_and(|line| line == last) {
            return lines;
        }
        assert!(tokio::time::Instant::now() < deadline, "{last:?} does not come: {lines:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn the_newest_lines_of_a_container_can_be_read(bench: &impl Bench) {
    let error = bench.runtime().logs(NAME, LogSpec::last(9)).await.map(drop).expect_err("none");
    assert!(matches!(error, RuntimeError::NotRunning { .. }), "{error}");
    start(bench, "1").await;
    for line in ["one", "two", "three"] {
        bench.say(line);
    }
    assert_eq!(newest(bench, 9, "three").await, ["one", "two", "three"]);
    assert_eq!(newest(bench, 2, "three").await, ["two", "three"]);
    stop(bench).await;
    start(bench, "1").await;
    bench.say("anew");
    assert_eq!(newest(bench, 9, "anew").await, ["anew"], "another container, another log");
    stop(bench).await;
}

async fn lines_are_followed_until_the_container_ends(bench: &impl Bench) {
    start(bench, "1").await;
    for line in ["one", "two"] {
        bench.say(line);
    }
    newest(bench, 1, "two").await;
    let mut lines = bench.runtime().logs(NAME, LogSpec::last(1).follow()).await.expect("a log");
    assert_eq!(next(&mut lines).await.as_deref(), Some("two"));
    for line in ["three", "four"] {
        bench.say(line);
        assert_eq!(next(&mut lines).await.as_deref(), Some(line));
    }
    stop(bench).await;
    assert_eq!(next(&mut lines).await, None);
}

async fn a_failed_pull_may_be_tried_again(bench: &impl Bench) {
    let image = image(bench, "1");
    let call = format!("pull {image}");
    bench.fail(&call, Some("connection reset"));
    let error = bench.runtime().pull(&image, &|_| {}).await.expect_err("it fails");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    assert!(error.to_string().contains(image.as_str()), "{error}");
    bench.fail(&call, None);
    pull(bench, "1").await;
}

async fn what_a_registry_does_not_give_is_told_to_a_person_with_a_remedy(bench: &impl Bench) {
    for (why, words, remedy) in [
        (Refused::NoTag, "does not have it", "correct its name and tag"),
        (Refused::NoRepository, "does not have it", "correct its name and tag"),
        (Refused::NoLogin, "wants a login", "give it one by"),
    ] {
        let image = bench.refused(why);
        let error = bench.runtime().pull(&image, &|_| {}).await.expect_err("refused");
        assert_eq!(error.severity(), Severity::AskAPerson, "{why:?}: {error}");
        let text = error.to_string();
        for wanted in [image.as_str(), image.registry(), words, remedy] {
            assert!(text.contains(wanted), "{why:?}: {text} has no {wanted:?}");
        }
        assert!(!bench.runtime().has(&image).await.expect("an answer"), "{why:?}");
    }
}

async fn a_failed_run_names_call_and_command_and_leaves_nothing_running(bench: &impl Bench) {
    pull(bench, "1").await;
    let call = format!("run {}", image(bench, "1"));
    bench.fail(&call, Some("no space left"));
    let spec = spec(bench, "1").command(["install-tools"]).detached(NAME);
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
    stop(bench).await;
}
