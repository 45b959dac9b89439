//! Changes of values within the text of `artifacts.toml`: every other byte stays as it is.

use std::ops::Range;

use neco_artifacts::Artifacts;
use toml::de::{DeTable, DeValue};

use crate::decide::Kind;

/// A value that is to stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What it is about.
    pub kind: Kind,
    /// Which of them; the OS image has none but its own place.
    pub name: String,
    /// The field.
    pub field: &'static str,
    /// Its new value.
    pub value: String,
}

/// Why a text is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such value to be changed.
    #[error(
        "{kind} {name} has no {field} in artifacts.toml that could be changed; write it by hand"
    )]
    NoPlace {
        /// What it is about.
        kind: Kind,
        /// Which of them.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// The value cannot stand in the file.
    #[error("{value:?} cannot be written as the {field} of {kind} {name}; write it by hand")]
    Value {
        /// What it is about.
        kind: Kind,
        /// Which of them.
        name: String,
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// The result would not say what it should, so that it is not written.
    #[error("artifacts.toml would not say what it should: {0}; write it by hand")]
    Result(String),
}

/// The text with all edits made. What comes out pins what was pinned before but for the edits: it is read again and compared.
///
/// # Errors
/// A value is not there or cannot be written, or the text is not one that [`Artifacts`] can be read from.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let wrong = |why: &dyn std::fmt::Display| EditError::Result(why.to_string());
    let mut expected = Artifacts::parse(text).map_err(|why| wrong(&why))?;
    let table = DeTable::parse(text).map_err(|why| wrong(&why.message()))?;
    let mut places = Vec::new();
    for edit in edits {
        let Edit { kind, name, field, value } = edit;
        let (kind, field) = (*kind, *field);
        let no_place = || EditError::NoPlace { kind, name: name.clone(), field };
        // Versions and digests: nothing in them has a meaning of its own between quotes.
        if value.is_empty()
            || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        {
            let (name, value) = (name.clone(), value.clone());
            return Err(EditError::Value { kind, name, field, value });
        }
        places.push((place(table.get_ref(), edit).ok_or_else(no_place)?, value));
        *slot(&mut expected, edit).ok_or_else(no_place)? = value.clone();
    }
    places.sort_by_key(|(span, _)| span.start);
    let mut result = String::new();
    let mut at = 0;
    for (span, value) in places {
        if span.start < at {
            return Err(wrong(&"the same value is to be changed twice"));
        }
        let literal = text[span.clone()].starts_with('\'');
        let quote = if literal { '\'' } else { '"' };
        result.push_str(&text[at..span.start]);
        result.push(quote);
        result.push_str(value);
        result.push(quote);
        at = span.end;
    }
    result.push_str(&text[at..]);
    match Artifacts::parse(&result) {
        Ok(read) if read == expected => Ok(result),
        Ok(_) => Err(wrong(&"it pins something else")),
        Err(why) => Err(wrong(&why)),
    }
}

/// Where the value stands in the text, quotes and all.
fn place(root: &DeTable<'_>, edit: &Edit) -> Option<Range<usize>> {
    let table = match edit.kind {
        Kind::OsImage => root.get("os-image")?.get_ref().as_table()?,
        Kind::Image | Kind::Deb => {
            let entries = root.get(edit.kind.as_str())?.get_ref().as_array()?;
            let mut tables = entries.iter().filter_map(|entry| entry.get_ref().as_table());
            tables.find(|table| {
                let name = table.get("name").and_then(|name| name.get_ref().as_str());
                name == Some(edit.name.as_str())
            })?
        }
    };
    let value = table.get(edit.field)?;
    matches!(value.get_ref(), DeValue::String(_)).then(|| value.span())
}

/// The same value in what was read.
fn slot<'a>(artifacts: &'a mut Artifacts, edit: &Edit) -> Option<&'a mut String> {
    match (edit.kind, edit.field) {
        (Kind::Image, "tag") => Some(&mut artifacts.images.get_mut(edit.name.as_str())?.tag),
        (Kind::Deb, "release") => Some(&mut artifacts.debs.get_mut(edit.name.as_str())?.release),
        (Kind::Deb, "sha256") => artifacts.debs.get_mut(edit.name.as_str())?.sha256.as_mut(),
        (Kind::OsImage, "version") => Some(&mut artifacts.os_image.as_mut()?.version),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# What this version pins. tag = \"9.9.9\"
format = 1

[[image]]   # the store
name = \"etcd\"
repository = \"ghcr.io/cybozu/etcd\"
tag   =   \"3.5.15.1\"   # 3.5.16 loses leases, tag = \"3.5.15.1\"

[[image]]
tag = '0.10.1.7'
name = \"serf\"\r
repository = \"ghcr.io/cybozu/serf\"

  [[deb]]
  name = \"etcdpasswd\"
  owner = \"cybozu-go\"
  repository = \"etcdpasswd\"
  release = \"\"\"v1.4.9\"\"\"
  sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"

[os-image]
channel = \"stable\"
version = \"4152.2.1\" # ü

# The end, without a line feed";

    fn edit(kind: Kind, name: &str, field: &'static str, value: &str) -> Edit {
        Edit { kind, name: name.to_owned(), field, value: value.to_owned() }
    }

    #[test]
    fn only_the_values_change() {
        let sha256 = "0".repeat(64);
        let edits = [
            edit(Kind::OsImage, "stable", "version", "4230.2.0+b"),
            edit(Kind::Image, "etcd", "tag", "3.5.21.1"),
            edit(Kind::Deb, "etcdpasswd", "sha256", &sha256),
            edit(Kind::Deb, "etcdpasswd", "release", "v1.4.10"),
            edit(Kind::Image, "serf", "tag", "0.10.2.1"),
        ];
        let result = apply(TEXT, &edits).unwrap_or_else(|why| panic!("{why}"));
        let expected = TEXT
            .replace("tag   =   \"3.5.15.1\"", "tag   =   \"3.5.21.1\"")
            .replace("'0.10.1.7'", "'0.10.2.1'")
            .replace("\"\"\"v1.4.9\"\"\"", "\"v1.4.10\"")
            .replace("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", &sha256)
            .replace("\"4152.2.1\"", "\"4230.2.0+b\"");
        assert_eq!(result, expected);
        assert_eq!(apply(TEXT, &[]), Ok(TEXT.to_owned()));
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        let no_place = |kind, name: &str, field| {
            Err(EditError::NoPlace { kind, name: name.to_owned(), field })
        };
        let apply = |edits: &[Edit]| apply(TEXT, edits);
        assert_eq!(
            apply(&[edit(Kind::Image, "vault", "tag", "1.0.0")]),
            no_place(Kind::Image, "vault", "tag")
        );
        assert_eq!(
            apply(&[edit(Kind::Image, "etcd", "sha256", "1.0.0")]),
            no_place(Kind::Image, "etcd", "sha256")
        );
        for bad in ["", "1.0\"", "1.0\n", "a b", "1.0\\"] {
            let result = apply(&[edit(Kind::Image, "etcd", "tag", bad)]);
            assert!(matches!(result, Err(EditError::Value { .. })), "{bad:?}: {result:?}");
        }
        let bad = [edit(Kind::Deb, "etcdpasswd", "sha256", "1.0")];
        assert!(matches!(apply(&bad), Err(EditError::Result(_))), "{:?}", apply(&bad));
        let twice = [
            edit(Kind::Image, "etcd", "tag", "3.5.16.1"),
            edit(Kind::Image, "etcd", "tag", "3.5.17.1"),
        ];
        let why = apply(&twice).expect_err("twice").to_string();
        assert!(why.contains("changed twice"), "{why}");
        let why = super::apply("format = 2\n", &[]).expect_err("another format").to_string();
        assert!(why.contains("format 2 is not known"), "{why}");
    }

    #[test]
    fn a_list_of_tables_on_one_line_is_edited_too() {
        let text = "format = 1\nimage = [{ name = \"etcd\", repository = \"etcd\", tag = \"1.2.3\" }, # one\n]\n";
        let result = apply(text, &[edit(Kind::Image, "etcd", "tag", "1.2.4")]);
        assert_eq!(result, Ok(text.replace("1.2.3", "1.2.4")));
    }

    // What the package has must stay editable.
    #[test]
    fn the_pins_of_the_package_can_all_be_changed() {
        let text = include_str!("../../../debian/usr/share/neco/artifacts.toml");
        let pinned = Artifacts::parse(text).unwrap_or_else(|why| panic!("{why}"));
        let images =
            pinned.images.keys().map(|name| edit(Kind::Image, name.as_str(), "tag", "9.9.9"));
        let debs =
            pinned.debs.keys().map(|name| edit(Kind::Deb, name.as_str(), "release", "v9.9.9"));
        let os =
            pinned.os_image.iter().map(|os| edit(Kind::OsImage, &os.channel, "version", "9.9.9"));
        let edits: Vec<_> = images.chain(debs).chain(os).collect();
        assert!(!edits.is_empty());
        let result = apply(text, &edits).unwrap_or_else(|why| panic!("{why}"));
        let changed = text.lines().zip(result.lines()).filter(|(old, new)| old != new).count();
        assert_eq!((changed, text.lines().count()), (edits.len(), result.lines().count()));
        let comments = |text: &str| {
            text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(comments(text), comments(&result));
    }

    proptest! {
        #[test]
        fn there_and_back_again_is_the_same_text(
            comment in "[^\\x00-\\x1f\\x7f]{0,20}", space in "[ \t]{0,3}", feed in "(\n|\r\n){1,2}",
            from in "[0-9]{1,3}\\.[0-9]\\.[0-9]", to in "v?[0-9]{1,2}\\.[0-9]\\.[0-9](-rc[0-9])?"
        ) {
            let text = format!(
                "format = 1{feed}#{comment}{feed}[[image]]{feed}name = \"x\"{feed}repository = \"x\"{feed}\
                 tag{space}={space}\"{from}\"{space}#{comment}{feed}"
            );
            let there = apply(&text, &[edit(Kind::Image, "x", "tag", &to)]).expect("edited");
            prop_assert_eq!(there.len() + from.len(), text.len() + to.len());
            let back = apply(&there, &[edit(Kind::Image, "x", "tag", &from)]).expect("edited back");
            prop_assert_eq!(back, text);
        }
    }
}
