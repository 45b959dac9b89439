//! Packages of Neco as stories need them: made of the real one, under other versions, with other data, or broken on purpose;
//! signed, and published on the mirror.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_releases::mirror::{NewRelease, add};
use neco_schema::NecoVersion;

use super::installation::WAITING;
use super::{Runs, Tools, full, shown};
use crate::host::command::{command, run};
use crate::instance::dirs::Top;

const LIMIT: Duration = Duration::from_secs(120);

/// What gets a package ready.
const POSTINST: &str = "DEBIAN/postinst";

/// Where the data of a package lie.
const DATA: &str = "usr/share/neco";

/// What of it is replaced by that of stories.
const REPLACED: [&str; 4] = ["artifacts.toml", "components", "recipe.toml", "templates"];

/// A program that ends at once, or as soon as nobody holds it.
fn dying() -> String {
    format!("#!/bin/sh\n{WAITING}echo \"$0: this package is broken on purpose\" >&2\nexit 1\n")
}

/// A script that refuses to get a package ready.
const REFUSING: &str =
    "#!/bin/sh\necho 'this package cannot be configured, on purpose' >&2\nexit 1\n";

/// What a package is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// As it should be.
    #[default]
    Sound,
    /// Its daemons end as soon as they are started, or wait before that where they are held.
    DaemonsExit,
    /// Its postinst fails.
    PostinstFails,
    /// Its postinst waits on machines where it is held; there is nothing else wrong with it.
    PostinstWaits,
}

/// Who signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// The key that sites trust from the beginning.
    #[default]
    First,
    /// That one and its successor; the package carries the successor along.
    Both,
    /// The successor alone.
    Second,
}

/// A package to be made.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its version.
    pub version: NecoVersion,
    /// What it is like.
    pub flavour: Flavour,
    /// Who signs it.
    pub keys: Keys,
    /// Files that it has beside the others or in their place, from its root.
    pub files: Vec<(String, String)>,
}

impl Draft {
    /// A sound package.
    #[must_use]
    pub fn sound(version: NecoVersion) -> Self {
        Self { version, flavour: Flavour::Sound, keys: Keys::First, files: Vec::new() }
    }

    /// The same with another flavour.
    #[must_use]
    pub fn flavour(self, flavour: Flavour) -> Self {
        Self { flavour, ..self }
    }

    /// The same with a Serf that takes seconds to start; its unit changes with every version.
    #[must_use]
    pub fn slow(self) -> Self {
        let text = super::neco::SERF_UNIT;
        let pause = format!("ExecStartPre=/bin/sleep 4\n# {}\n{{% endblock %}}", self.version);
        let (head, tail) = text.split_once("{% block service %}").unwrap_or((text, ""));
        let tail = tail.replacen("{% endblock %}", &pause, 1);
        self.with(
            "usr/share/neco/templates/serf.service.j2",
            format!("{head}{{% block service %}}{tail}"),
        )
    }

    /// The same, signed by others.
    #[must_use]
    pub fn signed_by(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// The same with one more file.
    #[must_use]
    pub fn with(mut self, path: &str, text: impl Into<String>) -> Self {
        self.files.push((path.to_owned(), text.into()));
        self
    }
}

/// Makes packages in a folder of its own.
pub struct Workshop {
    top: Top,
    dir: PathBuf,
    mirror: PathBuf,
    first: SigningKey,
    second: SigningKey,
    made: u32,
}

impl Workshop {
    /// Unpacks the package, makes it one of boot servers that run so much, and makes keys.
    ///
    /// # Errors
    /// It is no package, or the disk is full.
    pub(super) async fn open(
        tools: &Tools,
        runs: Runs,
        dir: PathBuf,
        mirror: PathBuf,
    ) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let key = |name: &str| -> Result<SigningKey> {
            let secret = dir.join(format!("{name}.key"));
            let public = dir.join(format!("{name}.pub"));
            generate_key(&secret, &public, &Protection::Unencrypted)?;
            Ok(SigningKey::load(&secret, None)?)
        };
        let (first, second) = (key("first")?, key("second")?);
        let tree = dir.join("tree");
        run(&mut command(["dpkg-deb", "-R", &shown(&tools.package), &shown(&tree)]), LIMIT).await?;
        match runs {
            Runs::Little => replace_data(&tree.join(DATA))?,
            Runs::Everything => {
                full::overlay(&tools.top, &tree).await?;
                full::release_etcdpasswd(&tools.top, &dir, &mirror).await?;
            }
        }
        // It is that of another package now.
        let sums = tree.join("DEBIAN/md5sums");
        fs::remove_file(&sums).with_context(|| format!("removing {}", sums.display()))?;
        Ok(Self { top: tools.top.clone(), dir, mirror, first, second, made: 0 })
    }

    /// The data of the package: recipe, components, templates.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("tree").join(DATA)
    }

    /// The key that a site trusts, as the content of a `.pub` file.
    ///
    /// # Errors
    /// It cannot be shown.
    pub fn trusted_key(&self) -> Result<String> {
        Ok(self.first.public_key()?)
    }

    pub(super) fn next_version(&mut self) -> NecoVersion {
        self.made += 1;
        // Five digits, as the original counts its builds.
        let text = format!("2026.11.22-{}", 40_000 + self.made);
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Makes a package with its signatures beside it; gives its file.
    ///
    /// # Errors
    /// The disk is full, or dpkg-deb(1) refuses.
    pub async fn make(&self, draft: &Draft) -> Result<PathBuf> {
        let version = &draft.version;
        let tree = self.dir.join(format!("tree-{version}"));
        run(&mut command(["cp", "-a", &shown(&self.dir.join("tree")), &shown(&tree)]), LIMIT)
            .await?;
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control)
            .with_context(|| format!("reading {}", control.display()))?;
        write(&control, &with_version(&text, version)?, 0o644)?;
        write(&tree.join(DATA).join("VERSION"), &format!("{version}\n"), 0o644)?;
        match draft.flavour {
            Flavour::Sound => {}
            Flavour::DaemonsExit => {
                for name in ["neco-updater", "neco-worker"] {
                    write(&tree.join("usr/sbin").join(name), &dying(), 0o755)?;
                }
            }
            Flavour::PostinstFails => write(&tree.join(POSTINST), REFUSING, 0o755)?,
            Flavour::PostinstWaits => {
                let path = tree.join(POSTINST);
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?;
                write(&path, &that_waits(&text)?, 0o755)?;
            }
        }
        for (path, text) in &draft.files {
            write(&tree.join(path), text, 0o644)?;
        }
        if draft.keys != Keys::First {
            let path = tree.join(DATA).join("release-keys/second.pub");
            write(&path, &self.second.public_key()?, 0o644)?;
        }
        let deb = self.pack(&tree, version.as_str()).await?;
        fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
        let keys: &[&SigningKey] = match draft.keys {
            Keys::First => &[&self.first],
            Keys::Both => &[&self.first, &self.second],
            Keys::Second => &[&self.second],
        };
        for key in keys {
            sign(&deb, key, version)?;
        }
        Ok(deb)
    }

    /// Lays the folder of a site out, as the page of components tells it, with a stand-in for its program; gives the folder.
    ///
    /// # Errors
    /// The disk is full, or there is no stand-in.
    pub async fn lay_site(&self, example: &Path) -> Result<PathBuf> {
        let dir = self.dir.join("site");
        let from = shown(&example.join("site"));
        run(&mut command(["cp", "-r", &from, &shown(&dir)]), LIMIT).await?;
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let step = read(&example.join("step.toml"))?;
        let recipe = read(&self.data().join("recipe.toml"))?;
        write(&dir.join("recipe.toml"), &format!("{recipe}{step}"), 0o644)?;
        full::stand_in(&self.top, &dir.join("files/usr/sbin/hello-http"))?;
        Ok(dir)
    }

    /// Builds the package of a site by `necoctl site build` and offers it to everybody.
    ///
    /// # Errors
    /// necoctl refuses.
    pub async fn publish_site(
        &self,
        necoctl: &Path,
        site: &Path,
        version: &NecoVersion,
    ) -> Result<PathBuf> {
        let base = self.make(&Draft::sound(version.clone())).await?;
        let out = self.dir.join("out");
        fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
        let key = self.dir.join("first.key");
        let mut words = vec![shown(necoctl), "site".to_owned(), "build".to_owned(), shown(site)];
        words.extend([format!("--base={}", shown(&base)), format!("--version={version}")]);
        words.extend([format!("--key={}", shown(&key)), format!("--to={}", shown(&out))]);
        words.push("--fast".to_owned());
        run(&mut command(words), LIMIT).await?;
        let deb = out.join(base.file_name().context("a package has a name")?);
        add(&self.mirror, &deb, &NewRelease::default())?;
        Ok(deb)
    }

    /// A package that was made.
    #[must_use]
    pub fn package(&self, version: &NecoVersion) -> PathBuf {
        self.file(version.as_str())
    }

    fn file(&self, version: &str) -> PathBuf {
        self.dir.join(format!("neco_{version}_amd64.deb"))
    }

    /// Packs a folder as dpkg-deb(1) takes it; gives the file.
    ///
    /// # Errors
    /// dpkg-deb(1) refuses.
    pub async fn pack(&self, tree: &Path, version: &str) -> Result<PathBuf> {
        let deb = self.file(version);
        let words = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b"].map(str::to_owned);
        let words = words.into_iter().chain([shown(tree), shown(&deb)]);
        run(&mut command(words), LIMIT).await?;
        Ok(deb)
    }

    /// Makes a package and offers it to everybody.
    ///
    /// # Errors
    /// As [`Workshop::make`].
    pub async fn publish(&self, draft: &Draft) -> Result<PathBuf> {
        let deb = self.make(draft).await?;
        add(&self.mirror, &deb, &NewRelease::default())?;
        Ok(deb)
    }
}

/// Has a package do little on a boot server.
fn replace_data(data: &Path) -> Result<()> {
    for name in REPLACED {
        let path = data.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    for (path, text) in super::neco::DATA_FILES {
        write(&data.join(path), text, 0o644)?;
    }
    Ok(())
}

/// A control file with another version (deb-control(5)).
fn with_version(control: &str, version: &NecoVersion) -> Result<String> {
    let mut found = 0;
    let mut lines = String::new();
    for line in control.lines() {
        if line.starts_with("Version:") {
            found += 1;
            lines.push_str(&format!("Version: {version}\n"));
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    if found != 1 {
        bail!("the control file tells {found} versions");
    }
    Ok(lines)
}

/// A script that waits before it does anything, where it is held.
fn that_waits(script: &str) -> Result<String> {
    let (first, rest) = script.split_once('\n').context("the script is empty")?;
    if first != "#!/bin/sh" {
        bail!("this is no script for sh(1): {first}");
    }
    Ok(format!("{first}\n{WAITING}{rest}"))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, text))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_serf_pauses_before_it_starts() {
        let version: NecoVersion = "2026.11.22-40001".parse().unwrap();
        let draft = Draft::sound(version).slow();
        let [(path, text)] = &draft.files[..] else { panic!("{:?}", draft.files) };
        assert_eq!(path, "usr/share/neco/templates/serf.service.j2");
        let added =
            "RestartSec=10s\nExecStartPre=/bin/sleep 4\n# 2026.11.22-40001\n{% endblock %}\n";
        assert!(text.contains(added), "{text}");
        let without = text.replace("ExecStartPre=/bin/sleep 4\n# 2026.11.22-40001\n", "");
        assert_eq!(without, super::super::neco::SERF_UNIT);
    }

    #[test]
    fn a_script_waits_before_it_does_anything() {
        let text = that_waits("#!/bin/sh\n# A comment.\nset -e\n").unwrap();
        assert!(text.starts_with("#!/bin/sh\nwhile [ -e /etc/neco/hold ]; do\n"), "{text}");
        assert!(
            text.ends_with("\ndone\nrm -f /var/lib/neco/held\n# A comment.\nset -e\n"),
            "{text}"
        );
        assert!(that_waits("#!/usr/bin/perl\nexit;\n").is_err());
    }

    #[test]
    fn only_the_version_of_a_control_file_changes() {
        let version = "2026.11.22-40001".parse().unwrap();
        let control = "Package: neco\nVersion: 1\nDescription: a\n Version: none\n";
        assert_eq!(
            with_version(control, &version).unwrap(),
            "Package: neco\nVersion: 2026.11.22-40001\nDescription: a\n Version: none\n"
        );
        assert!(with_version("Package: neco\n", &version).is_err());
    }
}
