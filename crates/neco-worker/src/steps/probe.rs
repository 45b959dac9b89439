//! Asking a program whether it is ready.

use std::path::Path;
use std::time::Duration;

use neco_components::Probe;
use neco_connect::one_line;
use neco_http::Url;
use tokio::net::TcpStream;

use crate::context::StepError;
use crate::steps::host::{StepHost, unit_name};

/// How long one answer may take; the component says how long it is asked again and again.
const ANSWER: Duration = Duration::from_secs(5);

/// Why what a probe asks does not hold now; `None` when it does.
///
/// # Errors
/// It cannot be asked at all: no later answer will be another.
pub(crate) async fn trouble(host: &StepHost, probe: &Probe) -> Result<Option<String>, StepError> {
    if let Probe::UnitActive(unit) = probe {
        let name = unit_name(unit)?;
        let state = host.units.state(&name).await;
        let state = state.map_err(|error| StepError::failed(format!("state of {unit}"), &error))?;
        return Ok((!state.is_active()).then(|| format!("it is {}", state.active)));
    }
    // In a sandbox nothing runs that could be asked: what units are told to do is all there is.
    if !host.root.is_system() {
        return Ok(None);
    }
    let asked = async {
        match probe {
            Probe::Http { url, status, ca } => http(host, url, status, ca.as_deref()).await,
            Probe::Tcp { address } => Ok(match TcpStream::connect(address.as_str()).await {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            }),
            Probe::Command { command } => self::command(command).await,
            other => Err(StepError::Failed(format!("this version cannot probe {other:?}"))),
        }
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer,
        Err(_) => Ok(Some(format!("no answer within {ANSWER:?}"))),
    }
}

async fn http(
    host: &StepHost,
    url: &str,
    right: &[u16],
    ca: Option<&Path>,
) -> Result<Option<String>, StepError> {
    let bad = |why: String| StepError::Failed(format!("{url} cannot be asked: {why}"));
    let url: Url = url.parse().map_err(|error| bad(format!("{error}")))?;
    let mut client =
        neco_http::client(&url, None).map_err(|error| bad(one_line(&error)))?.no_proxy();
    if let Some(ca) = ca {
        // It may be written a moment later, as any file that a program waits for.
        let pem = match host.fs.read(&host.root.join(ca)) {
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
