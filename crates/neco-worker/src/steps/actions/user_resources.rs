//! `user-resources`: gives CKE resources of Kubernetes, which it keeps there.

use std::collections::BTreeMap;

use neco_components::{ContentDigest, Image, render_data};
use neco_schema::ConfigKey;
use serde::Serialize;

use crate::context::{StepContext, StepError};
use crate::steps::actions::cke_contents;
use crate::steps::host::StepHost;
use crate::steps::tries::{Trouble, patiently};
use crate::steps::{contents, set_up, stored};

/// The name in recipes.
pub(crate) const NAME: &str = "user-resources";

/// What a file of resources may ask.
#[derive(Serialize)]
struct Variables {
    /// The cluster's name.
    cluster: String,
    /// Which releases it follows.
    env: String,
    /// Full names of the images that are pinned, the public ones, by name.
    images: BTreeMap<String, String>,
    /// Full names of those that CKE runs.
    cke_images: BTreeMap<String, String>,
    lb_address_default: String,
    lb_address_bastion: String,
    lb_address_internet: String,
    lb_address_internet_cn: String,
}

/// Renders the files and gives them to CKE in this order, once for the cluster, and again when what they say changes.
///
/// # Errors
/// Cancelled at a safe point, a file asks for what there is not, or CKE does not take it.
pub(crate) async fn run(
    context: &StepContext,
    host: &StepHost,
    contents: &str,
    images: impl Iterator<Item = &Image>,
    files: &[(&str, &str)],
) -> Result<(), StepError> {
    if !set_up::cke(context, host)? {
        return Ok(());
    }
    if files.is_empty() {
        set_up::is_not_brought(context, "resources of Kubernetes");
        return Ok(());
    }
    let images = images.map(|image| (image.name.to_string(), image.reference())).collect();
    let variables = variables(context, host, images).await?;
    let mut rendered = Vec::with_capacity(files.len());
    for (name, text) in files {
        rendered.push((*name, render_data(name, text, &variables).map_err(StepError::Failed)?));
    }
    let inputs = ContentDigest::of(
        serde_json::to_vec(&rendered).map_err(|error| StepError::Failed(error.to_string()))?,
    );
    let set = || async {
        for (name, yaml) in &rendered {
            context.fence().await?;
            let what = format!("giving CKE the resources of {name}");
            let give = || async { host.cke.set_resources(yaml).await.map_err(Trouble::passing) };
            patiently(context, host.patience, &what, give).await?;
        }
        Ok(())
    };
    contents::once(context, contents, inputs.as_str(), set).await
}

async fn variables(
    context: &StepContext,
    host: &StepHost,
    images: BTreeMap<String, String>,
) -> Result<Variables, StepError> {
    use ConfigKey::{
        Env, LbAddressBlockBastion, LbAddressBlockDefault, LbAddressBlockInternet,
        LbAddressBlockInternetCn,
    };
    let blocks = [
        Env,
        LbAddressBlockDefault,
        LbAddressBlockBastion,
        LbAddressBlockInternet,
        LbAddressBlockInternetCn,
    ];
    let mut settings = stored::settings(context, &blocks).await?;
    // What is not set is empty.
    let mut setting = |key| settings.remove(&key).unwrap_or_default();
    let env = setting(Env);
    let cke_images = cke_contents::images(context, host).await?.into_iter();
    Ok(Variables {
        cluster: host.cluster()?,
        env: if env.is_empty() { "none".to_owned() } else { env },
        images,
        cke_images: cke_images.map(|image| (image.name, image.reference)).collect(),
        lb_address_default: setting(LbAddressBlockDefault),
        lb_address_bastion: setting(LbAddressBlockBastion),
        lb_address_internet: setting(LbAddressBlockInternet),
        lb_address_internet_cn: setting(LbAddressBlockInternetCn),
    })
}
