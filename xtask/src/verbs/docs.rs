//! `cargo xtask docs`.

use std::fs;
use std::process::Stdio;

use crate::args::Args;
use crate::exit::{Doing, Done, Failure};
use crate::run;
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Writes the pages that are generated from the code: docs/etcd.md.

usage: cargo xtask docs [--check]

  --check   change nothing; fail if a page is not what the code says";

pub(super) fn run(args: Vec<String>) -> Done {
    let mut args = Args::new("docs", args);
    let check = args.flag("--check");
    args.end()?;
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    let mut command = workspace.cargo();
    tools.lend(&mut command);
    command.args(["run", "--quiet", "--package", "neco-schema", "--example", "etcd-docs"]);
    let page = run::capture(command.stderr(Stdio::inherit()))?;
    let file = workspace.root.join("docs/etcd.md");
    let old = fs::read_to_string(&file).unwrap_or_default();
    if old == page {
        return Ok(());
    }
    if check {
        let line = old.lines().zip(page.lines()).take_while(|(old, new)| old == new).count() + 1;
        return Err(Failure::failed(format!(
            "docs/etcd.md is not what neco-schema says (from line {line} on): run `cargo xtask docs` \
             and commit it"
        )));
    }
    fs::write(&file, page).doing(|| format!("cannot write {}", file.display()))?;
    eprintln!("docs: wrote docs/etcd.md");
    Ok(())
}
