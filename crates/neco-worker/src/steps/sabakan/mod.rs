//! What more than one action brings into sabakan.

pub(crate) mod assets;
pub(crate) mod ignitions;
