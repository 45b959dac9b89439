//! Where a boot server keeps the authority of its site.

/// The certificate authority that the certificates of the site's services come from, in PEM, where the bootstrap puts it;
/// the system trusts it, too (`update-ca-certificates(8)`).
pub const SITE_CA: &str = "/usr/local/share/ca-certificates/neco.crt";
