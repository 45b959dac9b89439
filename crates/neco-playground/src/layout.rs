//! What a boot server finds on its disk before Neco is installed.

use std::os::unix::fs::symlink;
use std::path::Path;

use neco_schema::NecoVersion;

use crate::SiteError;

/// How long releases may be silent: the mirror is on this machine.
const RELEASE_TIMEOUT: &str = "3s";

/// What a new server is told.
pub(crate) struct Setup<'a> {
    pub(crate) endpoints: &'a [String],
    pub(crate) api_url: &'a str,
    pub(crate) public_key: &'a Path,
    /// The first package, signed.
    pub(crate) package: &'a Path,
    pub(crate) version: &'a NecoVersion,
    /// Further lines of the configuration file: what etcd asks for.
    pub(crate) access: &'a str,
}

/// Writes what the operating system and setup would have written.
pub(crate) fn lay_out(
    root: &Path,
    machine: u32,
    lrn: u32,
    setup: &Setup<'_>,
) -> Result<(), SiteError> {
    let mut config = String::from("endpoints:\n");
    for endpoint in setup.endpoints {
        config.push_str(&format!("  - {endpoint}\n"));
    }
    config.push_str("prefix: /neco/\nrelease:\n  owner: cybozu-go\n  repository: neco\n");
    config.push_str(&format!("  api_url: {}\n  timeout: {RELEASE_TIMEOUT}\n", setup.api_url));
    config.push_str(setup.access);
    // As on a system with merged directories.
    let (usr, lib) = (root.join("usr/lib"), root.join("lib"));
    std::fs::create_dir_all(&usr).map_err(SiteError::io("making", &usr))?;
    symlink("usr/lib", &lib).map_err(SiteError::io("linking", &lib))?;
    for dir in ["var/log/neco", "var/lib/neco", "var/cache/neco"] {
        let path = root.join(dir);
        std::fs::create_dir_all(&path).map_err(SiteError::io("making", &path))?;
    }
    let key =
        std::fs::read(setup.public_key).map_err(SiteError::io("reading", setup.public_key))?;
    let files = [
        ("etc/neco/rack", format!("{lrn}\n")),
        ("etc/neco/cluster", "playground\n".to_owned()),
        ("etc/neco/config.yml", config),
        ("etc/hostname", format!("boot-{lrn}\n")),
        ("etc/machine-id", format!("{}\n", machine_id(machine))),
        ("etc/os-release", OS_RELEASE.to_owned()),
    ];
    for (path, text) in files {
        write(&root.join(path), text.as_bytes())?;
    }
    // What bootstrapping gives a server: who it is to etcd, and where its management controller is.
    for program in ["cke", "etcdpasswd", "sabakan"] {
        for file in ["etcd.crt", "etcd.key"] {
            write(&root.join("etc").join(program).join(file), b"")?;
        }
    }
    write(&root.join("etc/neco/bmc-address.json"), b"{}\n")?;
    write(&root.join("etc/neco/sandbox-cke-images"), CKE_IMAGES.as_bytes())?;
    for unit in UNITS {
        write(&usr.join("systemd/system").join(unit), UNIT.as_bytes())?;
    }
    write(&root.join("etc/neco/release-keys/playground.pub"), &key)?;
    boot_id(root)
}

const OS_RELEASE: &str = "\
NAME=\"Ubuntu\"
ID=ubuntu
VERSION_ID=\"22.04\"
VERSION_CODENAME=jammy
PRETTY_NAME=\"Ubuntu 22.04 LTS\"
";

/// Units that come with the operating system, and with programs that a package of Neco may carry.
const UNITS: [&str; 3] = ["cke-localproxy.service", "cke.service", "ssh.service"];

const UNIT: &str = "\
[Service]
ExecStart=/bin/true
ExecReload=/bin/true
[Install]
WantedBy=multi-user.target
";

/// What CKE says it runs.
const CKE_IMAGES: &str = "\
ghcr.io/cybozu/etcd:3.5.15.1
ghcr.io/cybozu/unbound_exporter:0.4.6.1
";

/// What tells one machine from every other: 32 hex digits.
fn machine_id(machine: u32) -> String {
    format!("{:032x}", 0x6e65_636f_0000_0000_0000_0000_0000_0001_u128 + u128::from(machine))
}

/// Begins a boot.
pub(crate) fn boot_id(root: &Path) -> Result<(), SiteError> {
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    let id = std::fs::read(SOURCE).map_err(SiteError::io("reading", SOURCE))?;
    write(&root.join("run/neco/boot-id"), &id)
}

fn write(path: &Path, content: &[u8]) -> Result<(), SiteError> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(path, content))
        .map_err(SiteError::io("writing", path))
}
