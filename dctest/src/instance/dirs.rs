//! Where the files of a data centre are.

use std::path::{Path, PathBuf};

use crate::digest::sha256;

/// Below which everything lies that this program writes; given by whoever starts it.
pub const TOP_VARIABLE: &str = "NECO_DCTEST_DIR";

/// The folders of all data centres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top(pub PathBuf);

impl Top {
    /// Where base trees are kept.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.0.join("base")
    }

    /// Where the programs are that images are made of and that are not in base trees.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.0.join("programs")
    }

    /// Where the data centres are.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// What is kept of data centres that failed.
    #[must_use]
    pub fn artefacts(&self, name: &str) -> PathBuf {
        self.0.join("artefacts").join(name)
    }

    /// One data centre.
    #[must_use]
    pub fn instance(&self, name: &str) -> Dirs {
        Dirs { dir: self.instances().join(name), name: name.to_owned() }
    }

    /// The names of all that have a folder.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.instances()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What tells the data centres of this folder from those of other folders on the same host; stands in names of cgroups.
    #[must_use]
    pub fn tag(&self) -> String {
        sha256(self.0.as_os_str().as_encoded_bytes())[..8].to_owned()
    }

    /// The same for one of them.
    #[must_use]
    pub fn tag_of(&self, name: &str) -> String {
        format!("{}-{name}", self.tag())
    }
}

/// The folders of one data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// All of it.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
}

impl Dirs {
    /// The description that it was made from.
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.dir.join("cluster.yml")
    }

    /// Who runs it.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// What the three processes say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("keeper.log")
    }

    /// Configuration, sockets and logs of routing daemons.
    #[must_use]
    pub fn routers(&self) -> PathBuf {
        self.dir.join("net")
    }

    /// What the release mirror serves.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.dir.join("releases")
    }

    /// Where programs of the base tree find a root that is theirs.
    #[must_use]
    pub fn tools_root(&self) -> PathBuf {
        self.dir.join("tools")
    }

    /// Keys and certificates.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    /// One machine.
    #[must_use]
    pub fn machine(&self, name: &str) -> MachineDirs {
        MachineDirs { dir: self.dir.join("machines").join(name) }
    }
}

/// The folders of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineDirs {
    /// All of it.
    pub dir: PathBuf,
}

impl MachineDirs {
    /// What the machine has written: the upper layer of its disk.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.dir.join("up")
    }

    /// What the kernel needs beside it.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.join("wk")
    }

    /// Its disk, where it is mounted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Docker's data, on the real disk: overlayfs takes no overlay as its upper layer.
    #[must_use]
    pub fn docker(&self) -> PathBuf {
        self.dir.join("docker")
    }

    /// What it says while it boots.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Its journal, readable while it runs and after.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.upper().join("var/log/journal")
    }
}

/// The socket of a keeper, relative to its data centre's folder: paths of sockets are short (unix(7)).
pub const SOCKET: &str = "keeper.sock";

/// A short path of the socket in `dir`, through a descriptor of that folder.
///
/// # Errors
/// There is no such folder.
pub fn socket(dir: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd as _;
    let opened = std::fs::File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()));
    Ok((opened, path))
}
