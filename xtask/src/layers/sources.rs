//! What the sources themselves owe: `biased` selections, and a ban on whatever is not reproducible.

use std::fs;
use std::path::{Path, PathBuf};

use super::graph::Crate;
use crate::exit::{Doing, Done};
use crate::workspace::Workspace;

/// These decide from their arguments alone.
const DETERMINISTIC: [&str; 5] =
    ["neco-schema", "neco-plan", "neco-updater", "neco-worker", "sabakan-state-setter"];

/// What they deny; `clippy.toml` says what that is.
const DENIED: [&str; 2] = ["clippy::disallowed_types", "clippy::disallowed_methods"];

pub(super) fn check(workspace: &Workspace, crates: &[Crate]) -> Done<Vec<String>> {
    let mut violations = Vec::new();
    for one in crates {
        let mut files = Vec::new();
        rust_files(&one.dir.join("src"), &mut files)?;
        files.sort();
        for file in files {
            let source =
                fs::read_to_string(&file).doing(|| format!("cannot read {}", file.display()))?;
            let shown = file.strip_prefix(&workspace.root).unwrap_or(&file).display().to_string();
            violations.extend(unbiased(&shown, &source));
            if DETERMINISTIC.contains(&one.name.as_str())
                && file == one.dir.join("src/lib.rs")
                && !denies(&source)
            {
                violations
                    .push(format!("{shown}: must open with `#![deny({})]`", DENIED.join(", ")));
            }
        }
    }
    Ok(violations)
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) -> Done {
    for entry in fs::read_dir(dir).doing(|| format!("cannot list {}", dir.display()))? {
        let path = entry.doing(|| format!("cannot list {}", dir.display()))?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// A complaint for each `select!` whose arms are polled in random order.
fn unbiased(file: &str, source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut violations = Vec::new();
    for (at, found) in code.match_indices("select!") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let body = code[at + found.len()..].trim_start();
        let Some(body) = body.strip_prefix(['{', '(', '[']) else { continue };
        let biased = body
            .trim_start()
            .strip_prefix("biased")
            .is_some_and(|rest| rest.trim_start().starts_with(';'));
        if !biased {
            let line = code[..at].matches('\n').count() + 1;
            violations.push(format!("{file}:{line}: `select!` must begin with `biased;`"));
        }
    }
    violations
}

/// Whether inner `deny` attributes name both lists, in whatever order and however wrapped.
fn denies(source: &str) -> bool {
    let dense: String = code_only(source).split_whitespace().collect();
    let denied: Vec<&str> = dense
        .split("#![deny(")
        .skip(1)
        .filter_map(|rest| rest.split_once(")]"))
        .flat_map(|(list, _)| list.split(','))
        .collect();
    DENIED.iter().all(|lint| denied.contains(lint))
}

/// The source with comments and literals blanked out; every line stays where it was.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        match skipped {
            Some(length) => {
                code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                // A whole word at once, so that the `r` in `for"…"` starts no raw string.
                let word =
                    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let length = word.max(c.len_utf8());
                code.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    code
}

/// The length of the comment that `rest` starts with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if depth == 0 {
            return None;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            match here.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return Some(at),
            }
        }
    }
}

/// The length of the string literal that `rest` starts with: `"…"`, `b"…"`, `c"…"`, `r#"…"#` and kin.
fn string(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = rest.len() - body.len();
    if prefix > 2 {
        return None;
    }
    let quoted = body.trim_start_matches('#');
    let hashes = body.len() - quoted.len();
    let raw = rest[..prefix].contains('r');
    if !quoted.starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let start = prefix + hashes + 1;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
    }
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The length of the character literal that `rest` starts with; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|at| 1 + 1 + first + at + 1);
    }
    let first = body.chars().next()?.len_utf8();
    body[first..].starts_with('\'').then_some(1 + first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbiased_select_is_found_with_its_line() {
        let source = "fn f() {\n    tokio::select! {\n        a = b => {}\n    }\n}\n";
        assert_eq!(
            unbiased("src/lib.rs", source),
            ["src/lib.rs:2: `select!` must begin with `biased;`"]
        );
        assert_eq!(unbiased("x", "select!(a = b => {})").len(), 1);
    }

    #[test]
    fn a_biased_one_is_not() {
        for source in [
            "tokio::select! { biased; a = b => {} }",
            "select! {\n  // why this order\n  biased;\n a = b => {} }",
            "let x = select! (biased ; a = b => {});",
        ] {
            assert_eq!(unbiased("x", source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for source in [
            "// select! { a }",
            "/* outer /* select! { a } */ select! { b } */",
            r#"let a = "select! { \" a }";"#,
            r###"let a = br#"select! { " }"#;"###,
            "let a = '\"'; let b = \"select! { a }\"; let c = '\\''; // '",
            "fn preselect() { preselect! { a } }",
            "use tokio::select;",
        ] {
            assert_eq!(unbiased("x", source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn code_behind_literals_and_lifetimes_is_still_seen() {
        for source in [
            "let a = '\"'; select! { a = b => {} } let c = '\"';",
            "fn f<'a>(x: &'a str) { select! { a = b => {} } }",
            r##"let s = r#"""#; select! { a = b => {} }"##,
            "let s = \"\\\\\"; select! { a = b => {} }",
            "/* done */ select! { a = b => {} }",
            "let u = '\\u{1f600}'; select! { a = b => {} }",
        ] {
            assert_eq!(unbiased("x", source).len(), 1, "{source}");
        }
    }

    #[test]
    fn a_missing_denial_is_found() {
        let wrapped = "//! Doc.\n#![deny(\n    clippy::disallowed_methods,\n    clippy::disallowed_types,\n)]";
        for sound in [wrapped, "#![deny(clippy::disallowed_types, clippy::disallowed_methods)]"] {
            assert!(denies(sound), "{sound}");
        }
        for planted in [
            "#![deny(missing_docs)]",
            "#![deny(clippy::disallowed_types)]",
            "// #![deny(clippy::disallowed_types, clippy::disallowed_methods)]",
            "#![warn(clippy::disallowed_types, clippy::disallowed_methods)]",
        ] {
            assert!(!denies(planted), "{planted}");
        }
    }
}
