//! Asking a program whether it is ready.

use std::path::Path;
use std::time::Duration;

use neco_components::Probe;
use neco_connect::one_line;
use neco_host::Root;
use neco_http::Url;
use neco_systemd::UnitState;
use tokio::net::TcpStream;

use crate::context::StepError;
use crate::steps::checks::vault_leader;
use crate::steps::host::{StepHost, unit_name};

/// How long one answer may take; the component says how long it is asked again and again.
const ANSWER: Duration = Duration::from_secs(5);

/// Where this lies below the root of a sandbox, something runs that probes can ask: they are asked as on a server.
const ASKED_IN_SANDBOX: &str = "/etc/neco/sandbox-asks-probes";

/// Why what a probe asks does not hold now; `None` when it does.
///
/// # Errors
/// It cannot be asked at all: no later answer will be another.
pub(crate) async fn trouble(host: &StepHost, probe: &Probe) -> Result<Option<String>, StepError> {
    if let Probe::UnitActive(unit) = probe {
        let name = unit_name(unit)?;
        let state = host.units.state(&name).await;
        let state = state.map_err(|error| StepError::failed(format!("state of {unit}"), &error))?;
        return Ok(does_not_keep_running(&state));
    }
    // In a sandbox nothing runs that could be asked: what units are told to do is all there is, unless somebody says otherwise.
    if !host.root.is_system() && !host.exists(Path::new(ASKED_IN_SANDBOX))? {
        return Ok(None);
    }
    ask(&host.root, probe, ANSWER).await
}

/// Why a unit does not count as one that keeps running: it is not active, or has just become so and may end any moment.
fn does_not_keep_running(state: &UnitState) -> Option<String> {
    if !state.is_active() {
        return Some(format!("it is {}", state.active));
    }
    state.settles_in.map(|_| {
        format!("it was started and has not been active for {:?} yet", UnitState::SETTLED_AFTER)
    })
}

/// How much longer than a component's own time the answer to `probe` may take: what became active in the last moment has to
/// stay so all the same.
pub(crate) fn on_top(probe: &Probe) -> Duration {
    match probe {
        Probe::UnitActive(_) => UnitState::SETTLED_AFTER,
        _ => Duration::ZERO,
    }
}

/// The same of everything but units, within `patience`.
async fn ask(root: &Root, probe: &Probe, patience: Duration) -> Result<Option<String>, StepError> {
    let asked = async {
        match probe {
            Probe::Http { url, status, ca } => {
                http(url, status, ca.as_ref().map(|ca| root.join(ca)).as_deref()).await
            }
            Probe::Tcp { address } => Ok(match TcpStream::connect(address.as_str()).await {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            }),
            Probe::Command { command } => self::command(command).await,
            Probe::Check { check } if check.as_str() == vault_leader::NAME => {
                Ok(vault_leader::trouble(root).await)
            }
            other => Err(StepError::Failed(format!("this version cannot probe {other:?}"))),
        }
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer,
        Err(_) => Ok(Some(format!("no answer within {patience:?}"))),
    }
}

async fn http(url: &str, right: &[u16], ca: Option<&Path>) -> Result<Option<String>, StepError> {
    let bad = |why: String| StepError::Failed(format!("{url} cannot be asked: {why}"));
    let url: Url = url.parse().map_err(|error| bad(format!("{error}")))?;
    let mut client =
        neco_http::client(&url, None).map_err(|error| bad(one_line(&error)))?.no_proxy();
    if let Some(ca) = ca {
        // It may be written a moment later, as any file that a program waits for.
        let pem = match tokio::fs::read(ca).await {
            Ok(pem) => pem,
            Err(error) => return Ok(Some(format!("reading {}: {error}", ca.display()))),
        };
        match reqwest::Certificate::from_pem_bundle(&pem) {
            Ok(authorities) => client = client.tls_certs_only(authorities),
            Err(error) => return Ok(Some(format!("{}: {}", ca.display(), one_line(&error)))),
        }
    }
    let client = client.build().map_err(|error| bad(one_line(&error)))?;
    match client.get(url).send().await {
        Ok(answer) if right.contains(&answer.status().as_u16()) => Ok(None),
        Ok(answer) => Ok(Some(format!("it answers {}", answer.status()))),
        Err(error) => Ok(Some(one_line(&error.without_url()))),
    }
}

async fn command(command: &[String]) -> Result<Option<String>, StepError> {
    let [program, arguments @ ..] = command else {
        return Err(StepError::Failed("a probe has no command".to_owned()));
    };
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    Ok(match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Some(format!("it ends with {}: {}", output.status, last.trim()))
        }
        Err(error) => Some(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use neco_systemd::{ActiveState, FileState, LoadState};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_millis(500);

    fn web(url: String, status: &[u16], ca: Option<&str>) -> Probe {
        Probe::Http { url, status: status.to_vec(), ca: ca.map(Into::into) }
    }

    async fn asked(probe: &Probe) -> Option<String> {
        let root = Root::new("/").expect("the root");
        ask(&root, probe, SOON).await.expect("it can be asked")
    }

    /// Answers every connection with `status`, or never.
    async fn server(status: Option<u16>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let Some(status) = status else {
                    silent.push(socket);
                    continue;
                };
                let _ = socket.read(&mut [0; 1024]).await;
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[test]
    fn a_unit_is_active_once_it_has_stayed_so() {
        let state = |active: ActiveState, settles_in| UnitState {
            load: LoadState::Loaded,
            active,
            settles_in,
            sub: String::new(),
            file_state: FileState::Enabled,
            needs_reload: false,
            run: None,
        };
        let asked = |active, settles_in| does_not_keep_running(&state(active, settles_in));
        assert_eq!(asked(ActiveState::Active, None), None);
        let why = asked(ActiveState::Active, Some(SOON)).expect("it may end any moment");
        assert_eq!(why, "it was started and has not been active for 3s yet");
        assert_eq!(asked(ActiveState::Failed, None).as_deref(), Some("it is failed"));
        assert_eq!(asked(ActiveState::Activating, None).as_deref(), Some("it is activating"));
    }

    #[tokio::test]
    async fn a_status_is_right_or_told() {
        let url = format!("http://{}/health", server(Some(429)).await);
        assert_eq!(asked(&web(url.clone(), &[200, 429], None)).await, None);
        let why = asked(&web(url, &[200], None)).await.expect("another status");
        assert!(why.starts_with("it answers 429"), "{why}");
    }

    #[tokio::test]
    async fn who_is_silent_or_away_is_told_so() {
        let address = server(None).await;
        let why = asked(&web(format!("http://{address}/"), &[200], None)).await.expect("silence");
        assert_eq!(why, "no answer within 500ms");
        assert_eq!(asked(&Probe::Tcp { address }).await, None, "it listens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        assert!(asked(&Probe::Tcp { address: address.clone() }).await.is_some());
        assert!(asked(&web(format!("http://{address}/"), &[200], None)).await.is_some());
    }

    #[tokio::test]
    async fn an_authority_that_is_not_there_yet_is_waited_for() {
        let probe = web("https://127.0.0.1:1/".to_owned(), &[200], Some("/no/such/ca.crt"));
        let why = asked(&probe).await.expect("no file");
        assert!(why.contains("/no/such/ca.crt"), "{why}");
    }

    #[tokio::test]
    async fn a_command_ends_with_success_or_says_why_not() {
        let shell = |script: &str| Probe::Command {
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        };
        assert_eq!(asked(&shell("exit 0")).await, None);
        let why = asked(&shell("echo first >&2; echo sealed >&2; exit 3")).await.expect("failure");
        assert!(why.ends_with("sealed") && why.contains('3'), "{why}");
        let why = asked(&shell("exec sleep 60")).await.expect("it takes too long");
        assert_eq!(why, "no answer within 500ms");
        let none = Probe::Command { command: vec!["/no/such/program".to_owned()] };
        assert!(asked(&none).await.is_some());
    }
}
