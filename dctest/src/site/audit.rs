//! The verdict on everything that has happened: `necoctl audit` over etcd's history and the journals of all boot servers.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::journal::JOURNAL;
use super::{Site, shown};
use crate::plan::topology::Place;

impl Site {
    /// Judges it; gives what was said in a line.
    ///
    /// # Errors
    /// An invariant does not hold, the evidence has a fault, or nothing was put to the test.
    pub async fn audit(&self) -> Result<String> {
        let machine = self.machine(0);
        let root = self.dirs.machine(&machine.name).root();
        let mut words = vec![shown(&self.tools.necoctl), "--root".to_owned(), shown(&root)];
        words.extend(["audit", "--timeout=60s", "--output=json"].map(str::to_owned));
        // Those that have left are judged too, and those that have come.
        let come = self.machines.iter().map(|machine| machine.lrn);
        let all: BTreeSet<u32> = (0..self.centre.boot_servers).chain(come).collect();
        let others = all.into_iter().filter(|lrn| *lrn != machine.lrn);
        words.extend(others.map(|lrn| {
            let disk = self.dirs.machine(&Place::BootServer(lrn).name()).upper();
            format!("--journal={lrn}={}", shown(&disk.join(JOURNAL)))
        }));
        let output = self.beside(machine, &words).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report: Value = serde_json::from_str(&said).with_context(|| {
            format!("necoctl audit: {said}{}", String::from_utf8_lossy(&output.stderr))
        })?;
        let list = |name: &str| {
            let list = report[name].as_array().cloned();
            list.with_context(|| format!("necoctl audit tells no {name}: {report:#}"))
        };
        let (broken, faults) = (list("violations")?, list("faults")?);
        let held = list("holding")?.len();
        if !output.status.success() || !broken.is_empty() || !faults.is_empty() {
            bail!("necoctl audit ({}): {broken:#?} {faults:#?}", output.status);
        }
        let unread = list("without_journal")?;
        if !unread.is_empty() {
            bail!("necoctl audit read no journal of the boot servers {unread:?}");
        }
        if held == 0 {
            bail!("necoctl audit put nothing to the test: {report:#}");
        }
        Ok(format!("{held} invariants hold"))
    }
}
