//! What steps do that data cannot say: one file, or folder, for each action that a recipe may name.

pub(crate) mod cke_contents;
pub(crate) mod cke_template;
pub(crate) mod dhcp_json;
pub(crate) mod etcd;
pub(crate) mod fetch_images;
pub(crate) mod sabakan_contents;
pub(crate) mod user_resources;

/// The actions that recipes may name.
pub(crate) const NAMES: [&str; 8] = [
    fetch_images::NAME,
    dhcp_json::NAME,
    cke_template::NAME,
    cke_contents::NAME,
    sabakan_contents::NAME,
    user_resources::NAME,
    etcd::endpoints::NAME,
    etcd::NAME,
];
