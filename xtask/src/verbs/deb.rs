//! `cargo xtask deb`.

use crate::args::Args;
use crate::build::{Profile, Programs};
use crate::exit::Done;
use crate::package::{self, Carried, Compression, Quality, Version};
use crate::tools::{Lintian, Tools};
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Builds the shipped programs and packs them as a Debian package.

usage: cargo xtask deb [OPTIONS]

  --version V             YYYY.MM.DD-N; default: day of the last commit, number of commits
  --profile dev|release   default: release
  --fast                  pack with zstd -1 instead of xz, for tests; with --lint gzip -1, which lintian knows
  --out DIR               default: target/deb
  --programs FILE         carry the programs that this list names, too: docs/components.md tells how
  --bad                   pack a worker that dies at start, to see what an update makes of it
  --lint                  let lintian look at it, and fail for what it calls an error or a warning; where it
                          is not installed it is unpacked under target/tools, or, where it cannot be, 77

Prints the path of the package. The same commit makes the same package.";

pub(super) fn run(args: Vec<String>) -> Done {
    let mut args = Args::new("deb", args);
    let version = args.value("--version")?.map(|text| Version::parse(&text)).transpose()?;
    let profile = args.value("--profile")?;
    let profile = Profile::named(profile.as_deref().unwrap_or("release"))?;
    let fast = args.flag("--fast");
    let quality = if args.flag("--bad") { Quality::Bad } else { Quality::Sound };
    let lint = args.flag("--lint");
    let out = args.value("--out")?;
    let list = args.value("--programs")?;
    args.end()?;
    let compression = match (fast, lint) {
        (false, _) => Compression::Xz,
        (true, false) => Compression::Zstd,
        (true, true) => Compression::Gzip,
    };

    package::needs()?;
    let workspace = Workspace::find()?;
    let version = version.map_or_else(|| Version::of_last_commit(&workspace), Ok)?;
    let out = out.map_or_else(|| workspace.target.join("deb"), Into::into);
    let tools = Tools::bring(&workspace)?;
    // What cannot be had is told before anything is built.
    let lintian = lint.then(|| Lintian::bring(&tools)).transpose()?;
    let programs = Programs::shipped(&workspace, &tools, profile)?;
    let carried =
        list.map(|list| Carried::bring(&workspace, &programs, list.as_ref())).transpose()?;
    let overlay = carried.as_ref().map(Carried::path);
    let file =
        package::pack_with(&workspace, &programs, &version, compression, quality, overlay, &out)?;
    if let Some(lintian) = lintian {
        lintian.judge(&file)?;
    }
    println!("{}", file.display());
    Ok(())
}
