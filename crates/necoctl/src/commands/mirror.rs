//! `mirror`: releases of one's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use neco_process::exit::{ExitCode, Failure};
use neco_releases::Url;
use neco_releases::mirror::sign::{Signed, SigningKey, sign, signature_of};
use neco_releases::mirror::{
    ARCHITECTURE, MirrorError, MirrorRelease, NewRelease, PACKAGE, ServeOptions, add, check, list,
    serve,
};
use neco_schema::NecoVersion;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::key;
use crate::io::Io;
use crate::words::{bytes, moment, one_line, table};

/// Keep and serve releases of one's own, over the API of GitHub.
///
/// For sites that cannot reach GitHub, and for trying out.
#[derive(Debug, Args)]
pub struct Mirror {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a mirror until interrupted
    Serve(Serve),
    /// Publish a package with the signatures that lie beside it
    Add(Add),
    /// Show the releases of a mirror
    List(List),
    /// Sign a package
    Sign(Sign),
}

#[derive(Debug, Args)]
struct Serve {
    /// The mirror's directory
    dir: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8780")]
    listen: String,
    /// What the addresses of downloads begin with [default: what the client called the server]
    #[arg(long, value_name = "URL")]
    base_url: Option<Url>,
}

#[derive(Debug, Args)]
struct Add {
    /// The mirror's directory
    dir: PathBuf,
    /// The package, named neco_VERSION_amd64.deb
    deb: PathBuf,
    /// Sign it first with this secret key
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Read the key's password from a file
    #[arg(long, value_name = "FILE", requires = "sign")]
    password_file: Option<PathBuf>,
    /// The tag [default: release-VERSION]
    #[arg(long)]
    tag: Option<String>,
    /// Not for production: only 'dev' and 'staging' follow it
    #[arg(long)]
    prerelease: bool,
    /// Do not offer it yet
    #[arg(long)]
    draft: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct List {
    /// The mirror's directory
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Sign {
    /// The package, named neco_VERSION_amd64.deb
    deb: PathBuf,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Read the key's password from a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Mirror {
    /// Serves, publishes, shows or signs.
    ///
    /// # Errors
    /// A file is not what it should be, or the address is taken.
    pub async fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Serve(verb) => verb.run(io).await,
            Verb::Add(verb) => verb.run(io),
            Verb::List(verb) => verb.run(io),
            Verb::Sign(verb) => verb.run(io),
        }
    }
}

impl Serve {
    async fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        if !self.dir.is_dir() {
            let error = anyhow::anyhow!("{} is no directory", self.dir.display());
            return Err(Failure::from(error).with_hint("'necoctl mirror add' makes it"));
        }
        let listener = TcpListener::bind(&self.listen)
            .await
            .with_context(|| format!("listening on {}", self.listen))?;
        let mut terminated = signal(SignalKind::terminate()).context("waiting for signals")?;
        let mut interrupted = signal(SignalKind::interrupt()).context("waiting for signals")?;
        #[allow(clippy::needless_update, reason = "with the feature `testing` there are more")]
        let options = ServeOptions { base_url: self.base_url, ..ServeOptions::default() };
        let mut mirror = serve(&self.dir, listener, options).context("serving the mirror")?;
        let url = mirror.api_url();
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "api_url": url.as_str() }))?;
        } else {
            io.line(format_args!("serving {} at {url}", self.dir.display()))?;
            io.line(format_args!(
                "boot servers use it with 'release: {{api_url: \"{url}\"}}' in /etc/neco/config.yml"
            ))?;
        }
        io.out.flush()?;
        tokio::select! {
            biased;
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            ended = mirror.ended() => ended.context("serving the mirror")?,
        }
        mirror.stop().await;
        Ok(ExitCode::Done)
    }
}

impl Add {
    fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let new = NewRelease {
            tag: self.tag,
            draft: self.draft,
            prerelease: self.prerelease,
            published_at: None,
        };
        let password = self.password_file.as_deref();
        if self.dry_run {
            let addition = check(&self.dir, &self.deb, &new)?;
            let mut files = BTreeSet::new();
            for source in addition.sources {
                files.insert(addition.folder.join(source.file_name().unwrap_or_default()));
            }
            if let Some(key) = &self.sign {
                let path = signature_with(io, &self.deb, key, password, signature_of)?.path;
                files.insert(addition.folder.join(path.file_name().unwrap_or_default()));
                files.insert(path);
            }
            io.planned(&Vec::from_iter(files))?;
            return Ok(ExitCode::Done);
        }
        if let Some(key) = &self.sign {
            // Nothing is signed that cannot be published.
            check(&self.dir, &self.deb, &new)?;
            let signed = signature_with(io, &self.deb, key, password, sign)?;
            io.remark(format_args!("signed by key {}", signed.key));
        }
        let release = add(&self.dir, &self.deb, &new)?;
        if io.is_json() {
            io.json(&serde_json::json!({ "format": 1, "release": json(&release) }))?;
        } else {
            io.line(format_args!("{} is published in {}", release.tag, self.dir.display()))?;
        }
        if !release.is_signed() {
            io.remark(
                "warning: the package is not signed; boot servers refuse it unless their configuration says 'release: {unsigned: allow}'",
            );
        }
        Ok(ExitCode::Done)
    }
}

impl List {
    fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let releases = list(&self.dir)?;
        if io.is_json() {
            let releases: Vec<_> = releases.iter().map(json).collect();
            io.json(&serde_json::json!({ "format": 1, "releases": releases }))?;
            return Ok(ExitCode::Done);
        }
        if releases.is_empty() {
            io.line("The mirror is empty.")?;
            return Ok(ExitCode::Done);
        }
        let title = ["TAG", "PUBLISHED", "SIZE", "SIGNED", ""];
        let mut rows = vec![title.map(str::to_owned).to_vec()];
        for release in &releases {
            let size = release.files.iter().filter(|file| file.name.ends_with(".deb"));
            let mut notes = Vec::new();
            for (holds, note) in [
                (release.latest, "latest"),
                (release.prerelease, "prerelease"),
                (release.draft, "draft"),
            ] {
                if holds {
                    notes.push(note.to_owned());
                }
            }
            notes.extend(release.problem.as_ref().map(|problem| one_line(problem)));
            rows.push(vec![
                release.tag.clone(),
                moment(release.published_at),
                bytes(size.map(|file| file.size).sum()),
                if release.is_signed() { "yes" } else { "no" }.to_owned(),
                notes.join(", "),
            ]);
        }
        write!(io.out, "{}", table(&rows))?;
        Ok(ExitCode::Done)
    }
}

impl Sign {
    fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let (deb, key, password) = (&self.deb, &self.key, self.password_file.as_deref());
        if self.dry_run {
            let signed = signature_with(io, deb, key, password, signature_of)?;
            io.planned(&[signed.path])?;
            return Ok(ExitCode::Done);
        }
        let signed = signature_with(io, deb, key, password, sign)?;
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1,
                "signature": signed.path,
                "key": signed.key.to_string(),
                "trusted_comment": signed.trusted_comment,
            }))?;
        } else {
            io.line(format_args!(
                "{}: signed by key {}: {}",
                signed.path.display(),
                signed.key,
                signed.trusted_comment
            ))?;
        }
        Ok(ExitCode::Done)
    }
}

/// Opens the key, and makes a signature or plans one.
fn signature_with(
    io: &mut Io<'_>,
    deb: &Path,
    key: &Path,
    password_file: Option<&Path>,
    make: impl FnOnce(&Path, &SigningKey, &NecoVersion) -> Result<Signed, MirrorError>,
) -> Result<Signed, Failure> {
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    let version = name
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| rest.strip_suffix(&format!("_{ARCHITECTURE}.deb")))
        .with_context(|| {
            let form = format!("{PACKAGE}_VERSION_{ARCHITECTURE}.deb");
            format!("{} is not named like a package, {form}", deb.display())
        })?;
    let version: NecoVersion =
        version.parse().with_context(|| format!("the name of {}", deb.display()))?;
    let key = key::load(io, key, password_file)?;
    Ok(make(deb, &key, &version)?)
}

fn json(release: &MirrorRelease) -> serde_json::Value {
    serde_json::json!({
        "tag": release.tag,
        "version": release.version,
        "draft": release.draft,
        "prerelease": release.prerelease,
        "latest": release.latest,
        "signed": release.is_signed(),
        "published_at": release.published_at.to_string(),
        "files": release.files.iter().map(|file| {
            serde_json::json!({ "name": file.name, "size": file.size })
        }).collect::<Vec<_>>(),
        "problem": release.problem,
    })
}
