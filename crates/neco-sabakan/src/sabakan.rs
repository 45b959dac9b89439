//! What Neco asks of sabakan (external-apis §1.10).

use async_trait::async_trait;

use crate::{
    AssetMeta, AssetName, AssetUpload, Content, DhcpConfig, IgnitionId, IgnitionTemplate, ImageId,
    IpamConfig, KernelParams, Machine, MachineParams, MachineQuery, MachineState, MachineStatus,
    OsImage, Role, SabakanError, Serial, UploadedAsset,
};

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadProgress {
    /// How many bytes were sent.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Whom uploads tell how far they have come.
pub type OnProgress<'a> = &'a (dyn Fn(UploadProgress) + Send + Sync);

/// Whether sabakan is well (external-apis §1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Healthy,
    /// It answers, and says that it does not serve; its etcd is away, for example.
    Unhealthy,
}

/// Keeps machines, what they boot, and what they fetch (external-apis §1).
///
/// A call may be dropped at any await. A dropped upload leaves what was there before.
#[async_trait]
pub trait Sabakan: Send + Sync {
    /// Whether anything at all answers: any status will do (external-apis §1.10, step 9).
    async fn answers(&self) -> Result<(), SabakanError>;

    /// Whether it is well (external-apis §1.7).
    async fn health(&self) -> Result<Health, SabakanError>;

    /// Its version (external-apis §1.7).
    async fn version(&self) -> Result<String, SabakanError>;

    /// The machines that a query means; none is an empty list (external-apis §1.2).
    async fn machines(&self, query: &MachineQuery) -> Result<Vec<Machine>, SabakanError>;

    /// The machines that have what `having` says and nothing of what `not_having` says, by GraphQL (external-apis §1.8).
    async fn search_machines(
        &self,
        having: &MachineParams,
        not_having: &MachineParams,
    ) -> Result<Vec<Machine>, SabakanError>;

    /// Puts a machine into a state, by GraphQL; the one that it has is no change (external-apis §1.8).
    async fn set_machine_state(
        &self,
        serial: &Serial,
        state: MachineState,
    ) -> Result<MachineStatus, SabakanError>;

    /// Deletes the keys of a retiring machine's disks, and tells which (external-apis §1.7).
    async fn delete_crypts(&self, serial: &Serial) -> Result<Vec<String>, SabakanError>;

    /// How addresses are given, if that is set (external-apis §1.3).
    async fn ipam(&self) -> Result<Option<IpamConfig>, SabakanError>;

    /// Sets how addresses are given (external-apis §1.3).
    async fn set_ipam(&self, config: &IpamConfig) -> Result<(), SabakanError>;

    /// How machines learn their addresses, if that is set (external-apis §1.3).
    async fn dhcp(&self) -> Result<Option<DhcpConfig>, SabakanError>;

    /// Sets how machines learn their addresses (external-apis §1.3).
    async fn set_dhcp(&self, config: &DhcpConfig) -> Result<(), SabakanError>;

    /// What machines boot their kernel with, if that is set (external-apis §1.3).
    async fn kernel_params(&self) -> Result<Option<KernelParams>, SabakanError>;

    /// Sets what machines boot their kernel with (external-apis §1.3).
    async fn set_kernel_params(&self, params: &KernelParams) -> Result<(), SabakanError>;

    /// The OS images, the newest at the end (external-apis §1.4).
    async fn images(&self) -> Result<Vec<OsImage>, SabakanError>;

    /// Uploads an OS image, which is the newest afterwards. The same content under the same id may be sent again; an id that
    /// was deleted or dropped is a conflict (external-apis §1.4).
    async fn upload_image(
        &self,
        id: &ImageId,
        kernel: &Content,
        initrd: &Content,
        progress: OnProgress<'_>,
    ) -> Result<(), SabakanError>;

    /// The names of all assets, in order (external-apis §1.5).
    async fn assets(&self) -> Result<Vec<AssetName>, SabakanError>;

    /// What is known of an asset, if there is one (external-apis §1.5).
    async fn asset(&self, name: &AssetName) -> Result<Option<AssetMeta>, SabakanError>;

    /// Uploads an asset, also in place of one of that name, and proves that what was sent is what is there; what is something
    /// else is deleted (external-apis §1.5).
    async fn upload_asset(
        &self,
        name: &AssetName,
        upload: &AssetUpload,
        progress: OnProgress<'_>,
    ) -> Result<UploadedAsset, SabakanError>;

    /// The ids of a role's ignition templates, by version; none is an empty list (external-apis §1.6).
    async fn ignitions(&self, role: &Role) -> Result<Vec<IgnitionId>, SabakanError>;

    /// An ignition template, if there is one (external-apis §1.6).
    async fn ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
    ) -> Result<Option<IgnitionTemplate>, SabakanError>;

    /// Uploads an ignition template; one that has its id already is a conflict. Of each role, the ten with the highest ids
    /// are kept (external-apis §1.6).
    async fn upload_ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
        template: &IgnitionTemplate,
    ) -> Result<(), SabakanError>;
}
