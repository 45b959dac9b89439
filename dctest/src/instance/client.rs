//! Asking a keeper, and going into its machines.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::{Instant, sleep, timeout};

use super::dirs::{Dirs, socket};
use super::orders::{Answer, Order, Phase};
use super::record::Record;

/// How long any order may take: a reboot of a machine that stops slowly.
const LONGEST: Duration = Duration::from_secs(120);

/// Until a keeper that was just started takes orders.
const START: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Gives an order and waits for its end.
///
/// # Errors
/// No such data centre runs, or the order could not be carried out: then why.
pub async fn order(dirs: &Dirs, order: &Order) -> Result<Answer> {
    let mut answers = ask(dirs, order).await?;
    let answer = timeout(LONGEST, next(&mut answers)).await.context("waiting for the answer")??;
    match answer {
        Answer::Failed { why } => bail!("{why}"),
        answer => Ok(answer),
    }
}

/// Follows the start of a data centre to its end; `told` hears of each phase.
///
/// # Errors
/// It failed, or has ended, or is not ready within `limit`.
pub async fn follow(dirs: &Dirs, limit: Duration, mut told: impl FnMut(&Phase)) -> Result<()> {
    let begun = Instant::now();
    let mut answers = loop {
        match ask(dirs, &Order::Follow).await {
            Ok(answers) => break answers,
            Err(error) if begun.elapsed() >= START => return Err(error),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    };
    let work = async {
        loop {
            match next(&mut answers).await? {
                Answer::Phase(phase) => told(&phase),
                Answer::Failed { why } => bail!("{why}"),
                _ => return Ok(()),
            }
        }
    };
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("the data centre is not ready after {} s", limit.as_secs()),
    }
}

async fn ask(dirs: &Dirs, order: &Order) -> Result<Lines<BufReader<OwnedReadHalf>>> {
    let unreachable = || format!("no data centre {} runs; `dc up` starts one", dirs.name);
    let (_folder, path) = socket(&dirs.dir).with_context(unreachable)?;
    let stream = UnixStream::connect(&path).await.with_context(unreachable)?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_string(order)?;
    line.push('\n');
    write.write_all(line.as_bytes()).await.context("giving the order")?;
    Ok(BufReader::new(read).lines())
}

async fn next(answers: &mut Lines<BufReader<OwnedReadHalf>>) -> Result<Answer> {
    let line = answers.next_line().await.context("reading the answer")?;
    let line = line.context("the data centre has ended meanwhile")?;
    serde_json::from_str(&line).with_context(|| format!("reading the answer {line:?}"))
}

/// The words before a command that enter the namespaces of a data centre from the host.
///
/// # Errors
/// It does not run.
pub fn enter(dirs: &Dirs) -> Result<Vec<String>> {
    let first = Record::read(dirs)?.and_then(|record| record.first());
    let first =
        first.with_context(|| format!("no data centre {} runs; `dc up` starts one", dirs.name))?;
    let words = ["nsenter", "-t", &first.to_string(), "-m", "-n", "-p", "--"];
    Ok(words.map(str::to_owned).into())
}

/// The words before a command that runs inside of the machine whose first process is `leader`, beside its units and with the
/// rights of the host.
///
/// # Errors
/// The data centre does not run.
pub fn inside(dirs: &Dirs, leader: i32) -> Result<Vec<String>> {
    let mut all = enter(dirs)?;
    let leader = leader.to_string();
    let words = ["nsenter", "-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C", "--"];
    all.extend(words.map(str::to_owned));
    Ok(all)
}

/// The first process of a machine, by its id in the namespaces of the data centre.
///
/// # Errors
/// The machine is off, or the data centre does not run.
pub async fn leader(dirs: &Dirs, machine: &str) -> Result<i32> {
    let question = Order::Leader { machine: machine.to_owned() };
    let Answer::Leader { pid } = order(dirs, &question).await? else {
        bail!("{} answers something else", dirs.name);
    };
    Ok(pid)
}

/// The words of a login from the operators' network, from the host.
///
/// # Errors
/// The data centre does not run.
pub fn login(dirs: &Dirs, address: Ipv4Addr, words: &[String]) -> Result<Vec<String>> {
    let mut all = enter(dirs)?;
    all.extend(["ip", "netns", "exec", "operation"].map(str::to_owned));
    all.extend(ssh_words(dirs, address, words));
    Ok(all)
}

/// The words of a login as operators do it, in the space of operators.
#[must_use]
pub fn ssh_words(dirs: &Dirs, address: Ipv4Addr, words: &[String]) -> Vec<String> {
    let secrets = dirs.secrets();
    let option = |option: String| ["-o".to_owned(), option];
    let mut all = vec![
        "ssh".to_owned(),
        "-i".to_owned(),
        super::secrets::operator_key(&secrets).display().to_string(),
    ];
    all.extend(option("BatchMode=yes".into()));
    all.extend(option("ConnectTimeout=5".into()));
    all.extend(option("LogLevel=ERROR".into()));
    all.extend(option(format!("UserKnownHostsFile={}", secrets.join("known_hosts").display())));
    // One key for all of them, under one name.
    all.extend(option("HostKeyAlias=boot-server".into()));
    all.extend(option("GlobalKnownHostsFile=/dev/null".into()));
    all.push(format!("root@{address}"));
    if !words.is_empty() {
        // A shell over there takes the words apart again.
        all.push("--".to_owned());
        all.push(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    }
    all
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::dirs::Top;

    #[test]
    fn words_survive_the_shell_of_the_other_side() {
        let dirs = Top("/dc".into()).instance("dc0");
        let words = ["echo".to_owned(), "it's; here".to_owned()];
        let all = ssh_words(&dirs, "10.69.0.3".parse().unwrap(), &words);
        assert_eq!(all[all.len() - 3..], ["root@10.69.0.3", "--", r"echo 'it'\''s; here'"]);
    }

    #[tokio::test]
    async fn a_data_centre_that_does_not_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Top(dir.path().to_owned()).instance("dc7");
        let error = order(&dirs, &Order::Status).await.unwrap_err();
        assert_eq!(error.to_string(), "no data centre dc7 runs; `dc up` starts one");
        assert_eq!(
            enter(&dirs).unwrap_err().to_string(),
            "no data centre dc7 runs; `dc up` starts one"
        );
    }
}
