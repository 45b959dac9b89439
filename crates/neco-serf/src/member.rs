//! Members of a cluster, as an agent tells of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// A member of the cluster (external-apis §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: that of its host, unless it was told another.
    pub name: String,
    /// Where the others reach it; `None` where the agent tells no address that could be one.
    pub address: Option<IpAddr>,
    /// The port of its gossip.
    pub port: u16,
    /// What it tells of itself.
    pub tags: BTreeMap<String, String>,
    /// How it is, as this agent sees it.
    pub status: Status,
}

impl Member {
    /// The value of a tag, if it has it.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }
}

/// How a member is (external-apis §3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It answers.
    Alive,
    /// It is saying good-bye.
    Leaving,
    /// It has said good-bye.
    Left,
    /// It has ceased to answer.
    Failed,
    /// Nothing is known yet.
    None,
    /// Another word, of a serf that is newer than this.
    Other(String),
}

impl Status {
    /// As serf writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::None => "none",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        let known = [Self::Alive, Self::Leaving, Self::Left, Self::Failed, Self::None];
        known.into_iter().find(|status| status.as_str() == word).unwrap_or(Self::Other(word))
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_serf_is_a_status_and_stays_as_it_was() {
        for word in ["alive", "leaving", "left", "failed", "none", "asleep", ""] {
            assert_eq!(Status::from(word.to_owned()).to_string(), word);
        }
        assert_eq!(Status::from("left".to_owned()), Status::Left);
        assert_eq!(Status::from("asleep".to_owned()), Status::Other("asleep".to_owned()));
    }
}
