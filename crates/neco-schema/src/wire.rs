//! The JSON that Go programs write and read: how values are decoded leniently and encoded strictly.

use serde_json::{Map, Value};

use crate::{Lrn, NecoVersion, Timestamp};

/// A value stored under a key.
pub trait Record: Sized {
    /// Reads the stored bytes. Unknown fields are kept; missing or `null` fields take their default; field names
    /// match without regard to case, as in Go.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The bytes to store: compact JSON without a final newline, `<`, `>` and `&` escaped as Go does.
    fn encode(&self) -> Vec<u8>;
}

/// A stored value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value is no JSON object.
    #[error("not a JSON object: {0}")]
    NotAnObject(String),
    /// A field has a value of the wrong form.
    #[error("field {field}: expected {expected}, found {found}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// The text is not of the form that the key asks for.
    #[error("expected {expected}, found {found}")]
    Text {
        /// What should be there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
}

/// Shortens a stored text for an error message and makes it one line.
pub(crate) fn excerpt(text: &str) -> String {
    abridged(text, 60)
}

/// A text on one line of at most `longest` characters: what stands in etcd may be of any length and form.
pub fn abridged(text: &str, longest: usize) -> String {
    let mut characters = text.chars();
    let mut line: String = characters
        .by_ref()
        .take(longest)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

/// What the parser says. It repeats texts that it did not expect at their full length, and ends in what it expected and
/// where.
pub(crate) fn syntax(error: &serde_json::Error) -> DecodeError {
    const KEPT: usize = 80;
    let text = error.to_string();
    let length = text.chars().count();
    if length <= 2 * KEPT {
        return DecodeError::NotAnObject(abridged(&text, 2 * KEPT));
    }
    let end: String = text.chars().skip(length - KEPT).collect();
    DecodeError::NotAnObject(format!("{}{}", abridged(&text, KEPT), abridged(&end, KEPT)))
}

/// The fields of a JSON object, taken out one by one; what is left over is unknown and kept.
#[derive(Clone, Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses `bytes` as one JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(other) => Err(DecodeError::NotAnObject(excerpt(&other.to_string()))),
            Err(error) => Err(syntax(&error)),
        }
    }

    /// The fields of a nested object.
    pub fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// Takes the field `name`, whatever its case; `null` counts as missing. The last of several wins.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let names: Vec<String> =
            self.0.keys().filter(|key| key.eq_ignore_ascii_case(name)).cloned().collect();
        let mut last = None;
        for name in names {
            if let Some(value) = self.0.remove(&name)
                && !value.is_null()
            {
                last = Some(value);
            }
        }
        last
    }

    /// Takes a field and converts it, or fails naming the field and what was expected.
    pub fn with<T>(
        &mut self,
        field: &'static str,
        expected: &'static str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        match self.take(field) {
            None => Ok(None),
            Some(value) => match convert(&value) {
                Some(converted) => Ok(Some(converted)),
                None => {
                    Err(DecodeError::Field { field, expected, found: excerpt(&value.to_string()) })
                }
            },
        }
    }

    /// A text field; empty when missing.
    pub fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        Ok(self.optional_string(field)?.unwrap_or_default())
    }

    /// A text field that may be missing.
    pub fn optional_string(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        self.with(field, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A truth value; false when missing.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.with(field, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    /// An integer; 0 when missing. A number with a fraction or exponent is refused.
    pub fn int(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(self.with(field, "an integer", Value::as_i64)?.unwrap_or_default())
    }

    /// A non-negative integer; 0 when missing.
    pub fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(self.with(field, "a non-negative integer", Value::as_u64)?.unwrap_or_default())
    }

    /// A moment; the zero time when missing.
    pub fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        let read = |value: &Value| value.as_str()?.parse().ok();
        Ok(self.with(field, "an RFC 3339 time", read)?.unwrap_or_default())
    }

    /// A version that must be there.
    pub fn version(&mut self, field: &'static str) -> Result<NecoVersion, DecodeError> {
        self.optional_version(field)?.ok_or_else(|| DecodeError::Field {
            field,
            expected: "a version such as 2021.04.19-13965",
            found: "nothing".to_owned(),
        })
    }

    /// A version that may be missing.
    pub fn optional_version(
        &mut self,
        field: &'static str,
    ) -> Result<Option<NecoVersion>, DecodeError> {
        self.with(field, "a version such as 2021.04.19-13965", |value| value.as_str()?.parse().ok())
    }

    /// A list of logical rack numbers; `None` for `null` or missing, which Go writes for an empty list.
    pub fn lrns(&mut self, field: &'static str) -> Result<Option<Vec<Lrn>>, DecodeError> {
        self.with(field, "a list of logical rack numbers", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| Some(Lrn::new(u32::try_from(item.as_u64()?).ok()?)))
                .collect()
        })
    }

    /// A nested value of any type that serde can read; `None` when missing.
    pub fn nested<T: serde::de::DeserializeOwned>(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        self.with(field, expected, |value| serde_json::from_value(value.clone()).ok())
    }

    /// What has not been taken: fields that this version does not know.
    pub fn rest(self) -> Map<String, Value> {
        self.0
    }
}

/// Encodes `known` fields in their order, then the unknown ones that do not clash with them.
pub fn encode_object(known: Vec<(&str, Value)>, unknown: &Map<String, Value>) -> Vec<u8> {
    escape_like_go(&object(known, unknown).to_string()).into_bytes()
}

/// The same as a value, for an object inside another one.
pub(crate) fn object(known: Vec<(&str, Value)>, unknown: &Map<String, Value>) -> Value {
    let mut object = Map::new();
    let clashes = |name: &str| known.iter().any(|(taken, _)| taken.eq_ignore_ascii_case(name));
    let unknown: Vec<_> = unknown.iter().filter(|(name, _)| !clashes(name)).collect();
    for (name, value) in known {
        object.insert(name.to_owned(), value);
    }
    for (name, value) in unknown {
        object.insert(name.clone(), value.clone());
    }
    Value::Object(object)
}

/// Go escapes these five in JSON text so that it can stand inside HTML and JavaScript; they only occur in strings.
fn escape_like_go(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_go_does() {
        let bytes = encode_object(vec![("message", Value::from("a<b>&\u{2028}\"é"))], &Map::new());
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"message":"a\u003cb\u003e\u0026\u2028\"é"}"#
        );
    }

    #[test]
    fn names_match_without_case_and_null_is_missing() {
        let mut fields = Fields::parse(br#"{"Version":null,"STEP":3,"x":1}"#).expect("an object");
        assert_eq!(fields.string("version"), Ok(String::new()));
        assert_eq!(fields.int("step"), Ok(3));
        assert_eq!(fields.rest().keys().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let mut fields = Fields::parse(br#"{"step":1.5,"stop":"yes"}"#).expect("an object");
        assert_eq!(
            fields.int("step").unwrap_err().to_string(),
            "field step: expected an integer, found 1.5"
        );
        assert_eq!(
            fields.bool("stop").unwrap_err().to_string(),
            "field stop: expected true or false, found \"yes\""
        );
    }

    #[test]
    fn a_long_value_is_cut_in_the_message() {
        let long = format!("{{\"step\":\"{}\"}}", "x".repeat(10_000));
        let mut fields = Fields::parse(long.as_bytes()).expect("an object");
        assert!(fields.int("step").unwrap_err().to_string().len() < 200);
        let error = crate::ClockRecord::decode(
            format!("{{\"elapsed\":\"a\\n{}\"}}", "x".repeat(10_000)).as_bytes(),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.len() < 250 && !error.contains('\n'), "{error}");
        assert!(
            error.contains("invalid type: string") && error.contains("expected u64"),
            "{error}"
        );
        let error = "x".repeat(10_000).parse::<NecoVersion>().unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }
}
