//! `cargo xtask deb`.

use std::process::Command;

use crate::args::Args;
use crate::build::{Profile, Programs};
use crate::exit::{Done, Failure};
use crate::package::{self, Compression, Quality, Version};
use crate::run;
use crate::tools::{Tools, need};
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Builds the shipped programs and packs them as a Debian package.

usage: cargo xtask deb [OPTIONS]

  --version V             YYYY.MM.DD-N; default: day of the last commit, number of commits
  --profile dev|release   default: release
  --fast                  pack with zstd -1 instead of xz, for tests
  --out DIR               default: target/deb
  --bad                   pack a worker that dies at start, to see what an update makes of it
  --lint                  let lintian look at it, and fail for what it calls an error or a warning;
                          77 where lintian is not installed

Prints the path of the package. The same commit makes the same package.";

pub(super) fn run(args: Vec<String>) -> Done {
    let mut args = Args::new("deb", args);
    let version = args.value("--version")?.map(|text| Version::parse(&text)).transpose()?;
    let profile = args.value("--profile")?;
    let profile = Profile::named(profile.as_deref().unwrap_or("release"))?;
    let compression = if args.flag("--fast") { Compression::Zstd } else { Compression::Xz };
    let quality = if args.flag("--bad") { Quality::Bad } else { Quality::Sound };
    let lint = args.flag("--lint");
    let out = args.value("--out")?;
    args.end()?;
    if lint && compression == Compression::Zstd {
        return Err(Failure::usage("lintian does not know the compression of --fast"));
    }
    if lint {
        need("lintian", "lintian")?;
    }

    package::needs()?;
    let workspace = Workspace::find()?;
    let version = version.map_or_else(|| Version::of_last_commit(&workspace), Ok)?;
    let out = out.map_or_else(|| workspace.target.join("deb"), Into::into);
    let tools = Tools::bring(&workspace)?;
    let programs = Programs::shipped(&workspace, &tools, profile)?;
    let file = package::pack(&workspace, &programs, &version, compression, quality, &out)?;
    if lint {
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--no-cfg", "--fail-on", "error,warning"]);
        run::succeed(lintian.args(["--tag-display-limit", "0"]).arg(&file))?;
    }
    println!("{}", file.display());
    Ok(())
}
