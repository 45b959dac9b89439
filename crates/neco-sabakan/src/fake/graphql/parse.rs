//! As much of GraphQL's language as clients of sabakan speak: operations, variables, arguments, selections; no fragments, no
//! directives.

use serde_json::{Map, Value};

use super::Invalid;

/// Something to do.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Mutation,
}

/// A field that is asked for.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Under which name it is answered.
    pub(super) key: String,
    pub(super) arguments: Map<String, Value>,
    pub(super) fields: Vec<Self>,
}

/// The operation of that name, or the only one.
pub(super) fn operation(
    document: &str,
    name: Option<&str>,
    variables: &Map<String, Value>,
) -> Result<Operation, Invalid> {
    let mut parser = Parser { tokens: tokens(document)?, at: 0, variables };
    let mut found = Vec::new();
    while !parser.tokens[parser.at..].is_empty() {
        found.push(parser.operation()?);
    }
    let wanted = name.filter(|name| !name.is_empty());
    let only = found.len() == 1;
    let fits = |found: &Option<String>| match wanted {
        Some(name) => found.as_deref() == Some(name),
        None => only,
    };
    let operation = found.into_iter().find(|(name, _)| fits(name));
    let (_, operation) = operation.ok_or_else(|| Invalid("no operation to run".to_owned()))?;
    Ok(operation)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(serde_json::Number),
    Sign(char),
}

fn tokens(document: &str) -> Result<Vec<Token>, Invalid> {
    let mut tokens = Vec::new();
    let mut rest = document;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() || c == ',' || c == '\u{feff}' => c.len_utf8(),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                // A text in quotes is one of JSON too.
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                match values.next() {
                    Some(Ok(text)) => tokens.push(Token::Text(text)),
                    _ => return Err(Invalid("Unterminated string".to_owned())),
                }
                values.byte_offset()
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                let name = &rest[..end.unwrap_or(rest.len())];
                tokens.push(Token::Name(name.to_owned()));
                name.len()
            }
            c if c.is_ascii_digit() || c == '-' => {
                let is_number = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
                let number = rest[..end].parse().map_err(|_| unexpected(&rest[..end]))?;
                tokens.push(Token::Number(number));
                end
            }
            c if "{}()[]:!$=".contains(c) => {
                tokens.push(Token::Sign(c));
                1
            }
            c => return Err(unexpected(c)),
        };
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn unexpected(what: impl std::fmt::Display) -> Invalid {
    Invalid(format!("Unexpected {what}"))
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    variables: &'a Map<String, Value>,
}

impl Parser<'_> {
    fn operation(&mut self) -> Result<(Option<String>, Operation), Invalid> {
        let mut name = None;
        let mut kind = Kind::Query;
        if !self.is('{') {
            kind = match self.name()?.as_str() {
                "query" => Kind::Query,
                "mutation" => Kind::Mutation,
                other => return Err(unexpected(other)),
            };
            if let Some(Token::Name(found)) = self.tokens.get(self.at) {
                name = Some(found.clone());
                self.at += 1;
            }
            if self.take('(') {
                while !self.take(')') {
                    self.variable()?;
                }
            }
        }
        Ok((name, Operation { kind, fields: self.selection()? }))
    }

    /// `$name: Type = default`: only whether a value that must be there is.
    fn variable(&mut self) -> Result<(), Invalid> {
        self.expect('$')?;
        let name = self.name()?;
        self.expect(':')?;
        let must = self.kind()?;
        let has_default = self.take('=');
        if has_default {
            self.value()?;
        }
        if must && !has_default && self.variables.get(&name).is_none_or(Value::is_null) {
            return Err(Invalid(format!("variable {name} must be defined")));
        }
        Ok(())
    }

    /// A type, and whether there must be a value.
    fn kind(&mut self) -> Result<bool, Invalid> {
        if self.take('[') {
            self.kind()?;
            self.expect(']')?;
        } else {
            self.name()?;
        }
        Ok(self.take('!'))
    }

    fn selection(&mut self) -> Result<Vec<Field>, Invalid> {
        self.expect('{')?;
        let mut fields = Vec::new();
        while !self.take('}') {
            let mut name = self.name()?;
            let key = name.clone();
            if self.take(':') {
                name = self.name()?;
            }
            let mut arguments = Map::new();
            if self.take('(') {
                while !self.take(')') {
                    let argument = self.name()?;
                    self.expect(':')?;
                    arguments.insert(argument, self.value()?);
                }
            }
            let inner = if self.is('{') { self.selection()? } else { Vec::new() };
            fields.push(Field { name, key, arguments, fields: inner });
        }
        Ok(fields)
    }

    fn value(&mut self) -> Result<Value, Invalid> {
        let token = self.next()?;
        Ok(match token {
            Token::Sign('$') => {
                let name = self.name()?;
                self.variables.get(&name).cloned().unwrap_or_default()
            }
            Token::Sign('[') => {
                let mut list = Vec::new();
                while !self.take(']') {
                    list.push(self.value()?);
                }
                Value::Array(list)
            }
            Token::Sign('{') => {
                let mut map = Map::new();
                while !self.take('}') {
                    let key = self.name()?;
                    self.expect(':')?;
                    map.insert(key, self.value()?);
                }
                Value::Object(map)
            }
            Token::Sign(sign) => return Err(unexpected(sign)),
            Token::Text(text) => text.into(),
            Token::Number(number) => Value::Number(number),
            Token::Name(name) => match name.as_str() {
                "true" => true.into(),
                "false" => false.into(),
                "null" => Value::Null,
                // The name of a value of an enumeration.
                _ => name.into(),
            },
        })
    }

    fn next(&mut self) -> Result<Token, Invalid> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| unexpected("<EOF>"))
    }

    fn name(&mut self) -> Result<String, Invalid> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            other => Err(unexpected(format!("{other:?}"))),
        }
    }

    fn is(&self, sign: char) -> bool {
        self.tokens.get(self.at) == Some(&Token::Sign(sign))
    }

    fn take(&mut self, sign: char) -> bool {
        let is = self.is(sign);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: char) -> Result<(), Invalid> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            other => Err(unexpected(format!("{other:?}, expected {sign}"))),
        }
    }
}
