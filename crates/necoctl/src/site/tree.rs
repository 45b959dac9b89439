//! An unpacked package, and how it is packed again.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use neco_schema::NecoVersion;
use tempfile::TempDir;

use super::overlay::{DATA, IGNITIONS, Overlay};

/// Where the control files lie.
const CONTROL: &str = "DEBIAN";
/// What the preinst knows of the units in its package.
const PROVIDED: &str = "provided=' ";
/// Where systemd looks for the units of packages and of the site.
const UNIT_FOLDERS: [&str; 3] =
    ["lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system"];
/// What units end with.
const UNIT_KINDS: [&str; 9] =
    ["automount", "mount", "path", "service", "slice", "socket", "swap", "target", "timer"];

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Small, for releases.
    Xz,
    /// Quick, for trying.
    Zstd,
}

/// An unpacked package; it goes away with this value.
#[derive(Debug)]
pub struct Tree {
    dir: TempDir,
}

impl Tree {
    /// Unpacks the package `deb`.
    ///
    /// # Errors
    /// It is none, or dpkg-deb or tar is missing.
    pub fn unpack(deb: &Path) -> anyhow::Result<Self> {
        // Beside nothing that others may write to: the packages are large, and /tmp may be in memory.
        let dir = tempfile::Builder::new().prefix("neco-site-").tempdir()?;
        for (part, below) in [("--fsys-tarfile", ""), ("--ctrl-tarfile", CONTROL)] {
            let into = dir.path().join(below);
            // What a package calls so itself may be a link to anywhere.
            let taken = !below.is_empty() && into.symlink_metadata().is_ok();
            ensure!(
                !taken,
                "{} has /{CONTROL} among its files; no package of Neco has",
                deb.display()
            );
            fs::create_dir_all(&into)?;
            let mut unpack = Command::new("dpkg-deb");
            let unpacking = unpack.arg(part).arg(deb).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut unpacking = unpacking.spawn().context("starting dpkg-deb")?;
            let tarball = unpacking.stdout.take().context("dpkg-deb has no output")?;
            // With the modes of the package, whatever the umask is.
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(&into).args(["-xp", "--no-same-owner", "-f", "-"]).stdin(tarball);
            let placed = tar.output().context("starting tar")?;
            let unpacked = unpacking.wait_with_output().context("waiting for dpkg-deb")?;
            for (program, output) in [("dpkg-deb", unpacked), ("tar", placed)] {
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.success(),
                    "{} cannot be unpacked: {program}: {}",
                    deb.display(),
                    said.lines().next().unwrap_or("it failed")
                );
            }
        }
        Ok(Self { dir })
    }

    /// Where the file `to` is written.
    ///
    /// # Errors
    /// A link of the package leads there: it may lead out of it, to a file of this machine.
    pub fn place(&self, to: &str) -> anyhow::Result<PathBuf> {
        let mut path = self.path().to_owned();
        for part in Path::new(to) {
            path.push(part);
            if path.symlink_metadata().is_ok_and(|data| data.is_symlink()) {
                let link = path.strip_prefix(self.path()).unwrap_or(&path);
                bail!(
                    "the package has a link at /{}; nothing is written through it",
                    link.display()
                );
            }
        }
        Ok(path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data of the package.
    pub fn data(&self) -> PathBuf {
        self.path().join(DATA)
    }

    /// A field of the control file.
    ///
    /// # Errors
    /// There is none.
    pub fn field(&self, name: &str) -> anyhow::Result<String> {
        let control = fs::read_to_string(self.path().join(CONTROL).join("control"))
            .context("reading the control file of the package")?;
        let found = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(found.with_context(|| format!("the package has no field {name}"))?.trim().to_owned())
    }

    /// Lays files over it.
    ///
    /// # Errors
    /// One of them would stand in the place of a file of the package that is not meant to be replaced.
    pub fn lay(&self, overlay: &Overlay) -> anyhow::Result<()> {
        if overlay.has_ignitions() {
            // Sources of two sites must not mix.
            let folder = format!("{DATA}/{IGNITIONS}");
            match fs::remove_dir_all(self.place(&folder)?) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("/{folder}"));
                }
                _ => {}
            }
        }
        for (to, laid) in &overlay.files {
            let path = self.place(to).with_context(|| format!("{}", laid.from.display()))?;
            let there = [to.clone(), other_name(to)]
                .into_iter()
                .find(|name| self.path().join(name).symlink_metadata().is_ok());
            if let Some(there) = there.filter(|there| !laid.replaces || there != to) {
                bail!("{}: the package has /{there} already", laid.from.display());
            }
            if path.symlink_metadata().is_ok_and(|data| !data.is_file()) {
                bail!("{}: /{to} of the package is no plain file", laid.from.display());
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| format!("/{to}"))?;
            }
            fs::copy(&laid.from, &path)
                .with_context(|| format!("reading {}", laid.from.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(laid.mode))
                .with_context(|| format!("/{to}"))?;
        }
        Ok(())
    }

    /// Packs it as `version` into `file`.
    ///
    /// # Errors
    /// dpkg-deb complains, or the disk does.
    pub fn pack(
        &self,
        version: &NecoVersion,
        compression: Compression,
        file: &Path,
    ) -> anyhow::Result<()> {
        fs::write(self.place(&format!("{DATA}/VERSION"))?, format!("{version}\n"))
            .context("VERSION")?;
        let files = self.files()?;
        let epoch = self.epoch()?;
        self.write_control(version, &files)?;
        set_times(self.path(), SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))?;

        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let new = tempfile::Builder::new().prefix(".neco-").suffix(".new").tempfile_in(folder);
        let new = new.with_context(|| format!("writing to {}", folder.display()))?.into_temp_path();
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "--uniform-compression"]);
        match compression {
            Compression::Xz => build.arg("-Zxz"),
            Compression::Zstd => build.args(["-Zzstd", "-z1"]),
        };
        build.arg("-b").arg(self.path()).arg(&new).env("SOURCE_DATE_EPOCH", epoch.to_string());
        capture(&mut build)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        File::open(&new)?.sync_all()?;
        new.persist(file).with_context(|| format!("writing {}", file.display()))
    }

    /// The files that the target gets, sorted, with their sizes.
    fn files(&self) -> anyhow::Result<Vec<(String, u64)>> {
        fn walk(dir: &Path, at: &str, files: &mut Vec<(String, u64)>) -> anyhow::Result<()> {
            for entry in fs::read_dir(dir).with_context(|| format!("/{at}"))? {
                let entry = entry?;
                let name = entry.file_name().into_string();
                let name = name.map_err(|_| anyhow!("/{at} has a name that is not UTF-8"))?;
                let at = if at.is_empty() { name } else { format!("{at}/{name}") };
                let data = entry.metadata()?;
                if data.is_dir() {
                    walk(&entry.path(), &at, files)?;
                } else if data.is_file() {
                    files.push((at, data.len()));
                }
            }
            Ok(())
        }
        let mut files = Vec::new();
        walk(self.path(), "", &mut files)?;
        files.retain(|(path, _)| !path.starts_with(CONTROL));
        files.sort();
        Ok(files)
    }

    /// The time that everything in the package has: SOURCE_DATE_EPOCH if it is set, else that of the package it is made of.
    fn epoch(&self) -> anyhow::Result<u64> {
        if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
            return text
                .parse()
                .map_err(|_| anyhow!("SOURCE_DATE_EPOCH={text} is no number of seconds"));
        }
        // Packing has not touched it.
        let copyright = self.path().join(CONTROL).join("control");
        let time = copyright.metadata().and_then(|data| data.modified())?;
        Ok(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// Brings version, size, digests and units of the control files up to date.
    fn write_control(&self, version: &NecoVersion, files: &[(String, u64)]) -> anyhow::Result<()> {
        let folder = self.path().join(CONTROL);
        let rewrite = |name: &str, change: &dyn Fn(&str) -> anyhow::Result<String>| {
            let path = self.place(&format!("{CONTROL}/{name}"))?;
            let text =
                fs::read_to_string(&path).with_context(|| format!("the package has no {name}"))?;
            let mode = path.metadata()?.permissions();
            fs::write(&path, change(&text)?).with_context(|| format!("writing {name}"))?;
            fs::set_permissions(&path, mode).with_context(|| format!("writing {name}"))
        };
        // A file takes whole kibibytes.
        let kibibytes: u64 = files.iter().map(|(_, size)| size.div_ceil(1024)).sum();
        rewrite("control", &|text| {
            let lines = text.lines().map(|line| match line.split_once(':') {
                Some(("Version", _)) => format!("Version: {version}\n"),
                Some(("Installed-Size", _)) => format!("Installed-Size: {kibibytes}\n"),
                _ => format!("{line}\n"),
            });
            Ok(lines.collect())
        })?;
        if folder.join("preinst").exists() {
            let units = units(files).join(" ");
            rewrite("preinst", &|text| {
                let known = text.lines().filter(|line| line.starts_with(PROVIDED)).count();
                ensure!(known == 1, "the preinst of the package does not say which units it has");
                let lines = text.lines().map(|line| match line.starts_with(PROVIDED) {
                    true => format!("{PROVIDED}{units} '\n"),
                    false => format!("{line}\n"),
                });
                Ok(lines.collect())
            })?;
        }
        let mut sums = Command::new("md5sum");
        sums.arg("--").args(files.iter().map(|(path, _)| path)).current_dir(self.path());
        let sums = capture(&mut sums)?;
        let path = self.place(&format!("{CONTROL}/md5sums"))?;
        fs::write(&path, sums).context("writing md5sums")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).context("writing md5sums")
    }
}

/// The names of the units among the files, sorted.
fn units(files: &[(String, u64)]) -> Vec<String> {
    let units = files.iter().filter_map(|(path, _)| {
        let (folder, name) = path.rsplit_once('/')?;
        let kind = name.rsplit_once('.')?.1;
        (UNIT_FOLDERS.contains(&folder) && UNIT_KINDS.contains(&kind)).then(|| name.to_owned())
    });
    units.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `/lib` and `/usr/lib` are one folder on a server.
fn other_name(path: &str) -> String {
    match path.strip_prefix("usr/lib/") {
        Some(rest) => format!("lib/{rest}"),
        None if path.starts_with("lib/") => format!("usr/{path}"),
        None => path.to_owned(),
    }
}

fn set_times(path: &Path, time: SystemTime) -> anyhow::Result<()> {
    let data = path.symlink_metadata()?;
    // The time of a link itself is out of std's reach; dpkg-deb caps it at SOURCE_DATE_EPOCH.
    if data.is_symlink() {
        return Ok(());
    }
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            set_times(&entry?.path(), time)?;
        }
        // Whatever the umask was when it was made.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    File::open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .with_context(|| format!("setting the time of {}", path.display()))
}

fn capture(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name}: {}",
        said.trim().lines().next().unwrap_or("it failed")
    );
    String::from_utf8(output.stdout).with_context(|| format!("reading what {name} says"))
}
