//! Programs that stand in for those of boot servers that cannot be had here: one program, which is called by the name of the
//! one that it stands in for (external-apis §1, §2, §7).
//!
//! `sabakan` is the stand-in of [`neco_sabakan::fake`] behind sabakan's own configuration. `ckecli` reads and writes the keys
//! of CKE. `cke` and `promtail` say that they are well, `hello-http` what is in a file. The others run and end when they are asked to; each refuses to run
//! without the files that the real one needs.

mod ckecli;
mod sabakan;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use neco_process::signals::Shutdown;
use neco_process::yaml::{self, Node, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub use self::sabakan::COMPLETION as SABACTL_COMPLETION;

/// What a program that nobody talks to needs before it runs: its name and files.
const SILENT: [(&str, &[&str]); 3] = [
    ("cke-localproxy", &["/etc/cke/config.yml", "/etc/cke/etcd.crt", "/etc/cke/etcd.key"]),
    ("ep-agent", &["/etc/etcdpasswd/config.yml", "/etc/etcdpasswd/etcd.crt"]),
    ("setup-hw", &["/etc/neco/bmc-address.json"]),
];

/// Where CKE and promtail say how they are.
const CKE: u16 = 10180;
const PROMTAIL: u16 = 3101;

/// What CKE needs before it runs.
const CKE_FILES: [&str; 3] = ["/etc/cke/config.yml", "/etc/cke/etcd.crt", "/etc/cke/etcd.key"];

/// Is the program that it was called as.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().map(|path| name_of(Path::new(&path))).unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    match run(&name, &words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn name_of(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn run(name: &str, words: &[OsString]) -> Result<ExitCode> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if name == "ckecli" {
        return ckecli::run(&words);
    }
    if name == "sabactl" {
        return sabakan::control(&words);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match name {
            "sabakan" => sabakan::serve(&words).await,
            "cke" => {
                are_there(&CKE_FILES)?;
                says(anywhere(CKE), "application/json", r#"{"health":"healthy"}"#).await
            }
            "promtail" => {
                let file = words.iter().find_map(|word| word.strip_prefix("-config.file="));
                settings(Path::new(file.context("-config.file= is missing")?))?;
                says(anywhere(PROMTAIL), "text/plain", "ready\n").await
            }
            "hello-http" => {
                let [address, file] = words[..] else { bail!("usage: ADDRESS:PORT FILE") };
                let address = address.parse().context("the first word is no address")?;
                let page =
                    std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
                says(address, "text/html", &page).await
            }
            name => {
                let Some((_, files)) = SILENT.iter().find(|(known, _)| *known == name) else {
                    bail!("nobody of this name is stood in for");
                };
                are_there(files)?;
                until_asked_to_end().await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Sees that files are there and not empty.
fn are_there(files: &[&str]) -> Result<()> {
    for file in files {
        let text = std::fs::read(file).with_context(|| format!("reading {file}"))?;
        if text.is_empty() {
            bail!("{file} is empty");
        }
    }
    Ok(())
}

/// A configuration in YAML.
fn settings(file: &Path) -> Result<Node> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    parsed(file, &text)
}

/// A mapping in YAML; `file` is for messages.
fn parsed(file: &Path, text: &str) -> Result<Node> {
    match yaml::parse(file, text) {
        Ok(node) if matches!(node.value, Value::Map(_)) => Ok(node),
        Ok(_) => bail!("{} is no mapping", file.display()),
        Err(error) => {
            let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
            bail!("{}{line}: {}", file.display(), error.what)
        }
    }
}

/// A text of a configuration.
fn text<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    let Value::Map(entries) = &node.value else { return None };
    let (_, node) = entries.iter().find(|(known, _)| known == key)?;
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

async fn until_asked_to_end() -> Result<()> {
    let shutdown = Shutdown::listen().context("listening for signals")?;
    shutdown.token().cancelled().await;
    Ok(())
}

/// A port of all addresses of this server.
fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

/// Answers whatever is asked at an address with this, until it is asked to end.
async fn says(address: SocketAddr, kind: &str, word: &str) -> Result<()> {
    let shutdown = Shutdown::listen().context("listening for signals")?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{word}",
        word.len()
    );
    let token = shutdown.token();
    loop {
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((mut stream, _)) = accepted else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            // Whoever goes away gets no answer, and misses none.
            if stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_name_and_misses_its_files() {
        assert_eq!(name_of(Path::new("/usr/sbin/cke")), "cke");
        let error = run("setup-hw", &[]).expect_err("there is no such file here").to_string();
        assert_eq!(error, "reading /etc/neco/bmc-address.json");
        let error = run("teleport", &[]).expect_err("it is nobody").to_string();
        assert_eq!(error, "nobody of this name is stood in for");
        let error = run("promtail", &["-config.file=/no/such.yaml".into()]).expect_err("no file");
        assert_eq!(error.to_string(), "reading /no/such.yaml");
    }
}
