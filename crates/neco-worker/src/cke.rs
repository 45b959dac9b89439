//! CKE, which keeps Kubernetes, through its command.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use neco_components::ListedImage;
use neco_connect::one_line;
use neco_host::{Root, run_command};
use tokio::io::AsyncWriteExt as _;

/// Asks CKE, and sets what it goes by.
#[async_trait]
pub trait Cke: Send + Sync {
    /// Whether its command is on this server at all.
    fn is_here(&self) -> bool;

    /// The images that it runs.
    ///
    /// # Errors
    /// It cannot be told, in words.
    async fn images(&self) -> Result<Vec<ListedImage>, String>;

    /// Sets the template of the cluster, which lies in `file`.
    ///
    /// # Errors
    /// CKE does not take it, in words.
    async fn set_template(&self, file: &Path) -> Result<(), String>;

    /// Sets resources of Kubernetes, each a document of this YAML.
    ///
    /// # Errors
    /// CKE does not take them, in words.
    async fn set_resources(&self, yaml: &str) -> Result<(), String>;
}

/// How long one command may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The command `ckecli`.
#[derive(Clone, Debug)]
pub struct Ckecli {
    program: PathBuf,
    within: Duration,
}

impl Ckecli {
    /// Where the command lies.
    pub const PROGRAM: &str = "/usr/bin/ckecli";

    /// The command at `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), within: WITHIN }
    }

    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let program = self.program.display().to_string();
        let words: Vec<&str> = [program.as_str()].into_iter().chain(arguments.to_vec()).collect();
        let output = run_command(&words, self.within).await.map_err(|error| one_line(&error))?;
        if output.status.success() { Ok(output.stdout) } else { Err(output.to_string()) }
    }
}

impl Default for Ckecli {
    fn default() -> Self {
        Self::new(Self::PROGRAM)
    }
}

#[async_trait]
impl Cke for Ckecli {
    fn is_here(&self) -> bool {
        self.program.exists()
    }

    async fn images(&self) -> Result<Vec<ListedImage>, String> {
        let list = self.run(&["images"]).await?;
        let images = ListedImage::list(&list);
        images.map_err(|why| format!("`{} images`: {why}", self.program.display()))
    }

    async fn set_template(&self, file: &Path) -> Result<(), String> {
        let file = file.display().to_string();
        self.run(&["sabakan", "set-template", &file]).await.map(drop)
    }

    async fn set_resources(&self, yaml: &str) -> Result<(), String> {
        let called = format!("`{} resource set -`", self.program.display());
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["resource", "set", "-"]).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = command.spawn().map_err(|error| format!("starting {called}: {error}"));
        let mut child = started?;
        let stdin = child.stdin.take();
        let told = async {
            if let Some(mut stdin) = stdin {
                // One that does not read to the end says why when it ends.
                let _ = stdin.write_all(yaml.as_bytes()).await;
            }
        };
        let ended = async { tokio::join!(told, child.wait_with_output()).1 };
        let output = match tokio::time::timeout(self.within, ended).await {
            Ok(output) => output.map_err(|error| format!("waiting for {called}: {error}"))?,
            Err(_) => return Err(format!("{called} did not end within {:?}", self.within)),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        Err(format!("{called} ended with {}: {}", output.status, last.unwrap_or("nothing said")))
    }
}

/// CKE of a sandbox: what would be set is written down, and its images are those of a file.
pub struct SandboxCke {
    root: Root,
}

impl SandboxCke {
    /// The list of images, relative to the root; without it, CKE is not on this server.
    pub const IMAGES: &str = "/etc/neco/sandbox-cke-images";
    /// What was set, relative to the root.
    pub const RESOURCES: &str = "/var/lib/neco/published/resources.yml";

    /// CKE of the server below `root`.
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

#[async_trait]
impl Cke for SandboxCke {
    fn is_here(&self) -> bool {
        self.root.join(Self::IMAGES).exists()
    }

    async fn images(&self) -> Result<Vec<ListedImage>, String> {
        let path = self.root.join(Self::IMAGES);
        let list = std::fs::read_to_string(&path);
        ListedImage::list(&list.map_err(|error| format!("reading {}: {error}", path.display()))?)
    }

    async fn set_template(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    async fn set_resources(&self, yaml: &str) -> Result<(), String> {
        let path = self.root.join(Self::RESOURCES);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, format!("{before}---\n{yaml}"))
        };
        write().map_err(|error| format!("writing {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that is this script.
    fn command(script: &str) -> (tempfile::TempDir, Ckecli) {
        let folder = tempfile::tempdir().expect("a folder");
        let (text, program) = (folder.path().join("text"), folder.path().join("ckecli"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("written");
        // Written by another process: no child that a test beside this one starts holds it open.
        let installed = std::process::Command::new("install")
            .args(["-m", "0755"])
            .args([&text, &program])
            .status();
        assert!(installed.expect("started").success());
        (folder, Ckecli::new(program))
    }

    #[tokio::test]
    async fn images_are_listed_with_names_of_their_own() {
        let (_folder, cke) =
            command("[ \"$*\" = images ] && echo ghcr.io/cybozu/unbound_exporter:1");
        assert!(cke.is_here());
        let images = cke.images().await.expect("a list");
        assert_eq!(images[0].name, "unbound_exporter");
        let (_folder, cke) = command("echo pause");
        let why = cke.images().await.expect_err("no tag");
        assert!(why.contains("images`: \"pause\" is no image"), "{why}");
        assert!(!Ckecli::new("/no/such/ckecli").is_here());
        assert!(Ckecli::new("/no/such/ckecli").images().await.is_err());
    }

    #[tokio::test]
    async fn resources_are_read_by_the_command_and_what_it_says_against_them_is_told() {
        let (folder, cke) = command("cat > \"$0.said\"; [ \"$*\" = \"resource set -\" ]");
        // More than fits into a pipe.
        let yaml = "kind: Namespace\n".repeat(10_000);
        cke.set_resources(&yaml).await.expect("taken");
        let said = std::fs::read_to_string(folder.path().join("ckecli.said")).expect("said");
        assert_eq!(said, yaml);
        let (_folder, cke) = command("echo 'no kind' >&2; exit 1");
        let why = cke.set_resources(&yaml).await.expect_err("refused");
        assert!(why.contains("resource set -` ended with exit status: 1: no kind"), "{why}");
        let (_folder, mut cke) = command("exec sleep 60");
        cke.within = Duration::from_millis(100);
        let why = cke.set_resources(&yaml).await.expect_err("silence");
        assert!(why.contains("did not end within 100ms"), "{why}");
    }
}
