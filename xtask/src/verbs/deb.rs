//! `cargo xtask deb`.

use crate::args::Args;
use crate::build::{Profile, Programs};
use crate::exit::Done;
use crate::package::{self, Compression, Quality, Version};
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Builds the shipped programs and packs them as a Debian package.

usage: cargo xtask deb [OPTIONS]

  --version V             YYYY.MM.DD-N; default: day of the last commit, number of commits
  --profile dev|release   default: release
  --fast                  pack with zstd -1 instead of xz, for tests
  --out DIR               default: target/deb
  --bad                   pack a worker that dies at start, to see what an update makes of it

Prints the path of the package. The same commit makes the same package.";

pub(super) fn run(args: Vec<String>) -> Done {
    let mut args = Args::new("deb", args);
    let version = args.value("--version")?.map(|text| Version::parse(&text)).transpose()?;
    let profile = args.value("--profile")?;
    let profile = Profile::named(profile.as_deref().unwrap_or("release"))?;
    let compression = if args.flag("--fast") { Compression::Zstd } else { Compression::Xz };
    let quality = if args.flag("--bad") { Quality::Bad } else { Quality::Sound };
    let out = args.value("--out")?;
    args.end()?;

    package::needs()?;
    let workspace = Workspace::find()?;
    let version = version.map_or_else(|| Version::of_last_commit(&workspace), Ok)?;
    let out = out.map_or_else(|| workspace.target.join("deb"), Into::into);
    let tools = Tools::bring(&workspace)?;
    let programs = Programs::shipped(&workspace, &tools, profile)?;
    let file = package::pack(&workspace, &programs, &version, compression, quality, &out)?;
    println!("{}", file.display());
    Ok(())
}
