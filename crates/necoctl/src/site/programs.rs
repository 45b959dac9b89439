//! Programs that a package carries: fetched, compared with their digests, and laid out as on a server.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use neco_artifacts::{Artifacts, Program};
use neco_base::{Backoff, hex};
use neco_components::{Problem, read_text};
use neco_http::{Url, is_redirect, next_hop, shown};
use sha2::{Digest, Sha256};

use super::is_ours;

/// Nothing larger is a program.
const LARGEST: u64 = 2 << 30;
/// How long a server may be silent.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// How often a download is tried.
const TRIES: usize = 3;
/// Delays between tries.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Reads a list of artifacts.
///
/// # Errors
/// It cannot be read, or something in it cannot be used.
pub fn read(file: &Path) -> anyhow::Result<Artifacts> {
    let text = read_text(file).with_context(|| format!("reading {}", file.display()))?;
    Artifacts::parse(&text).map_err(|problems| {
        // A person may have called the file otherwise.
        let named =
            |problem: &Problem| Problem { file: file.display().to_string(), ..problem.clone() };
        let lines: Vec<_> = problems.iter().map(|problem| named(problem).to_string()).collect();
        anyhow!("{} cannot be used:\n{}", file.display(), lines.join("\n"))
    })
}

/// Fails for programs whose digest nobody has written down.
///
/// # Errors
/// There are some: they are named.
pub fn check<'p>(programs: impl IntoIterator<Item = &'p Program>) -> anyhow::Result<()> {
    let without = programs.into_iter().filter(|program| program.sha256.is_none());
    let names: Vec<_> = without.map(|program| program.name.as_str()).collect();
    ensure!(
        names.is_empty(),
        "no sha256 is written down for {}: a package carries no program that nobody has looked at; write the digest \
         that its publisher names",
        names.join(", ")
    );
    Ok(())
}

/// Brings one program: the file in `cache` if it is there already, else from where it says. What is not what its digest
/// says is never used.
///
/// # Errors
/// It cannot be fetched, or is something else.
pub async fn bring(program: &Program, cache: &Path, into: &Path) -> anyhow::Result<()> {
    let wanted = program.sha256.as_deref().context("no sha256 is written down")?;
    std::fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let kept = cache.join(wanted);
    if !kept.exists() || digest(&kept)? != wanted {
        let part = tempfile::Builder::new().prefix(".part-").tempfile_in(cache);
        let part = part.with_context(|| format!("writing to {}", cache.display()))?;
        fetch(&program.url, part.path())
            .await
            .with_context(|| format!("fetching {}", program.name))?;
        let found = digest(part.path())?;
        ensure!(
            found == wanted,
            "{} is not what was written down: {} has sha256 {found}, not {wanted}",
            program.name,
            program.url
        );
        part.persist(&kept).with_context(|| format!("writing {}", kept.display()))?;
    }
    match &program.inside {
        Some(inside) => unpack(&kept, inside, into)
            .with_context(|| format!("taking {} out of {}", program.name, program.url))?,
        None => {
            std::fs::copy(&kept, into).with_context(|| format!("writing {}", into.display()))?;
        }
    }
    std::fs::set_permissions(into, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("writing {}", into.display()))
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// It cannot be read.
pub fn digest(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).with_context(reading)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hex(&hash.finalize()))
}

fn unpack(archive: &Path, inside: &str, into: &Path) -> anyhow::Result<()> {
    let file = File::create(into).with_context(|| format!("writing {}", into.display()))?;
    let mut tar = Command::new("tar");
    tar.arg("-xzOf").arg(archive).arg("--").arg(inside);
    let output = tar.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped()).output();
    let output = output.context("starting tar")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar: {}", said.lines().next().unwrap_or("it failed"));
    // A folder has no content.
    let length = into.metadata().with_context(|| format!("reading {}", into.display()))?.len();
    ensure!(length > 0, "{inside} is no file there, or an empty one");
    Ok(())
}

async fn fetch(url: &str, into: &Path) -> anyhow::Result<()> {
    if let Some(path) = url.strip_prefix("file://") {
        let data = Path::new(path).metadata().with_context(|| format!("reading {path}"))?;
        // A pipe would be waited for.
        ensure!(data.is_file(), "{path} is no plain file");
        std::fs::copy(path, into).with_context(|| format!("reading {path}"))?;
        return Ok(());
    }
    let url: Url = url.parse().context("its address")?;
    let mut pauses = AGAIN.retry();
    for _ in 1..TRIES {
        match download(&url, into).await {
            Err(Trouble::Passing(_)) => tokio::time::sleep(pauses.pause()).await,
            done => return done.map_err(Trouble::into_error),
        }
    }
    download(&url, into).await.map_err(Trouble::into_error)
}

/// Why a download failed.
enum Trouble {
    /// It may work the next time.
    Passing(anyhow::Error),
    /// It will not.
    Lasting(anyhow::Error),
}

impl Trouble {
    fn into_error(self) -> anyhow::Error {
        let (Self::Passing(error) | Self::Lasting(error)) = self;
        error
    }
}

async fn download(url: &Url, into: &Path) -> Result<(), Trouble> {
    let passing = |error: anyhow::Error| Trouble::Passing(error);
    let mut visited = vec![url.clone()];
    let mut answer = loop {
        let at = visited.last().unwrap_or(url).clone();
        let client = neco_http::client(&at, None).map(|client| client.read_timeout(SILENT_FOR));
        let client = client.and_then(|client| client.connect_timeout(SILENT_FOR).build());
        let client = client.map_err(|error| Trouble::Lasting(error.into()))?;
        let asked = client.get(at.clone()).send().await;
        let answer = asked.with_context(|| shown(&at)).map_err(passing)?;
        if !is_redirect(answer.status()) {
            break answer;
        }
        let next = next_hop(&visited, answer.headers())
            .map_err(|why| Trouble::Lasting(anyhow!("{} redirects {why}", shown(&at))))?;
        visited.push(next);
    };
    let status = answer.status();
    if !status.is_success() {
        let error = anyhow!("{} answers {status}", shown(url));
        let passes = status.is_server_error() || status.as_u16() == 429;
        return Err(if passes { Trouble::Passing(error) } else { Trouble::Lasting(error) });
    }
    let write = || -> anyhow::Result<File> {
        File::create(into).with_context(|| format!("writing {}", into.display()))
    };
    let mut file = write().map_err(Trouble::Lasting)?;
    let mut length = 0;
    while let Some(chunk) = answer.chunk().await.with_context(|| shown(url)).map_err(passing)? {
        length += chunk.len() as u64;
        if length > LARGEST {
            return Err(Trouble::Lasting(anyhow!("{} is larger than 2 GiB", shown(url))));
        }
        let written = file.write_all(&chunk);
        let written = written.with_context(|| format!("writing {}", into.display()));
        written.map_err(Trouble::Lasting)?;
    }
    Ok(())
}

/// Brings all programs of `artifacts`, which stands in `beside`, and their units, into the folder `into`, laid out as on a
/// server. Returns the paths below it. Nothing stands there before everything is ready, and each file as a whole.
///
/// # Errors
/// One has no digest, cannot be fetched, is something else, or has no unit where it names one.
pub async fn lay_out(
    artifacts: &Artifacts,
    beside: &Path,
    cache: &Path,
    into: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    check(artifacts.programs.values())?;
    // What is wrong with the list is told before anything is fetched.
    for program in artifacts.programs.values() {
        ensure!(
            !is_ours(&program.path()),
            "/{} belongs to Neco itself: give the program another name",
            program.path()
        );
        let Some(unit) = &program.unit else { continue };
        let from = beside.join("units").join(unit);
        let Ok(data) = from.symlink_metadata() else {
            bail!("program {} names {unit}, and there is no units/{unit} beside it", program.name);
        };
        ensure!(data.is_file(), "{} is no plain file; put the file itself there", from.display());
    }
    let new = NewFolders::create(into)?;
    let staging = tempfile::Builder::new().prefix(".neco-").tempdir_in(into);
    let staging = staging.with_context(|| format!("writing to {}", into.display()))?;
    let mut ready: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (number, program) in artifacts.programs.values().enumerate() {
        let file = staging.path().join(format!("{number}"));
        bring(program, cache, &file).await?;
        ready.push((file, program.path().into()));
        if let Some(unit) = &program.unit {
            let from = beside.join("units").join(unit);
            let file = staging.path().join(format!("{number}.unit"));
            std::fs::copy(&from, &file).with_context(|| format!("reading {}", from.display()))?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))
                .with_context(|| format!("writing {}", file.display()))?;
            ready.push((file, format!("lib/systemd/system/{unit}").into()));
        }
    }
    let mut laid = Vec::new();
    for (file, to) in ready {
        let path = into.join(&to);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        std::fs::rename(&file, &path).with_context(|| format!("writing {}", path.display()))?;
        laid.push(to);
    }
    new.stay();
    Ok(laid)
}

/// Folders that were made, and go again as far as they are empty, unless they are to stay.
struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let missing = path.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        let new = Self(missing);
        std::fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(new)
    }

    fn stay(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // One that somebody else has put something into stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    use super::*;

    /// Answers requests with these, one after another, whatever their paths; tells the paths.
    fn serve(answers: Vec<String>) -> (Url, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/program", listener.local_addr().expect("an address"));
        let served = std::thread::spawn(move || {
            let mut paths = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut lines = std::io::BufReader::new(&stream).lines();
                let first = lines.next().expect("a line").expect("a line");
                paths.push(first.split(' ').nth(1).expect("a path").to_owned());
                for line in lines {
                    if line.expect("a line").is_empty() {
                        break;
                    }
                }
                stream.write_all(answer.as_bytes()).expect("written");
            }
            paths
        });
        (url.parse().expect("a URL"), served)
    }

    fn answer(status: &str, more: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
        )
    }

    async fn downloaded(answers: Vec<String>) -> (Result<String, Trouble>, Vec<String>) {
        let (url, served) = serve(answers);
        let dir = tempfile::tempdir().expect("a directory");
        let into = dir.path().join("program");
        let done = download(&url, &into).await;
        let text = done.map(|()| std::fs::read_to_string(&into).expect("a file"));
        (text, served.join().expect("no panic"))
    }

    #[tokio::test]
    async fn a_redirect_is_followed_to_the_file() {
        let there = answer("302 Found", "location: /elsewhere\r\n", "");
        let (text, paths) = downloaded(vec![there, answer("200 OK", "", "content")]).await;
        assert_eq!(text.ok().as_deref(), Some("content"));
        assert_eq!(paths, ["/program", "/elsewhere"]);
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_will_not() {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned();
        for (given, passes, why) in [
            (answer("404 Not Found", "", ""), false, "answers 404"),
            (answer("503 Service Unavailable", "", ""), true, "answers 503"),
            (
                answer("302 Found", "location: ftp://x/\r\n", ""),
                false,
                "redirects to a URL of kind",
            ),
            (half, true, "/program"),
        ] {
            let (text, _) = downloaded(vec![given]).await;
            let trouble = text.expect_err(why);
            assert_eq!(matches!(trouble, Trouble::Passing(_)), passes, "{why}");
            let told = format!("{:#}", trouble.into_error());
            assert!(told.contains(why), "{told}");
        }
    }
}
