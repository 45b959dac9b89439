use neco_schema::journal::{Effect, Entry};
use neco_schema::{
    Condition, Control, Key, Op, Outcome, RequestKind, Seen, Timestamp, UpdateRequest,
};

use super::log::*;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Fact, Rules, Writer};

fn aborted(request: &UpdateRequest) -> Seen {
    Seen { at: Timestamp::from_unix(1), aborted: Some(request.id()), ..Seen::default() }
}

#[test]
fn a_fresh_request_and_its_install_are_right() {
    let one = request("1.0.0", 1);
    for invariant in [27, 28, 31, 32, 33] {
        let mut log = Log::new(rules());
        log.put(&Key::Alive(A), &alive("0.9.0"));
        log.put(&Key::Request, &one);
        log.line(A, install(&one, "1.0.0", package('a')));
        log.line(A, intent_begun(log.revision));
        log.auditor.fact(Fact::Installed {
            lrn: A,
            version: version("1.0.0"),
            sha256: Some(package('a').sha256),
            way_back: false,
        });
        log.keeps(Safety(invariant));
    }
}

#[test]
fn a_request_back_to_an_older_version_breaks_27_unless_it_says_so() {
    let back = UpdateRequest { allow_downgrade: true, ..request("1.0.0", 1) };
    for (made, right) in [(request("1.0.0", 1), false), (back, true)] {
        let mut log = Log::new(rules());
        log.put(&Key::Alive(A), &alive("1.0.1"));
        log.put(&Key::Request, &made);
        if right {
            log.keeps(Safety(27));
        } else {
            log.breaks(Safety(27));
        }
    }
}

#[test]
fn an_install_back_to_an_older_version_breaks_27() {
    let one = request("0.8.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.line(A, install(&one, "0.8.0", package('a')));
    log.breaks(Safety(27));
    let installed = |text: &str, way_back| Fact::Installed {
        lrn: A,
        version: version(text),
        sha256: None,
        way_back,
    };
    for way_back in [true, false] {
        let mut log = Log::with_request(rules(), &request("1.0.0", 1));
        log.auditor.fact(installed("1.0.0", false));
        log.auditor.fact(installed("0.9.0", way_back));
        if way_back {
            log.keeps(Safety(27));
        } else {
            log.breaks(Safety(27));
        }
    }
}

#[test]
fn other_bits_than_the_requested_break_28() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.line(A, install(&one, "1.0.0", package('b')));
    log.breaks(Safety(28));
    let mut log = Log::with_request(rules(), &one);
    log.line(A, install(&one, "1.0.1", package('a')));
    log.breaks(Safety(28));
    let packages = [(version("1.0.0"), package('c').sha256)].into();
    let mut log = Log::with_request(Rules { packages, ..rules() }, &one);
    log.line(A, install(&one, "1.0.0", package('a')));
    log.breaks(Safety(28));
    let mut log = Log::with_request(rules(), &one);
    log.auditor.fact(Fact::Installed {
        lrn: A,
        version: version("1.0.0"),
        sha256: Some(package('b').sha256),
        way_back: false,
    });
    log.breaks(Safety(28));
}

#[test]
fn members_with_different_recipes_or_packages_break_29() {
    let one = request("1.0.0", 1);
    for (digest, right) in [("d", true), ("e", false)] {
        let mut log = Log::with_request(rules(), &one);
        log.put(&Key::Plan(A), &plan(&one, "d"));
        log.put(&Key::Plan(B), &plan(&one, digest));
        log.both_go_on(&one, 1..=2);
        if right {
            log.keeps(Safety(29));
        } else {
            log.breaks(Safety(29));
        }
    }
    // A Go leader names no package: the members could differ.
    let go = UpdateRequest { kind: None, package: None, ..one };
    for (digit, right) in [('a', true), ('b', false)] {
        let mut log = Log::with_request(rules(), &go);
        log.line(A, install(&go, "1.0.0", package('a')));
        log.line(B, install(&go, "1.0.0", package(digit)));
        log.both_go_on(&go, 1..=3);
        log.both_complete(&go);
        if right {
            log.keeps(Safety(29));
        } else {
            log.breaks(Safety(29));
        }
    }
}

#[test]
fn a_known_release_that_goes_back_breaks_30() {
    for (next, right) in [("1.0.1", true), ("0.9.0", false)] {
        let mut log = Log::new(rules());
        log.write([Op::put_bytes(&Key::Release, "1.0.0")]);
        log.write([Op::put_bytes(&Key::Release, next)]);
        if right {
            log.keeps(Safety(30));
        } else {
            log.breaks(Safety(30));
        }
    }
    let mut log = Log::new(rules());
    log.write([Op::put_bytes(&Key::Release, "1.0.0")]);
    log.write_by(Writer::Go, vec![], [Op::put_bytes(&Key::Release, "0.9.0")]);
    assert!(log.finish().violations.is_empty());
}

#[test]
fn a_withdrawn_version_that_is_requested_breaks_31() {
    let one = request("1.0.0", 1);
    let mut log = Log::new(rules());
    log.put(&Key::Withdrawn(version("1.0.0")), &Control::default());
    log.put(&Key::Request, &one);
    log.breaks(Safety(31));
}

#[test]
fn a_withdrawn_version_that_runs_on_breaks_31_after_the_bound() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Withdrawn(version("1.0.0")), &Control::default());
    log.auditor.fact(Fact::FaultsEnded);
    let report = log.finish();
    assert!(report.violations.iter().any(|found| found.invariant == Safety(31)), "{report}");
}

#[test]
fn an_install_without_a_way_back_breaks_32_unless_allowed() {
    let allowed = UpdateRequest { allow_no_way_back: true, ..request("1.0.0", 1) };
    for (one, right) in [(request("1.0.0", 1), false), (allowed, true)] {
        let mut log = Log::with_request(rules(), &one);
        let effect = Effect::Install {
            from: version("0.9.0"),
            to: version("1.0.0"),
            package: package('a'),
            way_back: None,
        };
        log.line(A, intent(&one.id(), effect));
        if right {
            log.keeps(Safety(32));
        } else {
            log.breaks(Safety(32));
        }
    }
}

#[test]
fn an_aborted_version_that_comes_again_by_itself_breaks_33() {
    let (old, one) = (request("1.0.0", 1), request("1.0.0", 2));
    let mut log = Log::new(rules());
    log.put(&Key::Seen(version("1.0.0")), &aborted(&old));
    log.put(&Key::Request, &one);
    log.breaks(Safety(33));
    let mut log = Log::new(rules());
    log.put(&Key::Seen(version("1.0.0")), &aborted(&old));
    log.put(&Key::Seen(version("1.0.0")), &Seen { aborted: None, ..aborted(&old) });
    log.put(&Key::Request, &UpdateRequest { kind: Some(RequestKind::Manual), ..one });
    log.keeps(Safety(33));
}

#[test]
fn a_server_that_tries_a_failed_install_again_breaks_33() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.line(A, install(&one, "1.0.0", package('a')));
    log.line(A, intent_begun(log.revision));
    log.line(A, intent_failed());
    log.line(A, install(&one, "1.0.0", package('a')));
    log.breaks(Safety(33));
}

#[test]
fn an_aborted_request_whose_version_is_not_marked_breaks_33() {
    let one = request("1.0.0", 1);
    for marked in [true, false] {
        let mut log = Log::at_step(rules(), &one, 1);
        log.status(A, &one, 1, Condition::Abort);
        let mut ops = vec![Op::put(&history_key(&one), &record(&one, Outcome::Aborted))];
        if marked {
            ops.push(Op::put(&Key::Seen(version("1.0.0")), &aborted(&one)));
        }
        log.write(ops);
        if marked {
            log.keeps(Safety(33));
        } else {
            log.breaks(Safety(33));
        }
    }
}

#[test]
fn an_effect_is_named_in_the_journal_before_it_begins() {
    // An intent that was never opened cannot be judged, and is not.
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.line(A, intent_begun(log.revision));
    log.line(A, Entry::StepCancelled { request: one.id(), step: 1 });
    log.says_nothing_about(Safety(32));
}
