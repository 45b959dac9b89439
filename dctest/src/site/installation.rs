//! Installations that are held where a story wants to break them, and what is left of one that has come to its end.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::future::try_join;

use super::{Machine, Site, UPDATE, until};

/// As long as it is there, packages that can be held wait.
const HOLD: &str = "/etc/neco/hold";

/// It is there while one waits.
const HELD: &str = "/var/lib/neco/held";

/// What waits, as a part of a script of sh(1).
pub(super) const WAITING: &str = "\
while [ -e /etc/neco/hold ]; do
    touch /var/lib/neco/held
    sleep 0.1
done
rm -f /var/lib/neco/held
";

/// The unit that goes on with an installation after a boot.
const AT_BOOT: &str = "neco-install-at-boot.service";

/// How long a unit may take to end that has nothing more to do.
const SOON: Duration = Duration::from_secs(30);

impl Site {
    /// Has packages that can be held wait on a machine.
    ///
    /// # Errors
    /// The data centre has ended.
    pub async fn hold(&self, machine: &Machine) -> Result<()> {
        self.write(machine, HOLD, 0o644, "").await
    }

    /// Waits until one waits there, in the middle of its installation.
    ///
    /// # Errors
    /// None does in time.
    pub async fn is_held(&self, machine: &Machine) -> Result<()> {
        let what = format!("{} to be in the middle of an installation", machine.name);
        until(&what, UPDATE, async || self.ask(machine, &["test", "-e", HELD]).await.map(Some))
            .await
            .map(drop)
    }

    /// Has none wait there any more; the machine may be off.
    ///
    /// # Errors
    /// The data centre has ended.
    pub async fn let_go(&self, machine: &Machine) -> Result<()> {
        try_join(self.remove(machine, HOLD), self.remove(machine, HELD)).await.map(drop)
    }

    /// Sees that the unit that goes on with an installation after a boot has said `what` since the last one, and that nothing
    /// is left of it.
    ///
    /// # Errors
    /// It has not, or something is.
    pub async fn was_installed_at_boot(&self, machine: &Machine, what: &str) -> Result<()> {
        let said = self.said(machine, AT_BOOT).await?;
        ensure!(said.contains(what), "{}: {AT_BOOT} does not say {what:?}: {said}", machine.name);
        until(&format!("{AT_BOOT} to be gone from {}", machine.name), SOON, async || {
            let words = ["find", "/etc/systemd/system", "-name", AT_BOOT];
            let files = self.ask(machine, &words).await?;
            let state = self.unit(machine, AT_BOOT, "LoadState").await?;
            if files.is_empty() && state == "not-found" {
                Ok(Some(()))
            } else {
                bail!("it is {state}, and there are {files:?}")
            }
        })
        .await?;
        self.is_whole(machine).await
    }

    /// Sees that dpkg has nothing to complain of on a machine, and that no unit has failed there.
    ///
    /// # Errors
    /// It has, or one did.
    pub async fn is_whole(&self, machine: &Machine) -> Result<()> {
        let broken = self.ask(machine, &["dpkg", "--audit"]).await?;
        ensure!(broken.is_empty(), "{}: dpkg finds: {broken}", machine.name);
        let failed = ["systemctl", "--failed", "--plain", "--no-legend"];
        let failed = self.ask(machine, &failed).await?;
        ensure!(failed.is_empty(), "{}: units have failed: {failed}", machine.name);
        Ok(())
    }
}
