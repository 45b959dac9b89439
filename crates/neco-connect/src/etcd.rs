//! What is wrong with the members of etcd, as far as it concerns the boot servers.

use std::collections::BTreeSet;

use neco_schema::Lrn;
use neco_store::ClusterHealth;

/// What is wrong with members of etcd, in words. Those of boot servers that are not registered any more are left out, whoever
/// they are: the next update takes them out, and must not wait for them.
pub fn etcd_troubles(health: &ClusterHealth, registered: &BTreeSet<Lrn>) -> Vec<String> {
    let has_left = |name: &str| {
        let lrn = name.strip_prefix("boot-").and_then(|number| number.parse::<Lrn>().ok());
        lrn.is_some_and(|lrn| !registered.contains(&lrn))
    };
    let members = health.members.iter().filter(|member| !member.healthy && !has_left(&member.name));
    let words = members.map(|member| {
        let name = if member.name.is_empty() { "without a name" } else { &member.name };
        format!("etcd member {name} is not healthy: {}", member.trouble)
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use neco_store::MemberHealth;

    use super::*;

    fn member(name: &str, healthy: bool) -> MemberHealth {
        MemberHealth {
            id: 1,
            name: name.to_owned(),
            healthy,
            trouble: if healthy { String::new() } else { "no answer".to_owned() },
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            is_leader: false,
            is_learner: false,
        }
    }

    #[test]
    fn a_member_whose_server_has_left_is_nobodys_trouble() {
        let names = ["boot-0", "boot-1", "boot-2", "", "etcd-7", "boot-x"];
        let members = names.iter().map(|name| member(name, *name == "boot-0")).collect();
        let health = ClusterHealth { cluster_id: 1, members, quorum: true };
        let registered = [0, 1].map(Lrn::new).into();
        let told = etcd_troubles(&health, &registered);
        let of = ["boot-1", "without a name", "etcd-7", "boot-x"];
        let expected = of.map(|name| format!("etcd member {name} is not healthy: no answer"));
        assert_eq!(told, expected);
    }
}
