//! Other programs: their failures name the whole command line and what it said.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// A command with these words.
pub fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let program = words.next();
    let mut command = Command::new(program.as_ref().map_or(OsStr::new("true"), AsRef::as_ref));
    command.args(words).kill_on_drop(true);
    command
}

/// Runs it to its end and gives what it wrote to standard output.
///
/// # Errors
/// It cannot be started, has not ended after `limit`, or failed: then with what it said.
pub async fn run(command: &mut Command, limit: Duration) -> Result<String> {
    feed(command, "", limit).await
}

/// The same with something on its standard input.
///
/// # Errors
/// As [`run`].
pub async fn feed(command: &mut Command, input: &str, limit: Duration) -> Result<String> {
    let output = outcome(command, input, limit).await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said =
            if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout)
        .map_err(|_| anyhow!("`{}` wrote what is no text", shown(command)))
}

/// Runs it to its end, however that is.
///
/// # Errors
/// It cannot be started, or has not ended after `limit`; then it is killed.
pub async fn outcome(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let stdin = child.stdin.take();
    let work = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // Who does not read what it is given says why in its own words.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        output
    };
    match timeout(limit, work).await {
        Ok(output) => output.with_context(|| format!("`{}`", shown(command))),
        Err(_) => bail!("`{}` has not ended after {} s", shown(command), limit.as_secs()),
    }
}

/// As a person would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_failure_carries_the_command_and_what_it_said() {
        let error =
            run(&mut command(["sh", "-c", "echo no room >&2; exit 3"]), LIMIT).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.ends_with("no room"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_at_its_deadline() {
        let error =
            run(&mut command(["sleep", "600"]), Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("has not ended"), "{error}");
    }

    #[tokio::test]
    async fn input_is_read_and_output_is_given() {
        assert_eq!(feed(&mut command(["cat"]), "both ways", LIMIT).await.unwrap(), "both ways");
    }

    #[tokio::test]
    async fn who_is_not_there_is_named() {
        let error = run(&mut command(["/nonexistent/program"]), LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("cannot start `/nonexistent/program`"), "{error}");
    }
}
