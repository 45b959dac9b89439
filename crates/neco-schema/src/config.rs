//! The settings under `config/`: their names, forms and defaults.

use std::time::Duration;

use crate::wire::{DecodeError, excerpt};

/// A setting under `config/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKey {
    /// Which releases to follow; `none` when absent.
    Env,
    /// Webhook URL for notices.
    Slack,
    /// Proxy for downloads.
    Proxy,
    /// How often to look for a release, in nanoseconds; 1 minute when absent.
    CheckUpdateInterval,
    /// How long a request may take, in nanoseconds; 60 minutes when absent.
    WorkerTimeout,
    /// Token for the GitHub API; a secret.
    GithubToken,
    /// Proxy URL for the nodes.
    NodeProxy,
    /// IPv4 block for external addresses.
    ExternalIpAddressBlock,
    /// IPv4 block of the default load balancer.
    LbAddressBlockDefault,
    /// IPv4 block of the bastion load balancer.
    LbAddressBlockBastion,
    /// IPv4 block of the internet load balancer.
    LbAddressBlockInternet,
    /// IPv4 block of the internet-cn load balancer.
    LbAddressBlockInternetCn,
    /// Cron expressions joined by newlines; always open when absent.
    ReleaseTime,
    /// Time zone of the cron expressions; [`ConfigKey::DEFAULT_ZONE`] when absent.
    ReleaseTimezone,
    /// How long a release stays due after a window opened, in nanoseconds; 1 hour when absent. Ours.
    ReleaseWindow,
    /// How long a step may go without progress, in nanoseconds; 20 minutes when absent. Ours.
    StepTimeout,
}

impl ConfigKey {
    /// Every setting, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Env,
        Self::Slack,
        Self::Proxy,
        Self::CheckUpdateInterval,
        Self::WorkerTimeout,
        Self::StepTimeout,
        Self::GithubToken,
        Self::NodeProxy,
        Self::ExternalIpAddressBlock,
        Self::LbAddressBlockDefault,
        Self::LbAddressBlockBastion,
        Self::LbAddressBlockInternet,
        Self::LbAddressBlockInternetCn,
        Self::ReleaseTime,
        Self::ReleaseTimezone,
        Self::ReleaseWindow,
    ];

    /// The name on the command line, such as `worker-timeout`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Slack => "slack",
            Self::Proxy => "proxy",
            Self::CheckUpdateInterval => "check-update-interval",
            Self::WorkerTimeout => "worker-timeout",
            Self::GithubToken => "github-token",
            Self::NodeProxy => "node-proxy",
            Self::ExternalIpAddressBlock => "external-ip-address-block",
            Self::LbAddressBlockDefault => "lb-address-block-default",
            Self::LbAddressBlockBastion => "lb-address-block-bastion",
            Self::LbAddressBlockInternet => "lb-address-block-internet",
            Self::LbAddressBlockInternetCn => "lb-address-block-internet-cn",
            Self::ReleaseTime => "release-time",
            Self::ReleaseTimezone => "release-timezone",
            Self::ReleaseWindow => "release-window",
            Self::StepTimeout => "step-timeout",
        }
    }

    /// The name under `config/` in etcd.
    pub const fn stored_name(self) -> &'static str {
        match self {
            Self::Slack => "notification/slack",
            other => other.name(),
        }
    }

    /// The setting with this name on the command line.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The setting with this name under `config/`.
    pub fn from_stored_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.stored_name() == name)
    }

    /// Whether the value must not be shown.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::GithubToken | Self::Slack)
    }

    /// Whether a value may carry a password beside what is no secret: the user info of a URL.
    pub const fn may_hold_password(self) -> bool {
        matches!(self, Self::Proxy | Self::NodeProxy)
    }

    /// A value as it may be shown: stars for a secret, and for the user info of a URL.
    pub fn concealed(self, text: &str) -> String {
        if self.is_secret() {
            return STARS.to_owned();
        }
        match user_info(text) {
            Some(info) if self.may_hold_password() => {
                format!("{}{STARS}{}", &text[..info.start], &text[info.end..])
            }
            _ => text.to_owned(),
        }
    }

    /// What a value looks like, for messages.
    pub const fn form(self) -> &'static str {
        match self {
            Self::Env => "one of none, test, dev, staging, prod",
            Self::Slack | Self::Proxy | Self::NodeProxy => "an absolute http or https URL",
            Self::CheckUpdateInterval
            | Self::WorkerTimeout
            | Self::ReleaseWindow
            | Self::StepTimeout => "a positive duration such as 10m or 1h30m",
            Self::GithubToken => "a token without spaces",
            Self::ExternalIpAddressBlock
            | Self::LbAddressBlockDefault
            | Self::LbAddressBlockBastion
            | Self::LbAddressBlockInternet
            | Self::LbAddressBlockInternetCn => "an IPv4 network such as 10.72.32.0/20",
            Self::ReleaseTime => "one or more cron expressions of five fields",
            Self::ReleaseTimezone => "an IANA time zone such as Asia/Tokyo",
        }
    }

    /// The time zone that holds when [`ConfigKey::ReleaseTimezone`] is absent.
    pub const DEFAULT_ZONE: &str = "Asia/Tokyo";

    /// The duration that holds when the setting is absent.
    pub const fn default_duration(self) -> Option<Duration> {
        match self {
            Self::CheckUpdateInterval => Some(Duration::from_secs(60)),
            Self::WorkerTimeout | Self::ReleaseWindow => Some(Duration::from_secs(60 * 60)),
            Self::StepTimeout => Some(Duration::from_secs(20 * 60)),
            _ => None,
        }
    }
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Which releases a data centre follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    /// None at all.
    #[default]
    None,
    /// The fixed version of the system tests.
    Test,
    /// The greatest published tag `test-…`, pre-releases included.
    Dev,
    /// The greatest published tag `release-…`, pre-releases included.
    Staging,
    /// The release that GitHub marks as latest.
    Prod,
}

impl Environment {
    /// The text form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Test => "test",
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }

    /// The tag of the release that holds `version` in this environment.
    pub fn tag(self, version: &crate::NecoVersion) -> String {
        match self {
            Self::Dev => format!("test-{version}"),
            _ => format!("release-{version}"),
        }
    }
}

impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Environment {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        [Self::None, Self::Test, Self::Dev, Self::Staging, Self::Prod]
            .into_iter()
            .find(|env| env.name() == text)
            .ok_or_else(|| wrong(ConfigKey::Env, text))
    }
}

/// What stands for what is not shown.
const STARS: &str = "***";

/// Where a text has something that may be the user info of a URL: what stands before its last `@`, without the scheme.
/// Texts that are no URL count, since a password is no less one for a slip beside it.
fn user_info(text: &str) -> Option<std::ops::Range<usize>> {
    let end = text.rfind('@')?;
    let start = text[..end].find("://").map_or(0, |at| at + "://".len());
    (start < end).then_some(start..end)
}

fn wrong(key: ConfigKey, text: &str) -> DecodeError {
    let found = if key.is_secret() {
        "something else".to_owned()
    } else {
        format!("{:?}", excerpt(&key.concealed(text)))
    };
    DecodeError::Text { expected: key.form(), found }
}

/// Checks a value given by an operator and converts it to the stored form: durations to nanoseconds, networks to
/// their first address. Cron expressions are only checked for emptiness here; the scheduler's parser has the last word.
pub fn parse_config_value(key: ConfigKey, text: &str) -> Result<String, DecodeError> {
    let text = text.trim();
    let checked = match key {
        ConfigKey::Env => text.parse::<Environment>().ok().map(|env| env.to_string()),
        ConfigKey::Slack | ConfigKey::Proxy | ConfigKey::NodeProxy => {
            is_absolute_url(text).then(|| text.to_owned())
        }
        ConfigKey::CheckUpdateInterval
        | ConfigKey::WorkerTimeout
        | ConfigKey::ReleaseWindow
        | ConfigKey::StepTimeout => parse_go_duration(text).map(|nanos| nanos.to_string()),
        ConfigKey::GithubToken => (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| text.to_owned()),
        ConfigKey::ExternalIpAddressBlock
        | ConfigKey::LbAddressBlockDefault
        | ConfigKey::LbAddressBlockBastion
        | ConfigKey::LbAddressBlockInternet
        | ConfigKey::LbAddressBlockInternetCn => network(text),
        ConfigKey::ReleaseTime => (!text.is_empty()
            && !text.lines().any(|line| line.trim().is_empty()))
        .then(|| text.lines().map(str::trim).collect::<Vec<_>>().join("\n")),
        ConfigKey::ReleaseTimezone => jiff::tz::TimeZone::get(text).ok().map(|_| text.to_owned()),
    };
    checked.ok_or_else(|| wrong(key, text))
}

/// Reads a duration as the original stores it: decimal nanoseconds, positive.
pub fn stored_duration(key: ConfigKey, bytes: &[u8]) -> Result<Duration, DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<i64>().ok().and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err(DecodeError::Text {
            expected: "a positive number of nanoseconds",
            found: format!("{:?} in {key}", excerpt(&text)),
        }),
    }
}

/// Checks a stored value of any setting, put there by whomever. Schedules are only checked for emptiness, as in
/// [`parse_config_value`]; a text that is blank counts as unset, where being unset means something.
pub fn check_stored_value(key: ConfigKey, bytes: &[u8]) -> Result<(), DecodeError> {
    if key.default_duration().is_some() {
        return stored_duration(key, bytes).map(drop);
    }
    let lossy = String::from_utf8_lossy(bytes);
    if key != ConfigKey::ReleaseTime && lossy.trim().is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(key, &lossy))?;
    parse_config_value(key, text).map(drop)
}

fn is_absolute_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) && !host.ends_with('@')
    })
}

fn network(text: &str) -> Option<String> {
    let (address, bits) = text.split_once('/')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Some(format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(address) & mask)))
}

/// A positive duration in Go's syntax (`1h30m`, `1.5s`, `500ms`), in nanoseconds.
fn parse_go_duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // The longest unit that fits: `ms` before `m`.
        let (unit, nanos) = UNITS
            .into_iter()
            .filter(|(unit, _)| rest.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        total += number * nanos;
        rest = &rest[unit.len()..];
    }
    // The largest number that is stored does not exist as a fraction: the next one is 2^63.
    (total >= 1.0 && total < i64::MAX as f64).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_normalised() {
        let ok = |key, text: &str| {
            parse_config_value(key, text).unwrap_or_else(|e| panic!("{key} {text}: {e}"))
        };
        assert_eq!(ok(ConfigKey::Env, "staging"), "staging");
        assert_eq!(ok(ConfigKey::WorkerTimeout, "1h30m"), "5400000000000");
        assert_eq!(ok(ConfigKey::CheckUpdateInterval, "1.5s"), "1500000000");
        assert_eq!(ok(ConfigKey::CheckUpdateInterval, "5ms"), "5000000");
        assert_eq!(ok(ConfigKey::ExternalIpAddressBlock, "10.1.2.3/24"), "10.1.2.0/24");
        assert_eq!(ok(ConfigKey::ExternalIpAddressBlock, "10.1.2.3/0"), "0.0.0.0/0");
        assert_eq!(ok(ConfigKey::ReleaseTimezone, "Asia/Tokyo"), "Asia/Tokyo");
        assert_eq!(ok(ConfigKey::Proxy, "http://10.0.0.1:3128"), "http://10.0.0.1:3128");
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (text, shown) in [
            ("http://u:hunter2@proxy:3128/x", "http://***@proxy:3128/x"),
            ("http://u:hunter2@a@proxy", "http://***@proxy"),
            ("u:hunter2@proxy", "***@proxy"),
            ("ftp://hunter2@proxy", "ftp://***@proxy"),
            ("http://proxy:3128", "http://proxy:3128"),
        ] {
            assert_eq!(ConfigKey::Proxy.concealed(text), shown);
            assert_eq!(ConfigKey::GithubToken.concealed(text), "***");
        }
        assert_eq!(ConfigKey::ReleaseTime.concealed("a@b"), "a@b");
        let error = parse_config_value(ConfigKey::NodeProxy, "ftp://u:hunter2@h").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_the_form_and_never_a_secret() {
        for (key, bad) in [
            (ConfigKey::Env, "production"),
            (ConfigKey::WorkerTimeout, "10"),
            (ConfigKey::WorkerTimeout, "-1m"),
            (ConfigKey::WorkerTimeout, "0s"),
            (ConfigKey::WorkerTimeout, ""),
            (ConfigKey::Proxy, "localhost:3128"),
            (ConfigKey::Proxy, "http://"),
            (ConfigKey::ExternalIpAddressBlock, "10.1.2.3"),
            (ConfigKey::ExternalIpAddressBlock, "10.1.2.3/33"),
            (ConfigKey::ExternalIpAddressBlock, "fd00::/8"),
            (ConfigKey::ReleaseTime, ""),
            (ConfigKey::ReleaseTime, "* * * * *\n\n* * * * *"),
            (ConfigKey::ReleaseTimezone, "Mars/Olympus"),
        ] {
            let error = parse_config_value(key, bad).expect_err(bad).to_string();
            assert!(error.contains(key.form()), "{error}");
        }
        let error = parse_config_value(ConfigKey::GithubToken, "se cret").unwrap_err().to_string();
        assert!(!error.contains("cret\""), "{error}");
    }

    #[test]
    fn names_are_found_again() {
        for key in ConfigKey::ALL {
            assert_eq!(ConfigKey::from_name(key.name()), Some(key));
            assert_eq!(ConfigKey::from_stored_name(key.stored_name()), Some(key));
        }
        assert_eq!(ConfigKey::Slack.stored_name(), "notification/slack");
    }

    #[test]
    fn stored_durations_are_nanoseconds() {
        assert_eq!(
            stored_duration(ConfigKey::WorkerTimeout, b"3600000000000"),
            Ok(Duration::from_secs(3600))
        );
        for bad in ["", "1h", "0", "-5", "99999999999999999999"] {
            assert!(stored_duration(ConfigKey::WorkerTimeout, bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_can_be_set_can_be_read() {
        for text in ["1ns", "9223372036854775807ns", "9223372036.854775s", "2562047h", "2562048h"] {
            if let Ok(stored) = parse_config_value(ConfigKey::WorkerTimeout, text) {
                assert!(
                    stored_duration(ConfigKey::WorkerTimeout, stored.as_bytes()).is_ok(),
                    "{text}"
                );
            }
        }
        assert!(parse_config_value(ConfigKey::WorkerTimeout, "9223372036854775807ns").is_err());
    }

    #[test]
    fn every_stored_value_is_checked_and_no_secret_is_repeated() {
        for key in ConfigKey::ALL {
            for bad in [&b"hunter2 \x00\xff"[..], b"hunter2\n\nhunter2"] {
                let error = check_stored_value(key, bad).map_err(|error| error.to_string());
                let error = error.expect_err(key.name());
                assert!(!key.is_secret() || !error.contains("hunter2"), "{key}: {error}");
                assert!(!error.contains(['\0', '\n']), "{key}: {error}");
            }
        }
        for key in [ConfigKey::Env, ConfigKey::Proxy, ConfigKey::GithubToken] {
            assert_eq!(check_stored_value(key, b" \n"), Ok(()));
        }
        assert_eq!(check_stored_value(ConfigKey::GithubToken, b"ghp_x\n"), Ok(()));
        assert!(check_stored_value(ConfigKey::ReleaseTime, b"").is_err());
        assert!(check_stored_value(ConfigKey::WorkerTimeout, b"").is_err());
    }
}
