//! The few forms of arguments that the verbs take: `--flag`, `--key VALUE`, `--key=VALUE`.

use crate::exit::{Done, Failure};

/// The arguments of one verb, taken out one by one; what is left over at the end is a mistake.
#[derive(Debug)]
pub(crate) struct Args {
    verb: &'static str,
    left: Vec<String>,
}

impl Args {
    pub(crate) fn new(verb: &'static str, left: Vec<String>) -> Self {
        Self { verb, left }
    }

    /// Whether `--name` was given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|word| word != name);
        self.left.len() != before
    }

    /// The value of `--name VALUE` or `--name=VALUE`.
    pub(crate) fn value(&mut self, name: &str) -> Done<Option<String>> {
        let joined = format!("{name}=");
        let Some(at) = self.left.iter().position(|word| word == name || word.starts_with(&joined))
        else {
            return Ok(None);
        };
        let word = self.left.remove(at);
        let value = match word.strip_prefix(&joined) {
            Some(value) => value.to_owned(),
            None if at < self.left.len() => self.left.remove(at),
            None => return Err(self.mistake(&format!("{name} wants a value"))),
        };
        if self.left.iter().any(|word| word == name || word.starts_with(&joined)) {
            return Err(self.mistake(&format!("{name} is given twice")));
        }
        Ok(Some(value))
    }

    /// All words that are no flags, once the values of keys are taken out.
    pub(crate) fn words(&mut self) -> Vec<String> {
        let is_flag = |word: &String| word.starts_with('-');
        let (flags, words) = std::mem::take(&mut self.left).into_iter().partition(is_flag);
        self.left = flags;
        words
    }

    /// Everything behind a lone `--`.
    pub(crate) fn behind_dashes(&mut self) -> Vec<String> {
        match self.left.iter().position(|word| word == "--") {
            Some(at) => self.left.split_off(at).split_off(1),
            None => Vec::new(),
        }
    }

    /// Fails if something was not understood.
    pub(crate) fn end(self) -> Done {
        match self.left.first() {
            None => Ok(()),
            Some(word) => Err(self.mistake(&format!("`{word}` is not understood"))),
        }
    }

    fn mistake(&self, what: &str) -> Failure {
        Failure::usage(format!("{what}; see `cargo xtask {} --help`", self.verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn args(words: &[&str]) -> Args {
        Args::new("deb", words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn takes_both_forms_of_a_value() {
        for words in [&["--out", "x", "--fast"][..], &["--fast", "--out=x"]] {
            let mut args = args(words);
            assert_eq!(args.value("--out").unwrap().as_deref(), Some("x"));
            assert!(args.flag("--fast"));
            args.end().unwrap();
        }
    }

    #[test]
    fn takes_out_words_and_leaves_flags() {
        let mut args = args(&["memory", "--out", "x", "--fast", "barrier"]);
        assert_eq!(args.value("--out").unwrap().as_deref(), Some("x"));
        assert_eq!(args.words(), ["memory", "barrier"]);
        assert!(args.flag("--fast"));
        args.end().unwrap();
    }

    #[test]
    fn names_what_it_does_not_understand() {
        let failure = args(&["--fats"]).end().unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.message, "`--fats` is not understood; see `cargo xtask deb --help`");
    }

    #[test]
    fn refuses_a_key_without_value_or_given_twice() {
        let missing = args(&["--out"]).value("--out").unwrap_err();
        assert!(missing.message.starts_with("--out wants a value"), "{}", missing.message);
        let twice = args(&["--out=a", "--out", "b"]).value("--out").unwrap_err();
        assert!(twice.message.starts_with("--out is given twice"), "{}", twice.message);
    }

    #[test]
    fn splits_off_what_stands_behind_dashes() {
        let mut args = args(&["--all", "--", "-p", "neco-plan"]);
        assert_eq!(args.behind_dashes(), ["-p", "neco-plan"]);
        assert!(args.flag("--all"));
        args.end().unwrap();
    }
}
