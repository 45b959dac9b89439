//! Where log lines go, and what they look like.
//!
//! The options are those of the original: `--logfile`, `--loglevel`, `--logformat`. Without them a
//! daemon under systemd writes to the journal with its fields, and everything else to standard
//! error as text for people.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// What the command line says of logs; a plain value, whatever parsed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Append to this file.
    pub file: Option<PathBuf>,
    /// `critical`, `error`, `warning`, `info`, `debug`, or a filter of tracing such as
    /// `info,neco_store=debug`. `info` if unset.
    pub level: Option<String>,
    /// The form of a line.
    pub format: Option<LogFormat>,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Plain,
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "plain" => Ok(Self::Plain),
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Why logs cannot be written as asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such level.
    #[error("log level {0:?} is unknown; use critical, error, warning, info or debug")]
    Level(String),
    /// There is no such format.
    #[error("log format {0:?} is unknown; use plain, logfmt or json")]
    Format(String),
    /// The file cannot be written.
    #[error("opening the log file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Logs were set up before.
    #[error("logs are set up twice in one process")]
    Twice,
}

/// Sends the logs of this process, called `name` in the journal, where the options say.
///
/// # Errors
/// The options are wrong; nothing is set up then.
pub fn init(name: &str, options: &LogOptions) -> Result<(), LogError> {
    let dispatch = dispatch(name, options)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Twice)
}

fn dispatch(name: &str, options: &LogOptions) -> Result<Dispatch, LogError> {
    let filter = filter(options.level.as_deref())?;
    let by_default = options.file.is_none() && options.format.is_none();
    if by_default
        && stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_syslog_identifier(name.to_owned());
        return Ok(Registry::default().with(journal.with_filter(filter)).into());
    }
    let writer = match &options.file {
        None => BoxMakeWriter::new(io::stderr),
        Some(path) => {
            let file: Result<File, _> = OpenOptions::new().append(true).create(true).open(path);
            let file = file.map_err(|source| LogError::File { path: path.clone(), source })?;
            BoxMakeWriter::new(Arc::new(file))
        }
    };
    Ok(text(writer, options.format.unwrap_or_default(), filter))
}

fn text(writer: BoxMakeWriter, format: LogFormat, filter: EnvFilter) -> Dispatch {
    // Internal errors would be printed with `eprintln!`, which panics if standard error is closed.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(writer);
    let registry = Registry::default();
    match format {
        LogFormat::Plain => registry.with(layer.with_ansi(false).with_filter(filter)).into(),
        LogFormat::Logfmt => registry.with(layer.event_format(Logfmt).with_filter(filter)).into(),
        LogFormat::Json => {
            let json = layer.json().flatten_event(true).with_current_span(true);
            registry.with(json.with_filter(filter)).into()
        }
    }
}

fn filter(level: Option<&str>) -> Result<EnvFilter, LogError> {
    let level = match level {
        None | Some("") => "info",
        Some("critical") => "error",
        Some("warning") => "warn",
        Some(other) => other,
    };
    let unknown = || LogError::Level(level.to_owned());
    // A bare word that is no level would be taken for the name of a module.
    let is_word = level.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && level.parse::<LevelFilter>().is_err() {
        return Err(unknown());
    }
    EnvFilter::builder().parse(level).map_err(|_| unknown())
}

/// Whether standard error leads to the journal: the variable alone is inherited by everything that
/// a service starts, wherever its output goes.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// One line of `key=value` pairs.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "ts=")?;
        SystemTime.format_time(&mut writer)?;
        let level = event.metadata().level().as_str().to_lowercase();
        write!(writer, " level={level} topic={}", event.metadata().target())?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(writer, " span={}", span.name())?;
        }
        let mut pairs = Pairs { writer: writer.by_ref(), result: Ok(()) };
        event.record(&mut pairs);
        pairs.result?;
        writeln!(writer)
    }
}

struct Pairs<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Pairs<'_> {
    fn pair(&mut self, field: &Field, value: &str) {
        let key = if field.name() == "message" { "msg" } else { field.name() };
        let bare = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        if self.result.is_ok() {
            self.result = if !value.is_empty() && value.chars().all(bare) {
                write!(self.writer, " {key}={value}")
            } else {
                write!(self.writer, " {key}={value:?}")
            };
        }
    }
}

impl Visit for Pairs<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.pair(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.pair(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn logged(format: Option<&str>, level: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = LogOptions {
            file: Some(path.clone()),
            level: level.map(str::to_owned),
            format: format.map(|format| format.parse().unwrap()),
        };
        let dispatch = dispatch("test", &options).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            let _span = tracing::info_span!("rollout").entered();
            tracing::info!(step = 3, unit = "a b", "step \"done\"\nwell");
            tracing::debug!("details");
        });
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn every_format_is_one_line_with_its_fields() {
        let plain = logged(None, None);
        assert!(plain.contains("INFO") && plain.contains("step=3"), "{plain}");
        let logfmt = logged(Some("logfmt"), None);
        assert!(logfmt.starts_with("ts=2") && logfmt.lines().count() == 1, "{logfmt}");
        let end = r#" span=rollout msg="step \"done\"\nwell" step=3 unit="a b""#;
        assert!(logfmt.trim_end().ends_with(end), "{logfmt}");
        let json: serde_json::Value = serde_json::from_str(&logged(Some("json"), None)).unwrap();
        assert_eq!(json["message"], "step \"done\"\nwell");
        assert_eq!((&json["step"], &json["level"]), (&3.into(), &"INFO".into()));
    }

    #[test]
    fn levels_are_those_of_the_original_and_tracings_filters() {
        assert!(!logged(None, None).contains("details"));
        assert!(logged(None, Some("debug")).contains("details"));
        assert_eq!(logged(None, Some("warning")), "");
        assert_eq!(logged(None, Some("critical")), "");
        assert_eq!(logged(None, Some("info,neco_process=error")), "");
    }

    #[test]
    fn wrong_options_are_told_with_the_right_ones() {
        let error = filter(Some("loud")).unwrap_err().to_string();
        assert_eq!(
            error,
            "log level \"loud\" is unknown; use critical, error, warning, info or debug"
        );
        assert!(filter(Some("neco=[[")).is_err());
        assert!("xml".parse::<LogFormat>().is_err());
        let options =
            LogOptions { file: Some("/nonexistent/dir/log".into()), ..LogOptions::default() };
        let error = dispatch("test", &options).unwrap_err().to_string();
        assert_eq!(error, "opening the log file /nonexistent/dir/log");
    }
}
