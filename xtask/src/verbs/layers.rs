//! `cargo xtask layers`.

use crate::args::Args;
use crate::exit::{Done, Failure};
use crate::layers;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Prints which crate uses which, floor by floor, and fails where the rules of the house are broken.

usage: cargo xtask layers

Fails on a missing floor, an arrow that runs uphill or between strangers, an I/O runtime beneath
neco-plan, the feature `testing` in a shipped binary, a `select!` that is not `biased`, and a crate
that owes determinism but does not deny what would break it.";

pub(super) fn run(args: Vec<String>) -> Done {
    Args::new("layers", args).end()?;
    let survey = layers::survey(&Workspace::find()?)?;
    print!("{}", survey.picture);
    if survey.violations.is_empty() {
        return Ok(());
    }
    for violation in &survey.violations {
        eprintln!("layers: {violation}");
    }
    Err(Failure::failed(format!("layers: {} rules broken", survey.violations.len())))
}
