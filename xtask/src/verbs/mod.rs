//! The list of verbs; each is one file.

mod artifacts;
mod as_user;
mod bench;
mod ci;
mod dc;
mod dctest;
mod deb;
mod deny;
mod docs;
mod layers;
mod playground;
mod setup;
mod test;

use crate::exit::Done;

/// Everything `cargo xtask` can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Setup,
    Playground,
    Test,
    Bench,
    Dc,
    Dctest,
    Ci,
    Deb,
    Layers,
    Docs,
    Artifacts,
    AsUser,
}

impl Verb {
    const ALL: [Self; 12] = [
        Self::Setup,
        Self::Playground,
        Self::Test,
        Self::Bench,
        Self::Dc,
        Self::Dctest,
        Self::Ci,
        Self::Deb,
        Self::Layers,
        Self::Docs,
        Self::Artifacts,
        Self::AsUser,
    ];

    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == word)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Playground => "playground",
            Self::Test => "test",
            Self::Bench => "bench",
            Self::Dc => "dc",
            Self::Dctest => "dctest",
            Self::Ci => "ci",
            Self::Deb => "deb",
            Self::Layers => "layers",
            Self::Docs => "docs",
            Self::Artifacts => "artifacts",
            Self::AsUser => "as-user",
        }
    }

    /// The help text: the first line stands in the overview.
    fn help(self) -> &'static str {
        match self {
            Self::Setup => setup::HELP,
            Self::Playground => playground::HELP,
            Self::Test => test::HELP,
            Self::Bench => bench::HELP,
            Self::Dc => dc::HELP,
            Self::Dctest => dctest::HELP,
            Self::Ci => ci::HELP,
            Self::Deb => deb::HELP,
            Self::Layers => layers::HELP,
            Self::Docs => docs::HELP,
            Self::Artifacts => artifacts::HELP,
            Self::AsUser => as_user::HELP,
        }
    }

    /// These hand their arguments, `--help` among them, to another program.
    fn passes_help_on(self) -> bool {
        matches!(self, Self::Playground | Self::Dc | Self::Artifacts | Self::AsUser)
    }

    pub(crate) fn run(self, args: Vec<String>) -> Done {
        let own = args.split(|word| word == "--").next().unwrap_or_default();
        let asks_help = own.iter().any(|word| word == "--help" || word == "-h");
        if asks_help && !self.passes_help_on() {
            println!("{}", self.help());
            return Ok(());
        }
        match self {
            Self::Setup => setup::run(args),
            Self::Playground => playground::run(args),
            Self::Test => test::run(args),
            Self::Bench => bench::run(args),
            Self::Dc => dc::run(args),
            Self::Dctest => dctest::run(args),
            Self::Ci => ci::run(args),
            Self::Deb => deb::run(args),
            Self::Layers => layers::run(args),
            Self::Docs => docs::run(args),
            Self::Artifacts => artifacts::run(args),
            Self::AsUser => as_user::run(args),
        }
    }
}

/// The list of verbs, one line each.
pub(crate) fn overview() -> String {
    let mut text = String::from("usage: cargo xtask VERB [ARGUMENTS]\n");
    for verb in Verb::ALL {
        let about = verb.help().lines().next().unwrap_or_default();
        text.push_str(&format!("\n  {:<12}{about}", verb.name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_name_and_listed() {
        let overview = overview();
        for verb in Verb::ALL {
            assert_eq!(Verb::named(verb.name()), Some(verb));
            assert!(overview.contains(&format!("\n  {} ", verb.name())), "{overview}");
            assert!(verb.help().lines().next().is_some_and(|line| line.ends_with('.')));
        }
    }
}
