//! What systemd says about a unit, as values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The state of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// Whether its definition could be loaded.
    pub load: LoadState,
    /// Whether it runs.
    pub active: ActiveState,
    /// How much longer it has to stay active until that means that it keeps running: of many services systemd knows no more
    /// than that their process was made, and one that finds out that it cannot do its work ends a moment later. `None` if it
    /// was active for [`SETTLED_AFTER`](Self::SETTLED_AFTER) already, if it has said that it is ready or has done its work
    /// (`Type=notify`, `dbus`, `oneshot`), if it is no service, and if it is not active. What ends and is started again begins
    /// anew.
    #[serde(default)]
    pub settles_in: Option<Duration>,
    /// The finer state that depends on the type of the unit, such as `running`.
    pub sub: String,
    /// Whether its file makes it start at boot.
    pub file_state: FileState,
    /// Whether its file was changed after it was loaded, so that a daemon-reload is due.
    pub needs_reload: bool,
    /// The run that is going on, from the start of the unit to its end; `None` where nothing of it may run.
    #[serde(default)]
    pub run: Option<UnitRun>,
}

/// One run of a unit: what it was started with, it keeps until the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRun {
    /// What tells it from every other: the invocation ID of systemd.exec(5), in hex digits.
    pub id: String,
    /// When it began, at the latest, since 1970 by the wall clock; `None` where nobody knows.
    pub since: Option<Duration>,
}

impl UnitState {
    /// How long a service that says nothing about itself has to run until it counts as one that keeps running. A container
    /// that cannot be run ends within a second.
    pub const SETTLED_AFTER: Duration = Duration::from_secs(3);

    /// Whether systemd knows a definition of this unit.
    pub fn exists(&self) -> bool {
        self.load != LoadState::NotFound
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.active == ActiveState::Active
    }

    /// Whether anything of it may run: it does, is about to, or has not quite ended.
    pub fn is_alive(&self) -> bool {
        self.active.is_alive()
    }

    /// Whether it starts at boot.
    pub fn is_enabled(&self) -> bool {
        self.file_state == FileState::Enabled
    }

    /// Whether it does not start at boot, and would if it were enabled. Of one that says nothing about boot, or that is made
    /// or named by another (systemctl(1), `is-enabled`), nothing would become of that.
    pub fn wants_enabling(&self) -> bool {
        match &self.file_state {
            FileState::Enabled | FileState::Static | FileState::Transient => false,
            FileState::Other(word) => !matches!(word.as_str(), "indirect" | "generated" | "alias"),
            FileState::Disabled | FileState::Masked | FileState::Missing => true,
        }
    }
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// One that this version does not know, in systemd's word.
            Other(String),
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(state: $name) -> Self {
                state.to_string()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $text,)*
                    Self::Other(word) => word,
                })
            }
        }
    };
}

states! {
    /// Whether the definition of a unit could be loaded.
    LoadState {
        /// It was.
        Loaded = "loaded",
        /// There is none.
        NotFound = "not-found",
        /// It is linked to nothing on purpose.
        Masked = "masked",
        /// It cannot be parsed.
        Error = "error",
        /// It says something that makes no sense.
        BadSetting = "bad-setting",
    }
}

states! {
    /// Whether a unit runs.
    ActiveState {
        /// It does.
        Active = "active",
        /// It does, and loads its configuration anew.
        Reloading = "reloading",
        /// It does not.
        Inactive = "inactive",
        /// It does not, because it failed.
        Failed = "failed",
        /// It is about to.
        Activating = "activating",
        /// It is about to end.
        Deactivating = "deactivating",
    }
}

states! {
    /// Whether the file of a unit makes it start at boot.
    FileState {
        /// It does.
        Enabled = "enabled",
        /// It would if it were enabled.
        Disabled = "disabled",
        /// It has no `[Install]` section, so it cannot be enabled.
        Static = "static",
        /// It is linked to nothing on purpose.
        Masked = "masked",
        /// It was made by a program and lives until the next boot.
        Transient = "transient",
        /// There is no file; systemd says so with an empty word.
        Missing = "",
    }
}

impl ActiveState {
    /// Whether anything of the unit may run.
    pub fn is_alive(&self) -> bool {
        !matches!(self, Self::Inactive | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_systemd_become_values_and_back() {
        for word in ["active", "inactive", "failed", "activating", "refreshing"] {
            assert_eq!(ActiveState::from(word.to_owned()).to_string(), word);
        }
        assert_eq!(ActiveState::from("active".to_owned()), ActiveState::Active);
        assert_eq!(
            ActiveState::from("refreshing".to_owned()),
            ActiveState::Other("refreshing".to_owned())
        );
        assert_eq!(FileState::from(String::new()), FileState::Missing);
        assert_eq!(LoadState::from("not-found".to_owned()), LoadState::NotFound);
    }

    #[test]
    fn what_cannot_be_enabled_does_not_want_it() {
        let state = |word: &str| UnitState {
            load: LoadState::Loaded,
            active: ActiveState::Active,
            settles_in: None,
            sub: String::new(),
            file_state: word.to_owned().into(),
            needs_reload: false,
            run: None,
        };
        for word in ["enabled", "static", "transient", "indirect", "generated", "alias"] {
            assert!(!state(word).wants_enabling(), "{word}");
        }
        for word in ["disabled", "masked", "", "enabled-runtime", "linked", "bad"] {
            assert!(state(word).wants_enabling(), "{word}");
        }
    }
}
