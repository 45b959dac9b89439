//! sabakan of a sandbox: what would be uploaded is written down.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use neco_host::fs::FileSystem;
use neco_host::{FileError, Root, address, disk_trouble, replace};
use neco_sabakan::{
    AssetMeta, AssetName, AssetUpload, Bmc, Content, ContentDigest, DhcpConfig, Health, IgnitionId,
    IgnitionTemplate, ImageId, IpamConfig, KernelParams, Machine, MachineInfo, MachineParams,
    MachineQuery, MachineSpec, MachineState, MachineStatus, OnProgress, OsImage, Role, Sabakan,
    SabakanError, Serial, UploadProgress, UploadedAsset,
};
use neco_schema::{Lrn, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Keeps what is published below the root of a sandbox, and knows the boot server of every rack.
///
/// | Below `/var/lib/neco/published/` | Holds |
/// |---|---|
/// | `dhcp.json` | the settings of DHCP |
/// | `images.json` | the OS images, the newest at the end |
/// | `assets/<name>.json` | what is known of an asset; its bytes are not read |
/// | `ignitions/<role>/<id>.json` | a template |
///
/// Disk keys, states of machines and the rest of sabakan's settings are not there.
pub struct SandboxSabakan {
    root: Root,
    fs: Arc<dyn FileSystem>,
}

impl SandboxSabakan {
    /// Where everything lies, relative to the root.
    pub const FOLDER: &str = "/var/lib/neco/published";

    /// Writes below `root`, by `fs`.
    pub fn new(root: Root, fs: Arc<dyn FileSystem>) -> Self {
        Self { root, fs }
    }

    fn place(name: impl AsRef<Path>) -> PathBuf {
        Path::new(Self::FOLDER).join(name)
    }

    fn write(&self, name: impl AsRef<Path>, value: &impl Serialize) -> Result<(), SabakanError> {
        let path = Self::place(name);
        let call = format!("writing {}", path.display());
        let text = serde_json::to_vec_pretty(value)
            .map_err(|source| SabakanError::Malformed { call: call.clone(), source })?;
        let written = replace(&*self.fs, &self.root, &path, &text, 0o644, None);
        written.map(drop).map_err(|error| refused(call, error))
    }

    fn read<T: DeserializeOwned>(&self, name: impl AsRef<Path>) -> Result<Option<T>, SabakanError> {
        let path = self.root.join(Self::place(name));
        let call = format!("reading {}", path.display());
        match self.fs.read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| SabakanError::Malformed { call, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SabakanError::Content { call, source }),
        }
    }

    /// The names of the files of a folder, without their ending.
    fn list(&self, name: impl AsRef<Path>) -> Vec<String> {
        let folder = self.root.join(Self::place(name));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
        names.sort();
        names
    }
}

/// A disk that refuses is one error, and whatever else stands in the way another.
fn refused(call: String, error: FileError) -> SabakanError {
    match disk_trouble(&error) {
        Some(_) => SabakanError::Content { call, source: error.source },
        None => SabakanError::Refused { call, status: 500, error: error.source.to_string() },
    }
}

fn not_here(call: &str) -> SabakanError {
    let error = "a sandbox has no such thing".to_owned();
    SabakanError::NotFound { call: call.to_owned(), error }
}

fn image_file(name: &AssetName) -> String {
    format!("assets/{name}.json")
}

#[async_trait]
impl Sabakan for SandboxSabakan {
    async fn answers(&self) -> Result<(), SabakanError> {
        Ok(())
    }

    async fn health(&self) -> Result<Health, SabakanError> {
        Ok(Health::Healthy)
    }

    async fn version(&self) -> Result<String, SabakanError> {
        Ok("sandbox".to_owned())
    }

    async fn machines(&self, query: &MachineQuery) -> Result<Vec<Machine>, SabakanError> {
        let boot_servers = query.with.role.contains(&Role::boot());
        let racks = query.with.rack.iter().filter(|_| boot_servers);
        racks.map(|rack| boot_server(*rack)).collect()
    }

    async fn search_machines(
        &self,
        _: &MachineParams,
        _: &MachineParams,
    ) -> Result<Vec<Machine>, SabakanError> {
        Ok(Vec::new())
    }

    async fn set_machine_state(
        &self,
        _: &Serial,
        _: MachineState,
    ) -> Result<MachineStatus, SabakanError> {
        Err(not_here("setting a state"))
    }

    async fn delete_crypts(&self, _: &Serial) -> Result<Vec<String>, SabakanError> {
        Err(not_here("deleting keys"))
    }

    async fn ipam(&self) -> Result<Option<IpamConfig>, SabakanError> {
        Ok(None)
    }

    async fn set_ipam(&self, _: &IpamConfig) -> Result<(), SabakanError> {
        Err(not_here("setting ipam"))
    }

    async fn dhcp(&self) -> Result<Option<DhcpConfig>, SabakanError> {
        self.read("dhcp.json")
    }

    async fn set_dhcp(&self, config: &DhcpConfig) -> Result<(), SabakanError> {
        self.write("dhcp.json", config)
    }

    async fn kernel_params(&self) -> Result<Option<KernelParams>, SabakanError> {
        Ok(None)
    }

    async fn set_kernel_params(&self, _: &KernelParams) -> Result<(), SabakanError> {
        Err(not_here("setting kernel parameters"))
    }

    async fn images(&self) -> Result<Vec<OsImage>, SabakanError> {
        Ok(self.read("images.json")?.unwrap_or_default())
    }

    async fn upload_image(
        &self,
        id: &ImageId,
        kernel: &Content,
        initrd: &Content,
        progress: OnProgress<'_>,
    ) -> Result<(), SabakanError> {
        let size = kernel.length() + initrd.length();
        let (id, date) = (id.clone(), Timestamp::from_unix(0));
        let mut images = self.images().await?;
        images.retain(|image| image.id != id);
        images.push(OsImage { id, date, size, urls: Vec::new(), exists: true });
        progress(UploadProgress { done: size, total: size });
        self.write("images.json", &images)
    }

    async fn assets(&self) -> Result<Vec<AssetName>, SabakanError> {
        let names = self.list("assets").into_iter();
        Ok(names.filter_map(|name| AssetName::new(name).ok()).collect())
    }

    async fn asset(&self, name: &AssetName) -> Result<Option<AssetMeta>, SabakanError> {
        self.read(image_file(name))
    }

    async fn upload_asset(
        &self,
        name: &AssetName,
        upload: &AssetUpload,
        progress: OnProgress<'_>,
    ) -> Result<UploadedAsset, SabakanError> {
        let replaced = self.asset(name).await?.is_some();
        let size = upload.content.length();
        let known = upload.content.sha256().cloned();
        let meta = AssetMeta {
            name: name.clone(),
            id: "1".to_owned(),
            content_type: upload.content_type.clone(),
            date: Timestamp::from_unix(0),
            size,
            sha256: known.unwrap_or_else(|| ContentDigest::of(b"")),
            urls: Vec::new(),
            exists: true,
            options: upload.options.clone(),
        };
        progress(UploadProgress { done: size, total: size });
        self.write(image_file(name), &meta)?;
        Ok(UploadedAsset { id: meta.id, replaced, sha256: meta.sha256 })
    }

    async fn ignitions(&self, role: &Role) -> Result<Vec<IgnitionId>, SabakanError> {
        let names = self.list(format!("ignitions/{role}")).into_iter();
        let mut ids: Vec<_> = names.filter_map(|name| IgnitionId::new(name).ok()).collect();
        ids.sort_by(IgnitionId::cmp_version);
        Ok(ids)
    }

    async fn ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
    ) -> Result<Option<IgnitionTemplate>, SabakanError> {
        self.read(format!("ignitions/{role}/{id}.json"))
    }

    async fn upload_ignition(
        &self,
        role: &Role,
        id: &IgnitionId,
        template: &IgnitionTemplate,
    ) -> Result<(), SabakanError> {
        self.write(format!("ignitions/{role}/{id}.json"), template)
    }
}

/// The boot server of a rack, as the plan of addresses has it.
fn boot_server(rack: u32) -> Result<Machine, SabakanError> {
    let name = |error| SabakanError::Name { call: "a sandbox".to_owned(), source: error };
    let serial = Serial::new(format!("boot-{rack}")).map_err(name)?;
    let spec = MachineSpec {
        serial,
        labels: Default::default(),
        rack,
        index_in_rack: 3,
        role: Role::boot(),
        ipv4: address::node0(Lrn::new(rack)).into_iter().collect(),
        register_date: Timestamp::from_unix(0),
        retire_date: Timestamp::from_unix(0),
        bmc: Bmc::default(),
    };
    let status = MachineStatus {
        timestamp: Timestamp::from_unix(0),
        duration: 0.0,
        state: MachineState::Healthy,
    };
    Ok(Machine { spec, status, info: MachineInfo::default() })
}
