//! What is done to machines through their management controllers, by the commands that people use, too (neco-daemons §3.6).

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use neco_connect::one_line;
use neco_host::run_command;
use neco_sabakan::Serial;

/// How long clearing a TPM may take: the machine may be restarted for it.
const CLEAR_WITHIN: Duration = Duration::from_secs(600);
/// How long a question or an order about power may take.
const POWER_WITHIN: Duration = Duration::from_secs(120);

/// Acts on machines from outside. Each call ends within a bound of its own.
#[async_trait]
pub trait Power: Send + Sync {
    /// Clears the TPM of a machine that is retiring.
    ///
    /// # Errors
    /// In words.
    async fn clear_tpm(&self, serial: &Serial) -> Result<(), String>;

    /// Whether a machine is off.
    ///
    /// # Errors
    /// In words.
    async fn is_off(&self, serial: &Serial) -> Result<bool, String>;

    /// Switches a machine off.
    ///
    /// # Errors
    /// In words.
    async fn stop(&self, serial: &Serial) -> Result<(), String>;
}

/// Runs `neco tpm` and `neco power`.
#[derive(Clone, Debug)]
pub struct NecoCommands {
    program: PathBuf,
}

impl NecoCommands {
    /// Runs the verbs of `program`.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// What a verb says on its standard output.
    async fn run(
        &self,
        words: &[&str],
        serial: &Serial,
        within: Duration,
    ) -> Result<String, String> {
        // What begins with a dash would be taken for an option.
        if serial.as_str().starts_with('-') {
            return Err(format!("{serial:?} is no serial of a machine"));
        }
        let program = self.program.to_string_lossy();
        let argv: Vec<&str> =
            [&*program].into_iter().chain(words.iter().copied()).chain([serial.as_str()]).collect();
        let output = run_command(&argv, within).await.map_err(|error| one_line(&error))?;
        if output.status.success() { Ok(output.stdout) } else { Err(output.to_string()) }
    }
}

#[async_trait]
impl Power for NecoCommands {
    async fn clear_tpm(&self, serial: &Serial) -> Result<(), String> {
        self.run(&["tpm", "clear", "--force"], serial, CLEAR_WITHIN).await.map(drop)
    }

    async fn is_off(&self, serial: &Serial) -> Result<bool, String> {
        Ok(self.run(&["power", "status"], serial, POWER_WITHIN).await?.trim() == "Off")
    }

    async fn stop(&self, serial: &Serial) -> Result<(), String> {
        self.run(&["power", "stop"], serial, POWER_WITHIN).await.map(drop)
    }
}
