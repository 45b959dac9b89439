//! What a change of facts does to a server that is as it should be.

use std::collections::BTreeSet;

use neco_components::{Desired, Effect, Facts, FileKind, Observed, diff, effects};

use super::{COMPONENTS, facts, render};

/// What is done on a server that is as `old` says, for it to become as `new` says.
fn between(component: &str, old: &Facts, new: &Facts) -> Vec<Effect> {
    let new = render(component, new);
    effects(&new, &diff(&new, &Observed::fulfilling(&render(component, old))))
}

fn write(path: &str) -> Effect {
    Effect::Write(path.into())
}

fn first_time(desired: &Desired) -> Vec<Effect> {
    effects(desired, &diff(desired, &Observed::default()))
}

#[test]
fn the_order_of_servers_in_a_request_does_not_matter() {
    for component in COMPONENTS {
        assert_eq!(
            render(component, &facts("1.0.0", 0, &[0, 1, 2])),
            render(component, &facts("1.0.0", 0, &[2, 1, 0]))
        );
    }
}

#[test]
fn a_new_version_changes_the_tags_and_restarts_nothing() {
    let (old, new) = (facts("1.0.0", 0, &[0, 1]), facts("1.0.1", 0, &[0, 1]));
    for component in COMPONENTS {
        let expected = match component {
            "setup-serf-tags" => vec![write("/usr/local/bin/setup-serf-tags")],
            _ => Vec::new(),
        };
        assert_eq!(between(component, &old, &new), expected, "{component}");
    }
}

#[test]
fn a_new_server_is_told_to_those_who_know_all_servers() {
    let (old, new) = (facts("1.0.0", 0, &[0, 1]), facts("1.0.0", 0, &[0, 1, 2]));
    let restart = |path, unit: &str| vec![write(path), Effect::Restart(unit.to_owned())];
    for component in COMPONENTS {
        let expected = match component {
            "cke" => restart("/etc/cke/config.yml", "cke.service"),
            "etcdpasswd" => restart("/etc/etcdpasswd/config.yml", "ep-agent.service"),
            "sabakan" => restart("/etc/sabakan/config.yml", "sabakan.service"),
            "serf" => restart("/etc/serf/serf.json", "serf.service"),
            "vault" => restart("/etc/vault/config.hcl", "vault.service"),
            // Its members know one another; the file is for those to come.
            "etcd" => vec![write("/etc/etcd/etcd.conf.yml")],
            _ => Vec::new(),
        };
        assert_eq!(between(component, &old, &new), expected, "{component}");
    }
}

#[test]
fn an_image_with_client_programs_brings_them_first() {
    let desired = render("sabakan", &facts("1.0.0", 0, &[0]));
    let image = "ghcr.io/cybozu-go/sabakan:3.1.4".to_owned();
    let unit = || "sabakan.service".to_owned();
    let (key, certificate) = ("/etc/sabakan/etcd.key", "/etc/sabakan/etcd.crt");
    let mut expected = vec![
        Effect::Pull(image.clone()),
        Effect::InstallTools(image),
        write("/etc/sabakan/config.yml"),
        write("/etc/systemd/system/sabakan.service"),
        Effect::Reload,
        Effect::Enable(unit()),
    ];
    // A server that was not given its certificate yet runs no sabakan.
    assert_eq!(first_time(&desired), expected);
    let needs = [key.into(), certificate.into()].into();
    let observed = Observed { needs, ..Observed::default() };
    expected.push(Effect::Start(unit()));
    assert_eq!(effects(&desired, &diff(&desired, &observed)), expected);
}

#[test]
fn etcd_gets_its_files_and_is_left_running_as_it_is() {
    let desired = render("etcd", &facts("1.0.0", 0, &[0]));
    let image = "ghcr.io/cybozu/etcd:3.5.15.1".to_owned();
    // Without the certificates of a member, it is somebody else's.
    assert_eq!(first_time(&desired), []);
    let mut needs: BTreeSet<_> = desired.only_where.iter().cloned().collect();
    let given = Observed { needs: needs.clone(), ..Observed::default() };
    assert_eq!(
        effects(&desired, &diff(&desired, &given)),
        [
            Effect::Pull(image.clone()),
            Effect::InstallTools(image),
            write("/etc/etcd/etcd.conf.yml"),
            write("/etc/systemd/system/etcd-container.service"),
            Effect::Reload,
        ]
    );
    for path in &desired.only_where {
        needs.remove(path);
        let lacking = Observed { needs: needs.clone(), ..Observed::default() };
        assert_eq!(diff(&desired, &lacking), [], "{}", path.display());
        needs.insert(path.clone());
    }
}

#[test]
fn a_package_finds_its_files_and_what_is_added_to_its_unit() {
    let desired = render("etcdpasswd", &facts("1.0.0", 0, &[0]));
    assert_eq!(
        first_time(&desired),
        [
            write("/etc/etcdpasswd/config.yml"),
            write("/etc/systemd/system/ep-agent.service.d/10-check-certificate.conf"),
            Effect::Reload,
            Effect::InstallPackage("etcdpasswd".parse().expect("a name")),
            Effect::Enable("ep-agent.service".to_owned()),
        ]
    );
}

#[test]
fn sshd_reads_its_files_again_and_goes_on_running() {
    let desired = render("sshd", &facts("1.0.0", 0, &[0]));
    let path = "/etc/ssh/sshd_config.d/neco.conf";
    let mut observed = Observed::fulfilling(&desired);
    assert_eq!(diff(&desired, &observed), []);
    observed.files.clear();
    for unit in observed.units.values_mut() {
        unit.started_with = None;
    }
    assert_eq!(
        effects(&desired, &diff(&desired, &observed)),
        [write(path), Effect::ReloadUnit("ssh.service".to_owned())]
    );
}

#[test]
fn who_may_use_sudo_is_written_once() {
    let desired = render("sudoers", &facts("1.0.0", 0, &[0]));
    assert_eq!(first_time(&desired), [write("/etc/sudoers.d/cybozu")]);
    let mut observed = Observed::fulfilling(&desired);
    for file in observed.files.values_mut() {
        file.digest = neco_components::ContentDigest::of("%admin ALL=(ALL) ALL\n");
    }
    assert_eq!(diff(&desired, &observed), []);
}

#[test]
fn a_program_of_the_package_is_restarted_when_it_changes() {
    for component in
        ["cke", "cke-localproxy", "node-exporter", "sabakan-state-setter", "teleport-node"]
    {
        let recipe = super::shipped();
        let watch = recipe.component(component).expect("a component").watch.clone();
        let facts = facts("1.0.0", 0, &[0]);
        let with = |content: &str| {
            let digest = neco_components::ContentDigest::of(content);
            let files = watch.iter().map(|path| (path.clone(), Some(digest.clone())));
            render(component, &facts).watching(&files.collect())
        };
        let (old, new) = (with("old"), with("new"));
        assert_eq!(
            effects(&new, &diff(&new, &Observed::fulfilling(&old))),
            [Effect::Restart(format!("{component}.service"))]
        );
    }
}

#[test]
fn a_timer_comes_with_the_service_that_it_starts() {
    let desired = render("setup-serf-tags", &facts("1.0.0", 0, &[0]));
    let units = desired.files.iter().filter(|file| file.kind == FileKind::Unit).count();
    assert_eq!(units, 2);
    assert_eq!(
        first_time(&desired),
        [
            write("/usr/local/bin/setup-serf-tags"),
            write("/etc/systemd/system/setup-serf-tags.service"),
            write("/etc/systemd/system/setup-serf-tags.timer"),
            Effect::Reload,
            Effect::Enable("setup-serf-tags.timer".to_owned()),
            Effect::Start("setup-serf-tags.timer".to_owned()),
        ]
    );
}
