//! A web proxy on the internet side (tinyproxy(8)), for sites that have no other way out.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Site, shown, until};
use crate::host::command::{command, run};
use crate::instance::client;

/// Where it listens; beside the other hosts of the internet.
const ADDRESS: &str = "198.18.0.12";
const PORT: u16 = 3128;

/// Where it says what it was asked, below the folder of what the network says.
const LOG: &str = "proxy.log";

const LIMIT: Duration = Duration::from_secs(30);

impl Site {
    /// Starts it; it ends with the data centre. Gives its URL.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_proxy(&self) -> Result<String> {
        let settings = format!(
            "Listen {ADDRESS}\nPort {PORT}\nTimeout 60\nMaxClients 50\nAllow 10.0.0.0/8\n\
             LogFile \"/run/net/{LOG}\"\nLogLevel Connect\n"
        );
        let file = self.dirs.routers().join("proxy.conf");
        fs::write(&file, settings).with_context(|| format!("writing {}", file.display()))?;
        let root = shown(&self.dirs.tools_root());
        for words in [
            &["ip", "addr", "replace", &format!("{ADDRESS}/32"), "dev", "lo"][..],
            &["chroot", &root, "tinyproxy", "-c", "/run/net/proxy.conf"],
        ] {
            let mut all = client::enter(&self.dirs)?;
            let words = ["ip", "netns", "exec", "internet"].iter().chain(words);
            all.extend(words.map(|&word| word.to_owned()));
            run(&mut command(all), LIMIT).await?;
        }
        let connect = format!("exec 3<>/dev/tcp/{ADDRESS}/{PORT}");
        until("the proxy to listen", LIMIT, async || {
            self.ask(self.machine(0), &["bash", "-c", &connect]).await.map(Some)
        })
        .await?;
        Ok(format!("http://{ADDRESS}:{PORT}"))
    }

    /// What it was asked so far.
    ///
    /// # Errors
    /// It was never started.
    pub fn asked_of_proxy(&self) -> Result<String> {
        let log = self.dirs.routers().join(LOG);
        let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
