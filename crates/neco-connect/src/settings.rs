//! The settings under `config/`, as values.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_releases::{ReleaseWindows, Url, WindowError};
use neco_schema::{
    ConfigKey, Environment, Key, check_stored_value, parse_config_value, stored_duration,
};

/// The zone of schedules when none is set.
const DEFAULT_ZONE: &str = "Asia/Tokyo";

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
        let zone = text(ConfigKey::ReleaseTimezone).unwrap_or_else(|| DEFAULT_ZONE.to_owned());
        let windows = match stored.get(&ConfigKey::ReleaseTime) {
            None => Some(ReleaseWindows::always()),
            Some(lines) => {
                let lines = String::from_utf8_lossy(lines);
                let read = ReleaseWindows::parse(&lines, &zone);
                let no_zone = matches!(read, Err(WindowError::Zone { .. }));
                if let (true, Err(error)) = (no_zone, &read) {
                    note(ConfigKey::ReleaseTimezone, error.to_string());
                }
                // What else is wrong is told at the same time.
                let schedules =
                    if no_zone { ReleaseWindows::parse(&lines, DEFAULT_ZONE) } else { read };
                match schedules {
                    Ok(windows) => Some(windows).filter(|_| !no_zone),
                    Err(error) => {
                        note(ConfigKey::ReleaseTime, error.to_string());
                        None
                    }
                }
            }
        };
        let proxy = text(ConfigKey::Proxy).and_then(|url| {
            let checked = parse_config_value(ConfigKey::Proxy, &url).map_err(|e| e.to_string());
            let parsed = checked.and_then(|url| Url::parse(&url).map_err(|e| e.to_string()));
            parsed.map_err(|what| note(ConfigKey::Proxy, what)).ok()
        });
        // Those that no daemon acts on in this version; templates do.
        for (&key, value) in stored.iter().filter(|(key, _)| !key.is_secret()) {
            if !problems.iter().any(|problem| problem.key == key)
                && let Err(error) = check_stored_value(key, value)
            {
                problems.push(SettingsProblem { key, what: error.to_string() });
            }
        }
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
    fn no_setting_is_forgotten() {
        let all = ConfigKey::ALL.map(|key| (key, "\u{1}\u{fffd}"));
        let problems = Settings::read(&stored(&all)).problems;
        for key in ConfigKey::ALL {
            // Secrets do not come here; with an unknown zone no schedule is read.
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
