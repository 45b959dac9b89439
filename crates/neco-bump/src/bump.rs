//! From what is pinned and what there is to what is pinned next.

use futures::StreamExt as _;
use futures::stream;
use neco_artifacts::{Artifacts, Deb};

use crate::decide::{Choice, Kind, Remark, Rules, Set, choose};
use crate::edit::Edit;
use crate::ignore::IgnoreList;
use crate::lookup::{Found, Question};

/// How many things are asked for at once.
const AT_ONCE: usize = 4;

/// What a person has decided.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Which versions there are to choose from.
    pub set: Set,
    /// Whether the newest one is taken even where it is older than the pinned one.
    pub older: bool,
    /// Versions that are passed over.
    pub ignored: IgnoreList,
}

/// Something that is pinned.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// Of which kind it is.
    pub kind: Kind,
    /// What it is called: the OS image by its channel.
    pub name: String,
    /// The version.
    pub version: String,
    question: Question,
}

/// What has come of one pin.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub pin: Pinned,
    /// What is pinned next; or why nobody knows, in one line.
    pub decided: Result<Decided, String>,
}

/// What is pinned next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// The version; `None` if the pinned one stays.
    pub version: Option<String>,
    /// The SHA-256 of its file, where one is pinned and another one comes with the version.
    pub sha256: Option<String>,
    /// What a person may want to know of it.
    pub remarks: Vec<Remark>,
}

impl Pinned {
    /// Everything that is pinned and can be asked for: images and packages by their names, then the OS image.
    pub fn all(artifacts: &Artifacts) -> Vec<Self> {
        let pin = |kind, name: &str, version: &str, question| {
            let (name, version) = (name.to_owned(), version.to_owned());
            Self { kind, name, version, question }
        };
        let images = artifacts.images.values().map(|image| {
            pin(Kind::Image, image.name.as_str(), &image.tag, Question::Image(image.clone()))
        });
        let debs = artifacts
            .debs
            .values()
            .map(|deb| pin(Kind::Deb, deb.name.as_str(), &deb.release, Question::Deb(deb.clone())));
        let os_image = artifacts.os_image.iter().map(|image| {
            pin(Kind::OsImage, &image.channel, &image.version, Question::OsImage(image.clone()))
        });
        images.chain(debs).chain(os_image).collect()
    }

    /// What it is called on a command line; the OS image, of which there is one, by what it is.
    pub fn called(&self) -> &str {
        match self.kind {
            Kind::OsImage => self.kind.as_str(),
            Kind::Image | Kind::Deb => &self.name,
        }
    }

    /// The field that has the version.
    fn field(&self) -> &'static str {
        match self.kind {
            Kind::Image => "tag",
            Kind::Deb => "release",
            Kind::OsImage => "version",
        }
    }

    /// What the ignore list knows it by.
    fn known_by(&self) -> &str {
        match &self.question {
            Question::Image(image) => &image.repository,
            Question::Deb(_) | Question::OsImage(_) => &self.name,
        }
    }

    /// What is pinned next, given what there is.
    ///
    /// # Errors
    /// Why nothing can be decided, in one line.
    pub fn decide(&self, found: &Found, wishes: &Wishes) -> Result<Decided, String> {
        let ignored = wishes.ignored.of(self.kind, self.known_by());
        let rules = Rules { ignored, older: wishes.older, ..Rules::new(self.kind, wishes.set) };
        let Choice { next, remarks } =
            choose(&self.version, &found.offers, &rules).map_err(|why| why.to_string())?;
        let sha256 = match &self.question {
            Question::Deb(deb) => sha256(deb, next.as_deref(), found)?,
            Question::Image(_) | Question::OsImage(_) => None,
        };
        Ok(Decided { version: next, sha256, remarks })
    }
}

/// The SHA-256 that is pinned instead of the one that is. A release that has another file than the pinned one is looked at by a
/// person, and not followed.
fn sha256(deb: &Deb, next: Option<&str>, found: &Found) -> Result<Option<String>, String> {
    let Some(pinned) = &deb.sha256 else { return Ok(None) };
    let claimed = |release: &str| found.sha256.get(release).cloned().flatten();
    match next {
        Some(release) => {
            let claimed = claimed(release).ok_or_else(|| {
                format!("release {release} does not say which SHA-256 its package has, and one is pinned; write both by hand")
            })?;
            Ok(Some(claimed).filter(|claimed| claimed != pinned))
        }
        None => match claimed(&deb.release) {
            Some(other) if other != *pinned => Err(format!(
                "release {} has a package with SHA-256 {other} now, and {pinned} is pinned: it was replaced; find out why before pinning it anew",
                deb.release
            )),
            _ => Ok(None),
        },
    }
}

impl Outcome {
    /// Whether another version is pinned next.
    pub fn is_bump(&self) -> bool {
        self.decided.as_ref().is_ok_and(|decided| decided.version.is_some())
    }

    /// What changes in the file.
    pub fn edits(&self) -> Vec<Edit> {
        let Ok(Decided { version, sha256, .. }) = &self.decided else { return Vec::new() };
        let edit = |field, value: &String| Edit {
            kind: self.pin.kind,
            name: self.pin.name.clone(),
            field,
            value: value.clone(),
        };
        let version = version.iter().map(|value| edit(self.pin.field(), value));
        version.chain(sha256.iter().map(|value| edit("sha256", value))).collect()
    }
}

/// Asks for each pin, a few at once, and decides. What cannot be asked for stands in the way of nothing else. The outcomes have
/// the order of the pins.
pub async fn look(
    pins: Vec<Pinned>,
    ask: impl AsyncFn(&Question) -> Result<Found, String>,
    wishes: &Wishes,
) -> Vec<Outcome> {
    let asked = stream::iter(pins).map(async |pin: Pinned| {
        let found = ask(&pin.question).await;
        let decided = found.and_then(|found| pin.decide(&found, wishes));
        Outcome { pin, decided }
    });
    asked.buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::decide::Offer;

    const OLD: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const NEW: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn pins(sha256: Option<&str>) -> Vec<Pinned> {
        let sha256 = sha256.map(|sha256| format!("sha256 = \"{sha256}\"\n")).unwrap_or_default();
        let text = format!(
            "format = 1\n[[image]]\nname = \"etcd\"\nrepository = \"ghcr.io/cybozu/etcd\"\ntag = \"3.5.15.1\"\n\
             [[deb]]\nname = \"etcdpasswd\"\nowner = \"cybozu-go\"\nrepository = \"etcdpasswd\"\nrelease = \"v1.4.9\"\n{sha256}\
             [os-image]\nchannel = \"stable\"\nversion = \"4152.2.1\"\n"
        );
        Pinned::all(&Artifacts::parse(&text).unwrap_or_else(|why| panic!("{why}")))
    }

    fn releases(releases: &[(&str, Option<&str>)]) -> Found {
        let offers = releases.iter().map(|(tag, _)| Offer::from((*tag).to_owned())).collect();
        let sha256 = releases.iter().map(|(tag, sha)| ((*tag).to_owned(), sha.map(str::to_owned)));
        Found { offers, sha256: sha256.collect::<BTreeMap<_, _>>() }
    }

    #[test]
    fn everything_that_is_pinned_is_looked_at() {
        let pins = pins(None);
        let all: Vec<_> =
            pins.iter().map(|pin| (pin.called(), pin.known_by(), pin.version.as_str())).collect();
        assert_eq!(
            all,
            [
                ("etcd", "ghcr.io/cybozu/etcd", "3.5.15.1"),
                ("etcdpasswd", "etcdpasswd", "v1.4.9"),
                ("os-image", "stable", "4152.2.1"),
            ]
        );
    }

    #[test]
    fn a_pinned_digest_goes_with_its_release() {
        let decide = |pinned, found: &Found| {
            let pin = pins(pinned).remove(1);
            let decided = pin.decide(found, &Wishes::default());
            (Outcome { pin, decided: decided.clone() }.edits(), decided)
        };
        let found = releases(&[("v1.4.10", Some(NEW)), ("v1.4.9", Some(OLD))]);
        let (edits, _) = decide(Some(OLD), &found);
        let edits: Vec<_> = edits.iter().map(|edit| (edit.field, edit.value.as_str())).collect();
        assert_eq!(edits, [("release", "v1.4.10"), ("sha256", NEW)]);
        // Where none is pinned, none is written.
        let (edits, _) = decide(None, &found);
        assert_eq!(edits.len(), 1);
        // The same file in both.
        let (edits, _) = decide(Some(OLD), &releases(&[("v1.4.10", Some(OLD)), ("v1.4.9", None)]));
        assert_eq!(edits.len(), 1);
        // Nobody says what the new one is.
        let (edits, decided) = decide(Some(OLD), &releases(&[("v1.4.10", None), ("v1.4.9", None)]));
        let why = decided.expect_err("no digest");
        assert!(edits.is_empty() && why.contains("v1.4.10 does not say"), "{why}");
        // The pinned one is another one now.
        let replaced = releases(&[("v1.4.9", Some(NEW))]);
        let why = decide(Some(OLD), &replaced).1.expect_err("replaced");
        assert!(why.contains("it was replaced") && why.contains(OLD) && why.contains(NEW), "{why}");
        assert_eq!(decide(None, &replaced).1, Ok(Decided::default()));
        assert_eq!(decide(Some(NEW), &replaced).1, Ok(Decided::default()));
    }

    #[test]
    fn a_wish_is_for_its_own_kind() {
        let list = "images:\n- repository: ghcr.io/cybozu/etcd\n  versions: [3.5.16.1]\nosImage:\n- channel: stable\n  versions: [4230.2.0]\n";
        let ignored = IgnoreList::parse("i.yaml", list).unwrap_or_else(|why| panic!("{why}"));
        let wishes = Wishes { ignored, ..Wishes::default() };
        let pins = pins(None);
        for (pin, versions, expected) in [
            (&pins[0], ["3.5.15.1", "3.5.16.1"], None),
            (&pins[2], ["4152.2.1", "4230.2.0"], None),
            (&pins[2], ["4152.2.1", "4230.2.1"], Some("4230.2.1")),
        ] {
            let found = Found {
                offers: versions.map(|version| Offer::from(version.to_owned())).to_vec(),
                ..Found::default()
            };
            let decided = pin.decide(&found, &wishes).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(decided.version.as_deref(), expected, "{versions:?}");
        }
    }

    #[tokio::test]
    async fn a_few_are_asked_at_once_and_keep_their_order() {
        use std::cell::Cell;

        let pins: Vec<_> = pins(None).into_iter().cycle().take(11).collect();
        let (now, most) = (Cell::new(0), Cell::new(0));
        let ask = async |question: &Question| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            // The later ones are answered first.
            for _ in now.get()..20 {
                tokio::task::yield_now().await;
            }
            now.set(now.get() - 1);
            match question {
                Question::Image(_) => Err("refused".to_owned()),
                Question::Deb(_) => Ok(releases(&[("v1.4.10", None)])),
                Question::OsImage(_) => Ok(releases(&[("4152.2.1", None)])),
            }
        };
        let outcomes = look(pins.clone(), ask, &Wishes::default()).await;
        assert_eq!(most.get(), AT_ONCE);
        let names = |pins: Vec<Pinned>| pins.into_iter().map(|pin| pin.name).collect::<Vec<_>>();
        let looked = outcomes.iter().map(|outcome| outcome.pin.clone()).collect();
        assert_eq!(names(looked), names(pins));
        assert_eq!(outcomes.iter().filter(|outcome| outcome.decided.is_err()).count(), 4);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_bump()).count(), 4);
    }
}
