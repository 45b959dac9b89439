//! The names of the invariants.

/// One invariant of the update protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvariantId {
    /// Something that must never happen; 1 to 43.
    Safety(u8),
    /// Something that must happen once faults have stopped; 1 to 8.
    Liveness(u8),
}

const SAFETY: [&str; 43] = [
    "one leader writes",
    "no lost decision",
    "request identity",
    "own status only",
    "zombies are harmless",
    "immutable plan",
    "no early start",
    "members only",
    "skew at most one",
    "monotone steps",
    "all-stop steps",
    "once steps",
    "resume is the same step",
    "completion is real",
    "one restart at a time",
    "quorum first",
    "one membership change at a time",
    "turn not stolen",
    "not the last",
    "a stop is honoured",
    "a stop is sticky",
    "an abort spreads",
    "recover only when stopped",
    "deadlines survive fail-over",
    "a pause keeps",
    "windows",
    "no downgrade",
    "authentic only",
    "same bits everywhere",
    "fresh metadata",
    "withdrawn releases are not started",
    "the old version is runnable",
    "a failed version is not tried again by itself",
    "concurrency and zone budget",
    "boot servers first",
    "error budget halts",
    "reported is proven",
    "retiring nodes are left alone",
    "hand-over between binaries",
    "format compatibility",
    "every transition is in the history",
    "notices at least once",
    "secrets never appear",
];

const LIVENESS: [&str; 8] = [
    "every request ends",
    "a crashed worker joins again",
    "a dead member is noticed",
    "work goes on after a loss of quorum",
    "turns reach everybody",
    "a newer release is started",
    "status answers without quorum",
    "no busy loop",
];

impl InvariantId {
    /// Every invariant, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=43).map(Self::Safety).chain((1..=8).map(Self::Liveness))
    }

    /// The name in a few words.
    pub fn name(self) -> &'static str {
        let (names, number): (&[&str], u8) = match self {
            Self::Safety(number) => (&SAFETY, number),
            Self::Liveness(number) => (&LIVENESS, number),
        };
        let at = usize::from(number).checked_sub(1);
        at.and_then(|at| names.get(at)).copied().unwrap_or("unknown")
    }

    /// Whether the auditor evaluates it, at least in part; `docs/invariants.md` says how, and why not the others.
    pub fn is_evaluated(self) -> bool {
        self.needs() != Needs::More
    }

    /// The least that puts it to the test.
    pub fn needs(self) -> Needs {
        match self {
            Self::Safety(2 | 4 | 26 | 42) => Needs::Facts,
            Self::Safety(13 | 15 | 28 | 32 | 39) => Needs::Journals,
            Self::Safety(16 | 17 | 19 | 34..=38) | Self::Liveness(7) => Needs::More,
            Self::Safety(_) => Needs::Changes,
            Self::Liveness(_) => Needs::Facts,
        }
    }
}

/// What it takes to put an invariant to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// The changes of etcd.
    Changes,
    /// The journal of a server as well.
    Journals,
    /// Facts that only a simulation or a test knows.
    Facts,
    /// More than any log tells: the auditor does not evaluate it.
    More,
}

impl std::fmt::Display for InvariantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Safety(number) => write!(f, "{number}"),
            Self::Liveness(number) => write!(f, "L{number}"),
        }
    }
}
