//! Which of many versions is pinned next: pure.
//!
//! The rules are those of the original's generator (neco-bootstrap-cli §8.2), where a departure stands in
//! `docs/differences.md`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::version::Version;

/// What kind of thing is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container image, by its tag.
    Image,
    /// A Debian package, by the tag of its release.
    Deb,
    /// What worker servers boot, by the version of its channel.
    OsImage,
}

impl Kind {
    /// As `artifacts.toml` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Deb => "deb",
            Self::OsImage => "os-image",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which versions there are to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Set {
    /// What may be shipped: no pre-release, and images stay at their major version.
    #[default]
    Release,
    /// What is to be tried out: pre-releases and other major versions too.
    PreRelease,
}

/// The rules for one pin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many numbers a version has at least; what has fewer names the newest one of a branch.
    pub numbers: usize,
    /// Whether everything that is offered must be a version, rather than what is none being passed over.
    pub strict: bool,
    /// Whether pre-releases count.
    pub prereleases: bool,
    /// Whether the major version stays.
    pub same_major: bool,
    /// Whether the newest one is taken even where it is older than the pinned one.
    pub older: bool,
    /// Versions that are passed over, as they are written.
    pub ignored: BTreeSet<String>,
}

impl Rules {
    /// The rules for a kind of things.
    pub fn new(kind: Kind, set: Set) -> Self {
        let try_out = set == Set::PreRelease;
        let any = Self { numbers: 1, prereleases: try_out, ..Self::default() };
        match kind {
            Kind::Image => Self { numbers: 3, same_major: !try_out, ..any },
            Kind::Deb => any,
            // A channel says for all of its versions what they are good for.
            Kind::OsImage => Self { numbers: 3, strict: true, prereleases: true, ..any },
        }
    }
}

/// A version that could be pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// A tag, or a version of a channel.
    pub text: String,
    /// Whether its author says that it is a pre-release, whatever its text says.
    pub prerelease: bool,
    /// Why it cannot be pinned, as the end of a sentence; `None` if it can.
    pub unfit: Option<String>,
}

impl From<String> for Offer {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// What is pinned next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The version; `None` if the pinned one stays.
    pub next: Option<String>,
    /// What a person may want to know of it.
    pub remarks: Vec<Remark>,
}

/// Something about a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// There is a newer version that was not taken.
    PassedOver {
        /// Which.
        version: String,
        /// Why.
        why: Why,
    },
    /// Everything there is to choose from is older.
    OnlyOlder {
        /// The newest.
        version: String,
    },
    /// The pinned version is not offered any more.
    Missing,
    /// The pinned version stays although it is to be ignored.
    Ignored,
}

/// Why a version is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is on the ignore list.
    Ignored,
    /// It cannot be pinned, as the end of a sentence.
    Unfit(String),
    /// It is a pre-release.
    PreRelease,
    /// It is of another major version than the pinned one.
    OtherMajor,
}

/// Why nothing can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// What is newer than this cannot be told.
    #[error("the pinned {0:?} is no version; write one by hand first")]
    Pin(String),
    /// Nothing is offered.
    #[error("it has no version at all; check its name, or publish one")]
    Nothing,
    /// Something is offered that is no version, where everything must be one.
    #[error("{0:?} is no version; that is not the list that was asked for")]
    Unreadable(String),
    /// No offer is a version.
    #[error(
        "none of its {count} tags is a version of {numbers} numbers or more, {example:?} for one; check its name"
    )]
    NoVersion {
        /// How many there are.
        count: usize,
        /// How many numbers a version has at least.
        numbers: usize,
        /// The first of them, in the order of bytes.
        example: String,
    },
    /// There are versions, and none may be taken.
    #[error("none of its {count} versions may be taken: {version} {why}")]
    NoneLeft {
        /// How many there are.
        count: usize,
        /// The newest of them.
        version: String,
        /// Why that one is not taken.
        why: Why,
    },
}

/// Chooses what is pinned next where `pin` is pinned: the newest version that the rules leave, in whatever order they are
/// offered. An older one than the pinned one is not taken unless the rules say so; of several that are equally new, the one that
/// is written as the pinned one is.
///
/// # Errors
/// The pinned version or what is offered cannot be compared, or nothing is left.
pub fn choose(pin: &str, offers: &[Offer], rules: &Rules) -> Result<Choice, Undecided> {
    let pinned = Version::parse(pin).ok_or_else(|| Undecided::Pin(pin.to_owned()))?;
    let Some(example) = offers.iter().map(|offer| &offer.text).min() else {
        return Err(Undecided::Nothing);
    };
    let mut fit = Vec::new();
    let mut passed_over = Vec::new();
    for offer in offers {
        match Version::parse(&offer.text).filter(|version| version.count() >= rules.numbers) {
            Some(version) => match why_not(offer, &version, &pinned, rules) {
                None => fit.push(version),
                Some(why) => passed_over.push((version, why)),
            },
            None if rules.strict => return Err(Undecided::Unreadable(offer.text.clone())),
            None => {}
        }
    }
    let Some(best) = newest(fit, |version| version, &pinned) else {
        let count = passed_over.len();
        return Err(match newest(passed_over, |(version, _)| version, &pinned) {
            Some((version, why)) => {
                Undecided::NoneLeft { count, version: version.to_string(), why }
            }
            None => {
                let (count, numbers) = (offers.len(), rules.numbers);
                Undecided::NoVersion { count, numbers, example: example.clone() }
            }
        });
    };
    let order = best.precedence(&pinned);
    let bump = order.is_gt() || order.is_lt() && rules.older;
    let mut remarks = Vec::new();
    if !bump {
        if order.is_lt() {
            remarks.push(Remark::OnlyOlder { version: best.to_string() });
        }
        if !offers.iter().any(|offer| offer.text == pin) {
            remarks.push(Remark::Missing);
        }
        if rules.ignored.contains(pin) {
            remarks.push(Remark::Ignored);
        }
    }
    let result = if bump { &best } else { &pinned };
    passed_over.retain(|(version, _)| version.precedence(result).is_gt());
    let mut reasons: BTreeMap<Why, Vec<Version>> = BTreeMap::new();
    for (version, why) in passed_over {
        reasons.entry(why).or_default().push(version);
    }
    remarks.extend(reasons.into_iter().filter_map(|(why, versions)| {
        let version = newest(versions, |version| version, &pinned)?.to_string();
        Some(Remark::PassedOver { version, why })
    }));
    Ok(Choice { next: bump.then(|| best.to_string()), remarks })
}

fn why_not(offer: &Offer, version: &Version, pinned: &Version, rules: &Rules) -> Option<Why> {
    if rules.ignored.contains(&offer.text) {
        return Some(Why::Ignored);
    }
    if let Some(unfit) = &offer.unfit {
        return Some(Why::Unfit(unfit.clone()));
    }
    if (offer.prerelease || version.is_prerelease()) && !rules.prereleases {
        return Some(Why::PreRelease);
    }
    (rules.same_major && version.major() != pinned.major()).then_some(Why::OtherMajor)
}

/// The newest one; of equals the one that is written as the pinned one is, then the first in the order of bytes.
fn newest<T>(all: Vec<T>, version: impl Fn(&T) -> &Version, pinned: &Version) -> Option<T> {
    all.into_iter().max_by(|a, b| {
        let (a, b) = (version(a), version(b));
        let form = |version: &Version| version.looks_like(pinned);
        a.precedence(b)
            .then(form(a).cmp(&form(b)))
            .then(Reverse(a.as_str()).cmp(&Reverse(b.as_str())))
    })
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "is on the ignore list",
            Self::Unfit(why) => why,
            Self::PreRelease => "is a pre-release",
            Self::OtherMajor => "is of another major version",
        })
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedOver { version, why } => write!(f, "{version} {why}"),
            Self::OnlyOlder { version } => {
                write!(f, "the newest is {version}, which is older; --allow-older takes it")
            }
            Self::Missing => f.write_str("the pinned one is not offered any more"),
            Self::Ignored => f.write_str("the pinned one is on the ignore list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offers(texts: &[&str]) -> Vec<Offer> {
        texts.iter().map(|text| Offer::from((*text).to_owned())).collect()
    }

    fn ignoring(rules: Rules, ignored: &[&str]) -> Rules {
        Rules { ignored: ignored.iter().map(|text| (*text).to_owned()).collect(), ..rules }
    }

    fn next(pin: &str, texts: &[&str], rules: &Rules) -> Option<String> {
        choose(pin, &offers(texts), rules).unwrap_or_else(|why| panic!("{pin}: {why}")).next
    }

    fn remarks(pin: &str, texts: &[&str], rules: &Rules) -> Vec<String> {
        let choice =
            choose(pin, &offers(texts), rules).unwrap_or_else(|why| panic!("{pin}: {why}"));
        choice.remarks.iter().map(ToString::to_string).collect()
    }

    // neco-bootstrap-cli §8.2, images: at least two dots, must parse as a version, the greatest; a release has no pre-release
    // and stays at its major version.
    #[test]
    fn an_image_goes_to_its_greatest_tag() {
        let both = [Set::Release, Set::PreRelease];
        let release = &both[..1];
        let pre = &both[1..];
        for (pin, tags, expected, sets) in [
            ("3.5.15.1", &["3.5.15.1", "3.5.16.1", "3.5.15.2"][..], Some("3.5.16.1"), &both[..]),
            // Numbers are no words.
            ("3.5.9.1", &["3.5.9.1", "3.5.10.1"], Some("3.5.10.1"), &both),
            // One build more of the same upstream version.
            ("0.10.1.7", &["0.10.1.7", "0.10.1.8"], Some("0.10.1.8"), &both),
            // The newest tag of a branch is none.
            ("2.8.0", &["2.8.0", "2.9", "2", "latest", "main", "dev-x.y.z"], None, &both),
            ("2.8.0", &["2.8.0", "2.9", "2.9.1"], Some("2.9.1"), &both),
            // Pre-releases and other major versions.
            ("1.14.14.1", &["1.14.14.1", "1.15.0-rc.1"], None, release),
            ("1.14.14.1", &["1.14.14.1", "1.15.0-rc.1"], Some("1.15.0-rc.1"), pre),
            ("1.14.14.1", &["1.14.14.1", "2.0.0.1"], None, release),
            ("1.14.14.1", &["1.14.14.1", "2.0.0.1"], Some("2.0.0.1"), pre),
            ("1.14.14.1", &["1.14.14.1", "2.0.0.1", "1.15.1.1"], Some("1.15.1.1"), release),
            ("2.0.0-rc.1", &["2.0.0-rc.1", "2.0.0"], Some("2.0.0"), &both),
            // What is behind a hyphen comes before what has none.
            ("3.2.1.2", &["3.2.1.2", "3.2.1.3", "3.2.1.3-arm64"], Some("3.2.1.3"), &both),
            ("3.2.1.2", &["3.2.1.2", "3.2.1.2-arm64", "3.2.1.2-debug"], None, &both),
            ("3.2.1.2", &["3.2.1.2", "3.2.1.3-arm64"], None, release),
            // A major version of 0 is one.
            ("0.1.14.1", &["0.1.14.1", "0.2.0.1", "1.0.0.1"], Some("0.2.0.1"), release),
            // The same in another form is nothing new; of two forms the pinned one's is taken.
            ("2.8.0", &["2.8.0", "v2.8.0", "2.8.0.0"], None, &both),
            ("2.8.0", &["v2.8.1", "2.8.1.0", "2.8.1", "2.8.0"], Some("2.8.1"), &both),
            ("v2.8.0", &["v2.8.1", "2.8.1.0", "2.8.1", "v2.8.0"], Some("v2.8.1"), &both),
            // Where neither is written so, the order in which they come does not matter.
            ("2.8.0", &["v2.8.1", "2.8.1.0", "2.8.0"], Some("2.8.1.0"), &both),
            ("2.8.0", &["2.8.1.0", "v2.8.1", "2.8.0"], Some("2.8.1.0"), &both),
            // Never back.
            ("1.18.1.1", &["1.18.0.1", "1.17.9.1"], None, &both),
        ] {
            for set in sets {
                let rules = Rules::new(Kind::Image, *set);
                assert_eq!(next(pin, tags, &rules).as_deref(), expected, "{pin} {tags:?} {set:?}");
            }
        }
    }

    #[test]
    fn a_deb_goes_to_its_greatest_release_of_any_major_version() {
        for (tags, expected) in [
            // API order is by time: a later release of an older branch stands first.
            (&["v1.4.10", "v1.5.0", "v1.4.9"][..], Some("v1.5.0")),
            (&["v2.0.0", "v1.4.9"], Some("v2.0.0")),
            (&["v2", "v1.4.9"], Some("v2")),
            (&["nightly", "v1.4.9"], None),
            (&["v1.5.0-beta", "v1.4.9"], None),
        ] {
            let rules = Rules::new(Kind::Deb, Set::Release);
            assert_eq!(next("v1.4.9", tags, &rules).as_deref(), expected, "{tags:?}");
        }
        let mut marked = offers(&["v1.4.9", "v1.5.0"]);
        marked[1].prerelease = true;
        let chosen = |set| choose("v1.4.9", &marked, &Rules::new(Kind::Deb, set)).expect("chosen");
        let release = chosen(Set::Release);
        assert_eq!(release.next, None);
        assert_eq!(release.remarks[0].to_string(), "v1.5.0 is a pre-release");
        assert_eq!(chosen(Set::PreRelease).next.as_deref(), Some("v1.5.0"));
    }

    #[test]
    fn an_os_image_goes_to_the_greatest_version_of_its_channel() {
        for set in [Set::Release, Set::PreRelease] {
            let rules = Rules::new(Kind::OsImage, set);
            let found = next("4152.2.1", &["3975.2.2", "4230.2.0", "4152.2.1"], &rules);
            assert_eq!(found.as_deref(), Some("4230.2.0"));
            // A channel with something else in it is none.
            for odd in ["current", "4230.2"] {
                let why = choose("4152.2.1", &offers(&["4152.2.1", odd]), &rules);
                assert_eq!(why, Err(Undecided::Unreadable(odd.to_owned())));
            }
        }
    }

    #[test]
    fn what_is_ignored_is_passed_over_and_said() {
        let rules = ignoring(Rules::new(Kind::Image, Set::Release), &["1.15.3.1", "1.15.2.1"]);
        let tags = ["1.14.14.1", "1.15.1.1", "1.15.2.1", "1.15.3.1", "2.0.0.1", "2.1.0.1-rc1"];
        assert_eq!(next("1.14.14.1", &tags, &rules).as_deref(), Some("1.15.1.1"));
        assert_eq!(
            remarks("1.14.14.1", &tags, &rules),
            [
                "1.15.3.1 is on the ignore list",
                "2.1.0.1-rc1 is a pre-release",
                "2.0.0.1 is of another major version"
            ]
        );
        // A list is of texts, not of what they mean.
        let rules = ignoring(Rules::new(Kind::Image, Set::Release), &["v1.15.1.1"]);
        assert_eq!(next("1.14.14.1", &tags[..2], &rules).as_deref(), Some("1.15.1.1"));
    }

    #[test]
    fn nothing_goes_back_unless_it_is_asked_to() {
        let tags = ["1.15.1.1", "1.15.0.1", "1.15.2.1"];
        let rules = ignoring(Rules::new(Kind::Image, Set::Release), &["1.15.2.1"]);
        assert_eq!(next("1.15.2.1", &tags, &rules), None);
        assert_eq!(
            remarks("1.15.2.1", &tags, &rules),
            [
                "the newest is 1.15.1.1, which is older; --allow-older takes it",
                "the pinned one is on the ignore list"
            ]
        );
        let older = Rules { older: true, ..rules };
        assert_eq!(next("1.15.2.1", &tags, &older).as_deref(), Some("1.15.1.1"));
        assert_eq!(
            remarks("1.15.2.1", &tags, &older),
            ["1.15.2.1 is on the ignore list"],
            "what is passed over for it is said"
        );
        assert_eq!(
            remarks("1.16.0.1", &tags[..1], &Rules::new(Kind::Image, Set::Release)),
            [
                "the newest is 1.15.1.1, which is older; --allow-older takes it",
                "the pinned one is not offered any more"
            ]
        );
    }

    #[test]
    fn what_cannot_be_pinned_is_passed_over() {
        let mut offers = offers(&["v1.4.9", "v1.4.10", "v1.4.11"]);
        offers[2].unfit = Some("has no file etcdpasswd_*.deb".to_owned());
        let choice = choose("v1.4.9", &offers, &Rules::new(Kind::Deb, Set::PreRelease));
        let choice = choice.expect("chosen");
        assert_eq!(choice.next.as_deref(), Some("v1.4.10"));
        assert_eq!(choice.remarks[0].to_string(), "v1.4.11 has no file etcdpasswd_*.deb");
    }

    #[test]
    fn why_nothing_can_be_chosen_is_said() {
        let rules = ignoring(Rules::new(Kind::Image, Set::Release), &["1.2.3"]);
        for (pin, tags, told) in [
            (
                "latest",
                &["1.2.3"][..],
                "the pinned \"latest\" is no version; write one by hand first",
            ),
            ("1.2.3", &[], "it has no version at all; check its name, or publish one"),
            (
                "1.2.3",
                &["main", "1.3", "latest"],
                "none of its 3 tags is a version of 3 numbers or more, \"1.3\" for one; check its name",
            ),
            (
                "1.2.3",
                &["1.2.3", "1.2.4-rc1", "2.0.0", "latest"],
                "none of its 3 versions may be taken: 2.0.0 is of another major version",
            ),
            (
                "1.2.3",
                &["1.2.3"],
                "none of its 1 versions may be taken: 1.2.3 is on the ignore list",
            ),
        ] {
            let why = choose(pin, &offers(tags), &rules).expect_err(told);
            assert_eq!(why.to_string(), told);
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["v?[0-2](\\.[0-2]){1,3}(-rc[0-2])?", Just("latest".to_owned())]
    }

    fn any_rules() -> impl Strategy<Value = Rules> {
        let kind = prop_oneof![Just(Kind::Image), Just(Kind::Deb)];
        let set = prop_oneof![Just(Set::Release), Just(Set::PreRelease)];
        let ignored = proptest::collection::btree_set(any_text(), 0..4);
        (kind, set, any::<bool>(), ignored).prop_map(|(kind, set, older, ignored)| Rules {
            older,
            ignored,
            ..Rules::new(kind, set)
        })
    }

    fn any_offers() -> impl Strategy<Value = Vec<Offer>> {
        let offer = (any_text(), any::<bool>(), any::<bool>()).prop_map(|(text, pre, unfit)| {
            let unfit = unfit.then(|| "is unfit".to_owned());
            Offer { text, prerelease: pre, unfit }
        });
        // Nobody offers the same twice.
        proptest::collection::vec(offer, 0..12).prop_map(|mut offers: Vec<Offer>| {
            let mut seen = BTreeSet::new();
            offers.retain(|offer| seen.insert(offer.text.clone()));
            offers
        })
    }

    /// Whether `offer` may be pinned, said in other words than [`why_not`].
    fn may(offer: &Offer, pin: &str, rules: &Rules) -> Option<Version> {
        let version = Version::parse(&offer.text)?;
        let major = Version::parse(pin)?.major();
        let is_pre = offer.prerelease || offer.text.contains('-');
        let may = offer.text.matches('.').count() + 1 >= rules.numbers
            && offer.unfit.is_none()
            && !rules.ignored.contains(&offer.text)
            && (rules.prereleases || !is_pre)
            && (!rules.same_major || version.major() == major);
        may.then_some(version)
    }

    proptest! {
        #[test]
        fn a_choice_keeps_all_rules_and_is_the_newest_that_does(
            pin in "v?[0-2](\\.[0-2]){2,3}", offers in any_offers(), rules in any_rules()
        ) {
            let pinned = Version::parse(&pin).expect("a version");
            let candidates: Vec<_> = offers.iter().filter_map(|o| may(o, &pin, &rules)).collect();
            match choose(&pin, &offers, &rules) {
                Err(_) => prop_assert!(candidates.is_empty()),
                Ok(Choice { next: Some(next), .. }) => {
                    let chosen = candidates.iter().find(|version| version.as_str() == next);
                    let chosen = chosen.expect("one of those that may be pinned");
                    prop_assert!(candidates.iter().all(|one| one.precedence(chosen).is_le()));
                    prop_assert!(chosen.precedence(&pinned).is_ne());
                    prop_assert!(rules.older || chosen.precedence(&pinned).is_gt());
                }
                Ok(Choice { next: None, .. }) => {
                    prop_assert!(candidates.iter().all(|one| one.precedence(&pinned).is_le()));
                    let same = candidates.iter().any(|one| one.precedence(&pinned).is_eq());
                    prop_assert!(same || !rules.older);
                }
            }
        }

        #[test]
        fn the_order_of_offers_and_what_is_no_version_change_nothing(
            pin in "v?[0-2](\\.[0-2]){2,3}", offers in any_offers(), rules in any_rules(), at in 0usize..12
        ) {
            let before = choose(&pin, &offers, &rules);
            let mut other = offers.clone();
            other.reverse();
            let middle = at.min(other.len());
            other.rotate_left(middle);
            prop_assert_eq!(&choose(&pin, &other, &rules), &before);
            if before.is_ok() {
                other.insert(middle, Offer::from("stable".to_owned()));
                prop_assert_eq!(&choose(&pin, &other, &rules), &before);
            }
        }

        #[test]
        fn what_was_bumped_stays_where_it_is(
            pin in "v?[0-2](\\.[0-2]){2,3}", offers in any_offers(), rules in any_rules()
        ) {
            if let Ok(Choice { next: Some(next), .. }) = choose(&pin, &offers, &rules) {
                let again = choose(&next, &offers, &rules).expect("chosen before");
                prop_assert_eq!(again.next, None);
            }
        }
    }
}
