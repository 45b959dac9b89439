//! GitHub with its tokens and digests, the channel with its ways, and proxies.

use neco_releases::mirror::faults::{Fault, Scope};

use crate::world::{TOKEN, World};

const DEB: &str = "\
format = 1
[[deb]]
name = \"agent\"
owner = \"o\"
repository = \"agent\"
release = \"v1.0.0\"
";

const OS_IMAGE: &str = "format = 1\n[os-image]\nchannel = \"stable\"\nversion = \"4152.2.1\"\n";

/// The SHA-256 of `abc`, and of nothing.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_token_comes_from_the_environment_or_a_file() {
    let world = World::new().await;
    world.pin(DEB);
    world.release("v1.0.0", 8, "", Some(("agent_1.0.0_amd64.deb", "abc")));
    world.write("token", "ghp_of_the_file\n");
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    for (words, variables, expected) in [
        (&[][..], &[][..], None),
        (&[], &[("GITHUB_TOKEN", TOKEN)], bearer(TOKEN)),
        (&[], &[("GITHUB_TOKEN", "")], None),
        (&["--github-token-file", "token"], &[("GITHUB_TOKEN", TOKEN)], bearer("ghp_of_the_file")),
    ] {
        world.github_faults.take_asked();
        let ended = world.run_with(words, variables).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let asked = world.github_faults.take_asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].uri.starts_with("/repos/o/agent/releases?"), "{}", asked[0].uri);
        assert_eq!(asked[0].authorization, expected);
    }
    world.write("token", "\n");
    let ended = world.run(&["--github-token-file", "token"]).await;
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(1), "error: token has no token; write one there\n")
    );
    let refusal = Fault::Status(401, Vec::new(), "{}".to_owned());
    world.github_faults.always(Scope::Api, refusal);
    let ended = world.run_with(&[], &[("GITHUB_TOKEN", TOKEN)]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.ends_with(
            "answered 401: GitHub refuses the token; correct GITHUB_TOKEN or --github-token-file\n"
        ),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_release_without_its_package_is_none() {
    let world = World::new().await;
    let text = world.pin(DEB);
    world.release("v1.0.0", 8, "", Some(("agent_1.0.0_amd64.deb", "abc")));
    world.release("v1.0.2", 9, "", Some(("other_1.0.2_amd64.deb", "abc")));
    world.release("v1.0.3", 9, ",\"draft\":true", Some(("agent_1.0.3_amd64.deb", "abc")));
    let ended = world.run(&[]).await;
    assert_eq!((ended.code, world.pinned()), (Some(0), text), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("v1.0.0 stays; v1.0.2 has no file agent_*.deb"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_pinned_digest_is_what_the_new_release_claims() {
    let world = World::new().await;
    let pinned = format!("{DEB}sha256 = \"{ABC}\" # of the file\n");
    world.pin(&pinned);
    world.release("v1.0.0", 8, "", Some(("agent_1.0.0_amd64.deb", "abc")));
    world.release("v1.0.1", 9, "", Some(("agent_1.0.1_amd64.deb", "")));

    world.github_faults.next(Scope::Api, 1, Fault::NoDigests);
    let silent = world.run(&[]).await;
    assert_eq!((silent.code, world.pinned()), (Some(1), pinned.clone()));
    assert!(silent.stderr.contains("v1.0.1 does not say which SHA-256"), "{}", silent.stderr);

    let ended = world.run(&[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(
        ended.stdout.contains(&format!("v1.0.0 → v1.0.1, SHA-256 {NOTHING}")),
        "{}",
        ended.stdout
    );
    let expected = pinned.replace("v1.0.0", "v1.0.1").replace(ABC, NOTHING);
    assert_eq!(world.pinned(), expected);

    world.release("v1.0.1", 9, "", Some(("agent_1.0.1_amd64.deb", "abc")));
    let replaced = world.run(&["--check"]).await;
    assert_eq!((replaced.code, world.pinned()), (Some(1), expected));
    assert!(replaced.stderr.contains("it was replaced; find out why"), "{}", replaced.stderr);
}

#[tokio::test]
async fn the_channel_is_asked_again_and_followed() {
    let world = World::new().await;
    world.pin(OS_IMAGE);
    let list = "{\"current\":{},\"4230.2.0\":{}}";
    world.channel.answers(&[
        (503, "text/plain", "later"),
        (302, "/elsewhere.json", ""),
        (200, "application/json", list),
    ]);
    let ended = world.run(&[]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let first = "/releases-json/releases-stable.json";
    assert_eq!(world.channel.take_asked(), [first, first, "/elsewhere.json"]);
    assert_eq!(world.pinned(), OS_IMAGE.replace("4152.2.1", "4230.2.0"));
}

#[tokio::test]
async fn what_is_no_list_of_a_channel_is_told() {
    let world = World::new().await;
    world.pin(OS_IMAGE);
    for (answer, told, requests) in [
        ((404, "text/plain", ""), "answered 404; check the channel, --os-image-feed", 1),
        ((500, "text/plain", ""), "answered 500: the server has trouble", 3),
        ((200, "text/html", "<html>log in</html>"), "is no list of versions; is a login page", 1),
        ((200, "application/json", "[]"), "is no list of versions", 1),
        ((302, "ftp://x/", ""), "redirects to a URL of kind \"ftp\"", 1),
        ((200, "application/json", "{\"current\":{}}"), "it has no version at all", 1),
    ] {
        world.channel.answers(&[answer]);
        world.channel.take_asked();
        let ended = world.run(&[]).await;
        assert_eq!((ended.code, ended.troubles().len()), (Some(1), 1), "{}", ended.stderr);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert_eq!(world.channel.take_asked().len(), requests, "{told}");
        assert_eq!(world.pinned(), OS_IMAGE);
    }
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_asked_for_what_is_outside() {
    let world = World::new().await;
    world.pin(&format!("{DEB}{}", OS_IMAGE.trim_start_matches("format = 1\n")));
    world.release("v1.0.0", 8, "", Some(("agent_1.0.0_amd64.deb", "abc")));
    world.channel.lists(&["4230.2.0"]);
    let feed = ["--os-image-feed", "http://flatcar.invalid/releases-json/"];
    let ended = world.run_with(&feed, &[("HTTP_PROXY", &world.channel.url())]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    // The mirror on this machine was asked without it.
    let through = "http://flatcar.invalid/releases-json/releases-stable.json";
    assert_eq!(world.channel.take_asked(), [through]);
    assert!(world.pinned().contains("4230.2.0"));
}
