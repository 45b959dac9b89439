//! Whether what an action is for was set up on this server: until then it has nothing to do.

use std::path::Path;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;

/// sabakan was set up on this server where this is: its key to etcd.
const SABAKAN: &str = "/etc/sabakan/etcd.key";
/// CKE was set up on this server where this is: its certificate for etcd.
const CKE: &str = "/etc/cke/etcd.crt";

/// Whether sabakan is used on this server; says so where it is not.
///
/// # Errors
/// The disk cannot be read.
pub(crate) fn sabakan(context: &StepContext, host: &StepHost) -> Result<bool, StepError> {
    is_there(context, host, "sabakan", SABAKAN)
}

/// Whether CKE is used on this server, and can be asked; says so where it is not.
///
/// # Errors
/// The disk cannot be read.
pub(crate) fn cke(context: &StepContext, host: &StepHost) -> Result<bool, StepError> {
    Ok(is_there(context, host, "CKE", CKE)? && asks_cke(context, host))
}

/// Whether the program that asks CKE is on this server; says so where it is not.
pub(crate) fn asks_cke(context: &StepContext, host: &StepHost) -> bool {
    let is_here = host.cke.is_here();
    if !is_here {
        context.doing("CKE is not on this server");
    }
    is_here
}

/// Says that the package has nothing of a site's own to give.
pub(crate) fn is_not_brought(context: &StepContext, what: &str) {
    context.doing(format!("the package brings no {what}, which would be the site's own"));
}

fn is_there(
    context: &StepContext,
    host: &StepHost,
    what: &str,
    path: &str,
) -> Result<bool, StepError> {
    let set_up = host.exists(Path::new(path))?;
    if !set_up {
        context.doing(format!("{what} was not set up on this server: there is no {path}"));
    }
    Ok(set_up)
}
