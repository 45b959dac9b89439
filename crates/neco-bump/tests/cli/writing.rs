//! What is written, and what is not.

use crate::world::World;

const PINS: &str = "\
# What this version pins.
format = 1

[[image]]
name = \"coil\"
repository = \"REGISTRY/cybozu-go/coil\"
tag = \"2.8.0\"

[[image]]
name = \"etcd\"   # three members
repository = \"REGISTRY/cybozu/etcd\"
tag   = \"3.5.15.1\" # not 3.5.16

[[deb]]
name = \"etcdpasswd\"
owner = \"cybozu-go\"
repository = \"etcdpasswd\"
release = 'v1.4.9'

[os-image]
channel = \"stable\"
version = \"4152.2.1\"
";

/// A world with those pins, where all but coil have something newer.
async fn world() -> (World, String) {
    let world = World::new().await;
    let text = world.pin(PINS);
    world.tags("cybozu-go/coil", &["2.8.0", "2.8", "latest", "2.7.2"]);
    world.tags(
        "cybozu/etcd",
        &["3.5.15.1", "3.5.21.1", "3.5.9.1", "3.5", "3.6.0.1-rc.1", "4.0.0.1"],
    );
    world.release("v1.4.9", 8, "", Some(("etcdpasswd_1.4.9_amd64.deb", "9")));
    world.release("v1.4.10", 9, "", Some(("etcdpasswd_1.4.10_amd64.deb", "10")));
    world.release("v1.4.8", 10, "", Some(("etcdpasswd_1.4.8_amd64.deb", "8")));
    world.release("v1.5.0", 11, ",\"prerelease\":true", Some(("etcdpasswd_1.5.0_amd64.deb", "5")));
    world.channel.lists(&["4152.2.1", "4230.2.0", "3975.2.2"]);
    (world, text)
}

fn bumped(text: &str) -> String {
    text.replace("\"3.5.15.1\"", "\"3.5.21.1\"")
        .replace("'v1.4.9'", "'v1.4.10'")
        .replace("\"4152.2.1\"", "\"4230.2.0\"")
}

#[tokio::test]
async fn what_is_newer_is_written_and_told_and_no_other_byte_changes() {
    let (world, text) = world().await;
    let ended = world.run(&[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ended.stdout,
        "image     etcd        3.5.15.1 → 3.5.21.1; 3.6.0.1-rc.1 is a pre-release, 4.0.0.1 is of another major version\n\
         deb       etcdpasswd  v1.4.9 → v1.4.10; v1.5.0 is a pre-release\n\
         os-image  stable      4152.2.1 → 4230.2.0\n\
         3 of 4 go to another version; wrote artifacts.toml\n"
    );
    assert_eq!(world.pinned(), bumped(&text));

    let again = world.run(&[]).await;
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
    assert!(
        again.stdout.ends_with("0 of 4 go to another version; artifacts.toml stays as it is\n")
    );
    assert_eq!(world.pinned(), bumped(&text));
}

#[tokio::test]
async fn a_dry_run_and_a_check_write_nothing() {
    let (world, text) = world().await;
    let dry = world.run(&["--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(dry.stdout.contains("v1.4.9 → v1.4.10"), "{}", dry.stdout);
    assert!(dry.stdout.ends_with("; artifacts.toml is not written\n"), "{}", dry.stdout);
    let check = world.run(&["--check"]).await;
    assert_eq!((check.code, check.stdout), (Some(1), dry.stdout));
    assert_eq!(world.pinned(), text);
    world.run(&[]).await;
    assert_eq!(world.run(&["--check"]).await.code, Some(0), "nothing is newer any more");
}

#[tokio::test]
async fn a_set_to_try_out_has_pre_releases_and_other_major_versions() {
    let (world, text) = world().await;
    let ended = world.run(&["--pre-release"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let expected = bumped(&text).replace("3.5.21.1", "4.0.0.1").replace("v1.4.10", "v1.5.0");
    assert_eq!(world.pinned(), expected);
    // The other set does not take it back, unless it is asked to.
    let back = world.run(&["--release", "etcdpasswd"]).await;
    assert_eq!(world.pinned(), expected);
    assert!(back.stdout.contains("which is older; --allow-older takes it"), "{}", back.stdout);
    let back = world.run(&["--allow-older", "etcdpasswd"]).await;
    assert_eq!(back.code, Some(0), "{}", back.stderr);
    assert_eq!(world.pinned(), expected.replace("v1.5.0", "v1.4.10"));
}

#[tokio::test]
async fn names_choose_what_is_looked_at() {
    let (world, text) = world().await;
    world.registry.faults().take_asked();
    let ended = world.run(&["os-image"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(world.pinned(), text.replace("4152.2.1", "4230.2.0"));
    assert!(world.registry.faults().take_asked().is_empty(), "registries were asked");
    let ended = world.run(&["os-image", "etdc"]).await;
    assert_eq!(ended.code, Some(64));
    assert_eq!(
        ended.stderr,
        "error: nothing that is called etdc is pinned in artifacts.toml\n\
         hint: there are coil, etcd, etcdpasswd, os-image\n"
    );
}

#[tokio::test]
async fn what_is_on_the_ignore_list_is_passed_over() {
    let (world, text) = world().await;
    let list = format!(
        "images:\n- repository: {}/cybozu/etcd\n  versions: [3.5.21.1]\n- repository: ghcr.io/cybozu/serf\n  versions: []\n",
        world.registry.host()
    );
    world.write("ignore.yaml", &list);
    let ended = world.run(&["--ignore", "ignore.yaml", "etcd"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("3.5.15.1 stays; 3.5.21.1 is on the ignore list"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        ended.troubles(),
        [
            "neco-bump: ignore.yaml:4: images[2].repository: ghcr.io/cybozu/serf is not pinned; correct it, or take it out"
        ]
    );
    assert_eq!(world.pinned(), text);
}

#[tokio::test]
async fn programs_are_told_one_object() {
    let (world, text) = world().await;
    let program = "\n[[program]]\nname = \"cke\"\nurl = \"https://host.invalid/cke\"\n";
    let text = world.pin(&format!("{text}{program}"));
    world.tags("cybozu/etcd", &["3.5.15.1"]);
    world.channel.answers(&[(404, "text/plain", "")]);
    let ended = world.run(&["--output", "json"]).await;
    assert_eq!(ended.code, Some(1));
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one object");
    let names = |list: &str| -> Vec<_> {
        let list = told[list].as_array().expect("a list").iter();
        list.map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("changed"), ["etcd", "etcdpasswd"]);
    assert_eq!(
        (names("stays"), names("failed")),
        (vec!["coil".to_owned()], vec!["stable".to_owned()])
    );
    let etcd = &told["changed"][0];
    assert_eq!((&etcd["version"], &etcd["next"]), (&"3.5.15.1".into(), &"3.5.21.1".into()));
    assert_eq!(etcd["remarks"][0], "3.6.0.1-rc.1 is a pre-release");
    assert!(told["failed"][0]["why"].as_str().expect("why").contains("answered 404"));
    assert_eq!((&told["format"], &told["written"]), (&1.into(), &true.into()));
    assert_eq!(told["programs_not_looked_up"], 1);
    assert_eq!(world.pinned(), bumped(&text).replace("4230.2.0", "4152.2.1"));
    let program = world.run(&["cke"]).await;
    assert_eq!(program.code, Some(64));
    assert!(program.stderr.contains("programs are not looked up"), "{}", program.stderr);
}
