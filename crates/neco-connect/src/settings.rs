//! The settings under `config/`, as values.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_releases::{ReleaseWindows, Url};
use neco_schema::{ConfigKey, Environment, Key, stored_duration};

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

impl Settings {
    /// Reads the stored values.
    pub fn read(stored: &BTreeMap<ConfigKey, Vec<u8>>) -> Self {
        let mut problems = Vec::new();
        let mut note = |key: ConfigKey, what: String| problems.push(SettingsProblem { key, what });
        let text = |key: ConfigKey| {
            stored
                .get(&key)
                .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let env = match text(ConfigKey::Env).map(|env| env.parse::<Environment>()) {
            None => Environment::default(),
            Some(Ok(env)) => env,
            Some(Err(error)) => {
                note(ConfigKey::Env, error.to_string());
                Environment::default()
            }
        };
        let mut duration = |key: ConfigKey| {
            let default = key.default_duration().unwrap_or(Duration::from_secs(60));
            match stored.get(&key).map(|bytes| stored_duration(key, bytes)) {
                None => default,
                Some(Ok(duration)) => duration,
                Some(Err(error)) => {
                    note(key, error.to_string());
                    default
                }
            }
        };
        let check_update_interval = duration(ConfigKey::CheckUpdateInterval);
        let worker_timeout = duration(ConfigKey::WorkerTimeout);
        let step_timeout = duration(ConfigKey::StepTimeout);
        let release_window = duration(ConfigKey::ReleaseWindow);
        let zone = text(ConfigKey::ReleaseTimezone).unwrap_or_else(|| "Asia/Tokyo".to_owned());
        let windows = match stored.get(&ConfigKey::ReleaseTime) {
            None => Some(ReleaseWindows::always()),
            Some(lines) => match ReleaseWindows::parse(&String::from_utf8_lossy(lines), &zone) {
                Ok(windows) => Some(windows),
                Err(error) => {
                    let key = if matches!(error, neco_releases::WindowError::Zone { .. }) {
                        ConfigKey::ReleaseTimezone
                    } else {
                        ConfigKey::ReleaseTime
                    };
                    note(key, error.to_string());
                    None
                }
            },
        };
        let proxy = match text(ConfigKey::Proxy).map(|url| Url::parse(&url)) {
            None => None,
            Some(Ok(url)) => Some(url),
            Some(Err(error)) => {
                note(ConfigKey::Proxy, error.to_string());
                None
            }
        };
        Self {
            env,
            check_update_interval,
            worker_timeout,
            step_timeout,
            release_window,
            windows,
            proxy,
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
            [ConfigKey::Env, ConfigKey::WorkerTimeout, ConfigKey::ReleaseTime, ConfigKey::Proxy]
        );
        assert!(settings.windows.is_none());
        assert_eq!(settings.worker_timeout, Duration::from_secs(3600));
        let line = settings.problems[1].to_string();
        assert!(
            line.starts_with("key config/worker-timeout: ") && line.contains("necoctl config set"),
            "{line}"
        );
    }
}
