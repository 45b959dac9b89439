//! What an error asks for.

/// What an error asks for, so that an engine can choose a reaction without reading text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The same call may succeed later: an outage, a lost connection, a busy peer.
    TryAgain,
    /// The same call fails until somebody changes something: a file, a setting, a package.
    AskAPerson,
    /// The program contradicts itself.
    Bug,
}
