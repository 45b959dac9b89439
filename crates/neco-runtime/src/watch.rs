//! Follows the log of a container of the model.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;

use crate::containers::Log;
use crate::{LogLine, LogLines, LogSpec, RuntimeError};

/// How often it is looked for new lines.
const LOOK: Duration = Duration::from_millis(20);

/// The lines that `look` gives, now and, where that is wanted, until the container has ended.
pub(crate) fn lines(
    spec: LogSpec,
    look: impl Fn() -> Result<Log, RuntimeError> + Send + 'static,
) -> Result<LogLines, RuntimeError> {
    let log = look()?;
    let tail = usize::try_from(spec.tail).unwrap_or(usize::MAX);
    let ready: VecDeque<LogLine> = log.since(log.end().saturating_sub(tail)).cloned().collect();
    let state = (ready, log.end(), look);
    Ok(stream::unfold(state, move |(mut ready, mut seen, look)| async move {
        while ready.is_empty() {
            if !spec.follow {
                return None;
            }
            tokio::time::sleep(LOOK).await;
            match look() {
                Err(RuntimeError::NotRunning { .. }) => return None,
                Err(error) => return Some((Err(error), (ready, seen, look))),
                Ok(log) => {
                    ready.extend(log.since(seen).cloned());
                    seen = log.end();
                }
            }
        }
        ready.pop_front().map(|line| (Ok(line), (ready, seen, look)))
    })
    .boxed())
}
