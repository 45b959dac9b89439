//! `key`: keys that sign releases.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use neco_process::exit::{ExitCode, Failure};
use neco_releases::mirror::MirrorError;
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key};

use crate::io::Io;
use crate::secrets;

/// Make keys that sign releases.
///
/// They are in the format of minisign.
#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a pair of keys: the secret one in FILE, readable by its owner alone, the public one beside it
    ///
    /// The password is read from standard input or asked for. Existing files are not overwritten. Boot servers trust
    /// the public key once it lies in /etc/neco/release-keys/.
    New(New),
}

#[derive(Debug, Args)]
struct New {
    /// Where the secret key goes
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Where the public key goes [default: FILE with .pub at its end]
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
    /// Read the password from a file
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,
    /// Leave the key unprotected: whoever reads the file can sign
    #[arg(long)]
    no_password: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Key {
    /// Makes them.
    ///
    /// # Errors
    /// A file is there already, or cannot be written.
    pub fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let Verb::New(new) = self.verb;
        let public = new.public.clone().unwrap_or_else(|| {
            let mut name = new.path.clone().into_os_string();
            name.push(".pub");
            name.into()
        });
        for path in [&new.path, &public] {
            // Before a password is asked for in vain.
            if path.exists() {
                let error = anyhow::anyhow!("{} is there already", path.display());
                return Err(Failure::from(error).with_hint("give another name"));
            }
        }
        if new.dry_run {
            io.planned(&[new.path, public])?;
            return Ok(ExitCode::Done);
        }
        let protection = if new.no_password {
            Protection::Unencrypted
        } else {
            let what = "password of the new key";
            let password = secrets::read_new(io, new.password_file.as_deref(), what)?;
            Protection::Password(password)
        };
        let id = generate_key(&new.path, &public, &protection)?;
        if io.is_json() {
            io.json(&serde_json::json!({
                "format": 1, "id": id.to_string(), "secret": new.path, "public": public,
            }))?;
        } else {
            io.line(format_args!(
                "key {id}: secret in {}, public in {}",
                new.path.display(),
                public.display()
            ))?;
        }
        Ok(ExitCode::Done)
    }
}

/// Reads a signing key; its password comes from `password_file`, standard input or a prompt, if it needs one.
///
/// # Errors
/// It cannot be read or opened.
pub(super) fn load(
    io: &mut Io<'_>,
    path: &Path,
    password_file: Option<&Path>,
) -> Result<SigningKey, Failure> {
    match SigningKey::load(path, None) {
        Err(MirrorError::Key { problem, .. }) if problem.contains("encrypted") => {
            let what = format!("password of {}", path.display());
            let password = secrets::read(io, password_file, &what)?;
            Ok(SigningKey::load(path, Some(&password))?)
        }
        loaded => Ok(loaded?),
    }
}
