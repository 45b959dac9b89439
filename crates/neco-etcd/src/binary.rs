//! Finds the etcd binary and learns its version.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use semver::Version;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::spawn;

/// The environment variable that names the binary to use.
pub(crate) const ENV: &str = "NECO_ETCD";

/// Where below a tools directory a binary may lie: as Debian packs it, or alone.
const INSIDE_TOOLS: [&str; 2] = ["usr/bin/etcd", "bin/etcd"];

const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// An etcd binary that ran once and told its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    version: Version,
}

impl Binary {
    /// Looks at `NECO_ETCD`, then at `tools/` of the cargo target directory that this program was
    /// built in, then at `PATH`.
    ///
    /// A `NECO_ETCD` that names something unusable is an error: it is not passed over in silence.
    pub async fn find() -> Result<Self> {
        let exe = env::current_exe().ok();
        let path = locate(env::var_os(ENV).as_deref(), exe.as_deref(), env::var_os("PATH"))?;
        Self::at(path).await
    }

    /// Takes the binary at `path`, which is run once with `--version`.
    pub async fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let unusable = |source| Error::Unusable { path: path.clone(), source };
        let mut command = tokio::process::Command::new(&path);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = spawn(command).await.map_err(unusable)?;
        let output = timeout(VERSION_TIMEOUT, child.wait_with_output())
            .await
            .map_err(|_| unusable(io::ErrorKind::TimedOut.into()))?
            .map_err(unusable)?;
        let text = String::from_utf8_lossy(&output.stdout);
        match parse_version(&text) {
            Some(version) => Ok(Self { path, version }),
            None => {
                let output = text.lines().next().unwrap_or_default().chars().take(120).collect();
                Err(Error::NotEtcd { path, output })
            }
        }
    }

    /// Where the binary is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version it reported.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether it knows `--unsafe-no-fsync`, which came with 3.5.
    pub(crate) fn can_skip_fsync(&self) -> bool {
        (self.version.major, self.version.minor) >= (3, 5)
    }
}

fn parse_version(output: &str) -> Option<Version> {
    output.lines().find_map(|line| line.strip_prefix("etcd Version:")?.trim().parse().ok())
}

fn locate(
    wanted: Option<&OsStr>,
    exe: Option<&Path>,
    search_path: Option<impl AsRef<OsStr>>,
) -> Result<PathBuf> {
    if let Some(wanted) = wanted.filter(|w| !w.is_empty()) {
        return Ok(PathBuf::from(wanted));
    }
    let mut looked = vec![format!("{ENV}: not set")];
    // Cargo marks its target directory with this file, whatever the directory is called.
    let target = exe.and_then(|exe| exe.ancestors().find(|a| a.join("CACHEDIR.TAG").is_file()));
    if let Some(target) = target {
        let tools = target.join("tools");
        if let Some(path) = INSIDE_TOOLS.iter().map(|p| tools.join(p)).find(|p| is_executable(p)) {
            return Ok(path);
        }
        looked.push(format!("{}: absent", tools.join(INSIDE_TOOLS[0]).display()));
    }
    let search_path = search_path.as_ref().map(AsRef::as_ref).unwrap_or_default();
    if let Some(path) =
        env::split_paths(search_path).map(|dir| dir.join("etcd")).find(|p| is_executable(p))
    {
        return Ok(path);
    }
    looked.push("PATH: no etcd in it".to_owned());
    Err(Error::NotFound { looked: looked.join(", ") })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NOWHERE: Option<&str> = None;

    fn put_executable(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn environment_wins_over_everything() {
        let found = locate(Some(OsStr::new("/opt/etcd")), None, Some("/usr/bin")).unwrap();
        assert_eq!(found, Path::new("/opt/etcd"));
    }

    #[test]
    fn tools_of_the_target_directory_win_over_path() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let tool = target.join("tools/usr/bin/etcd");
        let on_path = dir.path().join("bin/etcd");
        put_executable(&tool);
        put_executable(&on_path);
        let exe = target.join("debug/deps/some-test");
        let path = Some(on_path.parent().unwrap());

        // Without cargo's mark it is just some directory of that name.
        assert_eq!(locate(None, Some(&exe), path).unwrap(), on_path);
        fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(locate(None, Some(&exe), path).unwrap(), tool);
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_not_a_binary() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("etcd"), "").unwrap();
        assert!(locate(None, None, Some(dir.path())).is_err());
    }

    #[test]
    fn an_absent_binary_names_the_command_that_brings_it() {
        let text = locate(None, None, NOWHERE).unwrap_err().to_string();
        assert!(text.contains("cargo xtask setup") && text.contains("NECO_ETCD"), "{text}");
    }

    #[test]
    fn version_is_read_from_the_first_line() {
        let text = "etcd Version: 3.5.1\nGit SHA: d42e8589e\nGo Version: go1.16.2\n";
        assert_eq!(parse_version(text), Some(Version::new(3, 5, 1)));
        assert_eq!(parse_version("ls (GNU coreutils) 9.1\n"), None);
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_etcd() {
        let error = Binary::at("/bin/true").await.unwrap_err();
        assert!(matches!(error, Error::NotEtcd { .. }), "{error}");
        let error = Binary::at("/nonexistent/etcd").await.unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
    }
}
