//! `site`: packages of a site's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use neco_components::{LoadError, Problems, Recipe, read_ignitions};
use neco_host::{Root, TrustedKeys};
use neco_process::exit::{ExitCode, Failure};
use neco_releases::mirror::sign::sign;
use neco_releases::mirror::{ARCHITECTURE, PACKAGE};
use neco_sabakan::ignition::check_references;
use neco_schema::NecoVersion;

use super::key;
use crate::io::Io;
use crate::site::{Compression, Overlay, Tree, programs};

/// Make packages of a site's own.
///
/// A site adds programs to boot servers, and changes those that are there, without building Neco.
#[derive(Debug, Args)]
pub struct Site {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lay the folder of a site over a package of Neco, and pack it anew
    ///
    /// The folder holds what /usr/share/neco holds: recipe.toml, artifacts.toml, components/, templates/, release-keys/ and
    /// data of steps. Files of these names take the place of the package's, and ignitions/ that of all its sources of
    /// ignition templates. Programs that its artifacts.toml lists are fetched, with their units from units/. What is below
    /// files/ goes to the same place on servers. Recipe, components, templates, what the version pins, keys, and what the
    /// sources of ignition templates name are checked before anything is written.
    Build(Build),
    /// Fetch the programs that an artifacts.toml lists, and lay them out as on a server
    ///
    /// Each is compared with its sha256. Units come from the folder units/ beside the list.
    Programs(Programs),
}

#[derive(Debug, Args)]
struct Build {
    /// The folder of the site
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The package of Neco to begin with, neco_VERSION_amd64.deb
    #[arg(long, value_name = "DEB")]
    base: PathBuf,
    /// The version of the result [default: that of the base]
    #[arg(long, value_name = "VERSION")]
    version: Option<NecoVersion>,
    /// Where the result goes
    #[arg(long = "to", value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// Sign it with the secret key in FILE
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read the password of the key from a file
    #[arg(long, value_name = "FILE", requires = "key")]
    password_file: Option<PathBuf>,
    /// Keep fetched programs in DIR, by their digests
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Pack quickly with zstd instead of small with xz
    #[arg(long)]
    fast: bool,
    /// Say what would be written, fetch and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Programs {
    /// The list, as the package's artifacts.toml
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// Where they go: as the root of a server
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Keep what is fetched in DIR, by its digest
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Say what would be written, fetch and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Site {
    /// Builds or fetches.
    ///
    /// # Errors
    /// What the site wants cannot be.
    pub async fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Build(verb) => verb.run(io).await,
            Verb::Programs(verb) => verb.run(io).await,
        }
    }
}

/// A folder that is kept, or one that goes away.
enum Cache {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

impl Cache {
    fn new(kept: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(match kept {
            Some(dir) => Self::Kept(dir),
            None => Self::Passing(tempfile::Builder::new().prefix("neco-programs-").tempdir()?),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(dir) => dir,
            Self::Passing(dir) => dir.path(),
        }
    }
}

impl Programs {
    async fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let artifacts = programs::read(&self.list)?;
        let list = || self.list.display();
        if self.dry_run {
            programs::check(artifacts.programs.values()).with_context(|| format!("{}", list()))?;
            let paths = artifacts.programs.values().map(|program| self.into.join(program.path()));
            io.planned(&paths.collect::<Vec<_>>())?;
            return Ok(ExitCode::Done);
        }
        let beside = self.list.parent().unwrap_or(Path::new("."));
        let cache = Cache::new(self.cache.clone())?;
        let laid = programs::lay_out(&artifacts, beside, cache.path(), &self.into).await;
        let laid = laid.with_context(|| format!("{}", list()))?;
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "files": laid }))?;
        } else {
            for path in laid {
                io.line(path.display())?;
            }
        }
        Ok(ExitCode::Done)
    }
}

impl Build {
    async fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let overlay = Overlay::read(&self.dir)?;
        let listed = overlay.artifacts.iter().flat_map(|artifacts| artifacts.programs.values());
        programs::check(listed).with_context(|| format!("{}", self.dir.display()))?;
        // A password is asked for before a person has gone to do something else.
        let key = match &self.key {
            Some(path) if !self.dry_run => {
                Some(key::load(io, path, self.password_file.as_deref())?)
            }
            _ => None,
        };
        let tree = Tree::unpack(&self.base)?;
        let version = self.version(&tree)?;
        let package = self.into.join(format!("{PACKAGE}_{version}_{ARCHITECTURE}.deb"));
        let signature = PathBuf::from(format!("{}.minisig", package.display()));
        for file in [&package, &signature] {
            if file.exists() {
                let error = anyhow!("{} is there already", file.display());
                return Err(Failure::from(error).with_hint("remove it, or give another --to"));
            }
        }
        let before = Recipe::load(tree.data());
        let new: Vec<&str> =
            overlay.data().filter(|name| !tree.data().join(name).exists()).collect();
        tree.lay(&overlay)?;
        let recipe = self.usable(&tree)?;
        for name in new.into_iter().filter(|name| !recipe.reads(name)) {
            io.remark(format_args!(
                "warning: no step of the recipe reads {}; if one is to, name it in its data",
                self.dir.join(name).display()
            ));
        }
        let known: Vec<_> = before.iter().flat_map(Recipe::actions).cloned().collect();
        for action in recipe.actions().filter(|action| !known.contains(action)) {
            io.remark(format_args!(
                "warning: the package has no step with the action {action} so far; a worker that does not know it refuses the recipe"
            ));
        }
        if self.dry_run {
            let signature = self.key.is_some().then_some(signature);
            io.planned(&[package].into_iter().chain(signature).collect::<Vec<_>>())?;
            return Ok(ExitCode::Done);
        }
        if let Some(artifacts) = &overlay.artifacts {
            let cache = Cache::new(self.cache.clone())?;
            self.lay_programs(artifacts, &tree, &overlay, cache.path()).await?;
        }
        let compression = if self.fast { Compression::Zstd } else { Compression::Xz };
        tree.pack(&version, compression, &package)?;
        let signed = key.map(|key| sign(&package, &key, &version)).transpose()?;
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1,
                "package": package,
                "version": version,
                "sha256": programs::digest(&package)?,
                "recipe": recipe.digest(),
                "signature": signed.as_ref().map(|signed| &signed.path),
            }))?;
            return Ok(ExitCode::Done);
        }
        io.line(package.display())?;
        match signed {
            Some(signed) => io.line(signed.path.display())?,
            None => io.remark(format_args!(
                "not signed: necoctl mirror sign {} --key FILE",
                package.display()
            )),
        }
        Ok(ExitCode::Done)
    }

    /// The version of the result; the base must be a package of Neco.
    fn version(&self, tree: &Tree) -> anyhow::Result<NecoVersion> {
        let base = self.base.display();
        for (field, expected) in [("Package", PACKAGE), ("Architecture", ARCHITECTURE)] {
            let found = tree.field(field).with_context(|| format!("{base}"))?;
            anyhow::ensure!(found == expected, "{base} has {field} {found}, not {expected}");
        }
        match &self.version {
            Some(version) => Ok(version.clone()),
            None => {
                let version = tree.field("Version")?;
                version.parse().with_context(|| format!("the version of {base}"))
            }
        }
    }

    /// What a worker would read, if it could use it.
    fn usable(&self, tree: &Tree) -> anyhow::Result<Recipe> {
        let with = || format!("{} laid over {}", self.dir.display(), self.base.display());
        let cannot = |problems: Problems| {
            anyhow!("{} makes a package that cannot be used:\n{problems}", with())
        };
        let unread = |error| match error {
            LoadError::Invalid { problems, .. } => cannot(problems),
            LoadError::Read { path, source } => {
                let path = path.strip_prefix(tree.path()).unwrap_or(&path);
                anyhow!("{}: reading /{}: {source}", with(), path.display())
            }
        };
        let recipe = Recipe::load(tree.data()).map_err(unread)?;
        check_references(&read_ignitions(tree.data()).map_err(unread)?)
            .map_err(|problems| cannot(problems.below(Recipe::IGNITIONS)))?;
        let keys = Root::new(tree.path()).map_err(anyhow::Error::from);
        keys.and_then(|root| Ok(TrustedKeys::load(&root)?)).map_err(|error| {
            // A person knows nothing of where the package was unpacked.
            let place = tree.path().display().to_string();
            let told = format!("{error:#}").replace(&place, "");
            anyhow!("the release keys of {}: {told}", with())
        })?;
        Ok(recipe)
    }

    async fn lay_programs(
        &self,
        artifacts: &neco_components::Artifacts,
        tree: &Tree,
        overlay: &Overlay,
        cache: &Path,
    ) -> anyhow::Result<()> {
        for program in artifacts.programs.values() {
            if let Some(laid) = overlay.files.get(&program.path()) {
                anyhow::bail!(
                    "the program {} and {} both go to /{}; remove one",
                    program.name,
                    laid.from.display(),
                    program.path()
                );
            }
        }
        for program in artifacts.programs.values() {
            tree.place(&program.path())?;
            tree.place("lib/systemd/system")?;
        }
        let laid = programs::lay_out(artifacts, &self.dir, cache, tree.path()).await;
        laid.map(drop).with_context(|| format!("{}", self.dir.display()))
    }
}
