//! Hiding secrets in what is shown of a file. Rather too much is hidden than too little.

/// Stands for what is not shown.
const MASK: &str = "***";
/// A setting with one of these words in its name holds a secret.
const SECRET: [&str; 7] =
    ["password", "passwd", "secret", "token", "credential", "private_key", "private-key"];
/// A name that goes on like this is about a secret and holds none.
const ABOUT: [&str; 7] = ["file", "path", "ttl", "name", "role", "retention", "ref"];

/// The text with the values of secret settings masked, and what stands between `://` and `@`.
///
/// A value in quotes ends with them, any other with its line.
pub(super) fn secrets(text: &str) -> String {
    text.split_inclusive('\n').map(|line| users(&settings(line))).collect()
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
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let quoted = quote.and_then(|quote| value[1..].find(quote).map(|at| at + 2));
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
        ] {
            assert_eq!(secrets(text), text);
        }
    }
}
