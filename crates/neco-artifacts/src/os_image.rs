//! What worker servers boot.

use neco_toml::Fields;
use serde::Serialize;

use crate::artifacts::word;

/// A version of Flatcar Container Linux, which sabakan gives worker servers to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OsImage {
    /// The channel, such as `stable`.
    pub channel: String,
    /// The version, such as `4152.2.1`.
    pub version: String,
}

impl OsImage {
    /// Where the kernel lies.
    pub fn kernel_url(&self) -> String {
        self.url("flatcar_production_pxe.vmlinuz")
    }

    /// Where the initial RAM disk lies.
    pub fn initrd_url(&self) -> String {
        self.url("flatcar_production_pxe_image.cpio.gz")
    }

    fn url(&self, file: &str) -> String {
        let Self { channel, version } = self;
        format!("https://{channel}.release.flatcar-linux.net/amd64-usr/{version}/{file}")
    }

    pub(crate) fn read(entry: &Fields<'_>) -> Option<Self> {
        let channel = word(entry, "channel", "", "write the channel, such as \"stable\"");
        let version = word(entry, "version", ".+-", "write the version, such as \"4152.2.1\"");
        Some(Self { channel: channel?.to_owned(), version: version?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_and_initrd_lie_side_by_side() {
        let image = OsImage { channel: "stable".to_owned(), version: "4152.2.1".to_owned() };
        assert_eq!(
            image.kernel_url(),
            "https://stable.release.flatcar-linux.net/amd64-usr/4152.2.1/flatcar_production_pxe.vmlinuz"
        );
        assert_eq!(
            image.initrd_url(),
            "https://stable.release.flatcar-linux.net/amd64-usr/4152.2.1/flatcar_production_pxe_image.cpio.gz"
        );
    }
}
