//! What every engine of [`RunDetached`] keeps: a suite to run against each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{DetachError, RunDetached};

/// The unit that the suite starts and enables.
pub const UNIT: &str = "neco-contract.service";

/// A machine with an engine under test, on which [`UNIT`] neither runs nor is enabled. Dropping the bench ends the unit.
#[async_trait(?Send)]
pub trait Bench: Sync {
    /// The engine.
    fn engine(&self) -> &dyn RunDetached;

    /// A command that takes note of its arguments `more` as soon as it runs, and runs until [`end`](Self::end).
    /// Where commands really run, a [`Chore`] is one.
    fn chore(&self, more: &[&str]) -> Vec<String>;

    /// What each run of such a command took note of, in order.
    fn runs(&self) -> Vec<Vec<String>>;

    /// Lets the commands that took note come to their end.
    fn end(&self);

    /// Starts the unit from another process, which is killed with all its group, or stopped as its service manager does it,
    /// before this returns; gives `false` if this engine cannot do that.
    async fn start_elsewhere(&self, unit: &str, argv: &[String]) -> bool;

    /// Ends everything that runs, and has the machine boot; gives `false` if this engine cannot do that.
    async fn boot(&self) -> bool;
}

/// A command for a [`Bench`] of an engine that runs commands.
#[derive(Clone, Debug)]
pub struct Chore {
    dir: PathBuf,
}

/// Each run has a folder with a number. It ends when it is told to, and when its folder is gone, so that nothing stays
/// behind where a test fails.
const SCRIPT: &str = "dir=$1; shift; test -d \"$dir\" || exit 1; n=1; \
     until mkdir \"$dir/$n\" 2>/dev/null; do n=$((n + 1)); done; \
     test $# = 0 || printf '%s\\0' \"$@\" > \"$dir/$n/new\"; test $# != 0 || : > \"$dir/$n/new\"; \
     mv \"$dir/$n/new\" \"$dir/$n/arguments\"; \
     while test -d \"$dir/$n\" && ! test -e \"$dir/$n/end\"; do sleep 0.02; done";

impl Chore {
    /// One that takes note in the empty directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The command with the arguments `more`.
    pub fn argv(&self, more: &[&str]) -> Vec<String> {
        let dir = self.dir.to_str().expect("a path that can be an argument");
        let words = ["/bin/sh", "-c", SCRIPT, "chore", dir];
        words.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    /// The arguments of each run, in order.
    pub fn runs(&self) -> Vec<Vec<String>> {
        self.folders().filter_map(|folder| noted(&folder)).collect()
    }

    /// Ends every run there is.
    pub fn end(&self) {
        for folder in self.folders() {
            std::fs::write(folder.join("end"), "").expect("writable");
        }
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        (1..).map(|n| self.dir.join(format!("{n}"))).take_while(|folder| folder.exists())
    }
}

/// What a run took note of, if it has come so far.
fn noted(folder: &Path) -> Option<Vec<String>> {
    let text = match std::fs::read_to_string(folder.join("arguments")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        read => read.expect("readable"),
    };
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

/// What a shell, a unit file or a careless join would change.
const ODD: [&str; 12] = [
    "two words",
    " spaces around ",
    "",
    "it's \"quoted\"",
    "%n %% %i",
    "$HOME ${PATH} $$",
    "back\\slash \\n \\x41 \\\\",
    "ねこ 🐈",
    ";",
    "-n",
    "@",
    "*?[a-z]~#",
];

/// How long what happens beside may take.
const SOON: Duration = Duration::from_secs(30);

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    an_unknown_unit_neither_runs_nor_is_enabled(&new()).await;
    a_start_returns_at_once_and_a_running_unit_is_not_started_again(&new()).await;
    a_unit_that_has_ended_can_be_started_again(&new()).await;
    arguments_arrive_as_they_were_given(&new()).await;
    what_is_enabled_is_read_back_exactly_until_it_is_disabled(&new()).await;
    to_enable_is_not_to_start_and_to_disable_is_not_to_stop(&new()).await;
    what_is_no_name_or_no_command_is_refused(&new()).await;
    what_runs_outlives_its_starter(&new()).await;
    what_is_enabled_runs_at_boot(&new()).await;
}

async fn is_running(bench: &impl Bench) -> bool {
    bench.engine().is_running(UNIT).await.expect("an answer")
}

async fn start(bench: &impl Bench, more: &[&str]) {
    let argv = bench.chore(more);
    let starting = tokio::time::timeout(SOON, bench.engine().start(UNIT, &argv));
    let started = starting.await.expect("a start does not wait for the end");
    started.unwrap_or_else(|error| panic!("{error}"));
}

async fn command(bench: &impl Bench) -> Option<Vec<String>> {
    bench.engine().command(UNIT).await.expect("an answer")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until so many commands ran, and no more, with these arguments.
async fn ran(bench: &impl Bench, wanted: &[&[&str]]) {
    until("the command to run", async || bench.runs().len() >= wanted.len()).await;
    assert_eq!(bench.runs(), wanted);
}

/// Lets the unit end, and looks once more how often it ran: a second command would have had the time to take note.
async fn end(bench: &impl Bench, wanted: &[&[&str]]) {
    bench.end();
    until("the end of the unit", async || !is_running(bench).await).await;
    assert_eq!(bench.runs(), wanted);
}

async fn an_unknown_unit_neither_runs_nor_is_enabled(bench: &impl Bench) {
    assert!(!is_running(bench).await);
    assert_eq!(command(bench).await, None);
    bench.engine().disable(UNIT).await.expect("nothing to take back");
}

async fn a_start_returns_at_once_and_a_running_unit_is_not_started_again(bench: &impl Bench) {
    start(bench, &["one"]).await;
    assert!(is_running(bench).await, "the command has not ended");
    ran(bench, &[&["one"]]).await;
    start(bench, &["one"]).await;
    start(bench, &["two"]).await;
    assert!(is_running(bench).await);
    end(bench, &[&["one"]]).await;
    assert_eq!(command(bench).await, None, "to start is not to enable");
}

async fn a_unit_that_has_ended_can_be_started_again(bench: &impl Bench) {
    start(bench, &["one"]).await;
    ran(bench, &[&["one"]]).await;
    end(bench, &[&["one"]]).await;
    start(bench, &["two"]).await;
    assert!(is_running(bench).await);
    ran(bench, &[&["one"], &["two"]]).await;
    end(bench, &[&["one"], &["two"]]).await;
}

async fn arguments_arrive_as_they_were_given(bench: &impl Bench) {
    start(bench, &ODD).await;
    ran(bench, &[&ODD]).await;
    end(bench, &[&ODD]).await;
}

async fn what_is_enabled_is_read_back_exactly_until_it_is_disabled(bench: &impl Bench) {
    for more in [&[][..], &ODD, &["", ""]] {
        let argv = bench.chore(more);
        for _ in 0..2 {
            bench.engine().enable(UNIT, &argv).await.expect("enabled");
            assert_eq!(command(bench).await.as_ref(), Some(&argv));
        }
    }
    for _ in 0..2 {
        bench.engine().disable(UNIT).await.expect("disabled");
        assert_eq!(command(bench).await, None);
    }
    assert!(!is_running(bench).await);
    assert_eq!(bench.runs(), [[""; 0]; 0]);
}

async fn to_enable_is_not_to_start_and_to_disable_is_not_to_stop(bench: &impl Bench) {
    let engine = bench.engine();
    engine.enable(UNIT, &bench.chore(&["at boot"])).await.expect("enabled");
    assert!(!is_running(bench).await);
    start(bench, &["now"]).await;
    ran(bench, &[&["now"]]).await;
    assert_eq!(command(bench).await, Some(bench.chore(&["at boot"])), "for the next boot");
    engine.disable(UNIT).await.expect("disabled");
    assert!(is_running(bench).await);
    engine.enable(UNIT, &bench.chore(&["at boot"])).await.expect("enabled");
    assert!(is_running(bench).await);
    end(bench, &[&["now"]]).await;
    engine.disable(UNIT).await.expect("disabled");
    assert!(!is_running(bench).await);
}

async fn what_is_no_name_or_no_command_is_refused(bench: &impl Bench) {
    let (engine, argv) = (bench.engine(), bench.chore(&[]));
    let long = "x".repeat(300);
    for name in
        ["", ".service", "a.timer", "a/b", "../x", ".x", "-x", "a b", "a\n", "a\0", "ねこ", &long]
    {
        for result in [
            engine.start(name, &argv).await,
            engine.enable(name, &argv).await,
            engine.disable(name).await,
            engine.is_running(name).await.map(drop),
            engine.command(name).await.map(drop),
        ] {
            let error = result.expect_err("no name");
            assert!(matches!(&error, DetachError::Name(told) if told == name), "{name:?}: {error}");
        }
    }
    for result in [engine.start(UNIT, &[]).await, engine.enable(UNIT, &[]).await] {
        let error = result.expect_err("no command");
        assert!(matches!(&error, DetachError::NoCommand(unit) if unit == UNIT), "{error}");
    }
    for odd in ["/bin/true\0", "\0", "a\0b"] {
        for argv in [vec![odd.to_owned()], bench.chore(&["one", odd])] {
            for result in [engine.start(UNIT, &argv).await, engine.enable(UNIT, &argv).await] {
                let error = result.expect_err("no program could be given this");
                assert!(matches!(&error, DetachError::ZeroByte(unit) if unit == UNIT), "{error}");
            }
        }
    }
    assert!(!is_running(bench).await);
    assert_eq!(command(bench).await, None);
    assert_eq!(bench.runs(), [[""; 0]; 0]);
}

async fn what_runs_outlives_its_starter(bench: &impl Bench) {
    if !bench.start_elsewhere(UNIT, &bench.chore(&["abroad"])).await {
        return;
    }
    assert!(is_running(bench).await, "its starter is dead, and who comes after finds it");
    ran(bench, &[&["abroad"]]).await;
    start(bench, &["once more"]).await;
    assert!(is_running(bench).await);
    end(bench, &[&["abroad"]]).await;
}

async fn what_is_enabled_runs_at_boot(bench: &impl Bench) {
    start(bench, &["before"]).await;
    ran(bench, &[&["before"]]).await;
    bench.engine().enable(UNIT, &bench.chore(&ODD)).await.expect("enabled");
    if !bench.boot().await {
        bench.engine().disable(UNIT).await.expect("disabled");
        return;
    }
    until("the unit to run", async || is_running(bench).await).await;
    ran(bench, &[&["before"], &ODD]).await;
    bench.engine().disable(UNIT).await.expect("disabled");
    assert!(bench.boot().await);
    assert!(!is_running(bench).await, "what is disabled does not run, and what ran has ended");
    assert_eq!(bench.runs().len(), 2);
}
