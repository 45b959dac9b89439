//! The settings under `config/`, as values.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_releases::{ReleaseWindows, Url};
use neco_schema::{ConfigKey, Environment, Key, check_stored_value, stored_duration};

/// The settings that daemons act on. A setting that cannot be read takes its default and is named as a problem: nothing
/// stops for it, and what depends on it waits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which releases to follow.
    pub env: Environment,
    /// How often to look for a release.
    pub check_update_interval: Duration,
    /// How long a request may take.
    pub worker_timeout: Duration,
    /// How long a step may go without progress.
    pub step_timeout: Duration,
    /// How long a release stays due after a window opened.
    pub release_window: Duration,
    /// When releases may be installed; absent when the setting cannot be read.
    pub windows: Option<ReleaseWindows>,
    /// The proxy for downloads.
    pub proxy: Option<Url>,
    /// What could not be read.
    pub problems: Vec<SettingsProblem>,
}

/// A setting that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Which.
    pub key: ConfigKey,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, what } = self;
        write!(
            f,
            "key {}: {what}; 'necoctl config set {key}' takes {}",
            Key::Config(*key),
            key.form()
        )
    }
}

/// Whether a setting can be used as it is stored. All that judges settings asks here, so that what is taken, what is
/// shown as right and what is acted on are the same. A text that is blank counts as unset, where being unset means
/// something. The error repeats no secret.
///
/// # Errors
/// What is wrong with it.
pub fn check_setting(key: ConfigKey, bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    match key {
        // The parser that daemons use says more than the form does.
        ConfigKey::ReleaseTime => windows(&text, ConfigKey::DEFAULT_ZONE).map(drop),
        ConfigKey::Slack | ConfigKey::Proxy | ConfigKey::NodeProxy => {
            check_stored_value(key, bytes).map_err(|error| error.to_string())?;
            match text.trim() {
                "" => Ok(()),
                url => Url::parse(url).map(drop).map_err(|error| error.to_string()),
            }
        }
        _ => check_stored_value(key, bytes).map_err(|error| error.to_string()),
    }
}

fn windows(lines: &str, zone: &str) -> Result<ReleaseWindows, String> {
    ReleaseWindows::parse(lines, zone).map_err(|error| error.to_string())
}

impl Settings {
    /// Reads the stored values; secrets are none of them.
    pub fn read(stored: &BTreeMap<ConfigKey, Vec<u8>>) -> Self {
        let problems: Vec<_> = stored
            .iter()
            .filter(|(key, _)| !key.is_secret())
            .filter_map(|(&key, bytes)| {
                Some(SettingsProblem { key, what: check_setting(key, bytes).err()? })
            })
            .collect();
        let usable = |key| !problems.iter().any(|problem| problem.key == key);
        let stored = |key: ConfigKey| stored.get(&key).filter(|_| usable(key));
        let text = |key| {
            stored(key)
                .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let duration = |key: ConfigKey| {
            stored(key)
                .and_then(|bytes| stored_duration(key, bytes).ok())
                .or(key.default_duration())
                .unwrap_or(Duration::from_secs(60))
        };
        let windows = match text(ConfigKey::ReleaseTime) {
            None => usable(ConfigKey::ReleaseTime).then(ReleaseWindows::always),
            Some(lines) => {
                let zone = text(ConfigKey::ReleaseTimezone);
                let zone = zone.as_deref().unwrap_or(ConfigKey::DEFAULT_ZONE);
                windows(&lines, zone).ok().filter(|_| usable(ConfigKey::ReleaseTimezone))
            }
        };
        Self {
            env: text(ConfigKey::Env).and_then(|env| env.parse().ok()).unwrap_or_default(),
            check_update_interval: duration(ConfigKey::CheckUpdateInterval),
            worker_timeout: duration(ConfigKey::WorkerTimeout),
            step_timeout: duration(ConfigKey::StepTimeout),
            release_window: duration(ConfigKey::ReleaseWindow),
            windows,
            proxy: text(ConfigKey::Proxy).and_then(|url| Url::parse(&url).ok()),
            problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(values: &[(ConfigKey, &str)]) -> BTreeMap<ConfigKey, Vec<u8>> {
        values.iter().map(|(key, text)| (*key, text.as_bytes().to_vec())).collect()
    }

    // reference/neco-cd-core.md §12.1, rows env, check interval, worker timeout.
    #[test]
    fn absent_settings_take_their_defaults() {
        let settings = Settings::read(&BTreeMap::new());
        assert_eq!(settings.env, Environment::None);
        assert_eq!(settings.check_update_interval, Duration::from_secs(60));
        assert_eq!(settings.worker_timeout, Duration::from_secs(3600));
        assert!(settings.windows.is_some() && settings.problems.is_empty());
    }

    #[test]
    fn no_setting_is_forgotten() {
        let all = ConfigKey::ALL.map(|key| (key, "\u{1}\u{fffd}"));
        let problems = Settings::read(&stored(&all)).problems;
        for key in ConfigKey::ALL {
            // Secrets do not come here.
            let count = problems.iter().filter(|problem| problem.key == key).count();
            assert_eq!(count, usize::from(!key.is_secret()), "{key}: {problems:#?}");
        }
        assert!(problems.iter().all(|problem| !problem.to_string().contains('\u{1}')));
    }

    #[test]
    fn every_unreadable_setting_is_named_with_its_remedy() {
        let settings = Settings::read(&stored(&[
            (ConfigKey::Env, "production"),
            (ConfigKey::WorkerTimeout, "1h"),
            (ConfigKey::ReleaseTime, ""),
            (ConfigKey::Proxy, "not a url"),
        ]));
        let named: Vec<ConfigKey> = settings.problems.iter().map(|problem| problem.key).collect();
        assert_eq!(
            named,
            [ConfigKey::Env, ConfigKey::Proxy, ConfigKey::WorkerTimeout, ConfigKey::ReleaseTime]
        );
        assert!(settings.windows.is_none());
        assert_eq!(settings.worker_timeout, Duration::from_secs(3600));
        let line = settings.problems[2].to_string();
        assert!(
            line.starts_with("key config/worker-timeout: ") && line.contains("necoctl config set"),
            "{line}"
        );
    }
    #[test]
    fn schedules_wait_for_a_zone_that_can_be_read() {
        let lines = (ConfigKey::ReleaseTime, "0 10 * * MON");
        for (zone, there) in [("Europe/Berlin", true), (" ", true), ("Mars/Olympus", false)] {
            let settings = Settings::read(&stored(&[lines, (ConfigKey::ReleaseTimezone, zone)]));
            assert_eq!(settings.windows.is_some(), there, "{zone:?}");
            assert_eq!(settings.problems.is_empty(), there, "{zone:?}");
        }
        // Without a schedule any time is right, whatever the zone.
        let settings = Settings::read(&stored(&[(ConfigKey::ReleaseTimezone, "Mars/Olympus")]));
        assert!(settings.windows.is_some());
    }

    #[test]
    fn an_address_that_only_looks_like_one_is_told_and_not_repeated() {
        for key in [ConfigKey::Proxy, ConfigKey::NodeProxy, ConfigKey::Slack] {
            for url in ["http://hunter2:99999", "http://[::hunter2"] {
                let what = check_setting(key, url.as_bytes()).expect_err(url);
                assert!(!what.contains("hunter2"), "{key}: {what}");
            }
            assert_eq!(check_setting(key, b"http://proxy:3128 \n"), Ok(()));
            assert_eq!(check_setting(key, b" \n"), Ok(()));
        }
        let settings = Settings::read(&stored(&[(ConfigKey::Proxy, "http://proxy:99999")]));
        assert_eq!(settings.proxy, None);
        assert_eq!(settings.problems.len(), 1);
    }
}
