//! What the version pins: the set of the original.

use super::shipped;

#[test]
fn images_are_those_of_the_original() {
    let recipe = shipped();
    let images = recipe.artifacts().images.values();
    assert_eq!(
        images.map(|image| image.reference()).collect::<Vec<_>>(),
        [
            "ghcr.io/cybozu/bird:2.15.1.1",
            "ghcr.io/cybozu/chrony:4.6.1.1",
            "ghcr.io/cybozu/cilium:1.14.14.1",
            "ghcr.io/cybozu/cilium-certgen:0.1.14.1",
            "ghcr.io/cybozu/cilium-operator-generic:1.14.14.2",
            "ghcr.io/cybozu-go/coil:2.8.0",
            "ghcr.io/cybozu/etcd:3.5.15.1",
            "ghcr.io/cybozu/hubble-relay:1.14.14.1",
            "ghcr.io/cybozu/promtail:3.2.1.2",
            "ghcr.io/cybozu-go/sabakan:3.1.4",
            "ghcr.io/cybozu/serf:0.10.1.7",
            "ghcr.io/cybozu-go/setup-hw:1.20.1",
            "ghcr.io/cybozu/squid:6.12.0.2",
            "ghcr.io/cybozu/squid-exporter:1.0.7",
            "ghcr.io/cybozu/vault:1.18.1.1",
        ]
    );
    for image in recipe.artifacts().images.values() {
        assert!(image.repository.ends_with(&format!("/{}", image.name)), "{}", image.name);
        assert_eq!(image.private, image.name == *"setup-hw", "{}", image.name);
    }
}

#[test]
fn packages_and_the_os_image_are_those_of_the_original() {
    let recipe = shipped();
    let debs = recipe.artifacts().debs.values();
    let debs = debs.map(|deb| (deb.name.as_str(), &*deb.owner, &*deb.repository, &*deb.release));
    assert_eq!(debs.collect::<Vec<_>>(), [("etcdpasswd", "cybozu-go", "etcdpasswd", "v1.4.9")]);
    let os = recipe.artifacts().os_image.as_ref().expect("one");
    assert_eq!((&*os.channel, &*os.version), ("stable", "4152.2.1"));
}
