//! The scripts that dpkg runs: templates, because each must be whole by itself when it runs.

use std::fs;
use std::path::Path;

use super::tree::{CONTROL, SCRIPTS, Tree};
use crate::exit::{Doing, Done, Failure};

/// Stands for what several scripts share, in a line of its own.
const FUNCTIONS: &str = "@FUNCTIONS@\n";
/// Stands for the names of the units in the package, in one line: the preinst runs before they are there.
const UNITS: &str = "@UNITS@";

/// Where systemd looks for the units of packages and of the site.
const UNIT_FOLDERS: [&str; 3] =
    ["lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system"];
/// What units end with.
const UNIT_KINDS: [&str; 9] =
    ["automount", "mount", "path", "service", "slice", "socket", "swap", "target", "timer"];

/// Fills the templates in `debian/DEBIAN`, and puts the scripts into the tree unless it has them already.
pub(super) fn add(tree: &mut Tree, debian: &Path) -> Done {
    let templates = debian.join(CONTROL);
    let functions = read(&templates.join("functions.in"))?;
    let units = units(tree).join(" ");
    for name in SCRIPTS {
        let (template, script) =
            (templates.join(format!("{name}.in")), format!("{CONTROL}/{name}"));
        if tree.has(&script) || !template.exists() {
            continue;
        }
        let text = read(&template)?.replacen(FUNCTIONS, &functions, 1).replace(UNITS, &units);
        if text.contains("@FUNCTIONS@") {
            return Err(Failure::failed(format!(
                "{}: {} stands not alone in one line",
                template.display(),
                FUNCTIONS.trim_end()
            )));
        }
        tree.write(&script, text.as_bytes(), 0o755)?;
    }
    Ok(())
}

/// The names of the units in the tree, sorted.
fn units(tree: &Tree) -> Vec<String> {
    let mut units: Vec<String> = tree
        .paths()
        .filter_map(|path| {
            let (folder, name) = path.rsplit_once('/')?;
            let kind = name.rsplit_once('.')?.1;
            (UNIT_FOLDERS.contains(&folder) && UNIT_KINDS.contains(&kind)).then(|| name.to_owned())
        })
        .collect();
    units.sort();
    units.dedup();
    units
}

fn read(file: &Path) -> Done<String> {
    fs::read_to_string(file).doing(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Programs, SHIPPED};
    use crate::package::{Compression, Quality, Version, pack_with};
    use crate::run;
    use crate::workspace::Workspace;
    use std::path::PathBuf;
    use std::process::{Command, Output};

    /// Remembers what is enabled, and knows what is masked and what there is at all.
    const SYSTEMCTL: &str = r#"#!/bin/sh
root= verb= units=
for word in "$@"; do
    case $word in
    --root=*) root=${word#--root=} ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi ;;
    esac
done
# A script that forgets the root would reach the system that this runs on.
[ "${root:-$SITE}" = "$SITE" ] || exit 99
[ -n "$root" ] || echo "$verb $units" >>"$SITE/touched"
for unit in $units; do
    case $verb in
    enable) touch "$SITE/enabled/$unit" ;;
    disable) rm -f "$SITE/enabled/$unit" ;;
    is-enabled)
        if [ -e "$SITE/masked/$unit" ]; then
            echo masked && exit 1
        elif [ -e "$SITE/enabled/$unit" ]; then
            echo enabled
        elif [ -e "$SITE/lib/systemd/system/$unit" ] || [ -e "$SITE/etc/systemd/system/$unit" ]; then
            echo disabled && exit 1
        else
            exit 1
        fi
        ;;
    start | stop) echo "$verb $unit" >>"$SITE/touched" ;;
    esac
done
"#;

    /// A tree that the real dpkg installs into, with a systemctl that runs nothing.
    struct Site {
        dir: PathBuf,
        workspace: Workspace,
        programs: Programs,
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    impl Site {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("xtask-site-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            let root = dir.join("root");
            for folder in [
                "var/lib/dpkg/info",
                "var/lib/dpkg/updates",
                "var/lib/dpkg/triggers",
                "etc/neco",
                "etc/systemd/system",
                "enabled",
                "masked",
            ] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
            let programs = Programs { dir: dir.join("programs") };
            fs::create_dir_all(&programs.dir).unwrap();
            for name in SHIPPED {
                fs::copy("/bin/true", programs.dir.join(name)).unwrap();
            }
            crate::texts::tests::lay(&programs);
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
            let workspace = Workspace { root: source, target: dir.join("target") };
            let site = Self { dir, workspace, programs };
            // By another process: one that this process writes cannot be started while some other test forks.
            fs::create_dir_all(site.dir.join("bin")).unwrap();
            fs::write(site.dir.join("script"), SYSTEMCTL).unwrap();
            let (from, to) = (site.dir.join("script"), site.dir.join("bin/systemctl"));
            run::capture(Command::new("install").arg("-m755").arg(from).arg(to)).unwrap();
            site
        }

        fn root(&self) -> PathBuf {
            self.dir.join("root")
        }

        fn ours(&self, version: &str) -> PathBuf {
            self.packed(version, None)
        }

        fn packed(&self, version: &str, overlay: Option<&Path>) -> PathBuf {
            let version = Version::parse(version).unwrap();
            let (zstd, sound) = (Compression::Zstd, Quality::Sound);
            pack_with(&self.workspace, &self.programs, &version, zstd, sound, overlay, &self.dir)
                .unwrap()
        }

        /// A package in the shape of the original's.
        fn original(&self) -> PathBuf {
            let file = self.dir.join("original.deb");
            let tree = self.workspace.root.join("dctest/fixtures/original");
            let mut command = Command::new("dpkg-deb");
            command.args(["--root-owner-group", "-Zgzip", "-b"]).arg(tree).arg(&file);
            run::capture(&mut command).unwrap();
            file
        }

        fn dpkg(&self, action: &str, what: &Path) -> Output {
            let path = std::env::var("PATH").unwrap();
            let output = Command::new("dpkg")
                .arg(format!("--root={}", self.root().display()))
                .args(["--force-script-chrootless", "--force-not-root", "--force-bad-path"])
                .args(["--force-depends", "--log=/dev/null", action])
                .arg(what)
                .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
                .env("SITE", self.root())
                .output()
                .unwrap();
            println!("{}", String::from_utf8_lossy(&output.stderr));
            output
        }

        /// Runs the preinst of our package as dpkg runs it, on the database of packages that the root has.
        fn preinst(&self, args: &[&str]) -> Output {
            let control = self.dir.join("control");
            let mut command = Command::new("dpkg-deb");
            run::capture(command.arg("-e").arg(self.ours("2026.11.21-1")).arg(&control)).unwrap();
            let path = std::env::var("PATH").unwrap();
            Command::new("sh")
                .arg(control.join("preinst"))
                .args(args)
                .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
                .env("SITE", self.root())
                .env("DPKG_ROOT", self.root())
                .env("DPKG_ADMINDIR", self.root().join("var/lib/dpkg"))
                .env("DPKG_MAINTSCRIPT_PACKAGE", "neco")
                .output()
                .unwrap()
        }

        fn install(&self, package: &Path) {
            assert!(self.dpkg("--install", package).status.success());
        }

        fn refused(&self, package: &Path) -> String {
            let output = self.dpkg("--install", package);
            assert!(!output.status.success());
            let said = String::from_utf8(output.stderr).unwrap();
            let line = said.lines().find(|line| line.starts_with("neco: refused: "));
            line.unwrap_or_else(|| panic!("no refusal in {said}")).to_owned()
        }

        fn lay(&self, path: &str, text: &str) {
            fs::write(self.root().join(path), text).unwrap();
        }

        fn enabled(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(self.root().join("enabled"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        /// What dpkg says of the package: state and version.
        fn state(&self) -> String {
            let mut command = Command::new("dpkg-query");
            command.arg(format!("--root={}", self.root().display()));
            run::capture(command.args(["-W", "-f=${db:Status-Status} ${Version}", "neco"])).unwrap()
        }

        fn has_note(&self) -> bool {
            self.root().join("var/lib/neco/units-to-start").exists()
        }
    }

    const ORIGINAL: &str = "2021.04.19-13965";
    const DAEMONS: [&str; 3] =
        ["neco-updater.service", "neco-worker.service", "sabakan-state-setter.service"];

    #[test]
    fn an_upgrade_that_would_lose_units_is_refused_and_gives_back_what_was_stopped() {
        let site = Site::new("refused");
        site.install(&site.original());
        fs::remove_file(site.root().join("enabled/cke.service")).unwrap();
        fs::write(site.root().join("masked/cke.service"), "").unwrap();
        let before = site.enabled();
        assert_eq!(before.len(), 13, "{before:?}");
        let line = site.refused(&site.ours("2026.11.21-1"));
        assert!(line.contains(ORIGINAL) && line.contains("/etc/neco/allow-removal"), "{line}");
        let names = line.split_once("would be lost: ").unwrap().1.split_once(';').unwrap().0;
        let names: Vec<_> = names.split(' ').collect();
        assert_eq!(names.len(), 16, "{names:?}");
        assert!(names.contains(&"backup-cke-etcd.timer") && names.contains(&"cke.service"));
        assert!(!names.iter().any(|name| DAEMONS.contains(name)), "{names:?}");
        // And nothing that was not: what a timer starts, what is masked.
        assert_eq!(site.enabled(), before);
        assert_eq!(site.state(), format!("installed {ORIGINAL}"));
        assert!(!site.has_note());
    }

    #[test]
    fn what_the_site_provides_or_lets_go_may_go_from_the_package() {
        let site = Site::new("allowed");
        site.install(&site.original());
        let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        site.lay("etc/systemd/system/teleport-node.service", unit);
        site.lay("etc/systemd/system/node-exporter.service", "");
        let into_the_package = site.root().join("etc/systemd/system/neco-rebooter.service");
        let of_the_package = site.root().join("lib/systemd/system/neco-rebooter.service");
        std::os::unix::fs::symlink(of_the_package, &into_the_package).unwrap();
        let mut allowed = String::from("# what may go\n#boot-ip-setter.service\n");
        for kind in ["service", "timer"] {
            for name in [
                "backup-cke-etcd",
                "docker-prune",
                "export-unit-status",
                "kill-old-login-sessions",
                "trigger-reboot-all-nodes",
            ] {
                allowed.push_str(&format!(" {name}.{kind} # for a reason\r\n"));
            }
        }
        allowed.push_str("cke.service\ncke-localproxy.service\n");
        site.lay("etc/neco/allow-removal", &allowed);
        let ours = site.ours("2026.11.21-1");
        let line = site.refused(&ours);
        let lost = "lost: boot-ip-setter.service neco-rebooter.service node-exporter.service;";
        assert!(line.contains(lost), "{line}");

        fs::remove_file(&into_the_package).unwrap();
        allowed.push_str("boot-ip-setter.service\nneco-rebooter.service\nnode-exporter.service");
        site.lay("etc/neco/allow-removal", &allowed);
        site.install(&ours);
        assert_eq!(site.state(), "installed 2026.11.21-1");
        let mut enabled = site.enabled();
        // It is there, and empty: enabled or not, it is the site's.
        enabled.retain(|name| name != "node-exporter.service");
        assert_eq!(enabled, [&DAEMONS[..], &["teleport-node.service"]].concat());
        assert!(!site.has_note());
    }

    #[test]
    fn what_was_stopped_is_given_back_when_an_allowed_upgrade_fails() {
        let site = Site::new("failed");
        site.install(&site.original());
        let before = site.enabled();
        let units = fs::read_dir(site.root().join("lib/systemd/system")).unwrap();
        let names = units.map(|unit| unit.unwrap().file_name().into_string().unwrap() + "\n");
        site.lay("etc/neco/allow-removal", &names.collect::<String>());
        let other = site.dir.join("other");
        for folder in ["DEBIAN", "usr/bin"] {
            fs::create_dir_all(other.join(folder)).unwrap();
        }
        let control = "Package: other\nVersion: 1\nArchitecture: all\n\
                       Maintainer: A <a@b.example>\nDescription: has a file of ours\n";
        fs::write(other.join("DEBIAN/control"), control).unwrap();
        fs::write(other.join("usr/bin/necoctl"), "").unwrap();
        run::capture(Command::new("dpkg-deb").arg("-b").arg(&other)).unwrap();
        site.install(&site.dir.join("other.deb"));
        let ours = site.ours("2026.11.21-1");
        assert!(!site.dpkg("--install", &ours).status.success());
        assert_eq!(site.enabled(), before);
        assert_eq!(site.state(), format!("installed {ORIGINAL}"));
        assert!(!site.has_note());
    }

    #[test]
    fn what_dpkg_has_never_heard_of_is_left_alone() {
        let site = Site::new("unheard-of");
        // What lies there is of another, who knows no dpkg: a unit that is gone in ours would be its loss, not ours.
        fs::create_dir_all(site.root().join("lib/systemd/system")).unwrap();
        let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        site.lay("lib/systemd/system/of-another.service", unit);
        let daemons = DAEMONS.join(" ");
        fs::create_dir_all(site.root().join("var/lib/neco")).unwrap();
        site.lay("var/lib/neco/units-to-start", &daemons);
        let output = site.preinst(&["upgrade", ORIGINAL, "2026.11.21-1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        assert_eq!(said, "");
        // The note of an earlier try goes as ever, and no other takes its place.
        assert!(!site.has_note() && site.enabled().is_empty());
    }

    #[test]
    fn a_database_that_dpkg_cannot_read_stops_an_upgrade() {
        let site = Site::new("unreadable");
        site.install(&site.original());
        site.lay("var/lib/dpkg/status", "This is no database.\n");
        let output = site.preinst(&["upgrade", ORIGINAL, "2026.11.21-1"]);
        assert!(!output.status.success(), "an unreadable list counts as an empty one");
    }

    #[test]
    fn units_of_an_overlay_are_provided() {
        let site = Site::new("overlay");
        let overlay = site.dir.join("overlay");
        fs::create_dir_all(overlay.join("usr/lib/systemd/system")).unwrap();
        fs::write(overlay.join("usr/lib/systemd/system/of-site.timer"), "").unwrap();
        site.install(&site.packed("2026.11.21-1", Some(&overlay)));
        site.install(&site.packed("2026.11.21-2", Some(&overlay)));
        let line = site.refused(&site.ours("2026.11.21-3"));
        assert!(line.contains("would be lost: of-site.timer;"), "{line}");
        assert_eq!(site.state(), "installed 2026.11.21-2");
    }

    #[test]
    fn every_installation_enables_and_an_upgrade_leaves_what_a_person_has_disabled() {
        let site = Site::new("again");
        let (one, two) = (site.ours("2026.11.21-1"), site.ours("2026.11.21-2"));
        site.install(&one);
        assert_eq!(site.enabled(), DAEMONS);
        fs::remove_file(site.root().join("enabled/neco-updater.service")).unwrap();
        site.install(&two);
        assert_eq!(site.enabled(), DAEMONS[1..]);
        assert!(site.dpkg("--remove", Path::new("neco")).status.success());
        assert!(site.enabled().is_empty() && !site.has_note());
        assert_eq!(site.state(), "config-files 2026.11.21-2");
        // dpkg tells the postinst of the version before, as if this were an upgrade.
        site.install(&two);
        assert_eq!(site.enabled(), DAEMONS);

        for path in ["var/cache/neco", "var/lib/neco/journal"] {
            fs::create_dir_all(site.root().join(path)).unwrap();
        }
        assert!(site.dpkg("--purge", Path::new("neco")).status.success());
        assert!(site.enabled().is_empty() && !site.has_note());
        assert!(!site.root().join("var/cache/neco").exists());
        assert!(site.root().join("var/lib/neco/journal").exists());
        let touched = fs::read_to_string(site.root().join("touched")).unwrap_or_default();
        assert_eq!(touched, "", "below another root nothing starts or stops");
    }

    #[test]
    fn the_scripts_are_sound() {
        let site = Site::new("sound");
        let to = site.dir.join("control");
        let mut command = Command::new("dpkg-deb");
        run::capture(command.arg("-e").arg(site.ours("2026.11.21-1")).arg(&to)).unwrap();
        let scripts = SCRIPTS.map(|name| to.join(name));
        for script in &scripts {
            let text = read(script).unwrap();
            assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"), "{text}");
            assert!(!text.contains('@') || !text.contains("@FUNCTIONS") && !text.contains(UNITS));
            run::capture(Command::new("sh").arg("-n").arg(script)).unwrap();
        }
        let provided = format!("\nprovided=' {} '\n", DAEMONS.join(" "));
        assert!(read(&scripts[0]).unwrap().contains(&provided));
        // The preinst of the next package looks for it.
        let marker = "# neco: an upgrade stops nothing.";
        assert!(read(&scripts[2]).unwrap().lines().any(|line| line == marker));
        assert!(read(&scripts[0]).unwrap().contains(&format!("'{marker}'")));
        if run::works(Command::new("shellcheck").arg("--version")) {
            run::capture(Command::new("shellcheck").args(&scripts)).unwrap();
        } else {
            println!("shellcheck is not here: the scripts were not checked with it");
        }
    }
}
