//! Tasks that a worker keeps beside its loop.

use std::time::Duration;

use neco_base::Backoff;
use neco_connect::one_line;
use tokio::task::JoinSet;

/// Delays before a task that has panicked is begun again.
const BEGIN_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Runs `task` until it comes to its own end: one that panics is begun again, for without it the server would live on as
/// half a worker and nobody would know. Dropped, it takes the task along.
pub async fn kept<F>(name: &'static str, mut task: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut retry = BEGIN_AGAIN.retry();
    loop {
        let mut running = JoinSet::new();
        running.spawn(task());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(name, error = %one_line(&error), "this is a bug: a task panicked and is begun again");
            }
            Some(_) | None => return,
        }
        tokio::time::sleep(retry.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_again_until_it_ends_by_itself() {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let task = move || {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            async move { assert!(nth >= 2, "by order of the test") }
        };
        tokio::time::timeout(Duration::from_secs(60), kept("test", task)).await.expect("ends");
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}
