//! `dhcp-json`: tells sabakan how machines learn their addresses when they boot.

use std::path::Path;

use neco_sabakan::DhcpConfig;

use crate::context::{StepContext, StepError};
use crate::steps::contents;
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, patiently};

/// The name in recipes.
pub(crate) const NAME: &str = "dhcp-json";
/// The file beside the recipe that says it.
pub(crate) const DATA: &str = "dhcp.json";

/// sabakan was set up on this server where this is.
const SET_UP: &str = "/etc/sabakan/etcd.key";

/// Whether sabakan is used on this server; says so where it is not.
///
/// # Errors
/// The disk cannot be read.
pub(crate) fn sabakan_is_set_up(context: &StepContext, host: &StepHost) -> Result<bool, StepError> {
    let set_up = host.exists(Path::new(SET_UP))?;
    if !set_up {
        context.doing(format!("sabakan was not set up on this server: there is no {SET_UP}"));
    }
    Ok(set_up)
}

/// Sets what the file says, once for the cluster.
///
/// # Errors
/// Cancelled at a safe point, the file is malformed, or sabakan does not take it.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    contents: &str,
    text: &str,
    inputs: &str,
) -> Result<(), StepError> {
    if !sabakan_is_set_up(context, host)? {
        return Ok(());
    }
    let malformed =
        |error| StepError::Failed(format!("{DATA} of the package is malformed: {error}"));
    let config: DhcpConfig = serde_json::from_str(text).map_err(malformed)?;
    contents::once(context, contents, inputs, || async {
        let what = format!("setting {DATA} in sabakan");
        let set = || async { host.sabakan.set_dhcp(&config).await.map_err(Trouble::from) };
        patiently(context, host.patience, &what, set).await
    })
    .await
}
