//! This process: its threads, and its end.

use std::time::Duration;

use neco_process::exit::{ExitCode, Failure};
use tokio::runtime::{Builder, Runtime};

use crate::cli::Cli;
use crate::suite;

/// How long a thread may take to come to its end once nobody needs what it does.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Measures what is asked for, and prints it.
///
/// # Errors
/// Something is missing on this machine (77), or a measurement did not come to its end (1).
pub fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    // As many threads as the daemons have: one of them is measured in this program.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    to_its_end(runtime, suite::run(cli))
}

/// Does `work`, and leaves alone what still blocks a thread afterwards: a package of 1 GiB that is being written goes on
/// being written after an interrupt, and nobody wants it.
fn to_its_end<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(END_WITHIN);
    done
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_blocks_a_thread_is_not_waited_for() {
        const LONG: Duration = Duration::from_secs(30);
        let (_kept, never) = mpsc::channel::<()>();
        let began = Instant::now();
        let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        to_its_end(runtime, async move {
            let (begins, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begins.send(());
                never.recv_timeout(LONG)
            });
            begun.await.expect("it blocks");
        });
        assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    }
}
