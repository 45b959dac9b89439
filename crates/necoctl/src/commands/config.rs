//! `config`: the settings that all boot servers share.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use neco_connect::check_setting;
use neco_plan::View;
use neco_plan::operator::{Order, Refusal, noted};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::{
    Compare, ConfigKey, Key, Op, Snapshot, Txn, abridged, parse_config_value, stored_duration,
};
use serde::Serialize;

use crate::cli::Change;
use crate::failure;
use crate::io::Io;
use crate::order;
use crate::secrets::{self, OnCommandLine};
use crate::session::Session;
use crate::words::{go_duration, one_line, table};

/// How much of a value that cannot be used is shown.
const LONGEST_WRONG: usize = 60;

/// Read and change the settings that all boot servers share.
///
/// They are kept in etcd.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a setting, or what holds while it is not set
    Get(Get),
    /// Change a setting
    ///
    /// A secret (github-token, slack, a proxy with a password) is read from standard input, from --file, or asked for
    /// without echo.
    Set(Set),
    /// Show all settings
    List(List),
    /// Remove a setting, so that its default holds
    Unset(Unset),
}

#[derive(Debug, Args)]
struct Get {
    /// The setting
    #[arg(value_parser = key())]
    key: ConfigKey,
    /// Print a secret in clear
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct Set {
    /// The setting
    #[arg(value_parser = key())]
    key: ConfigKey,
    /// The value; for release-time one or several schedules
    #[arg(value_name = "VALUE")]
    values: Vec<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "values")]
    file: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct List {
    /// Print secrets in clear
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct Unset {
    /// The setting
    #[arg(value_parser = key())]
    key: ConfigKey,
    #[command(flatten)]
    change: Change,
}

fn key() -> impl TypedValueParser<Value = ConfigKey> {
    PossibleValuesParser::new(ConfigKey::ALL.map(ConfigKey::name))
        .try_map(|name| ConfigKey::from_name(&name).ok_or_else(|| format!("{name} is no setting")))
}

/// A setting as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Shown {
    key: &'static str,
    /// For people; stars for a secret.
    value: Option<String>,
    /// Whether it is set; otherwise the value is the default.
    set: bool,
    /// Why the stored value cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Config {
    /// Refuses a secret on the command line.
    ///
    /// # Errors
    /// There is one.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.verb {
            Verb::Set(set)
                if set
                    .values
                    .iter()
                    .any(|value| set.key.is_secret() || set.key.concealed(value) != *value) =>
            {
                let password = if set.key.is_secret() { "" } else { " with a password" };
                Err(OnCommandLine {
                    what: format!("{}{password}", set.key),
                    instead: format!("necoctl config set {}", set.key),
                }
                .failure())
            }
            _ => Ok(()),
        }
    }

    /// Reads or changes.
    ///
    /// # Errors
    /// The value is not usable; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        self.check()?;
        match self.verb {
            Verb::Get(verb) => verb.run(session).await,
            Verb::Set(verb) => verb.run(session).await,
            Verb::List(verb) => verb.run(session).await,
            Verb::Unset(verb) => verb.run(session).await,
        }
    }
}

/// A setting as it is shown, given what is stored.
fn shown(key: ConfigKey, snapshot: &Snapshot, reveal: bool) -> Shown {
    let stored = snapshot.kvs.get(&Key::Config(key).to_string());
    let Some(kv) = stored else {
        let default = match key {
            ConfigKey::Env => Some("none".to_owned()),
            ConfigKey::ReleaseTimezone => Some(ConfigKey::DEFAULT_ZONE.to_owned()),
            key => key.default_duration().map(go_duration),
        };
        return Shown { key: key.name(), value: default, set: false, problem: None };
    };
    let (value, problem) = display(key, &kv.value, reveal);
    Shown { key: key.name(), value: Some(value), set: true, problem }
}

/// A stored value for people, and what is wrong with it.
fn display(key: ConfigKey, bytes: &[u8], reveal: bool) -> (String, Option<String>) {
    let problem = check_setting(key, bytes).err();
    if key.default_duration().is_some()
        && let Ok(duration) = stored_duration(key, bytes)
    {
        return (go_duration(duration), problem);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = if reveal { text.into_owned() } else { key.concealed(&text) };
    // Schedules stand on lines of their own; nothing else may move the cursor.
    let text = text.lines().map(one_line).collect::<Vec<_>>().join("\n");
    match problem {
        Some(problem) => (abridged(&text, LONGEST_WRONG), Some(problem)),
        None => (text, None),
    }
}

impl Get {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (snapshot, _) = session.look().await?;
        let shown = shown(self.key, &snapshot, self.reveal);
        if let Some(problem) = shown.problem {
            return Err(failure::malformed(Key::Config(self.key), problem));
        }
        let Some(value) = &shown.value else {
            return Err(failure::nothing_yet(format_args!("{} is not set", self.key)));
        };
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1, "key": shown.key, "value": value, "set": shown.set,
            }))?;
        } else {
            io.line(value)?;
        }
        Ok(ExitCode::Done)
    }
}

impl List {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (snapshot, _) = session.look().await?;
        let settings: Vec<Shown> =
            ConfigKey::ALL.into_iter().map(|key| shown(key, &snapshot, self.reveal)).collect();
        let malformed = settings.iter().any(|setting| setting.problem.is_some());
        let io = &mut *session.io;
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "settings": settings }))?;
        } else {
            write!(io.out, "{}", table(&rows(&settings)))?;
        }
        Ok(if malformed { ExitCode::No } else { ExitCode::Done })
    }
}

fn rows(settings: &[Shown]) -> Vec<Vec<String>> {
    let mut rows = vec![["SETTING", "VALUE", ""].map(str::to_owned).to_vec()];
    for setting in settings {
        let note = match (&setting.problem, setting.set, &setting.value) {
            (Some(problem), _, _) => format!("cannot be read: {problem}"),
            (None, true, _) => String::new(),
            (None, false, Some(_)) => "default".to_owned(),
            (None, false, None) => "not set".to_owned(),
        };
        let value = setting.value.as_deref().unwrap_or("-");
        let mut lines = value.lines();
        let first = lines.next().unwrap_or_default();
        rows.push(vec![setting.key.to_owned(), first.to_owned(), note]);
        rows.extend(lines.map(|line| vec![String::new(), line.to_owned()]));
    }
    rows
}

impl Set {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let key = self.key;
        let given = self.given(session.io)?;
        let wrong = |what: String| failure::usage(format_args!("{key}: {what}"));
        let text = parse_config_value(key, &given).map_err(|error| wrong(error.to_string()))?;
        check_setting(key, text.as_bytes()).map_err(wrong)?;
        let stored_key = Key::Config(key);
        let decide = |view: &View, snapshot: &Snapshot, by: &Order| -> Result<Txn, Refusal> {
            let stored = snapshot.kvs.get(&stored_key.to_string());
            if stored.is_some_and(|kv| kv.value == text.as_bytes()) {
                let value = display(key, text.as_bytes(), false).0;
                let so = if key.is_secret() { "so" } else { &value };
                return Err(Refusal::AlreadySo(format!("{key} is {so} already")));
            }
            let revision = stored.map(|kv| kv.mod_revision).unwrap_or_default();
            let txn = Txn::default()
                .when(Compare::unchanged(&stored_key, revision))
                .then(Op::put_bytes(&stored_key, text.as_str()));
            // Without the value, which may be a secret.
            Ok(noted(view, by, format!("config set {key}"), txn))
        };
        let outcome = order::attempt(session, &self.change, &decide).await?;
        let before = before(&outcome, key);
        let now = display(key, text.as_bytes(), false).0.replace('\n', "; ");
        order::tell(session, outcome, &|_| match &before {
            _ if key.is_secret() => format!("{key} is set"),
            Some(before) => format!("{key}: {before} -> {now}"),
            None => format!("{key}: not set -> {now}"),
        })
    }

    /// The value as it was given.
    fn given(&self, io: &mut Io<'_>) -> Result<String, Failure> {
        let key = self.key;
        // What may hold a password has no value on the command line if it is to be asked for.
        let asked_for = key.may_hold_password() && self.file.is_none() && self.values.is_empty();
        if key.is_secret() || asked_for {
            return Ok(secrets::read(io, self.file.as_deref(), key.name())?.reveal().clone());
        }
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                anyhow::Error::new(error).context(format!("reading {}", file.display()))
            })?;
            return Ok(text);
        }
        match self.values.as_slice() {
            [] => Err(failure::usage(format_args!("{key} needs a value: {}", key.form()))
                .with_hint(format!("'necoctl config unset {key}' removes the setting"))),
            [value] => Ok(value.clone()),
            values if key == ConfigKey::ReleaseTime => Ok(values.join("\n")),
            _ => Err(failure::usage(format_args!("{key} takes one value: {}", key.form()))),
        }
    }
}

/// What the setting was, in the view from which it was changed.
fn before(outcome: &order::Outcome, key: ConfigKey) -> Option<String> {
    let (order::Outcome::Done { view, .. } | order::Outcome::Planned { view, .. }) = outcome else {
        return None;
    };
    let stored = view.config.get(&key)?;
    Some(display(key, stored, false).0.replace('\n', "; "))
}

impl Unset {
    async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let key = self.key;
        let stored_key = Key::Config(key);
        let outcome = order::attempt(session, &self.change, &|view, snapshot, by| {
            let Some(kv) = snapshot.kvs.get(&stored_key.to_string()) else {
                return Err(Refusal::AlreadySo(format!("{key} is not set")));
            };
            let txn = Txn::default()
                .when(Compare::unchanged(&stored_key, kv.mod_revision))
                .then(Op::delete(&stored_key));
            Ok(noted(view, by, format!("config unset {key}"), txn))
        })
        .await?;
        let before = before(&outcome, key).filter(|_| !key.is_secret());
        order::tell(session, outcome, &|_| match &before {
            Some(before) => format!("{key}: {before} -> not set"),
            None => format!("{key}: not set any more"),
        })
    }
}
