//! YAML as a tree that knows its lines, so that everything that is wrong with a file can be told in one go.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and where it stands. It has no `Debug`: it may be a secret.
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was read.
    pub file: Arc<Path>,
    line: u64,
}

/// What a value is.
pub enum Value {
    /// Nothing after the colon.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without quotes.
    Number(f64),
    /// Anything else after the colon.
    Text(String),
    /// Items, each after a dash.
    List(Vec<Node>),
    /// Keys in the order of the file.
    Map(Vec<(String, Node)>),
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The file.
    pub file: &'a Path,
    /// The line in it, counted from 1, if known.
    pub line: Option<u64>,
}

impl Value {
    /// What it is, for a message: never the value itself.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a yes or no",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place { file: &self.file, line: (self.line > 0).then_some(self.line) }
    }

    /// Lays another tree over this one: mappings key by key, everything else as a whole.
    pub fn overlay(&mut self, over: Self) {
        match (&mut self.value, over) {
            (Value::Map(under), Self { value: Value::Map(over), .. }) => {
                for (key, node) in over {
                    match under.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => known.overlay(node),
                        None => under.push((key, node)),
                    }
                }
            }
            (_, over) => *self = over,
        }
    }
}

/// What the parser has to say against a file.
pub struct SyntaxError {
    /// Where, counted from 1, if known.
    pub line: Option<u64>,
    /// Without the place.
    pub what: String,
}

/// Reads the text of one file. An empty one is an empty mapping.
///
/// # Errors
/// It is no YAML, has a key twice, or holds more than one document.
pub fn parse(file: &Path, text: &str) -> Result<Node, SyntaxError> {
    let file: Arc<Path> = file.into();
    let has_content = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    };
    if !text.lines().any(has_content) {
        return Ok(Node { value: Value::Map(Vec::new()), file, line: 0 });
    }
    // Snippets would show the lines around an error, and one of them may hold a password.
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(name(raw, &file)),
        Err(error) => {
            let line = error.location().map(|at| at.line()).filter(|line| *line > 0);
            let text = error.to_string();
            let what = without_position(text.lines().next().unwrap_or_default()).to_owned();
            Err(SyntaxError { line, what })
        }
    }
}

/// Cuts ` at line 1, column 4` off the end: the line is told in its own place.
fn without_position(message: &str) -> &str {
    let is_position = |rest: &str| {
        rest.split([' ', ',']).all(|w| w == "column" || w.chars().all(|c| c.is_ascii_digit()))
    };
    match message.rsplit_once(" at line ") {
        Some((what, rest)) if is_position(rest) => what,
        _ => message,
    }
}

/// A tree before it knows its file.
enum Raw {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

fn name(raw: Spanned<Raw>, file: &Arc<Path>) -> Node {
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(truth) => Value::Bool(truth),
        Raw::Number(number) => Value::Number(number),
        Raw::Text(text) => Value::Text(text),
        Raw::List(list) => Value::List(list.into_iter().map(|raw| name(raw, file)).collect()),
        Raw::Map(map) => {
            Value::Map(map.into_iter().map(|(key, raw)| (key, name(raw, file))).collect())
        }
    };
    Node { value, file: file.clone(), line: raw.referenced.line() }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<Raw, D::Error> {
                Raw::deserialize(some)
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(truth))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
                Ok(Raw::Number(number as f64))
            }

            fn visit_i128<E>(self, number: i128) -> Result<Raw, E> {
                Ok(Raw::Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
                Ok(Raw::Number(number as f64))
            }

            fn visit_u128<E>(self, number: u128) -> Result<Raw, E> {
                Ok(Raw::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
                Ok(Raw::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = list.next_element()? {
                    all.push(item);
                }
                Ok(Raw::List(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Raw::Map(all))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
