//! A mirror that answers anything but what was asked for, and releases that change behind the daemons' backs.

use std::time::{Duration, Instant};

use neco_playground::BootServer;
use neco_releases::mirror::faults::{Asked, Fault, Scope};
use neco_scenarios::{Drip, LONG, Said, Scenario, leads_alone, necoctl, others_come_back};
use neco_schema::NecoVersion;

/// How long the playground's servers let a mirror be silent.
const SILENT: &str = "was silent for 3s";
/// How long a limit of the rate holds.
const LIMIT: Duration = Duration::from_secs(3);
/// How far a spoilt answer goes.
const HEAD: u64 = 40;
/// How much of a description comes at a time when it comes slowly.
const DROP: usize = 256;
/// How much of a package comes in one piece when it comes slowly, and how long nothing comes after that: not too long.
const GULP: usize = 8 << 20;
const PAUSE: Duration = Duration::from_secs(2);
/// How much of a package comes before its connection breaks or hangs.
const PIECE: u64 = 1 << 20;

/// One way to answer wrongly.
struct Case {
    name: &'static str,
    fault: Fault,
    /// How many requests one look, or one try, takes at most.
    requests: usize,
    /// What is said about it: what happened, and what to do.
    words: &'static [&'static str],
    /// Whether words come anew after each limit, because they name its end.
    limit: bool,
}

fn case(name: &'static str, fault: Fault, requests: usize, words: &'static [&'static str]) -> Case {
    Case { name, fault, requests, words, limit: false }
}

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), r#"{"message":"no"}"#.to_owned())
}

fn answer(body: &str) -> Fault {
    Fault::Status(200, Vec::new(), body.to_owned())
}

/// What may come instead of anything: descriptions and packages.
fn anything() -> Vec<Case> {
    let after = vec![("retry-after", LIMIT.as_secs().to_string())];
    let too_many = Fault::Status(429, after, r#"{"message":"slow down"}"#.to_owned());
    let limits = &["limits the rate of requests until", "a token raises the limit"];
    let limit = |name, fault| Case { limit: true, ..case(name, fault, 1, limits) };
    let trouble = &["the server has trouble", "asked again later"];
    vec![
        case("403 refused", status(403), 1, &["answered 403", "give it read access to contents"]),
        limit("429 too many requests", too_many),
        limit("403 rate limit", Fault::RateLimit { reset_in: LIMIT }),
        case("500", status(500), 3, trouble),
        case("503", status(503), 3, &["answered 503", "the server has trouble"]),
        case("redirect loop", Fault::RedirectLoop, 1, &["redirects in a loop", "check"]),
        case("HTML", Fault::Html, 1, &["text/html", "a login page or proxy is in between"]),
    ]
}

fn further() -> Case {
    let words = &["redirects more than 5 times", "check release.api_url and proxy"];
    case("ever further redirects", Fault::RedirectOn, 6, words)
}

/// What may come instead of descriptions of releases.
fn descriptions(slow: &Drip) -> Vec<Case> {
    let mut cases = anything();
    let odd: &[&str] = &["JSON that does not describe releases", "check release.api_url"];
    let pre_release = answer(r#"{"tag_name":"release-2099.01.01-99999","prerelease":true}"#);
    let drops = Fault::RedirectTo(slow.url().to_owned());
    let passed_over: &[&str] = &["is marked as a pre-release", "mark a release like release-"];
    cases.extend([
        case("404", status(404), 2, &["answered 404", "check release.owner"]),
        case("truncated", Fault::Truncate(HEAD), 3, &["connection to", "the network or the proxy"]),
        case("slow", Fault::Stall(HEAD), 3, &[SILENT, "the network or the proxy"]),
        case("drop by drop", drops, 3, &[SILENT, "the network or the proxy"]),
        case("endless", Fault::Endless, 1, &["sends more than the 8388608 bytes", "check"]),
        case("no JSON", answer("no JSON at all"), 1, odd),
        case("JSON of wrong types", answer(r#"{"tag_name":7}"#), 1, odd),
        case("a pre-release as the latest", pre_release, 1, passed_over),
        // The last: who is on such a way when it ends arrives nowhere, and takes that for an answer.
        further(),
    ]);
    cases
}

/// What may come instead of a package.
fn packages() -> Vec<Case> {
    let mut cases = anything();
    let gone: &[&str] = &["answered 404", "the release or file was deleted or replaced"];
    let moved: &[&str] = &["sent bytes with SHA-256", "nothing was kept"];
    cases.extend([
        case("404", status(404), 1, gone),
        case("silent", Fault::Stall(0), 3, &[SILENT, "the network or the proxy"]),
        case("endless", Fault::Endless, 1, &["bytes that are announced", "check"]),
        case("other bits than were listed", Fault::Corrupt, 2, moved),
        further(),
    ]);
    cases
}

/// Checks that a verb says all of `words`, sooner or later.
async fn told(scenario: &Scenario, server: &BootServer, verb: &str, words: &[&str]) {
    scenario
        .until_true(&format!("{verb} with {words:?}"), async || {
            let told = necoctl(server, &[verb]).await.ended(0).out;
            words.iter().all(|word| told.contains(word))
        })
        .await;
}

/// Checks that nobody was asked while a limit held.
fn respected(name: &str, asked: &[Asked]) {
    for pair in asked.windows(2) {
        let limited = matches!(pair[0].status, 403 | 429);
        // A reset is told in whole seconds.
        let until = pair[0].at.as_second() + LIMIT.as_secs().cast_signed();
        let early = limited && pair[1].at.as_second() < until;
        assert!(!early, "{name}: asked again before the limit had ended: {pair:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn whatever_a_mirror_says_of_releases_is_told_once_and_nothing_is_lost() {
    let scenario = Scenario::begin().await;
    let (first, update) = (scenario.packages().first().clone(), scenario.packages().update());
    let (update, leader) = (update.clone(), scenario.server(0));
    leads_alone(&scenario, leader).await;
    let processes = scenario.processes();
    let faults = scenario.mirror().faults();
    let elsewhere = scenario.other_mirror();
    let slow = Drip::before(elsewhere.url(), DROP, Duration::from_secs(1)).await;
    for Case { name, fault, requests, words, limit } in descriptions(&slow) {
        let said = Said::until_now(leader, "neco-updater", words);
        let well = [" INFO ", "releases", " again"];
        let well = Said::until_now(leader, "neco-updater", &well);
        faults.take_asked();
        let began = Instant::now();
        faults.only(Scope::Api, fault);
        let mut asked = Vec::new();
        said.more(&scenario).await;
        told(&scenario, leader, "why", words).await;
        told(&scenario, leader, "status", &words[..1]).await;
        // What is asked again and answered the same is not said again.
        scenario
            .until_true(&format!("{name}: another look"), async || {
                asked.extend(faults.take_asked());
                asked.len() > requests
            })
            .await;
        let looks = began.elapsed().as_secs() + 2;
        let most = requests * usize::try_from(looks).unwrap_or(usize::MAX);
        assert!(asked.len() <= most, "{name}: {} requests in {looks} looks", asked.len());
        let repeated = said.since(&scenario).len();
        let changes = if limit { asked.len() } else { 1 };
        assert!((1..=changes).contains(&repeated), "{name}: said {repeated} times");
        if limit {
            respected(name, &asked);
        }
        faults.clear();
        well.more(&scenario).await;
        let why = necoctl(leader, &["why"]).await.ended(0).out;
        assert!(why.contains("Nothing stands in the way"), "{name}: {why}");
    }
    assert_eq!(scenario.processes(), processes, "nobody ended for any of them");
    for server in scenario.servers() {
        assert_eq!(server.version_on_disk().as_deref(), Some(first.as_str()));
    }

    others_come_back(&scenario, leader).await;

    // Redirects to another host are followed, without the token: first to descriptions, then to the package.
    elsewhere.faults().take_asked();
    let away = || Fault::RedirectTo(elsewhere.url().to_owned());
    faults.only(Scope::Api, away());
    scenario.publish_update().await;
    scenario
        .until("the request", |view| {
            view.current().is_some_and(|request| request.version == update)
        })
        .await;
    faults.only(Scope::Files, away());
    scenario.completed(&update).await;
    faults.clear();
    let seen = elsewhere.faults().take_asked();
    for what in ["/releases/latest", "/releases/tags/", "/releases/assets/"] {
        assert!(seen.iter().any(|asked| asked.uri.contains(what)), "{what}: {seen:#?}");
    }
    assert!(seen.iter().all(|asked| asked.authorization.is_none()), "the token stays at home");
    let home = faults.take_asked();
    assert!(home.iter().all(|asked| asked.authorization.is_some()), "{home:#?}");

    // The newest release goes away, so that an older one is the latest: nobody goes back.
    let words =
        [&*format!("the latest release {first} is older than {update}"), "necoctl withdraw"];
    let folder = scenario.mirror_dir().join(format!("release-{update}"));
    let aside = scenario.mirror_dir().join(".aside");
    leads_alone(&scenario, leader).await;
    let said = Said::until_now(leader, "neco-updater", &words);
    std::fs::rename(&folder, &aside).expect("taken away");
    said.more(&scenario).await;
    told(&scenario, leader, "why", &words).await;
    told(&scenario, leader, "status", &words).await;
    std::fs::rename(&aside, &folder).expect("brought back");
    told(&scenario, leader, "why", &["Nothing stands in the way"]).await;
    let said = said.since(&scenario);
    assert_eq!(said.len(), 1, "{said:#?}");
    others_come_back(&scenario, leader).await;
    let view = scenario.view().await.expect("an answer");
    assert_eq!(view.current().map(|request| request.version.clone()), Some(update.clone()));
    scenario.verdict(&update).await;
}

/// Nothing of `version` has come to any server but the first, and nothing is installed anywhere.
fn untouched(scenario: &Scenario, version: &NecoVersion) {
    for server in scenario.servers() {
        let installed = scenario.packages().first();
        assert_eq!(server.version_on_disk().as_deref(), Some(installed.as_str()));
        let cache = server.root().join("var/cache/neco/packages");
        let files = std::fs::read_dir(&cache).expect("a cache").flatten();
        let ours = |name: &std::ffi::OsString| name.to_string_lossy().contains(version.as_str());
        let fetched: Vec<_> = files.map(|file| file.file_name()).filter(ours).collect();
        let first = server.lrn() == scenario.server(0).lrn();
        assert!(first || fetched.is_empty(), "boot-{}: {fetched:?}", server.lrn());
    }
}

/// How many tries the delays between them allow in this time: each is at least half of a delay that doubles from 500 ms.
fn tries_within(time: Duration) -> f64 {
    3.0 + time.as_secs_f64().mul_add(4.0, 1.0).log2()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn whatever_a_mirror_sends_for_a_package_is_told_and_waited_out() {
    let scenario = Scenario::begin().await;
    let (update, processes) = (scenario.packages().update().clone(), scenario.processes());
    let (first, other) = (scenario.server(0), scenario.server(2));
    let faults = scenario.mirror().faults();
    faults.always(Scope::Files, status(502));
    scenario.publish_update().await;
    let mut cases = packages().into_iter();
    loop {
        let round: Vec<Case> = cases.by_ref().take(4).collect();
        if round.is_empty() {
            break;
        }
        let (began, mut asked, mut most) = (Instant::now(), Vec::new(), 0);
        for Case { name, fault, requests, words, limit } in round {
            let said = Said::until_now(first, "neco-worker", words);
            let from = asked.len();
            faults.only(Scope::Files, fault);
            said.more(&scenario).await;
            // On any server: it stands in etcd what the first one waits for.
            told(&scenario, other, "why", words).await;
            told(&scenario, other, "status", words).await;
            untouched(&scenario, &update);
            asked.extend(faults.take_asked());
            let files = asked[from..].iter().filter(|asked| asked.uri.contains("/assets/"));
            let files: Vec<_> = files.cloned().collect();
            let repeated = said.since(&scenario).len();
            let changes = if limit { files.len() } else { 1 };
            assert!((1..=changes).contains(&repeated), "{name}: said {repeated} times");
            if limit {
                respected(name, &files);
            }
            most = most.max(requests);
        }
        let files = asked.iter().filter(|asked| asked.uri.contains("/assets/")).count();
        let tries = tries_within(began.elapsed());
        let allowed = tries * f64::from(u32::try_from(most).unwrap_or(u32::MAX));
        assert!((files as f64) <= allowed, "{files} requests, more than {allowed}");
        // Another process begins again with short delays, and goes on with what has come.
        first.worker().stop().await;
        first.worker().up().await;
        first.worker().successor_of(0, LONG).await.expect("it starts");
    }

    // The release goes away between its listing and its download, and comes back.
    faults.only(Scope::Files, status(502));
    let gone = format!("no release of {update} is published");
    let folder = scenario.mirror_dir().join(format!("release-{update}"));
    let aside = scenario.mirror_dir().join(".aside");
    std::fs::rename(&folder, &aside).expect("taken away");
    scenario.logged(first, "neco-worker", &[&gone]).await;
    told(&scenario, other, "why", &[&gone]).await;
    untouched(&scenario, &update);
    for (now, before) in scenario.processes().iter().zip(&processes) {
        let may_end = now.0.contains("worker of boot-0");
        assert!(may_end || now == before, "nobody ended for any of them: {now:?}");
    }

    // At last it comes in pieces: connections that break, one that hangs in the middle, and one that is slow to its end.
    let elsewhere = scenario.other_mirror();
    let slow = Drip::before(elsewhere.url(), GULP, PAUSE).await;
    faults.take_asked();
    faults.clear();
    faults.next(Scope::Files, 2, Fault::Truncate(PIECE));
    faults.next(Scope::Files, 1, Fault::Stall(PIECE));
    faults.next(Scope::Files, 1, Fault::RedirectTo(slow.url().to_owned()));
    std::fs::rename(&aside, &folder).expect("brought back");
    scenario.completed(&update).await;
    let asked = faults.take_asked();
    let resumed: Vec<_> = asked.iter().filter_map(|asked| asked.range.as_deref()).collect();
    let resumes = [1, 2, 3].map(|pieces| format!("bytes={}-", pieces * PIECE));
    assert_eq!(resumed, resumes, "what is slow is not begun again");
    let seen = elsewhere.faults().take_asked();
    let seen: Vec<_> = seen.iter().map(|asked| asked.range.as_deref()).collect();
    assert_eq!(seen, [Some(&*resumes[2])], "it came the slow way");
    scenario.verdict(&update).await;
}
