//! Asking machines, having them do something, and giving them files.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Machine, Site, shown};
use crate::host::command::{command, feed, outcome, run};
use crate::instance::client;

/// How long a question or a command may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The words before a command that becomes a unit of its own.
const AS_UNIT: [&str; 6] = ["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--"];

impl Site {
    /// The words before a command that runs inside of a machine.
    async fn inside(&self, machine: &Machine) -> Result<Vec<String>> {
        let leader = client::leader(&self.dirs, &machine.name).await?;
        client::inside(&self.dirs, leader)
    }

    /// All words of a command that runs inside of a machine, beside its units.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn words_inside(&self, machine: &Machine, words: &[&str]) -> Result<Vec<String>> {
        let mut all = self.inside(machine).await?;
        all.extend(words.iter().map(|&word| word.to_owned()));
        Ok(all)
    }

    /// What a machine answers to a question: the command runs beside its units, with the host's rights.
    ///
    /// # Errors
    /// The machine is off, or the command fails.
    pub async fn ask(&self, machine: &Machine, words: &[&str]) -> Result<String> {
        let all = self.inside(machine).await?;
        let all = all.into_iter().chain(words.iter().map(|&word| word.to_owned()));
        run(&mut command(all), LIMIT).await.with_context(|| machine.name.clone())
    }

    /// The same of a command that reads `input`.
    ///
    /// # Errors
    /// The machine is off, or the command fails.
    pub async fn tell(&self, machine: &Machine, words: &[&str], input: &str) -> Result<String> {
        let all = self.inside(machine).await?;
        let all = all.into_iter().chain(words.iter().map(|&word| word.to_owned()));
        feed(&mut command(all), input, LIMIT).await.with_context(|| machine.name.clone())
    }

    /// The same, however the command ends.
    ///
    /// # Errors
    /// The machine is off, or the command does not end.
    pub async fn outcome(&self, machine: &Machine, words: &[&str]) -> Result<Output> {
        let all = self.inside(machine).await?;
        let all = all.into_iter().chain(words.iter().map(|&word| word.to_owned()));
        outcome(&mut command(all), "", LIMIT).await.with_context(|| machine.name.clone())
    }

    /// Has a machine run a command as a unit of its own, with the machine's rights.
    ///
    /// # Errors
    /// The machine is off, or the command fails.
    pub async fn act(&self, machine: &Machine, words: &[&str]) -> Result<String> {
        self.ask(machine, &[&AS_UNIT[..], words].concat()).await
    }

    /// The same, however the command ends.
    ///
    /// # Errors
    /// The machine is off, or the command does not end.
    pub async fn acted(&self, machine: &Machine, words: &[&str]) -> Result<Output> {
        self.outcome(machine, &[&AS_UNIT[..], words].concat()).await
    }

    /// What a machine says to an operator who logs in from their network.
    ///
    /// # Errors
    /// The way there is broken, or the command fails.
    pub async fn ssh(&self, machine: &Machine, words: &[&str]) -> Result<String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let all = client::login(&self.dirs, machine.address, &words)?;
        run(&mut command(all), LIMIT).await.with_context(|| machine.name.clone())
    }

    /// Runs a command of the host in the network of a machine.
    ///
    /// # Errors
    /// The command does not end.
    pub async fn beside(&self, machine: &Machine, words: &[String]) -> Result<Output> {
        let mut all = client::enter(&self.dirs)?;
        all.extend(["ip", "netns", "exec"].map(str::to_owned));
        all.push(machine.name.clone());
        all.extend(words.iter().cloned());
        outcome(&mut command(all), "", LIMIT).await.with_context(|| machine.name.clone())
    }

    /// Copies a file of the host onto the disk of a machine, which may be off.
    ///
    /// # Errors
    /// The disk is full, or the data centre has ended.
    pub async fn give(&self, machine: &Machine, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.on_disk(machine, to);
        let mut all = client::enter(&self.dirs)?;
        let mode = format!("{mode:o}");
        all.extend(["install", "-D", "-m", &mode].map(str::to_owned));
        all.extend([shown(from), shown(&to)]);
        run(&mut command(all), LIMIT).await.map(drop).with_context(|| machine.name.clone())
    }

    /// Writes a file onto the disk of a machine, which may be off.
    ///
    /// # Errors
    /// As [`Site::give`].
    pub async fn write(&self, machine: &Machine, to: &str, mode: u32, text: &str) -> Result<()> {
        use std::io::Write as _;
        let draft = self.dirs.dir.join(format!("draft-{}", machine.name));
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
        file.and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())
        })
        .with_context(|| format!("writing {}", draft.display()))?;
        let given = self.give(machine, &draft, to, mode).await;
        fs::remove_file(&draft).with_context(|| format!("removing {}", draft.display()))?;
        given
    }

    /// What a unit of a machine has said since the machine booted.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn said(&self, machine: &Machine, unit: &str) -> Result<String> {
        self.ask(machine, &["journalctl", "--boot", "--output=cat", "--no-pager", "--unit", unit])
            .await
    }

    /// Removes a file from the disk of a machine, which may be off.
    ///
    /// # Errors
    /// The data centre has ended.
    pub async fn remove(&self, machine: &Machine, path: &str) -> Result<()> {
        let path = self.on_disk(machine, path);
        let all = client::enter(&self.dirs)?.into_iter();
        let all = all.chain(["rm", "-f"].map(str::to_owned)).chain([shown(&path)]);
        run(&mut command(all), LIMIT).await.map(drop).with_context(|| machine.name.clone())
    }

    /// Where a path of a machine is in the data centre.
    fn on_disk(&self, machine: &Machine, path: &str) -> PathBuf {
        self.dirs.machine(&machine.name).root().join(path.trim_start_matches('/'))
    }

    /// What systemd on a machine says of a property of a unit, such as `ActiveState`.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn unit(&self, machine: &Machine, unit: &str, property: &str) -> Result<String> {
        let told =
            self.ask(machine, &["systemctl", "show", "--value", "-p", property, unit]).await?;
        Ok(told.trim().to_owned())
    }
}
