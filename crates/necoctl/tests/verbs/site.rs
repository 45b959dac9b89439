//! `site build` and `site programs`, with the real dpkg-deb.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use neco_host::{Expected, Root, TrustedKeys, Unsigned, verify_package};

use crate::harness::{Bench, Run, copy, version};

const BASE: &str = "2026.11.21-40152";
const OURS: &str = "2026.11.21-40153";

/// The top of the sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(path, text).expect("written");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

fn capture(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn dpkg_deb(arguments: &[&str], deb: &Path) -> String {
    capture(Command::new("dpkg-deb").args(arguments).arg(deb))
}

fn unpacked(deb: &Path, into: &Path) {
    capture(Command::new("dpkg-deb").arg("--raw-extract").args([deb, into]));
}

/// A package with the data of this tree, a package's control files, and programs that do nothing.
fn base(dir: &Path) -> PathBuf {
    let (tree, debian) = (dir.join("base"), sources().join("debian"));
    copy(&debian.join("usr/share/neco"), &tree.join("usr/share/neco"));
    copy(&debian.join("lib"), &tree.join("lib"));
    write(&tree.join("usr/share/neco/VERSION"), &format!("{BASE}\n"));
    for program in ["usr/sbin/neco-worker", "usr/sbin/neco-updater", "usr/bin/necoctl"] {
        write(&tree.join(program), "#!/bin/sh\n");
        mode(&tree.join(program), 0o755);
    }
    std::os::unix::fs::symlink("necoctl", tree.join("usr/bin/neco")).expect("a link");
    write(&tree.join("usr/bin/odd"), "odd\n");
    mode(&tree.join("usr/bin/odd"), 0o750);
    let text =
        |name: &str| std::fs::read_to_string(debian.join("DEBIAN").join(name)).expect("a template");
    let control = text("control.in").replace("@VERSION@", BASE);
    let control = control.replace("@INSTALLED_SIZE@", "1").replace("@LIBC@", "libc6");
    write(&tree.join("DEBIAN/control"), &control);
    let preinst = text("preinst.in").replace("@FUNCTIONS@\n", &text("functions.in"));
    let preinst = preinst.replace("@UNITS@", "neco-updater.service neco-worker.service");
    write(&tree.join("DEBIAN/preinst"), &preinst);
    mode(&tree.join("DEBIAN/preinst"), 0o755);
    write(&tree.join("DEBIAN/md5sums"), "");
    let deb = dir.join(format!("neco_{BASE}_amd64.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zzstd", "-z1", "-b"]).arg(&tree).arg(&deb);
    capture(build.env("SOURCE_DATE_EPOCH", "1700000000"));
    deb
}

/// A place to build in.
struct Place {
    bench: Bench,
    base: PathBuf,
}

impl Place {
    fn new() -> Self {
        let bench = Bench::new();
        let base = base(bench.root.path());
        Self { bench, base }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.bench.root.path().join(below)
    }

    /// Writes a file into the site's folder.
    fn lay(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("site").join(name);
        write(&path, text);
        path
    }

    async fn run(&self, line: &[&str]) -> Run {
        self.bench.run(line).await
    }

    /// Builds the site's package into `out`.
    async fn build(&self, more: &[&str]) -> Run {
        let (site, base, out) = (self.path("site"), self.base.clone(), self.path("out"));
        std::fs::create_dir_all(&site).expect("a folder");
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let (site, base, out) = (text(&site), text(&base), text(&out));
        let line =
            ["site", "build", &site, "--base", &base, "--to", &out, "--version", OURS, "--fast"];
        self.run(&[&line[..], more].concat()).await
    }

    fn built(&self) -> PathBuf {
        self.path(&format!("out/neco_{OURS}_amd64.deb"))
    }

    /// The built package, unpacked.
    fn unpacked(&self) -> PathBuf {
        let to = self.path("unpacked");
        let _ = std::fs::remove_dir_all(&to);
        capture(Command::new("dpkg-deb").arg("-R").arg(self.built()).arg(&to));
        to
    }
}

/// Mode and owner of each path in a package.
fn contents(deb: &Path) -> BTreeMap<String, String> {
    let listing = dpkg_deb(&["--contents"], deb);
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words[5].to_owned(), format!("{} {}", words[0], words[1]))
    };
    listing.lines().map(entry).collect()
}

#[tokio::test]
async fn a_site_s_package_is_the_base_with_the_overlay_and_right_control_files() {
    let place = Place::new();
    let dhcp = place.lay("dhcp.json", "{\"site\": true}\n");
    mode(&dhcp, 0o600);
    let tool = place.lay("files/usr/sbin/tool", "#!/bin/sh\necho tool\n");
    mode(&tool, 0o700);
    place.lay("files/lib/systemd/system/tool.service", "[Service]\nExecStart=/usr/sbin/tool\n");
    place.lay(".hidden", "not for servers");
    let run = place.build(&[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.trim_end().ends_with(&format!("out/neco_{OURS}_amd64.deb")), "{run:?}");
    assert!(run.err.contains("not signed: necoctl mirror sign "), "{run:?}");

    let (before, after) = (contents(&place.base), contents(&place.built()));
    let added = |path: &str| after.get(path).map(String::as_str);
    assert_eq!(added("./usr/sbin/tool"), Some("-rwxr-xr-x root/root"));
    assert_eq!(added("./lib/systemd/system/tool.service"), Some("-rw-r--r-- root/root"));
    assert_eq!(added("./usr/share/neco/dhcp.json"), Some("-rw-r--r-- root/root"));
    assert_eq!(added("./usr/bin/odd"), Some("-rwxr-x--- root/root"), "modes of the base are kept");
    assert!(before.iter().all(|(path, how)| after.get(path) == Some(how)), "{before:?} {after:?}");
    assert_eq!(after.len(), before.len() + 2, "{after:?}");

    let fields = dpkg_deb(&["-f"], &place.built());
    assert!(fields.contains(&format!("Version: {OURS}\n")), "{fields}");
    assert!(fields.contains("Depends: libc6, libgcc-s1\n"), "{fields}");
    let tree = place.unpacked();
    let read = |path: &str| std::fs::read_to_string(tree.join(path)).expect("a file");
    assert_eq!(read("usr/share/neco/VERSION"), format!("{OURS}\n"));
    assert_eq!(read("usr/share/neco/dhcp.json"), "{\"site\": true}\n");
    let preinst = read("DEBIAN/preinst");
    let provided = preinst.lines().find(|line| line.starts_with("provided="));
    let mut units: Vec<_> = after
        .keys()
        .filter_map(|path| path.strip_prefix("./lib/systemd/system/"))
        .filter(|name| !name.is_empty())
        .collect();
    units.sort_unstable();
    assert!(units.contains(&"tool.service") && units.contains(&"neco-worker.service"), "{units:?}");
    assert_eq!(provided, Some(&*format!("provided=' {} '", units.join(" "))));
    // What dpkg --verify compares with.
    let sums = tree.join("DEBIAN/md5sums");
    let listed = read("DEBIAN/md5sums").lines().count();
    capture(
        Command::new("md5sum")
            .args(["--check", "--strict", "--quiet"])
            .arg(&sums)
            .current_dir(&tree),
    );
    let files: Vec<_> = after.iter().filter(|(_, how)| how.starts_with('-')).collect();
    assert_eq!(listed, files.len());
    let size = fields.lines().find_map(|line| line.strip_prefix("Installed-Size: "));
    let kibibytes: u64 = files
        .iter()
        .map(|(path, _)| tree.join(path).metadata().expect("a file").len().div_ceil(1024))
        .sum();
    assert_eq!(size.expect("a size").parse::<u64>().expect("a number"), kibibytes);
}

#[tokio::test]
async fn what_only_a_site_can_bring_comes_from_its_folder() {
    let place = Place::new();
    // The examples are a beginning, and nothing of them is in the package where a worker looks.
    let package = sources().join("debian/usr/share/neco");
    for name in ["cke-template.yml", "namespaces.yml", "ignitions"] {
        assert!(!package.join(name).exists(), "{name} would be given to every data centre");
    }
    copy(&sources().join("debian/usr/share/doc/neco/examples/site"), &place.path("site"));
    let hidden = place.lay("ignitions/common/files/root/.bashrc", "true\n");
    mode(&hidden, 0o600);
    let run = place.build(&[]).await;
    let what = "ignitions/common/files/root/.bashrc: no source in common that a role uses names it";
    assert!(run.code == 1 && run.err.contains(what), "{run:?}");
    let common = place.path("site/ignitions/common/common.yml");
    let text = std::fs::read_to_string(&common).expect("a source");
    write(&common, &text.replace("files:\n", "files:\n- /root/.bashrc\n"));
    place.lay("cke-tempalte.yml", "nodes: []\n");
    let run = place.build(&[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let warnings: Vec<&str> = run.err.lines().filter(|line| line.contains("no step")).collect();
    assert!(matches!(*warnings, [one] if one.contains("site/cke-tempalte.yml")), "{warnings:?}");
    let data = place.unpacked().join("usr/share/neco");
    for name in [
        "cke-template.yml",
        "namespaces.yml",
        "ignitions/roles/cs/site.yml",
        "ignitions/common/files/root/.bashrc",
    ] {
        let (ours, theirs) = (data.join(name), place.path("site").join(name));
        assert_eq!(std::fs::read(ours).expect(name), std::fs::read(theirs).expect(name));
    }
    let bits = |name: &str| data.join(name).metadata().expect(name).permissions().mode() & 0o7777;
    assert_eq!(bits("ignitions/common/files/root/.bashrc"), 0o600, "machines get it so");
    assert_eq!(bits("cke-template.yml"), 0o644);
    // Laid over that one, the sources of another site take the place of all of them.
    let next = Place::new();
    let next = Place { base: place.built(), ..next };
    next.lay("ignitions/roles/edge/site.yml", "version: \"2.3\"\n");
    let run = next.build(&[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let data = next.unpacked().join("usr/share/neco");
    let left = |below: &str| {
        let entries = std::fs::read_dir(data.join("ignitions").join(below)).expect("a folder");
        entries.map(|entry| entry.expect("one").file_name()).collect::<Vec<_>>()
    };
    assert_eq!((left(""), left("roles")), (vec!["roles".into()], vec!["edge".into()]));
    assert!(data.join("cke-template.yml").exists(), "nothing else of it goes");
}

#[tokio::test]
async fn the_same_folder_makes_the_same_package() {
    let place = Place::new();
    place.lay("files/usr/share/site/note", "note\n");
    assert_eq!(place.build(&[]).await.code, 0);
    let one = std::fs::read(place.built()).expect("a package");
    std::fs::remove_file(place.built()).expect("removed");
    // Another time of the folder is no other package.
    place.lay("files/usr/share/site/note", "note\n");
    assert_eq!(place.build(&[]).await.code, 0);
    assert!(one == std::fs::read(place.built()).expect("a package"), "two builds differ");
    let listing = dpkg_deb(&["--contents"], &place.built());
    assert!(listing.lines().all(|line| line.contains("2023-11-14")), "{listing}");
}

#[tokio::test]
async fn a_signed_package_is_what_servers_with_that_key_accept() {
    let mut place = Place::new();
    place.bench.input = "a password\n";
    let key = place.path("site.key");
    let key = key.to_str().expect("text").to_owned();
    assert_eq!(place.run(&["key", "new", &key]).await.code, 0);
    let public = std::fs::read_to_string(format!("{key}.pub")).expect("a public key");
    place.lay("release-keys/site.pub", &public);
    let run = place.build(&["--key", &key, "--output", "json"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.out.contains("a password") && !run.err.contains("a password"), "{run:?}");
    let signature = PathBuf::from(run.json()["signature"].as_str().expect("a signature"));
    let comment = std::fs::read_to_string(&signature).expect("a signature");
    let comment = comment.lines().find(|line| line.starts_with("trusted comment: "));
    let expected = format!("trusted comment: package=neco version={OURS} arch=amd64");
    assert_eq!(comment, Some(&*expected));

    // A server that has the package trusts the key in it.
    let server = place.unpacked();
    let keys = TrustedKeys::load(&Root::new(server).expect("a root")).expect("keys");
    let wanted = Expected::neco(version(OURS));
    let verify = |keys: TrustedKeys| {
        let (deb, signatures, wanted) = (place.built(), [signature.clone()], wanted.clone());
        async move { verify_package(&deb, &signatures, &keys, &wanted, Unsigned::Refuse).await }
    };
    let verified = verify(keys).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(verified.sha256(), run.json()["sha256"]);
    assert!(verify(TrustedKeys::default()).await.is_err(), "nobody trusts what he does not know");
}

#[tokio::test]
async fn what_servers_could_not_use_is_not_built() {
    let serf = "format = 1\nname = \"serf\"\nscope = \"each\"\n";
    let recipe = "format = 1\n[[step]]\nname = \"x\"\ncomponent = \"nobody\"\n";
    // What Serf reads, by another component, too.
    let rival = "format = 1\nname = \"rival\"\nrestart = \"never\"\n\n\
                 [[file]]\npath = \"/etc/serf/serf.json\"\ntemplate = \"serf.json.j2\"\nmode = \"0644\"\n";
    let circle = "[Unit]\n{% include \"serf.service.j2\" %}\n";
    for (name, text, parts) in [
        ("components/serf.toml", serf, &["components/serf.toml:3: scope", "each"][..]),
        ("templates/serf.json.j2", "{{ sever }}", &["templates/serf.json.j2:1: sever"]),
        ("recipe.toml", recipe, &["recipe.toml:4: step[1].component", "nobody"]),
        (
            "components/rival.toml",
            rival,
            &[
                "components/serf.toml",
                "/etc/serf/serf.json stands in components/rival.toml:6 already",
            ],
        ),
        ("templates/serf.service.j2", circle, &["templates/serf.service.j2:2", "serf.service.j2"]),
        (
            "artifacts.toml",
            "format = 1\n[[image]]\nname = \"x\"\n",
            &["artifacts.toml", "repository"],
        ),
        ("components/notes.txt", "x", &["components/notes.txt"]),
        ("release-keys/site.pub", "no key", &["release keys", "site.pub"]),
        ("files/etc/site.conf", "x", &["nothing to /etc/site.conf", "components"]),
        ("files/usr/local/bin/x", "x", &["nothing to /usr/local/bin/x"]),
        ("files/usr/sbin/neco-worker", "x", &["/usr/sbin/neco-worker belongs to Neco"]),
        ("files/usr/share/neco/x", "x", &["/usr/share/neco belongs to Neco"]),
        ("files/usr/bin/odd", "x", &["has /usr/bin/odd already"]),
        (
            "files/usr/lib/systemd/system/neco-worker.service",
            "x",
            &["has /lib/systemd/system/neco-worker.service already"],
        ),
        ("notes/x", "x", &["notes has no place", "components, templates, release-keys, ignitions"]),
        ("units/x.service", "x", &["units/x.service", "no program"]),
        ("VERSION", "1", &["--version"]),
    ] {
        let place = Place::new();
        place.lay(name, text);
        for more in [&[][..], &["--dry-run"]] {
            let run = place.build(more).await;
            assert_eq!((run.code, &*run.out), (1, ""), "{name}: {run:?}");
            for part in parts {
                assert!(run.err.contains(part), "{name}: no {part:?}: {}", run.err);
            }
            assert!(!run.err.contains("/neco-site-"), "{name}: of no use to a person: {}", run.err);
        }
        assert!(!place.path("out").exists(), "{name}");
    }
}

#[tokio::test]
async fn files_that_are_none_or_go_to_one_place_are_refused() {
    let place = Place::new();
    place.lay("files/usr/sbin/x", "x");
    let link = place.path("site/files/usr/sbin/y");
    std::os::unix::fs::symlink("/etc/shadow", &link).expect("a link");
    let run = place.build(&[]).await;
    assert!(run.code == 1 && run.err.contains("is no plain file"), "{run:?}");
    std::fs::remove_file(link).expect("removed");

    let other = place.path("other.deb");
    std::fs::write(&other, "no package").expect("written");
    let place = Place { base: other, ..place };
    let run = place.build(&[]).await;
    assert!(run.code == 1 && run.err.contains("other.deb cannot be unpacked"), "{run:?}");
}

#[tokio::test]
async fn nothing_is_overwritten_and_a_rehearsal_writes_nothing() {
    let place = Place::new();
    let run = place.build(&["--dry-run"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let planned = format!("  write  {}\n", place.built().display());
    assert!(run.out.ends_with(&planned), "{run:?}");
    assert!(!place.path("out").exists());
    assert_eq!(place.build(&[]).await.code, 0);
    let run = place.build(&[]).await;
    assert!(run.code == 1 && run.err.contains("is there already"), "{run:?}");
}

/// The digest of a file, as a person would take it.
fn sha256(path: &Path) -> String {
    let line = capture(Command::new("sha256sum").arg(path));
    line.split_whitespace().next().expect("a digest").to_owned()
}

#[tokio::test]
async fn programs_of_the_list_are_compared_and_carried() {
    let place = Place::new();
    // One that is a file, and one in an archive.
    let plain = place.path("made/plain");
    write(&plain, "#!/bin/sh\necho plain\n");
    write(&place.path("made/inner/packed"), "#!/bin/sh\necho packed\n");
    let archive = place.path("made/packed.tar.gz");
    let mut tar = Command::new("tar");
    capture(tar.arg("-C").arg(place.path("made")).arg("-czf").arg(&archive).arg("inner/packed"));
    let archive_digest = sha256(&archive);
    let list = |plain_digest: &str| {
        format!(
            "format = 1\n[[program]]\nname = \"plain_tool\"\nurl = \"file://{}\"\n{plain_digest}folder = \"/usr/sbin\"\n\
             unit = \"plain.service\"\n[[program]]\nname = \"packed\"\nurl = \"file://{}\"\nsha256 = \"{}\"\n\
             inside = \"inner/packed\"\n",
            plain.display(),
            archive.display(),
            archive_digest,
        )
    };
    let good = format!("sha256 = \"{}\"\n", sha256(&plain));
    let file = place.lay("artifacts.toml", &list(&good));
    let file = file.to_str().expect("text").to_owned();
    let (into, cache) = (place.path("root"), place.path("cache"));
    let (into_, cache_) = (into.to_str().expect("text"), cache.to_str().expect("text"));
    let fetch = ["site", "programs", &file, "--into", into_, "--cache", cache_];

    let run = place.run(&fetch).await;
    assert!(run.code == 1 && run.err.contains("there is no units/plain.service"), "{run:?}");
    place.lay("units/plain.service", "[Service]\nExecStart=/usr/sbin/plain_tool\n");
    let run = place.run(&fetch).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.out, "usr/bin/packed\nusr/sbin/plain_tool\nlib/systemd/system/plain.service\n");
    assert_eq!(capture(&mut Command::new(into.join("usr/bin/packed"))), "packed\n");
    assert_eq!(capture(&mut Command::new(into.join("usr/sbin/plain_tool"))), "plain\n");

    // What is in the cache is not fetched again, and not trusted either.
    std::fs::remove_file(&archive).expect("removed");
    assert_eq!(place.run(&fetch).await.code, 0);
    let kept = cache.join(sha256(&plain));
    std::fs::write(&kept, "damaged").expect("written");
    assert_eq!(place.run(&fetch).await.code, 0);
    assert_eq!(std::fs::read(&kept).expect("a file"), std::fs::read(&plain).expect("a file"));

    // A digest that is missing, and one that is wrong.
    for (digest, part) in [
        (String::new(), "no sha256 is written down for plain_tool:"),
        (format!("sha256 = \"{}\"\n", "0".repeat(64)), "plain_tool is not what was written down"),
    ] {
        // The archive is in the cache still.
        let text = list(&good).replace(&good, &digest);
        std::fs::write(&file, text).expect("written");
        let _ = std::fs::remove_dir_all(&into);
        let run = place.run(&fetch).await;
        assert_eq!((run.code, &*run.out), (1, ""), "{run:?}");
        assert!(run.err.contains(part), "{run:?}");
        assert!(!into.join("usr/sbin/plain_tool").exists());
    }
}

/// A list of one program, and of a second one that cannot be had.
fn list(place: &Place, name: &str, second: &str) -> PathBuf {
    let program = place.path("first");
    std::fs::write(&program, "first\n").expect("written");
    let entry = |name: &str, from: &Path, sha256: &str| {
        format!(
            "[[program]]\nname = \"{name}\"\nurl = \"file://{}\"\nsha256 = \"{sha256}\"\n",
            from.display()
        )
    };
    let digest = sha256(&program);
    let text = format!(
        "format = 1\n{}{}",
        entry("first", &program, &digest),
        second.replace("DIGEST", &"a".repeat(64))
    );
    let path = place.path(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// The verb in a process of its own, which is stopped if it waits for somebody.
fn programs(list: &Path, into: &Path) -> (Option<i32>, String) {
    let mut verb = Command::new("timeout");
    verb.args(["60", env!("CARGO_BIN_EXE_necoctl"), "site", "programs"]).arg(list);
    let output = verb.arg("--into").arg(into).stdin(Stdio::null()).output().expect("started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_program_that_cannot_be_had_leaves_nothing_of_the_others() {
    let place = Place::new();
    let pipe = place.path("pipe");
    capture(Command::new("mkfifo").arg(&pipe));
    let second = |from: &str, more: &str| {
        format!(
            "[[program]]\nname = \"second\"\nurl = \"file://{from}\"\nsha256 = \"DIGEST\"\n{more}"
        )
    };
    let gone = place.path("gone");
    let dir = place.path("");
    let link = place.path("units/linked.service");
    std::fs::create_dir(place.path("units")).expect("a folder");
    std::os::unix::fs::symlink("/etc/shadow", &link).expect("a link");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let sound = text(&place.path("first"));
    for (second, part) in [
        (second(&text(&gone), ""), "gone: No such file"),
        (second(&text(&pipe), ""), "pipe is no plain file"),
        (second("/dev/zero", ""), "/dev/zero is no plain file"),
        (second(&text(&dir), ""), "is no plain file"),
        (second(&text(&place.base), ""), "second is not what was written down"),
        (second(&sound, "unit = \"linked.service\"\n"), "units/linked.service is no plain file"),
        (second(&sound, "unit = \"other.service\"\n"), "there is no units/other.service beside it"),
        (second(&sound, "colour = 1\n"), "odd.toml:10: program[2].colour: is not known here"),
    ] {
        let list = list(&place, "odd.toml", &second);
        let into = place.path("new/root");
        let (code, err) = programs(&list, &into);
        assert!(code == Some(1) && err.contains(part), "{part}: {code:?} {err}");
        assert!(!place.path("new").exists(), "{part}: nothing is left");
        std::fs::create_dir(place.path("old")).expect("a folder");
        assert_eq!(programs(&list, &place.path("old")).0, Some(1));
        std::fs::remove_dir(place.path("old")).expect("it stays, and it is empty");
    }
    let (code, err) = programs(&pipe, &place.path("new"));
    assert!(code == Some(1) && err.contains("pipe: it is no plain file"), "{code:?} {err}");
}

/// What lies at a place is replaced, not written into: it may be a link to something else.
#[test]
fn a_program_takes_the_place_of_a_link() {
    let place = Place::new();
    let (list, into) = (list(&place, "list.toml", ""), place.path("root"));
    let victim = place.path("victim");
    std::fs::write(&victim, "untouched").expect("written");
    std::fs::create_dir_all(into.join("usr/bin")).expect("a folder");
    std::os::unix::fs::symlink(&victim, into.join("usr/bin/first")).expect("a link");
    assert_eq!(programs(&list, &into), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(&victim).expect("there"), "untouched");
    let laid = into.join("usr/bin/first").symlink_metadata().expect("there");
    assert!(laid.is_file() && laid.permissions().mode() & 0o7777 == 0o755, "{laid:?}");
    let left: Vec<_> = std::fs::read_dir(&into).expect("there").collect();
    assert_eq!(left.len(), 1, "nothing but usr: {left:?}");
}

/// Packs `tree` as a base, with what a package of Neco has.
fn odd_base(place: &Place, change: impl FnOnce(&Path)) -> Place {
    let tree = place.path("odd");
    unpacked(&place.base, &tree);
    change(&tree);
    let deb = place.path("odd.deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zzstd", "-z1", "-b"]).arg(&tree).arg(&deb);
    capture(&mut build);
    std::fs::remove_dir_all(&tree).expect("removed");
    Place { base: deb, bench: Bench::new() }
}

/// A base that somebody made who wants files of this machine to be written.
#[tokio::test]
async fn nothing_is_written_through_links_of_the_base() {
    let victims = tempfile::tempdir().expect("a folder");
    let victim = victims.path().join("victim");
    let linked: [(&str, &Path); 3] = [
        ("usr/share/neco/VERSION", &victim),
        ("usr/share/neco/templates", victims.path()),
        ("usr/share/site", victims.path()),
    ];
    for (name, to) in linked {
        std::fs::write(&victim, "untouched").expect("written");
        let origin = Place::new();
        let place = odd_base(&origin, |tree| {
            let path = tree.join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).expect("removed");
            } else {
                let _ = std::fs::remove_file(&path);
            }
            std::os::unix::fs::symlink(to, path).expect("a link");
        });
        place.lay("templates/new.j2", "x");
        place.lay("files/usr/share/site/new", "x");
        let run = place.build(&[]).await;
        assert_eq!(run.code, 1, "{name}: {run:?}");
        let told = format!("the package has a link at /{name}; nothing is written through it");
        assert!(run.err.contains(&told), "{name}: {run:?}");
        assert!(!place.built().exists(), "{name}");
        let left: Vec<_> = std::fs::read_dir(victims.path()).expect("there").collect();
        assert_eq!(left.len(), 1, "{name}: {left:?}");
        assert_eq!(std::fs::read_to_string(&victim).expect("there"), "untouched", "{name}");
    }
}

/// An archive as ar(1) makes them, which a .deb is.
fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len());
        bytes.extend(header.as_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// What the base calls its control files may be a link to anywhere.
#[tokio::test]
async fn control_files_of_the_base_go_nowhere_else() {
    let victims = tempfile::tempdir().expect("a folder");
    let origin = Place::new();
    let (data, control) = (origin.path("data"), origin.path("control"));
    for folder in [&data, &control] {
        std::fs::create_dir(folder).expect("a folder");
    }
    std::os::unix::fs::symlink(victims.path(), data.join("DEBIAN")).expect("a link");
    write(&control.join("control"), "Package: neco\n");
    let tar = |folder: &Path| {
        let output = Command::new("tar").arg("-cC").arg(folder).arg(".").output().expect("started");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&control)),
        ("data.tar", tar(&data)),
    ];
    let deb = origin.path("odd.deb");
    std::fs::write(&deb, archive(&members)).expect("written");
    let place = Place { base: deb, bench: Bench::new() };
    let run = place.build(&[]).await;
    assert!(run.code == 1 && run.err.contains("has /DEBIAN among its files"), "{run:?}");
    let left: Vec<_> = std::fs::read_dir(victims.path()).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_site_s_package_carries_its_programs() {
    let place = Place::new();
    let tool = place.path("made/tool");
    write(&tool, "#!/bin/sh\n");
    let shipped = sources().join("debian/usr/share/neco/artifacts.toml");
    let shipped = std::fs::read_to_string(shipped).expect("a list");
    let entry = |name: &str, digest: &str| {
        format!(
            "{shipped}\n[[program]]\nname = \"{name}\"\nurl = \"file://{}\"\n{digest}folder = \"/usr/sbin\"\nunit = \"tool.service\"\n",
            tool.display()
        )
    };
    let digest = format!("sha256 = \"{}\"\n", sha256(&tool));
    place.lay("units/tool.service", "[Service]\nExecStart=/usr/sbin/tool\n");
    place.lay("artifacts.toml", &entry("tool", ""));
    let run = place.build(&["--dry-run"]).await;
    assert!(run.code == 1 && run.err.contains("no sha256 is written down for tool"), "{run:?}");
    place.lay("artifacts.toml", &entry("neco-worker", &digest));
    let run = place.build(&[]).await;
    assert!(run.code == 1 && run.err.contains("belongs to Neco itself"), "{run:?}");
    place.lay("artifacts.toml", &entry("tool", &digest));
    let run = place.build(&[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let after = contents(&place.built());
    assert_eq!(after.get("./usr/sbin/tool").map(String::as_str), Some("-rwxr-xr-x root/root"));
    let preinst = std::fs::read_to_string(place.unpacked().join("DEBIAN/preinst")).expect("it");
    assert!(preinst.contains(" tool.service '\n"), "its removal would be noticed");
}

#[test]
fn the_default_list_waits_for_its_digests() {
    let list = sources().join("debian/usr/share/doc/neco/examples/programs/artifacts.toml");
    let artifacts = necoctl::site::programs::read(&list).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = artifacts.programs.keys().map(String::as_str).collect();
    assert_eq!(names, ["cke", "cke-localproxy", "ckecli", "node_exporter", "teleport"]);
    let refused = necoctl::site::programs::check(artifacts.programs.values());
    let refused = refused.expect_err("no digest is known").to_string();
    for name in names {
        assert!(refused.contains(name), "{refused}");
    }
    for program in artifacts.programs.values() {
        let unit = program.unit.as_ref().map(|unit| list.with_file_name("units").join(unit));
        assert!(unit.is_none_or(|unit| unit.is_file()), "{} has no unit", program.name);
    }
}

/// What stands between two lines, without them.
fn block(text: &str, begin: &str, end: &str) -> String {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}")).0.to_owned()
}

#[test]
fn the_walk_through_of_the_documentation_works() {
    let page = std::fs::read_to_string(sources().join("docs/components.md")).expect("the page");
    let section = block(&page, "## Adding a program of your own\n", "\n## ");
    let commands: Vec<_> =
        section.split("```sh\n").skip(1).map(|rest| block(rest, "", "```")).collect();
    assert!(commands.len() > 1, "{section}");
    let dir = tempfile::tempdir().expect("a directory");
    base(dir.path());
    std::os::unix::fs::symlink(sources().join("docs"), dir.path().join("docs")).expect("a link");
    let program = Path::new(env!("CARGO_BIN_EXE_necoctl")).parent().expect("a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path)));
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &commands.concat()]).current_dir(dir.path());
    shell.env("PATH", path.expect("a path"));
    // The password of the new key.
    shell.stdin(Stdio::null());
    let output = shell.output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for path in [
        "-rwxr-xr-x root/root ./usr/sbin/hello-http",
        "-rw-r--r-- root/root ./usr/share/neco/components/hello.toml",
        "-rw-r--r-- root/root ./usr/share/neco/templates/hello.service.j2",
    ] {
        let squeezed: Vec<_> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.len() > 5)
            .map(|words| format!("{} {} {}", words[0], words[1], words[5]))
            .collect();
        assert!(squeezed.iter().any(|line| line == path), "no {path}: {said}");
    }
    // The last step of the recipe is the new one.
    let tree = dir.path().join("unpacked");
    let deb = dir.path().join(format!("out/neco_{OURS}_amd64.deb"));
    capture(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree));
    let recipe = neco_components::Recipe::load(tree.join("usr/share/neco"));
    let recipe = recipe.unwrap_or_else(|error| panic!("{error}"));
    let (_, last) = recipe.steps().last().expect("a step");
    assert_eq!(last.name.as_str(), "hello");
    assert!(dir.path().join(format!("mirror/release-{OURS}")).is_dir(), "published");
}
