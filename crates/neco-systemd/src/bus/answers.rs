//! What errors on the bus mean.

use std::time::Duration;

use zbus::DBusError as _;

use crate::{Job, UnitError, UnitName};

/// What an error on the bus means.
#[derive(Debug)]
pub(super) enum Said {
    /// There was no answer: the bus or systemd is away, or went away.
    Lost(zbus::Error),
    /// There was no answer for so long.
    Nothing(Duration),
    /// systemd knows no such unit, or no file of it.
    NotFound(String),
    /// The unit is masked.
    Masked(String),
    /// There is a unit of that name already.
    Exists(String),
    /// The machine goes down.
    GoingDown(String),
    /// systemd refuses, in words.
    Refused(String),
    /// It is none of systemd's errors.
    Odd(zbus::Error),
}

impl From<zbus::Error> for Said {
    fn from(error: zbus::Error) -> Self {
        let (name, message) = match &error {
            zbus::Error::MethodError(name, message, _) => {
                (name.to_string(), message.clone().unwrap_or_default())
            }
            zbus::Error::FDO(standard) => match &**standard {
                zbus::fdo::Error::ZBus(inner) => return Self::from(inner.clone()),
                other => {
                    (other.name().to_string(), other.description().unwrap_or_default().to_owned())
                }
            },
            zbus::Error::InputOutput(_)
            | zbus::Error::Connection(..)
            | zbus::Error::Handshake(_) => return Self::Lost(error),
            _ => return Self::Odd(error),
        };
        Self::named(&name, message, error)
    }
}

impl Said {
    fn named(name: &str, message: String, error: zbus::Error) -> Self {
        const SYSTEMD: &str = "org.freedesktop.systemd1.";
        const DBUS: &str = "org.freedesktop.DBus.Error.";
        if let Some(name) = name.strip_prefix(SYSTEMD) {
            return match name {
                "NoSuchUnit" => Self::NotFound(message),
                "UnitMasked" => Self::Masked(message),
                "UnitExists" => Self::Exists(message),
                "TransactionIsDestructive" | "ShuttingDown" => Self::GoingDown(message),
                _ => Self::Refused(message),
            };
        }
        match name.strip_prefix(DBUS) {
            Some("FileNotFound") => Self::NotFound(message),
            Some(
                "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "NoServer" | "Disconnected"
                | "Timeout" | "TimedOut" | "LimitsExceeded" | "NoMemory",
            ) => Self::Lost(error),
            Some(name) if name.starts_with("Spawn.") => Self::Lost(error),
            _ if message.is_empty() => Self::Refused(name.to_owned()),
            _ => Self::Refused(message),
        }
    }

    /// The error of a call that is about no unit.
    pub(super) fn about(self, call: &str) -> UnitError {
        let call = call.to_owned();
        match self {
            Self::Lost(source) => UnitError::Lost { call, source: source.into() },
            Self::Nothing(after) => UnitError::NoAnswer { call, after },
            Self::Odd(source) => UnitError::Answer { call, source: source.into() },
            Self::GoingDown(why) => UnitError::GoingDown { call, why },
            Self::NotFound(why) | Self::Masked(why) | Self::Exists(why) | Self::Refused(why) => {
                UnitError::Refused { call, why }
            }
        }
    }

    /// The error of a job. systemd also says that a unit is missing or masked when that is another one, which
    /// this one requires.
    pub(super) fn about_job(self, unit: &UnitName, job: Job) -> UnitError {
        match self {
            Self::NotFound(message) if names(&message, unit) => {
                UnitError::NotFound { unit: unit.clone(), job }
            }
            Self::Masked(message) if names(&message, unit) => {
                UnitError::Masked { unit: unit.clone(), job }
            }
            other => other.about(&format!("{job} {unit}")),
        }
    }
}

/// Whether `message` is about `unit`, of which it may give the path.
fn names(message: &str, unit: &UnitName) -> bool {
    message.is_empty()
        || message.split([' ', '/', '"', '\'']).any(|word| {
            word.trim_end_matches([',', ':', ';']).trim_end_matches('.') == unit.as_str()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, message: &str) -> UnitError {
        let unit = "vault.service".parse().expect("a name");
        Said::named(name, message.to_owned(), zbus::Error::Unsupported).about_job(&unit, Job::Start)
    }

    #[test]
    fn a_missing_or_masked_unit_is_told_from_one_that_it_requires() {
        const NONE: &str = "org.freedesktop.systemd1.NoSuchUnit";
        const MASKED: &str = "org.freedesktop.systemd1.UnitMasked";
        let own = said(NONE, "Unit vault.service not found.");
        assert!(matches!(own, UnitError::NotFound { .. }), "{own}");
        let other = said(NONE, "Unit other-vault.service not found.");
        assert_eq!(
            other.to_string(),
            "cannot start vault.service: Unit other-vault.service not found."
        );
        for text in [
            "Unit vault.service is masked.",
            "Unit file /etc/systemd/system/vault.service is masked.",
        ] {
            assert!(matches!(said(MASKED, text), UnitError::Masked { .. }), "{text}");
        }
        let other = said(MASKED, "Unit db.service is masked.");
        assert!(matches!(other, UnitError::Refused { .. }), "{other}");
    }

    #[test]
    fn an_absent_systemd_asks_for_another_try_and_a_refusal_for_a_person() {
        use neco_schema::Severity;
        for name in ["ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "Spawn.Failed"]
        {
            let error = said(&format!("org.freedesktop.DBus.Error.{name}"), "gone");
            assert_eq!(error.severity(), Severity::TryAgain, "{name}: {error}");
        }
        let error = said("org.freedesktop.DBus.Error.AccessDenied", "Access denied");
        assert_eq!(error.severity(), Severity::AskAPerson, "{error}");
        let error = said("org.freedesktop.systemd1.TransactionIsDestructive", "reboot.target");
        assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    }
}
