//! Downloads against a mirror, in good weather and bad.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use common::{Site, TOKEN, limits, message, package, serve_dir};
use neco_releases::mirror::NewRelease;
use neco_releases::mirror::faults::{Fault, Scope};
use neco_releases::{
    Asset, Downloaded, Limits, Progress, Release, ReleaseError, ReleaseSource, download,
};
use neco_schema::{Environment, PackageRef, Severity};

const SIZE: usize = 300_000;
const TAG: &str = "release-2022.01.01-1";

/// A published package and a place to download it to.
struct Case {
    site: Site,
    content: Vec<u8>,
    asset: Asset,
}

impl Case {
    async fn new() -> Self {
        let site = Site::new().await;
        let content = site.publish(TAG, SIZE, NewRelease::default());
        let asset = release(&site).await.package("neco").expect("a package").clone();
        site.faults.take_asked();
        Self { site, content, asset }
    }

    fn dest(&self) -> PathBuf {
        self.site.dir.path().join("cache/neco.deb")
    }

    fn part(&self) -> PathBuf {
        self.site.dir.path().join("cache/neco.deb.part")
    }

    fn expected(&self) -> PackageRef {
        self.asset.package_ref().expect("a digest")
    }

    async fn get(&self, limits: &Limits) -> Result<Downloaded, ReleaseError> {
        let (client, expected) = (self.site.client(), self.expected());
        download(&client, &self.asset, Some(&expected), &self.dest(), limits, &|_| ()).await
    }

    fn is_whole(&self) {
        assert!(std::fs::read(self.dest()).expect("there") == self.content, "other content");
        assert!(!self.part().exists(), "the part is left");
    }

    fn is_absent(&self) {
        assert!(!self.dest().exists(), "a wrong file is left");
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.site.faults.take_asked().into_iter().map(|asked| asked.range).collect()
    }

    fn lies_there(&self, path: &Path, content: &[u8]) {
        std::fs::create_dir_all(self.site.dir.path().join("cache")).expect("created");
        std::fs::write(path, content).expect("written");
    }
}

async fn release(site: &Site) -> Release {
    let newest = site.client().newest(Environment::Prod).await;
    newest.unwrap_or_else(|e| panic!("{e}")).expect("a release")
}

#[tokio::test]
async fn a_file_comes_whole_and_progress_is_told() {
    let case = Case::new().await;
    let told = Mutex::new(Vec::new());
    let client = case.site.client();
    let tell = |progress: Progress| told.lock().expect("not poisoned").push(progress);
    let got = download(&client, &case.asset, None, &case.dest(), &limits(), &tell).await;
    let got = got.unwrap_or_else(|e| panic!("{e}"));
    let expected = case.expected();
    assert_eq!((got.size, got.transferred), (SIZE as u64, SIZE as u64));
    assert_eq!((&got.sha256, &got.path), (&expected.sha256, &case.dest()));
    case.is_whole();
    let told = told.into_inner().expect("not poisoned");
    assert!(told.iter().map(|p| p.done).is_sorted());
    assert_eq!(told.last(), Some(&Progress { done: SIZE as u64, total: Some(SIZE as u64) }));
}

#[tokio::test]
async fn a_file_that_is_there_is_checked_and_not_transferred_again() {
    let case = Case::new().await;
    case.lies_there(&case.dest(), &case.content);
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, 0);
    assert_eq!(case.ranges(), []);

    case.lies_there(&case.dest(), &package(SIZE, "another"));
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64);
    case.is_whole();
}

#[tokio::test]
async fn a_wrong_file_that_lies_there_is_removed_even_if_the_right_one_cannot_be_had() {
    let case = Case::new().await;
    case.lies_there(&case.dest(), b"wrong");
    case.site.faults.always(Scope::Files, Fault::Status(500, vec![], String::new()));
    case.get(&limits()).await.expect_err("trouble");
    case.is_absent();
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_ended() {
    let case = Case::new().await;
    case.site.faults.next(Scope::Files, 1, Fault::Truncate(100_000));
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64, "no byte twice");
    assert_eq!(case.ranges(), [None, Some("bytes=100000-".to_owned())]);
    case.is_whole();
}

#[tokio::test]
async fn progress_between_failures_keeps_a_download_going() {
    let case = Case::new().await;
    case.site.faults.next(Scope::Files, 7, Fault::Truncate(20_000));
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64);
    assert_eq!(case.ranges().len(), 8);
    case.is_whole();
}

#[tokio::test]
async fn another_call_goes_on_where_the_first_gave_up() {
    let case = Case::new().await;
    case.site.faults.next(Scope::Files, 1, Fault::Truncate(100_000));
    let once = Limits { attempts: 1, ..limits() };
    let error = case.get(&once).await.expect_err("cut");
    assert_eq!(error.severity(), Severity::TryAgain, "{error:?}");
    message(&error);
    case.is_absent();
    let got = case.get(&once).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64 - 100_000);
    assert_eq!(case.ranges(), [None, Some("bytes=100000-".to_owned())]);
    case.is_whole();
}

#[tokio::test]
async fn a_download_that_is_dropped_can_be_taken_up_again() {
    let case = Case::new().await;
    case.site.faults.next(Scope::Files, 1, Fault::Stall(100_000));
    let (client, dest) = (case.site.client(), case.dest());
    let (reached, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |progress: Progress| {
        let _ = reached.send(progress.done);
    };
    let limits = limits();
    {
        let running = download(&client, &case.asset, None, &dest, &limits, &tell);
        tokio::pin!(running);
        loop {
            tokio::select! {
                biased;
                done = &mut running => panic!("{done:?}"),
                done = arrived.recv() => if done == Some(100_000) { break },
            }
        }
    }
    let got = case.get(&limits).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64 - 100_000);
    case.is_whole();
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_from_the_beginning() {
    let case = Case::new().await;
    case.site.faults.next(Scope::Files, 1, Fault::Truncate(100_000));
    case.site.faults.next(Scope::Files, 1, Fault::IgnoreRange);
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64 + 100_000);
    case.is_whole();
}

#[tokio::test]
async fn leftovers_of_something_else_are_noticed_and_replaced() {
    let case = Case::new().await;
    for leftover in [package(1000, "x"), package(SIZE, "x"), package(SIZE * 2, "x")] {
        let _ = std::fs::remove_file(case.dest());
        case.lies_there(&case.part(), &leftover);
        case.get(&limits()).await.unwrap_or_else(|e| panic!("{} bytes: {e}", leftover.len()));
        case.is_whole();
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_expected_ones_never_get_the_name() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::Corrupt);
    let error = case.get(&limits()).await.expect_err("corrupt");
    assert!(matches!(error, ReleaseError::WrongDigest { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    message(&error);
    case.is_absent();
    assert!(!case.part().exists());
    assert_eq!(case.ranges().len(), 1, "what is wrong from the beginning is not asked for again");
}

#[tokio::test]
async fn a_release_that_was_replaced_after_the_request_is_refused_unread() {
    let case = Case::new().await;
    let requested = PackageRef { sha256: "00".repeat(32), ..case.expected() };
    let client = case.site.client();
    let got =
        download(&client, &case.asset, Some(&requested), &case.dest(), &limits(), &|_| ()).await;
    assert!(matches!(got, Err(ReleaseError::Replaced { .. })), "{got:?}");
    assert_eq!(case.ranges(), []);
}

#[tokio::test]
async fn a_file_that_changes_between_listing_and_download_is_refused() {
    let case = Case::new().await;
    let path = case.site.path().join(TAG).join(&case.asset.name);
    for (other, refused) in [
        (package(SIZE, "moved"), "instead of"),
        (package(SIZE / 2, "moved"), "ended after"),
        (package(SIZE * 2, "moved"), "announced"),
    ] {
        std::fs::write(&path, other).expect("written");
        let error = case.get(&limits()).await.expect_err("another file");
        assert!(message(&error).contains(refused), "{error}");
        case.is_absent();
        let _ = std::fs::remove_file(case.part());
    }
}

#[tokio::test]
async fn a_release_deleted_between_listing_and_download_is_told() {
    let case = Case::new().await;
    neco_releases::mirror::remove(&case.site.path(), TAG).unwrap_or_else(|e| panic!("{e}"));
    let error = case.get(&limits()).await.expect_err("gone");
    assert!(matches!(error, ReleaseError::Gone { status: 404, .. }), "{error:?}");
    assert!(message(&error).contains("deleted or replaced"), "{error}");
    assert_eq!(case.ranges().len(), 1);
    case.is_absent();
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_cap() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::Endless);
    let error = case.get(&limits()).await.expect_err("endless");
    let announced = ReleaseError::TooLarge {
        url: case.asset.url.to_string(),
        limit: SIZE as u64,
        announced: true,
    };
    assert_eq!(message(&error), announced.to_string());
    case.is_absent();

    // Nobody said how long: the limit holds.
    let unknown = Asset { size: 0, sha256: None, ..case.asset.clone() };
    let small = Limits { max_bytes: 1 << 20, ..limits() };
    let client = case.site.client();
    let got = download(&client, &unknown, None, &case.dest(), &small, &|_| ()).await;
    let error = got.expect_err("endless");
    let allowed =
        matches!(error, ReleaseError::TooLarge { limit: 0x10_0000, announced: false, .. });
    assert!(allowed && !error.is_about_the_release(), "{error:?}");
    case.is_absent();
    assert!(std::fs::metadata(case.part()).map_or(0, |part| part.len()) <= 1 << 20);
}

#[tokio::test]
async fn a_file_larger_than_allowed_is_not_asked_for() {
    let case = Case::new().await;
    let small = Limits { max_bytes: 1000, ..limits() };
    let error = case.get(&small).await.expect_err("too large");
    let oversized =
        ReleaseError::Oversized { file: case.asset.name.clone(), size: SIZE as u64, limit: 1000 };
    assert_eq!(message(&error), oversized.to_string());
    assert!(error.is_about_the_release(), "{error}");
    assert_eq!(case.ranges(), []);
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_what_came_is_kept() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::Stall(0));
    case.site.faults.clear();
    case.site.faults.next(Scope::Files, 1, Fault::Stall(100_000));
    let hasty = Limits { stall: Duration::from_millis(200), attempts: 1, ..limits() };
    let error = case.get(&hasty).await.expect_err("silent");
    assert!(matches!(error, ReleaseError::Silent { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::TryAgain);
    message(&error);
    let got = case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.transferred, SIZE as u64 - 100_000);
    case.is_whole();
}

#[tokio::test]
async fn the_whole_has_a_limit_too() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::Stall(1000));
    let hasty = Limits { total: Duration::from_millis(300), ..limits() };
    let error = case.get(&hasty).await.expect_err("too long");
    assert!(matches!(error, ReleaseError::TimedOut { .. }), "{error:?}");
    message(&error);
    case.is_absent();
}

#[tokio::test]
async fn a_web_page_is_not_taken_for_a_package() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::Html);
    let error = case.get(&limits()).await.expect_err("a page");
    assert!(message(&error).contains("instead of the file"), "{error}");
    case.is_absent();
}

#[tokio::test]
async fn a_rate_limit_ends_the_call() {
    let case = Case::new().await;
    case.site.faults.always(Scope::Files, Fault::RateLimit { reset_in: Duration::from_secs(60) });
    let error = case.get(&limits()).await.expect_err("limited");
    assert!(matches!(error, ReleaseError::RateLimited { .. }), "{error:?}");
    assert_eq!(case.ranges().len(), 1);
}

#[tokio::test]
async fn bytes_may_come_from_another_host_which_never_sees_the_token() {
    let case = Case::new().await;
    let (elsewhere, other) = serve_dir(&case.site.path()).await;
    case.site.faults.always(Scope::Files, Fault::RedirectTo(other.api_url().to_string()));
    elsewhere.next(Scope::Files, 1, Fault::Truncate(100_000));
    case.get(&limits()).await.unwrap_or_else(|e| panic!("{e}"));
    case.is_whole();
    let (here, there) = (case.site.faults.take_asked(), elsewhere.take_asked());
    assert_eq!((here.len(), there.len()), (2, 2));
    let bearer = Some(format!("Bearer {TOKEN}"));
    assert!(here.iter().all(|asked| asked.authorization == bearer));
    assert!(there.iter().all(|asked| asked.authorization.is_none()));
    assert_eq!(there[1].range.as_deref(), Some("bytes=100000-"));
}

#[tokio::test]
async fn a_digest_that_the_api_does_not_name_is_found_by_reading() {
    let case = Case::new().await;
    let known = case.expected();
    case.site.faults.always(Scope::Api, Fault::NoDigests);
    let release = release(&case.site).await;
    assert_eq!(release.package("neco").expect("a package").sha256, None);
    case.site.faults.take_asked();
    case.site.faults.next(Scope::Files, 1, Fault::Truncate(100_000));
    let resolved = case.site.client().resolve(&release, "neco").await;
    assert_eq!(resolved.unwrap_or_else(|e| panic!("{e}")), known);
    assert_eq!(case.ranges(), [None, Some("bytes=100000-".to_owned())]);
}

#[tokio::test]
async fn a_digest_that_the_api_names_costs_no_transfer() {
    let case = Case::new().await;
    let release = release(&case.site).await;
    case.site.faults.take_asked();
    let resolved = case.site.client().resolve(&release, "neco").await;
    assert_eq!(resolved.unwrap_or_else(|e| panic!("{e}")), case.expected());
    assert_eq!(case.ranges(), []);
}

#[tokio::test]
async fn small_files_are_read_up_to_a_limit() {
    let case = Case::new().await;
    let client = case.site.client();
    let read = client.read(&case.asset, SIZE as u64).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(read == case.content);
    let error = client.read(&case.asset, 1000).await.expect_err("too large");
    assert!(matches!(error, ReleaseError::TooLarge { limit: 1000, .. }), "{error:?}");
    // Whoever sends so much need not be the mirror: a worker waits for better days.
    assert!(!error.is_about_the_release(), "{error}");
    case.site.faults.next(Scope::Files, 1, Fault::Endless);
    let error = client.read(&case.asset, SIZE as u64).await.expect_err("endless");
    assert!(!error.is_about_the_release(), "{error}");
    case.site.faults.next(Scope::Files, 2, Fault::Truncate(10));
    assert!(client.read(&case.asset, SIZE as u64).await.is_ok());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let case = Case::new().await;
    std::fs::write(case.site.dir.path().join("cache"), "a file").expect("written");
    let error = case.get(&limits()).await.expect_err("no directory");
    assert!(matches!(error, ReleaseError::Io { .. }), "{error:?}");
    assert!(message(&error).contains("/cache"), "{error}");
}
