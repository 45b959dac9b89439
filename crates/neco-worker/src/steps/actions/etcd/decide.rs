//! What a server should do next about the members of etcd. Pure: members and their health in, one thing to do out.
//!
//! The order is remove, restart, add. What takes a vote away from a cluster is done only while a majority stands now and the
//! healthy ones that remain are a majority of what remains. etcd itself refuses most of what this refuses; this says why
//! before anything is tried. A member that is down is started whoever else is ill: it can cost nothing, and two that waited
//! for each other would wait for ever.

use neco_host::address;
use neco_schema::Lrn;
use neco_store::{ClusterHealth, MemberHealth};

/// What is known of this server and of the request.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// This server.
    pub(super) own: Lrn,
    /// The servers of the request.
    pub(super) servers: Vec<Lrn>,
    /// Whether Neco changes who belongs to the cluster: this server has the certificates of a member.
    pub(super) manages: bool,
    /// Whether the unit of this server's etcd exists and should be started with something else than what it was.
    pub(super) restart: bool,
    /// Whether that unit runs.
    pub(super) runs: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: everything is as it should be.
    Done,
    /// Nothing now, for this reason.
    Wait(String),
    /// Take out a member that is none of the request's servers.
    Remove(Who),
    /// Restart the own member, or start it where it is down. An outage of etcd comes with it where its vote is taken away and
    /// needed.
    Restart {
        /// Whether etcd has no majority meanwhile.
        outage: bool,
    },
    /// Add this server as a member, and start it.
    Add,
    /// Take out the own member, which was added and does not run: it is added anew after that.
    Undo(Who),
    /// The own member was added and runs: wait until it says its name.
    Appear(Who),
    /// Give the own member its vote, if it has caught up.
    Promote(Who),
}

impl Next {
    /// A restart, if it can be now.
    fn restart(outage: Result<bool, String>) -> Self {
        match outage {
            Ok(outage) => Self::Restart { outage },
            Err(why) => Self::Wait(why),
        }
    }
}

/// A member, for calls and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) id: u64,
    /// Its name, or where it is to be found.
    pub(super) name: String,
}

impl Who {
    fn of(member: &MemberHealth) -> Self {
        let name = match (member.name.as_str(), member.peer_urls.first()) {
            ("", Some(url)) => format!("at {url}, which never started"),
            ("", None) => format!("{:x}", member.id),
            (name, _) => name.to_owned(),
        };
        Self { id: member.id, name }
    }
}

/// Whether `member` is the one of boot server `lrn`: by its name, or by where it is reached.
pub(super) fn is_of(member: &MemberHealth, lrn: Lrn) -> bool {
    let url = address::etcd_peer_url(lrn);
    let reached = |peer: &String| url.as_ref().is_ok_and(|url| url == peer);
    member.name == address::etcd_member_name(lrn) || member.peer_urls.iter().any(reached)
}

/// Whether Neco has named this member.
fn is_named_by_neco(member: &MemberHealth) -> bool {
    member.name.strip_prefix("boot-").is_some_and(|number| number.parse::<Lrn>().is_ok())
}

/// Whether it is Neco's business who belongs to this cluster.
pub(super) fn is_of_neco(health: &ClusterHealth) -> bool {
    health.members.iter().any(is_named_by_neco)
}

/// What to do next.
pub(super) fn next(health: &ClusterHealth, known: &Known) -> Next {
    // etcd of a site that Neco does not run has other members, and all of them stay.
    let manages = known.manages && is_of_neco(health);
    let kept = match manages.then(|| removal(health, known)) {
        None | Some(Removal::None) => None,
        Some(Removal::Of(who)) => return Next::Remove(who),
        Some(Removal::NotNow(why)) => Some(why),
    };
    match (own_part(health, known, manages), kept) {
        // It waits for the same members, and stays longer.
        (Next::Done | Next::Wait(_), Some(why)) => Next::Wait(why),
        (next, _) => next,
    }
}

/// What to do about the own member.
fn own_part(health: &ClusterHealth, known: &Known, manages: bool) -> Next {
    let Some(own) = health.members.iter().find(|member| is_of(member, known.own)) else {
        return match (manages, known.restart) {
            (true, _) => addition(health),
            (false, true) => Next::restart(restart(health, None, known.runs)),
            (false, false) => Next::Done,
        };
    };
    // One that was added and never came up is no member yet.
    if !own.name.is_empty() && known.restart {
        return Next::restart(restart(health, Some(own), known.runs));
    }
    if !manages || (!own.name.is_empty() && !own.is_learner) {
        return Next::Done;
    }
    let who = Who::of(own);
    match (own.name.is_empty() || !own.healthy, known.runs) {
        (false, _) => Next::Promote(who),
        (true, true) => Next::Appear(who),
        (true, false) => Next::Undo(who),
    }
}

enum Removal {
    None,
    Of(Who),
    NotNow(String),
}

/// Who is to be taken out first: who costs nothing, who is ill, and the leader last.
fn removal(health: &ClusterHealth, known: &Known) -> Removal {
    let is_outside = |member: &&MemberHealth| !known.servers.iter().any(|lrn| is_of(member, *lrn));
    let mut outside: Vec<&MemberHealth> = health.members.iter().filter(is_outside).collect();
    outside.sort_by_key(|member| (!member.is_learner, member.healthy, member.is_leader));
    let Some(first) = outside.first() else { return Removal::None };
    match outside.iter().find(|member| is_dispensable(health, member)) {
        Some(member) => Removal::Of(Who::of(member)),
        None => Removal::NotNow(format!(
            "etcd member {} stays until a majority of the others is healthy: {}",
            Who::of(first).name,
            ill(health, Some(first)),
        )),
    }
}

/// Whether etcd goes on without this member: a majority stands now, and the healthy ones that remain are a majority of what
/// remains.
pub(super) fn is_dispensable(health: &ClusterHealth, member: &MemberHealth) -> bool {
    let others = voters(health).filter(|other| other.id != member.id);
    let (remaining, healthy) = count(others);
    health.quorum && remaining > 0 && healthy > remaining / 2
}

/// A member that runs is taken down only while all others that vote are healthy; while it is down they are a majority, or
/// there are too few members for that ever to be. One that does not run is started, however the others are.
///
/// Says whether an outage comes with it, or why it cannot be now.
fn restart(health: &ClusterHealth, own: Option<&MemberHealth>, runs: bool) -> Result<bool, String> {
    if let Some(why) = quorum_trouble(health) {
        return Err(why);
    }
    if !runs {
        return Ok(false);
    }
    let others: Vec<_> =
        voters(health).filter(|other| Some(other.id) != own.map(|own| own.id)).collect();
    if others.iter().any(|other| !other.healthy) {
        let what = "etcd is restarted once all other members are healthy";
        return Err(format!("{what}: {}", ill(health, own)));
    }
    // Without a vote it takes nothing away.
    let votes = own.is_some_and(|own| !own.is_learner);
    let all = others.len() + usize::from(votes);
    Ok(votes && others.len() <= all / 2)
}

/// Why no majority of the members is there, if it is not.
pub(super) fn quorum_trouble(health: &ClusterHealth) -> Option<String> {
    (!health.quorum).then(|| format!("etcd has no majority: {}", ill(health, None)))
}

/// etcd takes a member in while all that vote are there, and one at a time.
fn addition(health: &ClusterHealth) -> Next {
    if let Some(other) = health.members.iter().find(|member| member.is_learner) {
        let other = Who::of(other).name;
        return Next::Wait(format!("another member of etcd is being taken in: {other}"));
    }
    let all_healthy = voters(health).all(|member| member.healthy);
    if health.quorum && all_healthy {
        return Next::Add;
    }
    Next::Wait(format!(
        "etcd takes this server in once all its members are healthy: {}",
        ill(health, None)
    ))
}

/// Whether an outage comes with a new start of the own member, which runs or does not, or why it cannot be now: asked again
/// right before that is done.
pub(super) fn restart_now(health: &ClusterHealth, own: Lrn, runs: bool) -> Result<bool, String> {
    restart(health, health.members.iter().find(|member| is_of(member, own)), runs)
}

fn voters(health: &ClusterHealth) -> impl Iterator<Item = &MemberHealth> {
    health.members.iter().filter(|member| !member.is_learner)
}

/// How many there are, and how many of them are healthy.
fn count<'a>(members: impl Iterator<Item = &'a MemberHealth>) -> (usize, usize) {
    members.fold((0, 0), |(all, healthy), member| (all + 1, healthy + usize::from(member.healthy)))
}

/// What to do about a member that is ill. Mostly it only needs a start; who is taken out needs a new beginning.
const REMEDY: &str = "on its server: 'systemctl status etcd-container', 'systemctl start etcd-container' if it does not run; \
                      'etcdctl member remove' is for one that is gone for good alone";

/// Who votes and is ill, with what to do about it.
fn ill(health: &ClusterHealth, but: Option<&MemberHealth>) -> String {
    let ill = voters(health).filter(|member| !member.healthy);
    let ill = ill.filter(|member| Some(member.id) != but.map(|but| but.id));
    let told: Vec<String> = ill
        .map(|member| match member.trouble.as_str() {
            "" => Who::of(member).name,
            trouble => format!("{} ({trouble})", Who::of(member).name),
        })
        .collect();
    if told.is_empty() {
        return "no other member is left".to_owned();
    }
    format!("waiting for {} ({REMEDY})", told.join(", "))
}

#[cfg(test)]
mod tests;
