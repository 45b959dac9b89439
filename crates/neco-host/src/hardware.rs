//! What kind of machine this server is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::command::{self, CommandError, OnDrop};
use crate::{FileError, Root};

/// The kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// A virtual machine.
    VirtualMachine,
    /// A container.
    Container,
    /// A physical server of Dell.
    Dell,
}

/// Why the kind of machine is not known.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// A virtualisation that Neco does not support.
    #[error("systemd-detect-virt says {0:?}, which is no supported virtualisation")]
    UnknownVirtualisation(String),
    /// A vendor that Neco does not support.
    #[error("the chassis vendor is {0:?}; supported is \"Dell Inc.\"")]
    UnknownVendor(String),
    /// `systemd-detect-virt` gave no answer.
    #[error("asking systemd-detect-virt for the kind of machine")]
    Command(#[from] CommandError),
    /// The vendor cannot be read.
    #[error("asking the firmware for the chassis vendor")]
    Vendor(#[from] FileError),
}

const VIRTUAL_MACHINES: [&str; 11] = [
    "qemu",
    "kvm",
    "zvm",
    "vmware",
    "microsoft",
    "oracle",
    "xen",
    "bochs",
    "uml",
    "parallels",
    "bhyve",
];
const CONTAINERS: [&str; 5] = ["openvz", "lxc", "lxc-libvirt", "systemd-nspawn", "docker"];
const CHASSIS_VENDOR: &str = "/sys/class/dmi/id/chassis_vendor";

impl Hardware {
    /// The kind that follows from the output of `systemd-detect-virt`; `vendor` is asked on bare metal only.
    pub fn from_facts(
        virtualisation: &str,
        vendor: impl FnOnce() -> Result<String, FileError>,
    ) -> Result<Self, HardwareError> {
        match virtualisation.trim() {
            "none" => match vendor()?.trim() {
                "Dell Inc." => Ok(Self::Dell),
                other => Err(HardwareError::UnknownVendor(other.to_owned())),
            },
            vm if VIRTUAL_MACHINES.contains(&vm) => Ok(Self::VirtualMachine),
            container if CONTAINERS.contains(&container) => Ok(Self::Container),
            other => Err(HardwareError::UnknownVirtualisation(other.to_owned())),
        }
    }

    /// The kind of this machine. The vendor is read below `root`, so that a test can play a vendor.
    pub async fn detect(root: &Root) -> Result<Self, HardwareError> {
        let argv = ["systemd-detect-virt"];
        // It exits 1 where it says "none".
        let output = command::run(&argv, &[], Duration::from_secs(10), OnDrop::Kill).await?;
        Self::from_facts(&output.stdout, || {
            let path: PathBuf = root.join(CHASSIS_VENDOR);
            let read =
                || -> io::Result<String> { std::fs::read_to_string(root.resolve(CHASSIS_VENDOR)?) };
            read().map_err(|source| FileError::new("reading", path, source))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(virtualisation: &str) -> Result<Hardware, HardwareError> {
        Hardware::from_facts(virtualisation, || panic!("{virtualisation} needs no vendor"))
    }

    fn of(vendor: &str) -> Result<Hardware, HardwareError> {
        Hardware::from_facts("none\n", || Ok(vendor.to_owned()))
    }

    // reference/neco-cd-core.md §2.7.
    #[test]
    fn virtualisation_and_vendor_tell_the_kind() {
        for vm in VIRTUAL_MACHINES {
            assert!(matches!(on(&format!("{vm}\n")), Ok(Hardware::VirtualMachine)), "{vm}");
        }
        for container in CONTAINERS {
            assert!(matches!(on(container), Ok(Hardware::Container)), "{container}");
        }
        assert!(matches!(of("Dell Inc.\n"), Ok(Hardware::Dell)));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for other in ["wsl", "podman", "amazon", "google", ""] {
            assert!(
                matches!(on(other), Err(HardwareError::UnknownVirtualisation(name)) if name == other)
            );
        }
        let error = of("HPE").expect_err("not supported").to_string();
        assert!(error.contains("\"HPE\""), "{error}");
    }

    #[tokio::test]
    async fn a_machine_without_firmware_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        match Hardware::detect(&root).await {
            Err(HardwareError::Vendor(error)) => {
                assert!(error.to_string().contains("chassis_vendor"), "{error}");
            }
            // In a container, a virtual machine, or without systemd.
            Ok(Hardware::Dell) => panic!("there is no vendor below this root"),
            Ok(_) | Err(_) => {}
        }
    }
}
