//! Whom a running request waits for, and what those do: for the cause of a stop, and for `why`.

use neco_schema::{Lrn, Progress, UpdateRequest, abridged};

use crate::words::named;
use crate::{Versioned, View};

/// How much of what a server says of its work stands in a cause: every member copies it.
const LONGEST_WORD: usize = 300;

/// What a member that is waited for does, as far as etcd tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Nothing: its worker is dead.
    NoWorker,
    /// Nothing yet.
    NotBegun,
    /// It gets the package, or installs it.
    Installs {
        /// The version.
        version: String,
        /// How far that is, where it says so.
        word: String,
    },
    /// A step.
    Step {
        /// Which.
        step: u32,
        /// What it does in it, where it says so.
        word: String,
    },
}

impl Does {
    /// The same as the predicate of a sentence about one server or about several.
    pub(crate) fn said_of(&self, servers: usize) -> String {
        let (have, are, s) = if servers == 1 { ("has", "is", "s") } else { ("have", "are", "") };
        let colon = |word: &String| match word.is_empty() {
            true => String::new(),
            false => format!(": {word}"),
        };
        match self {
            Self::NoWorker => format!("{have} no living worker"),
            Self::NotBegun => format!("{have} not begun"),
            Self::Installs { version, word } => format!("install{s} {version}{}", colon(word)),
            Self::Step { step, word } => format!("{are} in step {step}{}", colon(word)),
        }
    }
}

/// The first server, if all wait for it: it installs before everybody else, and nobody has begun. Whoever has the version
/// already goes on without it, and so does a Go peer.
pub(crate) fn first_of_all(view: &View, request: &UpdateRequest) -> Option<Lrn> {
    let nobody_began = view.member_statuses(request).all(|(_, status)| status.value.step == 0);
    let waits = |first: Lrn| {
        let mut others = request.servers.iter().filter(|lrn| **lrn != first);
        others.all(|lrn| view.speaks_our_protocol(*lrn))
    };
    request.first_server().filter(|first| nobody_began && waits(*first))
}

/// Whether no worker of `lrn` lives, though one did.
pub(crate) fn is_dead(view: &View, lrn: Lrn) -> bool {
    !view.is_alive(lrn) && view.speaks_our_protocol(lrn)
}

/// What `lrn` says of its work in `step`, where it says anything; before the first step it installs.
pub(crate) fn progress<'a>(
    view: &'a View,
    request: &UpdateRequest,
    lrn: Lrn,
    step: u32,
) -> Option<&'a Progress> {
    let Versioned { value, .. } = view.progress.get(&lrn)?;
    (value.request == request.id() && (value.step == step || step == 0)).then_some(value)
}

/// What `lrn`, which is waited for in `step`, does.
pub(crate) fn does(view: &View, request: &UpdateRequest, lrn: Lrn, step: u32) -> Does {
    if is_dead(view, lrn) {
        return Does::NoWorker;
    }
    let progress = progress(view, request, lrn, step);
    let word = progress.map_or_else(String::new, |progress| match progress.attempt {
        0 | 1 => progress.doing.clone(),
        attempt if step > 0 => format!("{}, attempt {attempt}", progress.doing),
        _ => progress.doing.clone(),
    });
    match step {
        0 if progress.is_none() => Does::NotBegun,
        0 => Does::Installs { version: request.version.to_string(), word },
        step => Does::Step { step, word },
    }
}

/// Who of `behind`, the members in the lowest step, is waited for and what they do, in words: the first server alone while
/// all wait for it, and whoever is dead in any case.
pub(crate) fn in_words(view: &View, request: &UpdateRequest, step: u32, behind: &[Lrn]) -> String {
    let first = first_of_all(view, request);
    let mut alike: Vec<(Does, Vec<Lrn>)> = Vec::new();
    for lrn in behind.iter().copied() {
        let does = does(view, request, lrn, step);
        let waits = first.is_some_and(|first| first != lrn);
        if waits && does != Does::NoWorker {
            continue;
        }
        let same = |(known, of): &&mut (Does, Vec<Lrn>)| *known == does && first != Some(of[0]);
        match alike.iter_mut().find(same) {
            Some((_, servers)) => servers.push(lrn),
            None => alike.push((does, vec![lrn])),
        }
    }
    let clause = |(does, servers): &(Does, Vec<Lrn>)| {
        let goes_first = if first == Some(servers[0]) { ", which goes first," } else { "" };
        let said = does.said_of(servers.len());
        format!("{}{goes_first} {}", named(servers.iter().copied()), abridged(&said, LONGEST_WORD))
    };
    alike.iter().map(clause).collect::<Vec<_>>().join("; ")
}
