//! `dhcp-json`: tells sabakan how machines learn their addresses when they boot.

use neco_sabakan::DhcpConfig;

use crate::context::{StepContext, StepError};
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, patiently};
use crate::steps::{contents, set_up};

/// The name in recipes.
pub(crate) const NAME: &str = "dhcp-json";
/// The file beside the recipe that says it.
pub(crate) const DATA: &str = "dhcp.json";

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
    if !set_up::sabakan(context, host)? {
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
