//! The texts of templates, which sabakan renders for each machine: what can be known of them before (external-apis §1.6).

/// Something that cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The line on which the action begins, counted from 1.
    pub(crate) line: usize,
    /// The action.
    pub(crate) action: String,
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

/// What sabakan adds to the language of templates.
const FUNCTIONS: [&str; 8] =
    ["MyURL", "MyURLHTTPS", "Metadata", "json", "add", "sub", "mul", "div"];

/// What the language of templates (Go's `text/template`) has itself.
const BUILT_IN: [&str; 22] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery", "true", "false", "nil",
];

/// Begins something that `end` ends.
const OPENING: [&str; 5] = ["if", "range", "with", "define", "block"];

/// What is wrong with a text, where `has` says for which keys there is metadata.
pub(crate) fn check(text: &str, has: &dyn Fn(&str) -> bool) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    // The openings that have no end yet: line and action.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find("{{").map(|found| at + found) {
        let line = 1 + text[..begin].matches('\n').count();
        let inner = begin + 2;
        let mut mistake = |action: String, what: String, remedy: &'static str| {
            mistakes.push(Mistake { line, action, what, remedy });
        };
        let Some((tokens, end)) = tokens(&text[inner..]) else {
            let action = text[begin..].lines().next().unwrap_or_default().trim().to_owned();
            let remedy = "close it with }}, or write {{ \"{{\" }} where braces are meant";
            mistake(action, "an action is not closed".to_owned(), remedy);
            return mistakes;
        };
        at = inner + end;
        let action = text[begin..at].split_whitespace().collect::<Vec<_>>().join(" ");
        for (index, token) in tokens.iter().enumerate() {
            let Token::Word(word) = token else { continue };
            match *word {
                word if OPENING.contains(&word) => {
                    // `else if` and `else with` go on with what is open.
                    if !matches!(
                        index.checked_sub(1).and_then(|i| tokens.get(i)),
                        Some(Token::Word("else"))
                    ) {
                        open.push((line, action.clone()));
                    }
                }
                "end" if open.pop().is_none() => {
                    mistake(action.clone(), "it ends nothing".to_owned(), "take it off");
                }
                "end" | "template" | "break" | "continue" => {}
                "else" if open.is_empty() => {
                    mistake(action.clone(), "it belongs to nothing".to_owned(), "take it off");
                }
                "else" => {}
                "Metadata" => match tokens.get(index + 1) {
                    Some(Token::Text(key)) if !has(key) => mistake(
                        action.clone(),
                        format!("there is no metadata {key:?}"),
                        "set it, or refer to what there is",
                    ),
                    Some(_) => {}
                    None if index > 0 => {}
                    None => mistake(
                        action.clone(),
                        "Metadata has no key".to_owned(),
                        "write one, such as Metadata \"version\"",
                    ),
                },
                word if FUNCTIONS.contains(&word) || BUILT_IN.contains(&word) => {}
                word => mistake(
                    action.clone(),
                    format!("there is no function {word}"),
                    "use those of sabakan and of Go's templates",
                ),
            }
        }
    }
    for (line, action) in open {
        let (what, remedy) = ("it has no end".to_owned(), "add {{ end }}");
        mistakes.push(Mistake { line, action, what, remedy });
    }
    mistakes
}

/// A piece of an action.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name that is neither a field nor a variable.
    Word(&'a str),
    /// A text in quotes, without them.
    Text(&'a str),
    /// Anything else.
    Other,
}

/// The pieces of an action up to its end, and where that is. `None` where there is no end.
fn tokens(text: &str) -> Option<(Vec<Token<'_>>, usize)> {
    let mut tokens = Vec::new();
    let bytes = text.as_bytes();
    let body = text.trim_start_matches('-').trim_start();
    if body.starts_with("/*") {
        let comment = text.find("*/")? + 2;
        return Some((tokens, comment + text[comment..].find("}}")? + 2));
    }
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        let rest = &text[at..];
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        match byte {
            b'}' if rest.starts_with("}}") => return Some((tokens, at + 2)),
            b'"' | b'\'' => {
                let length = quoted(rest, byte)?;
                tokens.push(Token::Text(&rest[1..length - 1]));
                at += length;
            }
            b'`' => {
                let length = rest[1..].find('`')?;
                tokens.push(Token::Text(&rest[1..=length]));
                at += length + 2;
            }
            // Fields and variables, with all that follows them.
            b'.' | b'$' => {
                let length = rest.find(|c: char| !is_name(c) && c != '.' && c != '$');
                tokens.push(Token::Other);
                at += length.unwrap_or(rest.len());
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            byte if byte.is_ascii_digit() => {
                let length = rest.find(|c: char| !is_name(c) && c != '.');
                tokens.push(Token::Other);
                at += length.unwrap_or(rest.len());
            }
            _ if rest.starts_with(is_name) => {
                let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..length]));
                at += length;
            }
            _ => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                // The dash of `-}}` is part of the end.
                if !(byte == b'-' && rest[1..].starts_with("}}")) {
                    tokens.push(Token::Other);
                }
                at += length;
            }
        }
    }
}

/// How long a text in quotes is, its quotes included.
fn quoted(text: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            // Texts in quotes end on their line.
            b'\n' => return None,
            byte if byte == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let found = check(text, &|key| matches!(key, "version" | "cke:etcd.img"));
        found.iter().map(|m| format!("{}: {}: {}", m.line, m.action, m.what)).collect()
    }

    #[test]
    fn texts_that_sabakan_renders_are_in_order() {
        for text in [
            "",
            "no action, one } and one {",
            "{{ Metadata \"version\" }}{{Metadata `cke:etcd.img`}}",
            "{{- $ip := index .Spec.IPv4 0 -}}{{ $ip }}",
            "{{ if eq .Spec.Role \"cs\" }}a{{ else if gt .Spec.Rack 3 }}b{{ else }}c{{ end }}",
            "{{ range $i, $a := Metadata \"version\" }}{{ add $i 1 }}{{ . }}{{ end }}",
            "{{ with .Info.BMC.IPv4 }}{{ json . }}{{ end }}",
            "{{/* a comment with }} inside and Nonsense */}}",
            "{{ \"}}\" | printf \"%s\\\"}}\" }}",
            "{{ (index (Metadata \"version\") 0) | len }} {{ MyURL }}/api {{ MyURLHTTPS }}",
            "{{ \"version\" | Metadata }}",
            "{{ Metadata $key }} {{ Metadata (printf \"%s.img\" \"x\") }} {{ -1 }} {{ 0x1F }} {{ 'x' }}",
        ] {
            assert_eq!(mistakes(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_rendered_is_named_with_its_line() {
        for (text, expected) in [
            (
                "a\nb {{ Metadata \"nope\" }}",
                "2: {{ Metadata \"nope\" }}: there is no metadata \"nope\"",
            ),
            ("{{ Metadata }}", "1: {{ Metadata }}: Metadata has no key"),
            ("{{ lower .Spec.Role }}", "1: {{ lower .Spec.Role }}: there is no function lower"),
            ("x\n\n{{ .Spec", "3: {{ .Spec: an action is not closed"),
            ("{{ \"}} ", "1: {{ \"}}: an action is not closed"),
            ("{{/* }}", "1: {{/* }}: an action is not closed"),
            ("\n{{ if .X }}a", "2: {{ if .X }}: it has no end"),
            ("{{ end }}", "1: {{ end }}: it ends nothing"),
            ("{{ else }}", "1: {{ else }}: it belongs to nothing"),
        ] {
            assert_eq!(mistakes(text), [expected], "{text}");
        }
    }

    #[test]
    fn one_text_may_have_many() {
        assert_eq!(mistakes("{{ a }}{{ b }}\n{{ Metadata \"c\" }}").len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\"'`/*\\-a-z. \n$|äß0-9]{0,60}") {
            check(&text, &|_| false);
        }
    }
}
