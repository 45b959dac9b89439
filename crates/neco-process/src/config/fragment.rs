//! The first two stages: files as trees that know their lines, and the trees laid over each other.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::report::Place;

/// A value and where it stands. It has no `Debug`: it may be a secret.
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) file: Arc<Path>,
    line: u64,
}

pub(super) enum Value {
    /// Nothing after the colon.
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What it is, for a message: never the value itself.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "a yes or no",
            Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    pub(super) fn place(&self) -> Place<'_> {
        Place { file: &self.file, line: (self.line > 0).then_some(self.line) }
    }

    /// Lays another tree over this one: mappings key by key, everything else as a whole.
    pub(super) fn overlay(&mut self, over: Self) {
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
pub(super) struct SyntaxError {
    pub(super) line: Option<u64>,
    pub(super) what: String,
}

/// Reads one file. An empty one is an empty mapping.
pub(super) fn parse(file: &Path, text: &str) -> Result<Node, SyntaxError> {
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
    Bool,
    Number,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

fn name(raw: Spanned<Raw>, file: &Arc<Path>) -> Node {
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool => Value::Bool,
        Raw::Number => Value::Number,
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

            fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
                Ok(Raw::Bool)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
                Ok(Raw::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
                Ok(Raw::Number)
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
