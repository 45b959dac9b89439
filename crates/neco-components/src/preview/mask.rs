//! Hiding secrets in what is shown of a file. Rather too much is hidden than too little.

/// Stands for what is not shown.
const MASK: &str = "***";
/// A setting with one of these words in its name holds a secret.
const SECRET: [&str; 7] =
    ["password", "passwd", "secret", "token", "credential", "private_key", "private-key"];
/// A name that goes on like this is about a secret and holds none.
const ABOUT: [&str; 7] = ["file", "path", "ttl", "name", "role", "retention", "ref"];

/// The text with the values of secret settings masked, and private keys, and what stands between `://` and `@`.
///
/// A value in quotes ends with them, also some lines later; one that begins with `|` or `>` goes on as far as lines are further in
/// than its name; any other ends with its line.
pub(super) fn secrets(text: &str) -> String {
    let mut open = None;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let goes_on = open.as_ref().is_some_and(|open: &Open| open.holds(line));
        if goes_on {
            let ends = open.as_ref().is_some_and(|open| open.ends_with(line));
            open = open.filter(|_| !ends);
            out.push_str(&masked(line));
            continue;
        }
        open = Open::after(line);
        match open {
            Some(Open::Key) => out.push_str(&masked(line)),
            _ => out.push_str(&users(&settings(line))),
        }
    }
    out
}

/// A secret that goes on after its first line.
enum Open {
    /// A private key (RFC 7468), up to its last line.
    Key,
    /// A value in quotes that have not been closed.
    Quoted(&'static str),
    /// Lines that are further in than this.
    Indented(usize),
}

impl Open {
    /// What goes on after `line`.
    fn after(line: &str) -> Option<Self> {
        if let Some((_, after)) = line.split_once("-----BEGIN ")
            && after.contains("PRIVATE KEY-----")
        {
            return (!after.contains("-----END ")).then_some(Self::Key);
        }
        let lower = line.to_ascii_lowercase();
        let (mut at, mut last) = (0, None);
        while let Some(value) = next_value(line, &lower, at) {
            at = value.end;
            last = Some(value);
        }
        let value = &line[last?];
        if let Some(quote) = quote_of(value) {
            return (!value[quote.len()..].contains(quote)).then_some(Self::Quoted(quote));
        }
        let scalar = value.strip_prefix(['|', '>'])?;
        let marks = scalar.split('#').next().unwrap_or_default().trim();
        let is_scalar = marks.chars().all(|c| matches!(c, '+' | '-' | '0'..='9'));
        is_scalar.then(|| Self::Indented(indent(line)))
    }

    fn holds(&self, line: &str) -> bool {
        match self {
            Self::Key | Self::Quoted(_) => true,
            Self::Indented(of_name) => line.trim().is_empty() || indent(line) > *of_name,
        }
    }

    fn ends_with(&self, line: &str) -> bool {
        match self {
            Self::Key => line.contains("-----END "),
            Self::Quoted(quote) => line.contains(quote),
            Self::Indented(_) => false,
        }
    }
}

/// The quotes that a value begins with; those of several lines are three.
fn quote_of(value: &str) -> Option<&'static str> {
    ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| value.starts_with(quote))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// A line of a secret: where it begins and ends is no secret.
fn masked(line: &str) -> String {
    let text = line.trim();
    if text.is_empty() {
        return line.to_owned();
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    format!("{}{MASK}{}", &line[..indent(line)], &line[end..])
}

fn settings(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    // Of the same length: only ASCII letters change.
    let lower = line.to_ascii_lowercase();
    let mut at = 0;
    while let Some(value) = next_value(line, &lower, at) {
        out.push_str(&line[at..value.start]);
        out.push_str(MASK);
        at = value.end;
    }
    out.push_str(&line[at..]);
    out
}

/// The place of the next secret value from `from` on.
fn next_value(line: &str, lower: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut search = from;
    loop {
        let found = SECRET
            .iter()
            .filter_map(|word| lower[search..].find(word).map(|at| search + at + word.len()))
            .min()?;
        let end = found + lower[found..].find(|c| !of_name(c)).unwrap_or(lower.len() - found);
        search = end;
        if ABOUT.iter().any(|word| lower[found..end].ends_with(word)) {
            continue;
        }
        let rest = line[end..].trim_start_matches(['"', '\'']).trim_start();
        let Some(rest) = rest.strip_prefix([':', '=']) else { continue };
        let value = rest.trim_start_matches([' ', '\t']);
        let start = line.len() - value.len();
        let quoted = quote_of(value)
            .and_then(|quote| value[quote.len()..].find(quote).map(|at| at + 2 * quote.len()));
        let length = quoted.unwrap_or_else(|| value.trim_end_matches(['\n', '\r']).len());
        if length > 0 {
            return Some(start..start + length);
        }
    }
}

/// Masks `user:password` in addresses.
fn users(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace())
            .unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(sign) => {
                out.push_str(MASK);
                rest = &after[sign..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_and_users_in_addresses_are_hidden() {
        for (text, shown) in [
            ("password: hunter2\n", "password: ***\n"),
            ("  auth-token = \"abc def\" # x\n", "  auth-token = *** # x\n"),
            (
                "{\"a\": 1, \"client_secret\": \"x\", \"b\": 2}\n",
                "{\"a\": 1, \"client_secret\": ***, \"b\": 2}\n",
            ),
            ("- {Secret: a, token: b}\n", "- {Secret: ***\n"),
            ("token: \"a\" token: 'b'\r\n", "token: *** token: ***\r\n"),
            ("proxy: http://me:pw@proxy:3128/x\n", "proxy: http://***@proxy:3128/x\n"),
            ("urls: http://a@b https://c\n", "urls: http://***@b https://c\n"),
            ("API_PASSWORD=x", "API_PASSWORD=***"),
            ("private-key-pem = é", "private-key-pem = ***"),
            ("token = \"never closed\n", "token = ***\n"),
            ("token = \"a\nb\n  c\" # x\nd: e\n", "token = ***\n***\n  ***\nd: e\n"),
            ("secret = \"\"\"\na\n\"\"\"\nb = 1\n", "secret = ***\n***\n***\nb = 1\n"),
            (
                "a:\n  password: |-\n    b\n\n    c\n  d: e\n",
                "a:\n  password: ***\n    ***\n\n    ***\n  d: e\n",
            ),
            ("secret: > # folded\n  b\nc: d\n", "secret: ***\n  ***\nc: d\n"),
            (
                "tls-key: |\n  -----BEGIN EC PRIVATE KEY-----\n  MHc=\n  -----END EC PRIVATE KEY-----\nb: c\n",
                "tls-key: |\n  ***\n  ***\n  ***\nb: c\n",
            ),
        ] {
            assert_eq!(secrets(text), shown);
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "password:\n",
            "password_file: /etc/pw\n",
            "token-ttl: 1h\n",
            "# the token is elsewhere\n",
            "mail: a@b\n",
            "[Service]\n",
            "unsealed: secretly\n",
            "é: ü\n",
            "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
            "script: |\n  a\n",
        ] {
            assert_eq!(secrets(text), text);
        }
    }
}
