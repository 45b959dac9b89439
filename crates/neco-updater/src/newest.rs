//! Looking for releases, and making the newest one known.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use neco_base::Backoff;
use neco_connect::{Settings, one_line};
use neco_plan::publish_release;
use neco_schema::{Environment, NecoVersion};
use neco_store::{Committed, Leadership, StoreError};

use crate::leading::{Context, SharedSettings};
use crate::releases::signature_missing;

/// How long to wait at least between two looks: a setting without its unit is in nanoseconds.
const NOT_SOONER: Duration = Duration::from_secs(1);
/// Delays after a look that failed.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Looks for releases as often as the setting says and makes the newest one known.
pub(crate) async fn watch_releases(
    context: Arc<Context>,
    leadership: Leadership,
    settings: SharedSettings,
) {
    let mut retry = TRY_AGAIN.retry();
    let mut said = Said::default();
    loop {
        let current = settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(settings) = current else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let looked = publish_newest(&context, &leadership, &settings).await;
        let pause = match &looked {
            Ok(_) => {
                retry.reset();
                settings.check_update_interval
            }
            Err(_) => settings.check_update_interval.max(retry.pause()),
        };
        for news in said.news(&looked) {
            match news {
                News::Trouble(trouble) => tracing::warn!("{trouble}"),
                News::Failed(why) => tracing::warn!(%why, "looking for releases failed"),
                News::Works => tracing::info!("looking for releases works again"),
                News::Mended => tracing::info!("the releases are in order again"),
            }
        }
        let troubles = looked.unwrap_or_else(|why| vec![why]);
        context.observe(|observation| observation.release_trouble = troubles.join("; "));
        tokio::time::sleep(pause.max(NOT_SOONER)).await;
    }
}

/// What was said about releases, so that it is said once.
#[derive(Debug, Default)]
struct Said {
    /// What was wrong with releases that were there, when a look succeeded last.
    troubles: Vec<String>,
    /// Why looks have failed since.
    failures: Vec<String>,
}

/// Something to say.
#[derive(Debug, PartialEq, Eq)]
enum News<'a> {
    /// Something is wrong with a release that is there.
    Trouble(&'a str),
    /// A look failed.
    Failed(&'a str),
    /// One has succeeded again.
    Works,
    /// Nothing is wrong with the releases any more.
    Mended,
}

impl Said {
    /// What is new about a look. What stays wrong is not said again because something else comes or goes.
    fn news<'a>(&mut self, looked: &'a Result<Vec<String>, String>) -> Vec<News<'a>> {
        match looked {
            Ok(troubles) => {
                let failed = !std::mem::take(&mut self.failures).is_empty();
                let new = troubles.iter().filter(|trouble| !self.troubles.contains(trouble));
                let works = failed.then_some(News::Works);
                let mended = troubles.is_empty() && !self.troubles.is_empty();
                let mended = mended.then_some(News::Mended);
                let news = works.into_iter().chain(mended);
                let news = news.chain(new.map(|new| News::Trouble(new))).collect();
                self.troubles.clone_from(troubles);
                news
            }
            Err(why) if self.failures.contains(why) => Vec::new(),
            Err(why) => {
                self.failures.push(why.clone());
                vec![News::Failed(why)]
            }
        }
    }
}

/// Makes the newest release known; gives what is wrong with the releases that are there.
async fn publish_newest(
    context: &Context,
    leadership: &Leadership,
    settings: &Settings,
) -> Result<Vec<String>, String> {
    if settings.env == Environment::None {
        return Ok(Vec::new());
    }
    let source = context.sources.source(settings).await?;
    let newest = source.newest(settings.env).await.map_err(|error| one_line(&error))?;
    let mut troubles: Vec<String> = source.remark().into_iter().collect();
    let Some(release) = newest else { return Ok(troubles) };
    if let Some(why) = signature_missing(&release, &context.local) {
        troubles.push(why);
        return Ok(troubles);
    }
    let outdated = publish(context, leadership, &release.version).await;
    troubles.extend(outdated.map_err(|error| one_line(&error))?);
    Ok(troubles)
}

/// Makes `version` known, unless a newer one is; then says so.
async fn publish(
    context: &Context,
    leadership: &Leadership,
    version: &NecoVersion,
) -> Result<Option<String>, StoreError> {
    let view = context.look().await?;
    let newer = |known: &&NecoVersion| known.is_newer_than(version);
    if let Some(known) = view.release.as_ref().filter(newer)
        && !view.withdrawn.contains_key(known)
    {
        return Ok(Some(format!(
            "the latest release {version} is older than {known}, which is known: nothing goes back by itself; \
             'necoctl withdraw {known}' goes back, a newer release goes on"
        )));
    }
    if let Some(txn) = publish_release(&view, &context.leader(leadership, None), version)
        && let Committed::Done(_) = context.store.commit(&txn).await?
    {
        tracing::info!(%version, "a newer release");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(troubles: &[&str]) -> Result<Vec<String>, String> {
        Ok(troubles.iter().map(|&trouble| trouble.to_owned()).collect())
    }

    #[test]
    fn what_stays_wrong_is_said_once_whatever_comes_and_goes() {
        let mut said = Said::default();
        let (tag, both) = (there(&["a tag"]), there(&["unsigned", "a tag"]));
        assert_eq!(said.news(&tag), [News::Trouble("a tag")]);
        assert_eq!(said.news(&both), [News::Trouble("unsigned")]);
        let (away, refused) = (Err("502".to_owned()), Err("403".to_owned()));
        assert_eq!(said.news(&away), [News::Failed("502")]);
        assert_eq!(said.news(&refused), [News::Failed("403")]);
        assert_eq!(said.news(&away), []);
        assert_eq!(said.news(&tag), [News::Works], "the tag was told before");
        assert_eq!(said.news(&there(&[])), [News::Mended], "looking never failed");
        assert_eq!(said.news(&there(&[])), []);
        assert_eq!(said.news(&tag), [News::Trouble("a tag")]);
        assert_eq!(said.news(&away), [News::Failed("502")]);
    }
}
