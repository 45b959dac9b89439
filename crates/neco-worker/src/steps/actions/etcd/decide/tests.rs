use std::collections::BTreeSet;

use super::*;

/// What a member of a test is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Leader,
    Well,
    Ill,
    Learner,
    IllLearner,
    /// It was added as a learner and never started.
    New,
}

use Is::{Ill, IllLearner, Leader, Learner, New, Well};

fn member(lrn: u32, is: Is) -> MemberHealth {
    let name = if is == New { String::new() } else { format!("boot-{lrn}") };
    MemberHealth {
        id: u64::from(lrn) + 100,
        name,
        peer_urls: vec![address::etcd_peer_url(Lrn::new(lrn)).unwrap()],
        client_urls: Vec::new(),
        healthy: matches!(is, Leader | Well | Learner),
        is_leader: is == Leader,
        is_learner: matches!(is, Learner | IllLearner | New),
        trouble: String::new(),
    }
}

fn health_of(members: Vec<MemberHealth>) -> ClusterHealth {
    let (all, healthy) = count(members.iter().filter(|member| !member.is_learner));
    ClusterHealth { cluster_id: 1, quorum: healthy > all / 2, members }
}

fn health(members: &[(u32, Is)]) -> ClusterHealth {
    health_of(members.iter().map(|(lrn, is)| member(*lrn, *is)).collect())
}

fn known(own: u32, servers: &[u32]) -> Known {
    let servers = servers.iter().map(|lrn| Lrn::new(*lrn)).collect();
    Known { own: Lrn::new(own), servers, manages: true, restart: false, runs: true }
}

/// What is decided, in short.
fn short(next: &Next) -> String {
    match next {
        Next::Done => "done".to_owned(),
        Next::Wait(_) => "wait".to_owned(),
        Next::Remove(who) => format!("remove {}", who.id - 100),
        Next::Restart { outage: false } => "restart".to_owned(),
        Next::Restart { outage: true } => "restart, etcd is out meanwhile".to_owned(),
        Next::Add => "add".to_owned(),
        Next::Undo(who) => format!("undo {}", who.id - 100),
        Next::Appear(who) => format!("appear {}", who.id - 100),
        Next::Promote(who) => format!("promote {}", who.id - 100),
    }
}

/// What it is about, the members, what is known, and what is done.
type Row<'a> = (&'a str, &'a [(u32, Is)], Known, &'a str);

#[test]
fn members_outside_go_first_then_restarts_then_additions() {
    let all = [(0, Leader), (1, Well), (2, Well)];
    let servers: &[u32] = &[0, 1, 2];
    let stopped = |known: Known| Known { runs: false, ..known };
    let changed = |known: Known| Known { restart: true, ..known };
    let elsewhere = |known: Known| Known { manages: false, ..known };
    let two_of_five_are_down = [(0, Leader), (1, Well), (2, Well), (3, Ill), (4, Ill)];
    let rows: [Row<'_>; 37] = [
        ("nothing to do", &all, known(0, servers), "done"),
        // Removal.
        ("one has left", &all, known(0, &[0, 1]), "remove 2"),
        ("the leader has left", &all, known(1, &[1, 2]), "remove 0"),
        ("the leader goes last", &all, known(2, &[2]), "remove 1"),
        ("a dead one has left", &[(0, Leader), (1, Well), (2, Ill)], known(0, &[0, 1]), "remove 2"),
        (
            "who is dead goes first",
            &[(0, Leader), (1, Well), (2, Well), (3, Ill)],
            known(0, &[0, 1]),
            "remove 3",
        ),
        ("one of the rest is dead", &[(0, Leader), (1, Ill), (2, Well)], known(0, &[0, 1]), "wait"),
        (
            "two have left, one of two is dead",
            &[(0, Leader), (1, Ill), (2, Well), (3, Well)],
            known(0, &[0, 1]),
            "remove 2",
        ),
        ("no majority", &[(0, Well), (1, Ill), (2, Ill)], known(0, &[0, 1]), "wait"),
        ("one of two has left", &[(0, Well), (1, Leader)], known(1, &[1]), "remove 0"),
        (
            "one of two has left and is dead: no majority",
            &[(0, Ill), (1, Well)],
            known(1, &[1]),
            "wait",
        ),
        (
            "a learner of a server that has left",
            &[(0, Leader), (1, Ill), (2, Well), (3, New)],
            known(0, &[0, 1, 2]),
            "remove 3",
        ),
        ("the last one stays, and it is taken in", &[(7, Leader)], known(0, &[0]), "add"),
        ("a removal before a restart", &all, changed(known(0, &[0, 1])), "remove 2"),
        (
            "neither, without a majority",
            &[(0, Leader), (1, Well), (2, Ill), (3, Ill)],
            changed(known(0, &[0, 1, 2])),
            "wait",
        ),
        // Restart.
        ("changed", &all, changed(known(0, servers)), "restart"),
        (
            "changed, another is ill",
            &[(0, Leader), (1, Well), (2, Ill)],
            changed(known(0, servers)),
            "wait",
        ),
        (
            "changed, it is ill itself",
            &[(0, Ill), (1, Leader), (2, Well)],
            changed(known(0, servers)),
            "restart",
        ),
        (
            "changed, a learner is ill",
            &[(0, Leader), (1, Well), (2, IllLearner)],
            changed(known(0, servers)),
            "restart, etcd is out meanwhile",
        ),
        (
            "changed, of two",
            &[(0, Leader), (1, Well)],
            changed(known(0, &[0, 1])),
            "restart, etcd is out meanwhile",
        ),
        (
            "changed, alone",
            &[(0, Leader)],
            changed(known(0, &[0])),
            "restart, etcd is out meanwhile",
        ),
        ("changed, where Neco has no members", &all, elsewhere(changed(known(0, &[0]))), "restart"),
        (
            "changed, a learner",
            &[(0, Learner), (1, Leader), (2, Well)],
            changed(known(0, servers)),
            "restart",
        ),
        (
            "down, and another is: it is started",
            &two_of_five_are_down,
            stopped(changed(known(3, &[0, 1, 2, 3, 4]))),
            "restart",
        ),
        (
            "changed, two others are down: it waits until they are started",
            &two_of_five_are_down,
            changed(known(0, &[0, 1, 2, 3, 4])),
            "wait",
        ),
        (
            "down, a removal before",
            &two_of_five_are_down,
            stopped(changed(known(3, &[0, 2, 3]))),
            "remove 4",
        ),
        (
            "down, where Neco has no members",
            &two_of_five_are_down,
            elsewhere(stopped(changed(known(3, &[0])))),
            "restart",
        ),
        (
            "down, and no majority",
            &[(0, Well), (1, Ill), (2, Ill)],
            stopped(changed(known(1, servers))),
            "wait",
        ),
        // Addition.
        ("a new server", &all, known(3, &[0, 1, 2, 3]), "add"),
        (
            "a new server, one is ill",
            &[(0, Leader), (1, Well), (2, Ill)],
            known(3, &[0, 1, 2, 3]),
            "wait",
        ),
        (
            "a new server, another is being added",
            &[(0, Leader), (1, Well), (2, New)],
            known(3, &[0, 1, 2, 3]),
            "wait",
        ),
        ("a new server, a removal before", &all, known(3, &[0, 1, 3]), "remove 2"),
        (
            "added, not started",
            &[(0, Leader), (1, Well), (2, New)],
            stopped(known(2, servers)),
            "undo 2",
        ),
        (
            "added, has begun to start",
            &[(0, Leader), (1, Well), (2, New)],
            known(2, servers),
            "appear 2",
        ),
        (
            "added and started",
            &[(0, Leader), (1, Well), (2, Learner)],
            known(2, servers),
            "promote 2",
        ),
        (
            "added, and died",
            &[(0, Leader), (1, Well), (2, IllLearner)],
            stopped(known(2, servers)),
            "undo 2",
        ),
        ("another is being added", &[(0, Leader), (1, Well), (2, New)], known(0, servers), "done"),
    ];
    for (name, members, known, expected) in rows {
        let next = next(&health(members), &known);
        assert_eq!(short(&next), expected, "{name}: {next:?}");
    }
}

#[test]
fn who_waits_says_for_whom() {
    let mut members = health(&[(0, Leader), (1, Ill), (2, Well)]);
    members.members[1].trouble = "gave no answer".to_owned();
    let says = |known: &Known| match next(&members, known) {
        Next::Wait(why) => why,
        other => panic!("{other:?}"),
    };
    let of_removal = says(&known(0, &[0, 1]));
    assert!(of_removal.contains("etcd member boot-2 stays until"), "{of_removal}");
    let of_restart = says(&Known { restart: true, ..known(0, &[0, 1, 2]) });
    let of_addition = says(&known(3, &[0, 1, 2, 3]));
    for why in [of_removal, of_restart, of_addition] {
        assert!(why.contains("waiting for boot-1 (gave no answer)"), "{why}");
        let place = |what: &str| why.find(what).unwrap_or_else(|| panic!("no {what}: {why}"));
        // Who is only down must not be taken out.
        assert!(place("systemctl status") < place("systemctl start"), "{why}");
        assert!(place("systemctl start") < place("etcdctl member remove"), "{why}");
    }
}

/// Whose members have other names is no business of ours, and a member of another name at the address of a server is its own.
#[test]
fn members_that_neco_did_not_name_stay() {
    let mut members = health(&[(0, Leader), (1, Well), (2, Well)]);
    for (number, member) in members.members.iter_mut().enumerate() {
        member.name = format!("site-{number}");
        member.peer_urls = vec![format!("http://10.0.0.{number}:2380")];
    }
    for own in 0..4 {
        assert_eq!(next(&members, &known(own, &[0, 1, 2, 3])), Next::Done);
    }
    let mut members = health(&[(0, Leader), (1, Well), (2, Well)]);
    members.members[2].name = "third".to_owned();
    assert_eq!(next(&members, &known(0, &[0, 1, 2])), Next::Done);
    assert_eq!(next(&members, &known(2, &[0, 1, 2])), Next::Done);
}

/// Everything that up to `count` members can be like.
fn all_healths(count: u32) -> Vec<Vec<(u32, Is)>> {
    let mut all: Vec<Vec<(u32, Is)>> = vec![Vec::new()];
    for lrn in 0..count {
        let with = |members: &Vec<(u32, Is)>| {
            let kinds = [Well, Ill, Learner, IllLearner, New];
            let longer = kinds.map(|is| [&members[..], &[(lrn, is)]].concat());
            longer.into_iter().chain([members.clone()]).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all.retain(|members| members.iter().any(|(_, is)| *is == Well));
    all
}

fn subsets(count: u32) -> Vec<Vec<u32>> {
    let bits = 1..(1_u32 << count);
    bits.map(|bits| (0..count).filter(|lrn| bits & (1 << lrn) != 0).collect()).collect()
}

fn stands_without(health: &ClusterHealth, id: u64) -> (usize, bool) {
    let rest = health.members.iter().filter(|member| !member.is_learner && member.id != id);
    let (all, healthy) = count(rest);
    (all, healthy > all / 2)
}

/// Every state of up to five members, every request and every server: no decision costs a majority that stands, but a
/// restart with two members or fewer, which is announced as such. Who is down while a majority stands waits for nobody.
#[test]
fn no_decision_costs_the_majority() {
    let (mut removals, mut restarts, mut outages, mut starts) = (0, 0, 0, 0);
    for members in all_healths(5) {
        let health = health(&members);
        for servers in subsets(5) {
            for own in &servers {
                for (restart, runs) in [(false, true), (true, true), (false, false), (true, false)]
                {
                    let known = Known { restart, runs, ..known(*own, &servers) };
                    let next = next(&health, &known);
                    let of_own = |(lrn, is): &&(u32, Is)| lrn == own && *is != New;
                    if restart && !runs && health.quorum && members.iter().any(|m| of_own(&m)) {
                        // A removal that can be made now is made before, under the same turn.
                        let acts =
                            matches!(next, Next::Restart { outage: false } | Next::Remove(_));
                        assert!(acts, "{members:?} {known:?}: {next:?}");
                        starts += 1;
                    }
                    match next {
                        Next::Remove(who) | Next::Undo(who) => {
                            let gone = health.members.iter().find(|other| other.id == who.id);
                            if gone.is_some_and(|gone| gone.is_learner) {
                                continue;
                            }
                            let (left, stands) = stands_without(&health, who.id);
                            assert!(health.quorum && left > 0 && stands, "{members:?} {known:?}");
                            removals += 1;
                        }
                        // It is down: a start takes nothing away.
                        Next::Restart { outage } if !runs => {
                            assert!(health.quorum && !outage, "{members:?} {known:?}");
                        }
                        Next::Restart { outage } => {
                            let id = u64::from(*own) + 100;
                            let (all, _) = count(voters(&health));
                            let (_, well) = count(voters(&health).filter(|m| m.id != id));
                            let (others, _) = stands_without(&health, id);
                            assert!(health.quorum && well == others, "{members:?} {known:?}");
                            let stands = well > all / 2;
                            assert_eq!(outage, !stands, "{members:?} {known:?}");
                            assert!(stands || all <= 2, "{members:?} {known:?}");
                            restarts += 1;
                            outages += u32::from(outage);
                        }
                        Next::Add => {
                            let well = health.members.iter().all(|m| m.healthy || m.is_learner);
                            assert!(well && health.quorum, "{members:?} {known:?}");
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    assert!(removals > 1000 && restarts > 1000 && outages > 100, "{removals} {restarts} {outages}");
    assert!(starts > 1000, "{starts}");
}

/// From every state of five members in which a majority stands and the others are down, whichever of them changed: nobody
/// waits for one that waits for it, who is down is started first, and then who changed is restarted.
#[test]
fn members_that_are_down_are_started_and_then_the_others_restarted() {
    const ALL: [u32; 5] = [0, 1, 2, 3, 4];
    for (down, changed) in (0..32_u32).flat_map(|down| (0..32_u32).map(move |all| (down, all))) {
        if down.count_ones() > 2 {
            continue;
        }
        let (mut down, mut changed) = (down, changed);
        let state = format!("down {down:05b}, changed {changed:05b}");
        let mut order = Vec::new();
        while down != 0 || changed != 0 {
            let members = ALL.map(|lrn| (lrn, if down & (1 << lrn) == 0 { Well } else { Ill }));
            let acts = ALL.into_iter().find(|lrn| {
                let (runs, changed) = (down & (1 << lrn) == 0, changed & (1 << lrn) != 0);
                let known = Known { restart: changed || !runs, runs, ..known(*lrn, &ALL) };
                matches!(next(&health(&members), &known), Next::Restart { .. })
            });
            let Some(lrn) = acts else { panic!("{state}: all wait, after {order:?}") };
            let is_first = down == 0 || down & (1 << lrn) != 0;
            assert!(is_first, "{state}: {lrn} before who is down, after {order:?}");
            (down, changed) = (down & !(1 << lrn), changed & !(1 << lrn));
            order.push(lrn);
        }
    }
}

/// What each decision comes to when it succeeds.
fn carried_out(members: &mut Vec<MemberHealth>, own: u32, next: &Next) {
    match next {
        Next::Remove(who) | Next::Undo(who) => members.retain(|member| member.id != who.id),
        Next::Add => members.push(member(own, New)),
        Next::Appear(who) => {
            let found = members.iter_mut().find(|member| member.id == who.id).unwrap();
            *found = member(own, Learner);
        }
        Next::Promote(who) => {
            let found = members.iter_mut().find(|member| member.id == who.id).unwrap();
            *found = member(own, Well);
        }
        Next::Done | Next::Wait(_) | Next::Restart { .. } => {}
    }
}

/// From every state of up to four members in which all that vote are well, and for every request: one server after another,
/// the members come to be the servers of the request.
#[test]
fn the_members_come_to_be_the_servers_of_the_request() {
    for members in all_healths(4) {
        if members.iter().any(|(_, is)| *is == Ill) {
            continue;
        }
        for servers in subsets(4) {
            let mut now: Vec<MemberHealth> =
                members.iter().map(|(lrn, is)| member(*lrn, *is)).collect();
            let mut steps = 0;
            loop {
                let health = health_of(now.clone());
                // What was added by somebody who has died does not run; what was added now does.
                let decided = servers.iter().map(|own| {
                    let stopped = members.contains(&(*own, New)) && steps < 2;
                    (*own, next(&health, &Known { runs: !stopped, ..known(*own, &servers) }))
                });
                let to_do = |(_, next): &(u32, Next)| !matches!(next, Next::Done | Next::Wait(_));
                let Some((own, next)) = decided.into_iter().find(to_do) else { break };
                carried_out(&mut now, own, &next);
                steps += 1;
                assert!(steps < 60, "{members:?} {servers:?}: no end at {now:?}");
            }
            let votes = now.iter().filter(|member| !member.is_learner);
            let names: BTreeSet<String> = votes.map(|member| member.name.clone()).collect();
            let expected = servers.iter().map(|lrn| format!("boot-{lrn}")).collect();
            assert_eq!(names, expected, "{members:?} {servers:?} after {steps}: {now:?}");
            assert_eq!(now.len(), servers.len(), "{members:?} {servers:?}");
        }
    }
}
