//! Reads the fields of a TOML table and reports everything that does not fit, with its line.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Report};

/// A text with the name it is known by in reports.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// What the file is called in reports, such as `components/serf.toml`.
    pub file: &'a str,
    /// Its content.
    pub text: &'a str,
}

impl<'a> Document<'a> {
    /// Parses the document and checks its `format`; `None` when either failed, which is then reported.
    pub fn parse(&self, report: &Report) -> Option<Spanned<DeTable<'a>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            report.add(Problem {
                file: self.file.to_owned(),
                line: error.span().map(|span| self.line(span.start)),
                field: String::new(),
                what: error.message().to_owned(),
                remedy: "write valid TOML".to_owned(),
            });
        }
        if !errors.is_empty() {
            return None;
        }
        let format = table.get_ref().get("format").map(|value| (value.span(), value.get_ref()));
        let known = format.as_ref().is_some_and(|(_, value)| {
            value.as_integer().is_some_and(|number| number.as_str() == "1")
        });
        if !known {
            report.add(Problem {
                file: self.file.to_owned(),
                line: format.as_ref().map(|(span, _)| self.line(span.start)).or(Some(1)),
                field: "format".to_owned(),
                what: match format {
                    Some((span, _)) => format!("format {} is not known", &self.text[span]),
                    None => "the format is missing".to_owned(),
                },
                remedy: "this version of Neco reads `format = 1`".to_owned(),
            });
            return None;
        }
        Some(table)
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// The fields of one table. Whoever reads it takes the fields it knows and then calls [`finish`](Self::finish).
#[derive(Debug)]
pub struct Fields<'a> {
    document: Document<'a>,
    report: &'a Report,
    table: &'a DeTable<'a>,
    line: usize,
    prefix: String,
    known: RefCell<BTreeSet<&'static str>>,
}

/// A value with the line it stands on.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Its line, counted from 1.
    pub line: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a whole document whose format was checked.
    pub fn of(document: Document<'a>, table: &'a Spanned<DeTable<'a>>, report: &'a Report) -> Self {
        let known = RefCell::new(BTreeSet::from(["format"]));
        Self { document, report, table: table.get_ref(), line: 1, prefix: String::new(), known }
    }

    /// The line on which the table begins.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether `field` stands there, whatever its value.
    pub fn has(&self, field: &'static str) -> bool {
        self.table.contains_key(field)
    }

    /// The text of `field`.
    pub fn text(&self, field: &'static str) -> Option<Found<&'a str>> {
        let (value, span) = self.take(field)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(field, value, "a text");
        }
        Some(Found { value: text?, line: self.document.line(span.start) })
    }

    /// The text of `field`, whose absence is a problem with this remedy.
    pub fn required(&self, field: &'static str, remedy: &str) -> Option<Found<&'a str>> {
        if !self.has(field) {
            self.known.borrow_mut().insert(field);
            self.problem(field, "is missing", remedy);
        }
        self.text(field)
    }

    /// The truth value of `field`.
    pub fn boolean(&self, field: &'static str) -> Option<bool> {
        let (value, _) = self.take(field)?;
        let boolean = value.as_bool();
        if boolean.is_none() {
            self.wrong_type(field, value, "true or false");
        }
        boolean
    }

    /// The texts of a list; empty when the field is absent.
    pub fn texts(&self, field: &'static str) -> Vec<Found<&'a str>> {
        let Some((value, _)) = self.take(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong_type(field, value, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => {
                    texts.push(Found { value: text, line: self.document.line(item.span().start) });
                }
                None => self.wrong_type(field, item.get_ref(), "a list of texts"),
            }
        }
        texts
    }

    /// The whole numbers of a list; empty when the field is absent.
    pub fn numbers(&self, field: &'static str) -> Vec<Found<i64>> {
        let Some((value, _)) = self.take(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.wrong_type(field, value, "a list of numbers");
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for item in list {
            let number = item
                .get_ref()
                .as_integer()
                .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
            match number {
                Some(value) => {
                    numbers.push(Found { value, line: self.document.line(item.span().start) });
                }
                None => self.wrong_type(field, item.get_ref(), "a list of numbers"),
            }
        }
        numbers
    }

    /// The text of `field` as a `T` whose error says what is wrong and what would be right.
    pub fn parsed<T>(&self, field: &'static str) -> Option<Found<T>>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let found = self.text(field)?;
        match found.value.parse() {
            Ok(value) => Some(Found { value, line: found.line }),
            Err(error) => {
                self.problem(field, &error.to_string(), "correct it");
                None
            }
        }
    }

    /// As [`parsed`](Self::parsed); absence is a problem with this remedy.
    pub fn required_parsed<T>(&self, field: &'static str, remedy: &str) -> Option<Found<T>>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.required(field, remedy)?;
        self.parsed(field)
    }

    /// A span of time, such as `30s` or `1h 30m`; longer than nothing.
    pub fn duration(&self, field: &'static str) -> Option<Duration> {
        let found = self.text(field)?;
        let parsed = found.value.parse::<jiff::SignedDuration>().ok();
        let duration = parsed.and_then(|span| Duration::try_from(span).ok());
        let duration = duration.filter(|duration| !duration.is_zero());
        if duration.is_none() {
            let what = format!("{:?} is not a span of time", found.value);
            self.problem(field, &what, "write one such as \"30s\" or \"1h 30m\"");
        }
        duration
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, field: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let found = self.text(field)?;
        let chosen = choices.iter().find(|(word, _)| *word == found.value);
        if chosen.is_none() {
            let words = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
            let what = format!("{:?} is not known", found.value);
            self.problem(field, &what, &format!("write {}", words.join(" or ")));
        }
        chosen.map(|(_, value)| *value)
    }

    /// The fields of a table within this one.
    pub fn table(&self, field: &'static str) -> Option<Self> {
        let (value, span) = self.take(field)?;
        let Some(table) = value.as_table() else {
            self.wrong_type(field, value, "a table");
            return None;
        };
        Some(self.within(format!("{}{field}.", self.prefix), table, span))
    }

    /// The fields of each table of a list.
    pub fn tables(&self, field: &'static str) -> Vec<Self> {
        let Some((value, _)) = self.take(field) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            let remedy = format!("write [[{field}]] above each");
            self.problem(field, "is not a list of tables", &remedy);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in list.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => {
                    let prefix = format!("{}{field}[{}].", self.prefix, index + 1);
                    tables.push(self.within(prefix, table, item.span()));
                }
                None => self.wrong_type(field, item.get_ref(), "a list of tables"),
            }
        }
        tables
    }

    /// Reports something about `field`, or about the table when `field` is empty.
    pub fn problem(&self, field: &str, what: &str, remedy: &str) {
        let line = match self.table.get(field) {
            Some(value) => self.document.line(value.span().start),
            None => self.line,
        };
        self.problem_at(line, field, what, remedy);
    }

    /// Reports something about `field` on a line that is known better.
    pub fn problem_at(&self, line: usize, field: &str, what: &str, remedy: &str) {
        let field = format!("{}{field}", self.prefix);
        self.report.add(Problem {
            file: self.document.file.to_owned(),
            line: Some(line),
            field: field.trim_end_matches('.').to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// Reports every field that nobody took.
    pub fn finish(self) {
        let known = self.known.borrow();
        let words = known.iter().copied().collect::<Vec<_>>().join(", ");
        for key in self.table.keys().filter(|key| !known.contains(key.get_ref().as_ref())) {
            self.problem_at(
                self.document.line(key.span().start),
                key.get_ref(),
                "is not known here",
                &format!("remove it, or write one of: {words}"),
            );
        }
    }

    fn take(&self, field: &'static str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.known.borrow_mut().insert(field);
        self.table.get(field).map(|value| (value.get_ref(), value.span()))
    }

    fn within(&self, prefix: String, table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self {
            document: self.document,
            report: self.report,
            table,
            line: self.document.line(span.start),
            prefix,
            known: RefCell::default(),
        }
    }

    fn wrong_type(&self, field: &str, value: &DeValue<'_>, expected: &str) {
        let what = format!("is of type {}", value.type_str());
        self.problem(field, &what, &format!("write {expected}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, read: impl FnOnce(&Fields<'_>)) -> Vec<String> {
        let document = Document { file: "a.toml", text };
        let report = Report::default();
        if let Some(table) = document.parse(&report) {
            let fields = Fields::of(document, &table, &report);
            read(&fields);
            fields.finish();
        }
        match report.conclude(()) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn an_unknown_format_hides_everything_else() {
        assert_eq!(
            problems("format = 2\nnonsense = 1\n", |_| panic!("it is not read")),
            ["a.toml:1: format: format 2 is not known; this version of Neco reads `format = 1`"]
        );
        assert_eq!(
            problems("", |_| panic!("it is not read")),
            ["a.toml:1: format: the format is missing; this version of Neco reads `format = 1`"]
        );
    }

    #[test]
    fn every_problem_has_its_line_and_field() {
        let text = "format = 1\nname = 3\nscope = \"each\"\n\n[[file]]\nmode = true\nstray = 1\n[[file]]\n[x]\nwithin = \"soon\"\n";
        let found = problems(text, |fields| {
            fields.text("name");
            fields.choice("scope", &[("all", ()), ("one", ())]);
            for file in fields.tables("file") {
                file.required("path", "name it");
                file.text("mode");
                file.finish();
            }
            let x = fields.table("x").expect("a table");
            assert_eq!(x.duration("within"), None);
            x.finish();
        });
        assert_eq!(
            found,
            [
                "a.toml:2: name: is of type integer; write a text",
                "a.toml:3: scope: \"each\" is not known; write \"all\" or \"one\"",
                "a.toml:5: file[1].path: is missing; name it",
                "a.toml:6: file[1].mode: is of type boolean; write a text",
                "a.toml:7: file[1].stray: is not known here; remove it, or write one of: mode, path",
                "a.toml:8: file[2].path: is missing; name it",
                "a.toml:10: x.within: \"soon\" is not a span of time; write one such as \"30s\" or \"1h 30m\"",
            ]
        );
    }

    #[test]
    fn invalid_toml_is_one_problem_per_mistake() {
        let found = problems("format = 1\na = \nb = \"\n", |_| panic!("it is not read"));
        assert!(found.len() >= 2, "{found:?}");
        assert!(found[0].starts_with("a.toml:2: "), "{found:?}");
        assert!(found.iter().all(|problem| problem.ends_with("; write valid TOML")), "{found:?}");
    }

    #[test]
    fn spans_of_time_are_longer_than_nothing() {
        let read = |text: &str| {
            let text = format!("format = 1\nwithin = \"{text}\"\n");
            let mut duration = None;
            problems(&text, |fields| duration = fields.duration("within"));
            duration
        };
        assert_eq!(read("90s"), Some(Duration::from_secs(90)));
        assert_eq!(read("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "0s", "-1s", "30", "1 fortnight"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
