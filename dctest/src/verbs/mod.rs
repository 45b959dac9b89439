//! What the command line does.

mod stories;
mod up;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use neco_dctest::host::{base, prerequisites};
use neco_dctest::instance::dirs::{Dirs, Top};
use neco_dctest::instance::orders::{Answer, Order, Status};
use neco_dctest::instance::record::Record;
use neco_dctest::instance::{client, warden};

pub(crate) use stories::{Stories, stories};
pub(crate) use up::{Wanted, up};

/// Wrong usage.
pub(crate) const USAGE: u8 = 64;
/// It cannot run on this machine.
pub(crate) const CANNOT_RUN: u8 = 77;

/// How results are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Human,
    /// One JSON object on the last line of standard output.
    Json,
}

/// The name of a data centre: it names a folder and cgroups.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=16).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 16 small letters, digits and dashes".to_owned())
    }
}

/// Says what this machine lacks.
pub(crate) async fn check(top: &Top, file: Option<&Path>) -> Result<u8> {
    let (_, centre) = up::description(file)?;
    if !lacks(top, centre.addresses.racks).await?.is_empty() {
        return Ok(CANNOT_RUN);
    }
    println!("this machine can run {} boot servers", centre.addresses.racks);
    Ok(0)
}

/// Tells what is missing.
async fn lacks(top: &Top, machines: u32) -> Result<Vec<String>> {
    std::fs::create_dir_all(&top.0).with_context(|| format!("making {}", top.0.display()))?;
    let lacks = prerequisites::lacks(top, machines).await;
    for lack in &lacks {
        eprintln!("dc: {lack}");
    }
    Ok(lacks.iter().map(ToString::to_string).collect())
}

/// The data centre that is meant.
pub(crate) fn choose(top: &Top, name: Option<&str>) -> Result<Dirs> {
    if let Some(name) = name {
        return Ok(top.instance(name));
    }
    let mut running = Vec::new();
    for name in top.names() {
        if Record::read(&top.instance(&name))?.is_some_and(|record| record.outer.lives()) {
            running.push(name);
        }
    }
    match running.as_slice() {
        [one] => Ok(top.instance(one)),
        [] => bail!("no data centre runs; `dc up` starts one"),
        many => bail!("several run: {}; say which by --name", many.join(", ")),
    }
}

/// Gives an order that is only done or not.
pub(crate) async fn order(dirs: &Dirs, order: Order) -> Result<u8> {
    client::order(dirs, &order).await.map(|_| 0)
}

/// Shows how the machines are.
pub(crate) async fn status(dirs: &Dirs, output: Output) -> Result<u8> {
    let Answer::Status(status) = client::order(dirs, &Order::Status).await? else {
        bail!("{} answers something else", dirs.name);
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&status)?),
        Output::Human => print!("{}", shown(&status)),
    }
    Ok(if status.ready { 0 } else { 1 })
}

fn shown(status: &Status) -> String {
    let ready = if status.ready { "ready" } else { "not ready" };
    let mut text = format!("{}: {ready}\n", status.name);
    for machine in &status.machines {
        let memory = machine.memory.map_or_else(String::new, |memory| {
            format!(
                "  {} MB ({} MB with files) in {} processes",
                memory.anonymous / 1_000_000,
                memory.all / 1_000_000,
                machine.processes
            )
        });
        text.push_str(&format!(
            "  {:<8} {:<7} {:<15}{memory}\n",
            machine.name, machine.power, machine.address
        ));
    }
    text
}

async fn machine(dirs: &Dirs, name: &str) -> Result<neco_dctest::instance::orders::MachineStatus> {
    let Answer::Status(status) = client::order(dirs, &Order::Status).await? else {
        bail!("{} answers something else", dirs.name);
    };
    let known: Vec<String> = status.machines.iter().map(|machine| machine.name.clone()).collect();
    status
        .machines
        .into_iter()
        .find(|machine| machine.name == name)
        .with_context(|| format!("there is no machine {name}; there are {}", known.join(", ")))
}

/// Becomes a login of an operator.
pub(crate) async fn ssh(dirs: &Dirs, name: &str, words: &[String]) -> Result<u8> {
    let machine = machine(dirs, name).await?;
    become_command(&client::login(dirs, machine.address, words)?)
}

/// Becomes a command of a machine.
pub(crate) async fn sh(dirs: &Dirs, name: &str, words: &[String]) -> Result<u8> {
    let mut all = client::inside(dirs, client::leader(dirs, name).await?)?;
    // A unit of the machine has the machine's rights; what nsenter(1) starts by itself would have the host's.
    all.extend(["systemd-run", "--quiet", "--wait", "--collect"].map(str::to_owned));
    if words.is_empty() {
        all.extend(["--pty", "--setenv=TERM", "/bin/bash", "-l"].map(str::to_owned));
    } else {
        all.extend(["--pipe", "--"].map(str::to_owned));
        all.extend(words.iter().cloned());
    }
    become_command(&all)
}

/// Shows a journal, or what the data centre itself has said.
pub(crate) async fn logs(
    top: &Top,
    dirs: &Dirs,
    machine: Option<&str>,
    unit: Option<&str>,
) -> Result<u8> {
    let Some(machine) = machine else {
        return become_command(&["cat".to_owned(), dirs.log().display().to_string()]);
    };
    let journal = dirs.machine(machine).journal();
    if !journal.is_dir() {
        bail!("there is no journal of {machine}; `dc status` tells which machines there are");
    }
    // That of the tree reads what machines of the tree write.
    let mut all: Vec<String> = base::program(&base::bring(&top.base()).await?, "journalctl").into();
    all.extend(["--no-pager", "--output=short-precise"].map(str::to_owned));
    all.push(format!("--directory={}", journal.display()));
    all.extend(unit.map(|unit| format!("--unit={unit}")));
    become_command(&all)
}

fn become_command(words: &[String]) -> Result<u8> {
    let error = Command::new(&words[0]).args(&words[1..]).exec();
    Err(error).with_context(|| format!("starting {}", words[0]))
}

/// Ends one data centre, or all.
pub(crate) async fn down(top: &Top, name: Option<&str>, all: bool) -> Result<u8> {
    let names = match (all, name) {
        (false, Some(name)) => vec![name.to_owned()],
        (false, None) => match choose(top, None) {
            Ok(dirs) => vec![dirs.name],
            Err(_) if top.names().is_empty() => Vec::new(),
            Err(error) => return Err(error),
        },
        (true, _) => top.names(),
    };
    for name in names {
        warden::down(top, &name).await?;
        println!("{name} is down");
    }
    // What killed ones have left.
    for name in warden::sweep(top, &warden::hold(top)?).await? {
        println!("{name} was swept away");
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use neco_dctest::host::cgroup::Memory;
    use neco_dctest::instance::orders::MachineStatus;

    #[test]
    fn status_is_a_line_for_each_machine() {
        let on = MachineStatus {
            name: "boot-0".into(),
            power: "on".into(),
            address: "10.69.0.3".parse().unwrap(),
            memory: Some(Memory { anonymous: 40_000_000, all: 61_000_000 }),
            processes: 17,
        };
        let off = MachineStatus {
            name: "boot-1".into(),
            power: "off".into(),
            address: "10.69.0.195".parse().unwrap(),
            memory: None,
            processes: 0,
        };
        let status = Status { name: "dc0".into(), ready: true, machines: vec![on, off] };
        assert_eq!(
            shown(&status),
            "dc0: ready\n  boot-0   on      10.69.0.3        40 MB (61 MB with files) in 17 processes\n  boot-1   off     10.69.0.195    \n"
        );
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        assert_eq!(name("dc-0").as_deref(), Ok("dc-0"));
        for wrong in ["", "..", "a/b", "DC", "seventeen-letters"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_a_name_the_only_one_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let top = Top(dir.path().to_owned());
        let none = choose(&top, None).unwrap_err();
        assert_eq!(none.to_string(), "no data centre runs; `dc up` starts one");
        assert_eq!(choose(&top, Some("dc3")).unwrap().name, "dc3");
    }
}
