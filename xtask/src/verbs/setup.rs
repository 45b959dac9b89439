//! `cargo xtask setup`.

use crate::args::Args;
use crate::exit::Done;
use crate::tools::Tools;
use crate::workspace::Workspace;

pub(super) const HELP: &str = "\
Brings etcd and protoc where the system has none, and prints the exports for plain cargo.

usage: eval \"$(cargo xtask setup)\"

Missing programs are fetched as Debian packages and unpacked under target/tools/: nothing is
installed, no service is started, no root is needed. With NECO_SETUP_IGNORE_SYSTEM=1 the system's
programs are passed over.";

pub(super) fn run(args: Vec<String>) -> Done {
    Args::new("setup", args).end()?;
    let tools = Tools::bring(&Workspace::find()?)?;
    print!("{}", tools.exports());
    Ok(())
}
