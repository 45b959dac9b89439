//! apt with a state of its own: lists, cache and locks lie under one folder, so that it works
//! without root, on a machine that never ran `apt-get update`, and beside another apt.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::exit::{Doing, Done};
use crate::run;

/// How often the lists are fetched before giving up, and how long the first pause is.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Makes the folders and the configuration file in `dir`.
    pub(super) fn prepare(dir: &Path) -> Done<Self> {
        for sub in ["state/lists/partial", "cache/archives/partial", "packages"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).doing(|| format!("cannot create {}", sub.display()))?;
        }
        // Lists alone say what can be had; what is installed would count as known without them.
        let status = dir.join("state/status");
        fs::write(&status, "").doing(|| format!("cannot write {}", status.display()))?;
        let file = dir.join("apt.conf");
        fs::write(&file, configuration(dir))
            .doing(|| format!("cannot write {}", file.display()))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Fetches the lists. A source that cannot be reached is not an error by itself (somebody's
    /// third-party source may be down); whether it matters shows when a package is asked for.
    pub(super) fn update(&self) -> Done {
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            let updated = run::capture(self.command("apt-get").args(["-q", "update"]));
            let known = run::works(self.command("apt-cache").args(["show", "etcd-server"]));
            match updated {
                _ if known => return Ok(()),
                Ok(_) if left == 0 => return Ok(()),
                Err(failure) if left == 0 => return Err(failure),
                Ok(_) | Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        Ok(())
    }

    /// The package and whatever it depends on, without what apt itself depends on: that is on this
    /// machine already. Libraries are found this way whatever number their names carry.
    pub(super) fn needs_beyond_apt(&self, package: &str) -> Done<BTreeSet<String>> {
        let present = self.closure("apt")?;
        let mut needed = self.closure(package)?;
        needed.retain(|name| !present.contains(name));
        Ok(needed)
    }

    /// Fetches the packages, checked by apt against the signed lists.
    pub(super) fn download(&self, packages: &[String]) -> Done<Vec<PathBuf>> {
        let into = self.dir.join("packages");
        run::capture(
            self.command("apt-get").current_dir(&into).args(["-q", "download"]).args(packages),
        )?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&into).doing(|| format!("cannot list {}", into.display()))? {
            let path = entry.doing(|| format!("cannot list {}", into.display()))?.path();
            // Epochs and such are escaped in file names; package names are not.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let package = name.split('_').next().unwrap_or_default();
            if name.ends_with(".deb") && packages.iter().any(|wanted| wanted == package) {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// Fetches a package, whatever it depends on, and what every Debian has: all that it needs to run below another root.
    pub(super) fn download_whole(&self, package: &str) -> Done<Vec<PathBuf>> {
        self.clean()?;
        // apt offers those of other architectures that the machine knows, too.
        let native = run::capture(Command::new("dpkg").arg("--print-architecture"))?;
        let essential = format!("?and(?essential,?architecture({}))", native.trim());
        let mut command = self.command("apt-get");
        command.args(["-q", "--yes", "--download-only", "--no-install-recommends", "install"]);
        run::capture(command.args([package, &essential]))?;
        let from = self.dir.join("cache/archives");
        let mut files = Vec::new();
        for entry in fs::read_dir(&from).doing(|| format!("cannot list {}", from.display()))? {
            let path = entry.doing(|| format!("cannot list {}", from.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// Drops what [`Apt::download_whole`] has fetched.
    pub(super) fn clean(&self) -> Done {
        run::capture(self.command("apt-get").arg("clean")).map(drop)
    }

    fn closure(&self, package: &str) -> Done<BTreeSet<String>> {
        let listing = run::capture(self.command("apt-cache").args([
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            package,
        ]))?;
        Ok(parse_depends(package, &listing))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }
}

fn configuration(dir: &Path) -> String {
    format!(
        r#"Dir::State "{dir}/state";
Dir::State::lists "lists";
Dir::State::status "{dir}/state/status";
Dir::Cache "{dir}/cache";
Dir::Cache::archives "archives";
// No privileges are needed here, so none have to be dropped; _apt could not write to this folder.
APT::Sandbox::User "root";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Hooks of the system are about the system's lists.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#,
        dir = dir.display()
    )
}

/// The packages reached from `package` in the output of `apt-cache depends --recurse`. Of
/// alternatives the first counts; virtual packages (in angle brackets) and foreign architectures
/// (with a colon) are passed over.
fn parse_depends(package: &str, listing: &str) -> BTreeSet<String> {
    let mut edges: Vec<(&str, &str)> = Vec::new();
    let mut from = "";
    let mut alternative = false;
    for line in listing.lines() {
        let Some(relation) = line.strip_prefix(' ') else {
            from = line.trim();
            alternative = false;
            continue;
        };
        let relation = relation.trim_start();
        let chained = relation.starts_with('|');
        let Some((kind, to)) = relation.trim_start_matches('|').split_once(": ") else {
            continue;
        };
        if matches!(kind, "Depends" | "PreDepends") && !alternative {
            edges.push((from, to.trim()));
        }
        alternative = chained;
    }
    let mut reached = BTreeSet::from([package.to_owned()]);
    loop {
        let before = reached.len();
        for (from, to) in &edges {
            if reached.contains(*from) && !to.contains([':', '<']) {
                reached.insert((*to).to_owned());
            }
        }
        if reached.len() == before {
            return reached;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
protobuf-compiler
  Depends: libc6
  Depends: libprotoc32t64
  Depends: <virtual>
    provider
libprotoc32t64
 |Depends: libprotobuf32t64
  Depends: libprotobuf-other
  PreDepends: libfoo:i386
libprotobuf32t64
  Depends: zlib1g
unrelated
  Depends: surprise
";

    #[test]
    fn follows_dependencies_whatever_number_a_library_carries() {
        let found = parse_depends("protobuf-compiler", LISTING);
        let expected =
            ["libc6", "libprotobuf32t64", "libprotoc32t64", "protobuf-compiler", "zlib1g"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn keeps_all_state_in_its_own_folder() {
        let text = configuration(Path::new("/tree/target/tools/apt"));
        assert!(text.contains(r#"Dir::State "/tree/target/tools/apt/state";"#));
        assert!(text.contains(r#"Dir::Cache "/tree/target/tools/apt/cache";"#));
    }
}
