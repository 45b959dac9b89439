//! What cannot be looked up or read.

use neco_registry::testing::{Door, Fault, Scope};

use crate::world::World;

fn image(name: &str, tag: &str) -> String {
    format!(
        "[[image]]\nname = \"{name}\"\nrepository = \"REGISTRY/cybozu/{name}\"\ntag = \"{tag}\"\n"
    )
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_told_in_a_line_and_the_others_go_on() {
    let world = World::new().await;
    let images = [
        ("absent", "1.0.0"),
        ("branches", "1.0.0"),
        ("empty", "1.0.0"),
        ("floating", "latest"),
        ("good", "1.0.0"),
    ];
    let images: String = images.iter().map(|(name, tag)| image(name, tag)).collect();
    let deb =
        "[[deb]]\nname = \"agent\"\nowner = \"o\"\nrepository = \"agent\"\nrelease = \"v1.0.0\"\n";
    let text = world.pin(&format!(
        "format = 1\n{images}{deb}[os-image]\nchannel = \"stable\"\nversion = \"4152.2.1\"\n"
    ));
    world.tags("cybozu/branches", &["1.0", "main"]);
    let blob = neco_registry::testing::Content::of("x");
    world.registry.put_blob("cybozu/empty", blob);
    world.tags("cybozu/floating", &["latest", "1.0.0"]);
    world.tags("cybozu/good", &["1.0.0", "1.0.1"]);
    world.channel.answers(&[(200, "application/json", "{\"4152.2.1\":{},\"soon\":{}}")]);
    let ended = world.run(&[]).await;
    assert_eq!(ended.code, Some(1));
    let registry = world.registry.host();
    assert_eq!(
        ended.troubles(),
        [
            &format!(
                "neco-bump: image absent: there is no repository {registry}/cybozu/absent, or it may not be seen without a login; check its name"
            ),
            "neco-bump: image branches: none of its 2 tags is a version of 3 numbers or more, \"1.0\" for one; check its name",
            "neco-bump: image empty: it has no version at all; check its name, or publish one",
            "neco-bump: image floating: the pinned \"latest\" is no version; write one by hand first",
            "neco-bump: deb agent: it has no version at all; check its name, or publish one",
            "neco-bump: os-image stable: \"soon\" is no version; that is not the list that was asked for",
        ]
    );
    assert_eq!(
        ended.stdout,
        "image     good      1.0.0 → 1.0.1\n\
         1 of 7 goes to another version; 6 could not be decided; wrote artifacts.toml\n"
    );
    let (before, after) = text.split_at(text.find("\"good\"").expect("there"));
    assert_eq!(world.pinned(), format!("{before}{}", after.replacen("1.0.0", "1.0.1", 1)));
}

#[tokio::test]
async fn a_registry_is_told_who_comes_and_may_refuse() {
    let world = World::new().await;
    let text = world.pin(&format!("format = 1\n{}", image("etcd", "3.5.15.1")));
    world.tags("cybozu/etcd", &["3.5.15.1", "3.5.16.1"]);
    world.registry.set_door(Door::Basic("user".to_owned(), "right".to_owned()));
    // "user:wrong" and "user:right".
    let [wrong, right] = ["dXNlcjp3cm9uZw==", "dXNlcjpyaWdodA=="];
    let login = |auth: &str| {
        let config =
            format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", world.registry.host());
        world.write("docker/config.json", &config);
    };
    let docker = world.path().join("docker").display().to_string();
    let variables = [("DOCKER_CONFIG", docker.as_str())];
    let without = world.run_with(&[], &variables).await;
    assert_eq!(without.code, Some(1));
    assert!(without.troubles()[0].contains("wants a login"), "{}", without.stderr);
    login(wrong);
    let refused = world.run_with(&[], &variables).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.troubles().len(), 1, "{}", refused.stderr);
    let told = refused.troubles()[0];
    assert!(told.contains("refuses the login"), "{told}");
    assert!(told.contains(&format!("docker --config {docker} login")), "{told}");
    assert!(!told.contains("wrong") && !told.contains(wrong), "{told}");
    assert_eq!(world.pinned(), text);
    login(right);
    let ended = world.run_with(&[], &variables).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(world.pinned(), text.replace("3.5.15.1", "3.5.16.1"));
}

#[tokio::test]
async fn a_private_variant_must_have_the_tag_too_where_it_can_be_seen() {
    let world = World::new().await;
    let image = image("setup-hw", "1.20.1");
    let text = world.pin(&format!("format = 1\n{image}private = true\n"));
    world.tags("cybozu/setup-hw", &["1.20.1", "1.20.2", "1.20.3"]);
    world.tags("cybozu/setup-hw-secret", &["1.20.1", "1.20.2"]);
    let without = world.run(&["--dry-run"]).await;
    assert!(without.stdout.contains("1.20.1 → 1.20.3\n"), "{}", without.stdout);
    // "user:right".
    let login = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"dXNlcjpyaWdodA==\"}}}}}}",
        world.registry.host()
    );
    world.write(".docker/config.json", &login);
    let ended = world.run(&[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let told = "1.20.1 → 1.20.2; 1.20.3 is not there in the private variant\n";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
    assert_eq!(world.pinned(), text.replace("1.20.1", "1.20.2"));
}

#[tokio::test]
async fn a_registry_that_is_silent_is_waited_for_no_longer_than_is_said() {
    let world = World::new().await;
    let text = world.pin(&format!("format = 1\n{}", image("etcd", "3.5.15.1")));
    world.tags("cybozu/etcd", &["3.5.15.1", "3.5.16.1"]);
    world.registry.faults().always(Scope::Tags, Fault::Silent);
    let ended = world.run(&["--timeout", "300ms"]).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.troubles(),
        [
            "neco-bump: image etcd: no answer within 300ms; is the network or the proxy down? --timeout waits longer"
        ]
    );
    assert_eq!(world.pinned(), text);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_by_line_and_field() {
    let world = World::new().await;
    let absent = world.run(&[]).await;
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stderr.starts_with("error: reading artifacts.toml: No such file"),
        "{}",
        absent.stderr
    );

    let text =
        world.pin("format = 1\n[[image]]\nname = \"etcd\"\nrepository = \"x\"\ntga = \"1\"\n");
    let wrong = world.run(&[]).await;
    assert_eq!(wrong.code, Some(1));
    assert_eq!(wrong.troubles()[0], "error: artifacts.toml cannot be used:");
    assert!(
        wrong.troubles()[1].starts_with("artifacts.toml:2: image[1].tag: is missing;"),
        "{}",
        wrong.stderr
    );
    assert_eq!(world.pinned(), text);

    world.pin("format = 1\n");
    let absent = world.run(&["--ignore", "ignore.yaml"]).await;
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stderr.starts_with("error: reading ignore.yaml: No such file"),
        "{}",
        absent.stderr
    );
    world.write("ignore.yaml", "images:\n- repository: etcd\n  versions: [1.10]\n");
    let wrong = world.run(&["--ignore", "ignore.yaml"]).await;
    assert_eq!(wrong.code, Some(1));
    assert_eq!(
        wrong.troubles(),
        [
            "error: the ignore list cannot be used:",
            "ignore.yaml:3: images[1].versions[1]: is a number; write it in quotes",
        ]
    );
}
