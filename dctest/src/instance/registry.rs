//! The registry of container images on the internet side: Debian's docker-registry out of the base tree, over TLS, filled over
//! its HTTP API as any registry is (OCI distribution specification).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::dirs::{Dirs, Top};
use super::network::tool;
use crate::digest::sha256;
use crate::host::command::{command, run};
use crate::plan::image::{Image, MANIFEST, configuration, digest, manifest};

/// Its name, in `/etc/hosts` of every machine.
pub const NAME: &str = "registry.test";

/// In which network space it is.
const SPACE: &str = "internet";

const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The parts of an image that was made.
struct Made {
    layer: PathBuf,
    configuration: PathBuf,
    manifest: PathBuf,
}

/// Starts the registry; it ends with what this gives.
///
/// # Errors
/// It does not answer in time.
pub async fn start(dirs: &Dirs, address: std::net::Ipv4Addr) -> Result<Child> {
    let dir = dirs.tools_root().join("run/registry");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    for file in ["registry.pem", "registry.key", "authority.pem"] {
        fs::copy(dirs.secrets().join(file), dir.join(file))
            .with_context(|| format!("copying {file}"))?;
    }
    let settings = format!(
        "version: 0.1\nlog: {{ level: warn }}\nstorage: {{ filesystem: {{ rootdirectory: /run/registry/data }} }}\n\
         http:\n  addr: {address}:443\n  tls: {{ certificate: /run/registry/registry.pem, key: /run/registry/registry.key }}\n"
    );
    let file = dir.join("config.yml");
    fs::write(&file, settings).with_context(|| format!("writing {}", file.display()))?;
    let log = dirs.routers().join("registry.log");
    let log = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut child = tool(dirs, SPACE, &["docker-registry", "serve", "/run/registry/config.yml"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the registry")?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match ask(dirs, address, &["https://registry.test/v2/"]).await {
            Ok(_) => return Ok(child),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context("the registry does not answer"));
            }
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "the registry has ended ({status}); see {}",
                dirs.routers().join("registry.log").display()
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Asks it something by curl(1) of the tree; gives what it answers.
async fn ask(dirs: &Dirs, address: std::net::Ipv4Addr, words: &[&str]) -> Result<String> {
    let resolve = format!("{NAME}:443:{address}");
    let mut all = vec!["curl", "--silent", "--show-error", "--fail", "--max-time", "30"];
    all.extend(["--cacert", "/run/registry/authority.pem", "--resolve", &resolve]);
    all.extend(words);
    run(&mut tool(dirs, SPACE, &all), LIMIT).await
}

/// Makes an image and pushes it. What was made once for a base tree is taken again.
///
/// # Errors
/// A file of it is not in the base tree, or the registry refuses it.
pub async fn fill(
    top: &Top,
    dirs: &Dirs,
    base: &Path,
    address: std::net::Ipv4Addr,
    image: &Image,
) -> Result<()> {
    let made = make(top, dirs, base, image)
        .await
        .with_context(|| format!("making the image {}:{}", image.name, image.tag))?;
    // The registry's programs see their own root alone.
    let inside = dirs.tools_root().join("run/registry/push");
    fs::create_dir_all(&inside).with_context(|| format!("making {}", inside.display()))?;
    let name = &image.name;
    for part in [&made.layer, &made.configuration] {
        let digest =
            digest(&fs::read(part).with_context(|| format!("reading {}", part.display()))?);
        let to = inside.join(format!("{name}-{}", digest.replace(':', "-")));
        fs::copy(part, &to).with_context(|| format!("copying {}", part.display()))?;
        let uploads = format!("https://{NAME}/v2/{name}/blobs/uploads/");
        let told = ask(
            dirs,
            address,
            &[
                "--request",
                "POST",
                "--output",
                "/dev/null",
                "--write-out",
                "%header{location}",
                &uploads,
            ],
        )
        .await?;
        let mark = if told.contains('?') { '&' } else { '?' };
        let place = format!("{told}{mark}digest={digest}");
        let file =
            format!("/run/registry/push/{}", to.file_name().unwrap_or_default().to_string_lossy());
        let kind = "Content-Type: application/octet-stream";
        ask(
            dirs,
            address,
            &["--request", "PUT", "--header", kind, "--data-binary", &format!("@{file}"), &place],
        )
        .await?;
        fs::remove_file(&to).with_context(|| format!("removing {}", to.display()))?;
    }
    let to = inside.join(format!("{name}-{}", image.tag));
    fs::copy(&made.manifest, &to).context("copying the manifest")?;
    let file = format!("@/run/registry/push/{name}-{}", image.tag);
    let place = format!("https://{NAME}/v2/{name}/manifests/{}", image.tag);
    let kind = format!("Content-Type: {MANIFEST}");
    ask(dirs, address, &["--request", "PUT", "--header", &kind, "--data-binary", &file, &place])
        .await
        .map(drop)
}

async fn make(top: &Top, dirs: &Dirs, base: &Path, image: &Image) -> Result<Made> {
    let given = given(top, image)?;
    let key = format!("{image:?} {:?} {} {given:?}", image.installer(), base.display());
    let key = sha256(key.as_bytes());
    let dir = top.0.join("images").join(&key[..16]);
    let made = |dir: &Path| Made {
        layer: dir.join("layer.tar.gz"),
        configuration: dir.join("configuration.json"),
        manifest: dir.join("manifest.json"),
    };
    if dir.is_dir() {
        return Ok(made(&dir));
    }
    // Ids of processes are no names here: every data centre counts its own from one.
    let partial = dir.with_extension(format!("{}.partial", dirs.name));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", partial.display()));
        }
        _ => {}
    }
    let tree = partial.join("tree");
    for name in ["tmp", "etc"] {
        let name = tree.join(name);
        fs::create_dir_all(&name).with_context(|| format!("making {}", name.display()))?;
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/usr/sbin/nologin\n")?;
    let mut files = with_libraries(dirs, &image.programs()).await?;
    for (path, program, ..) in &given {
        files.extend(libraries_of_given(dirs, program).await?);
        let to = place(&tree, path)?;
        // One program may have several names.
        let same = given.iter().find(|(_, other, ..)| other == program);
        match same.filter(|(first, ..)| first != path) {
            Some((first, ..)) => fs::hard_link(tree.join(first.trim_start_matches('/')), &to),
            None => fs::copy(program, &to).map(drop),
        }
        .with_context(|| format!("copying {}", program.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    files.sort();
    files.dedup();
    for file in files {
        let to = place(&tree, &file)?;
        let from = base.join(file.trim_start_matches('/'));
        fs::copy(from, &to).with_context(|| format!("copying {file}"))?;
    }
    if let Some((path, text)) = image.installer() {
        let to = place(&tree, path)?;
        fs::write(&to, text)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let shown = |path: &Path| path.display().to_string();
    let plain = partial.join("layer.tar");
    let words = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    let mut tar = command(["tar"]);
    tar.args(words)
        .arg("--create")
        .arg(format!("--file={}", shown(&plain)))
        .arg(format!("--directory={}", shown(&tree)))
        .arg(".");
    run(&mut tar, LIMIT).await?;
    let unpacked = digest(&fs::read(&plain)?);
    run(&mut command(["gzip", "--no-name", "-1", &shown(&plain)]), LIMIT).await?;
    let parts = made(&partial);
    let configuration = configuration(image, &unpacked);
    fs::write(&parts.manifest, manifest(&configuration, &fs::read(&parts.layer)?))?;
    fs::write(&parts.configuration, configuration)?;
    fs::remove_dir_all(&tree)?;
    match fs::rename(&partial, &dir) {
        // Another data centre was quicker.
        Err(_) if dir.is_dir() => fs::remove_dir_all(&partial)?,
        renamed => renamed.with_context(|| format!("naming {}", dir.display()))?,
    }
    Ok(made(&dir))
}

/// Where a file of an image is made, in a folder that is there.
fn place(tree: &Path, path: &str) -> Result<PathBuf> {
    let to = tree.join(path.trim_start_matches('/'));
    let parent = to.parent().unwrap_or(tree);
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    Ok(to)
}

/// The programs of an image that are not in the base tree: where they go, where they are, and how large and how old they are,
/// by which another is told from the one before.
fn given(top: &Top, image: &Image) -> Result<Vec<(String, PathBuf, u64, SystemTime)>> {
    let found = image.given.iter().map(|given| {
        let program = top.programs().join(&given.program);
        let data = fs::metadata(&program).and_then(|data| Ok((data.len(), data.modified()?)));
        let (size, age) = data.with_context(|| {
            format!("{} is not there; `cargo xtask dctest` brings it", program.display())
        })?;
        Ok((given.path.clone(), program, size, age))
    });
    found.collect()
}

/// The libraries of a program that is not in the base tree, as the loader of the base tree finds them there.
async fn libraries_of_given(dirs: &Dirs, program: &Path) -> Result<Vec<String>> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let inside = dirs.tools_root().join("run/registry").join(&name);
    fs::copy(program, &inside).with_context(|| format!("copying {}", program.display()))?;
    let path = format!("/run/registry/{name}");
    let mut all = with_libraries(dirs, std::slice::from_ref(&path)).await?;
    fs::remove_file(&inside).with_context(|| format!("removing {}", inside.display()))?;
    all.retain(|file| *file != path);
    Ok(all)
}

/// The files and the libraries that the dynamic loader finds for them (ldd(1)), each once, without symbolic links.
async fn with_libraries(dirs: &Dirs, files: &[String]) -> Result<Vec<String>> {
    let mut all = files.to_vec();
    for file in files {
        let told = run(&mut tool(dirs, SPACE, &["ldd", file]), LIMIT).await;
        // A program that is linked statically has none, and ldd says so by failing.
        all.extend(told.iter().flat_map(|told| libraries(told)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The paths in what ldd(1) says: `NAME => PATH (ADDRESS)`, or the path alone.
fn libraries(told: &str) -> Vec<String> {
    let path = |line: &str| {
        let right = line.rsplit("=> ").next()?;
        let path = right.split_whitespace().next()?;
        path.starts_with('/').then(|| path.to_owned())
    };
    told.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let told = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            libraries(told),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert_eq!(libraries("\tstatically linked\n"), Vec::<String>::new());
    }
}
