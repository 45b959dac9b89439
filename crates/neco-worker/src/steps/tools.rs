//! The client programs that images bring. An image lays them into a folder of their own; each of them then takes its place
//! as a whole, so that one which runs at that moment goes on running, and nobody ever finds half of one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use neco_components::{InstallTools, Name, ToolOutput};
use neco_host::fs::{FileSystem, Kind};
use neco_runtime::RunSpec;

use super::host::{StepHost, VALIDATED_WITHIN, image_ref, tools_note};
use crate::context::StepError;

/// Where the image of a component lays its programs: beside their place, for only there they can be renamed.
fn beside(component: &Name) -> PathBuf {
    Path::new(InstallTools::FOLDER).join(format!(".neco-{component}"))
}

/// Runs an image once, so that it installs its client programs, and notes that.
///
/// # Errors
/// It fails, or the disk refuses; the programs that were there still are.
pub(crate) async fn install(
    host: &StepHost,
    component: &Name,
    tools: &InstallTools,
    image: &str,
) -> Result<(), StepError> {
    let what = format!("installing the client programs of {image}");
    let failed = |error: io::Error| StepError::failed(&what, &error);
    let (folder, beside) =
        (host.root.join(InstallTools::FOLDER), host.root.join(beside(component)));
    // What a crash has left is of no use.
    remove(&beside).map_err(failed)?;
    std::fs::create_dir_all(&beside).map_err(failed)?;
    let spec = RunSpec::new(image_ref(image)?)
        .command(tools.command.clone())
        .mount(beside.clone(), &tools.bind);
    let ran = host.runtime.run(&spec).await;
    ran.map_err(|error| StepError::failed(&what, &error))?;
    put(&*host.fs, &beside, &folder).map_err(failed)?;
    remove(&beside).map_err(failed)?;
    for output in &tools.outputs {
        write_output(host, output).await?;
    }
    host.write_bytes(&tools_note(component), image.as_bytes(), 0o644)
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Has everything below `from` take its place below `to`.
fn put(fs: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    for name in fs.list(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        match fs.metadata(&source)?.map(|found| found.kind) {
            Some(Kind::Directory) => {
                std::fs::create_dir_all(&target)?;
                put(fs, &source, &target)?;
            }
            Some(kind) => {
                if kind == Kind::File {
                    std::fs::File::open(&source)?.sync_all()?;
                }
                fs.rename(&source, &target)?;
            }
            None => {}
        }
    }
    fs.sync_dir(to)
}

/// Has a program that was just installed write a file about itself. In a sandbox there is no such program.
async fn write_output(host: &StepHost, output: &ToolOutput) -> Result<(), StepError> {
    if !host.root.is_system() {
        return Ok(());
    }
    let words: Vec<&str> = output.command.iter().map(String::as_str).collect();
    let what = format!("writing {}", output.path.display());
    let said = neco_host::run_command(&words, VALIDATED_WITHIN).await;
    let said = said.map_err(|error| StepError::failed(&what, &error))?;
    if !said.status.success() {
        return Err(StepError::Failed(format!("{what}: {said}")));
    }
    if said.is_cut() {
        return Err(StepError::Failed(format!("{what}: `{}` says too much", words.join(" "))));
    }
    host.write_bytes(&output.path, said.stdout.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::{Command, Stdio};

    use neco_host::fs::RealFs;

    use super::*;

    #[test]
    fn a_program_that_runs_is_replaced_and_goes_on() {
        let dir = tempfile::tempdir().expect("room");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("lib/deep")).expect("made");
        std::fs::create_dir_all(to.join("lib")).expect("made");
        let program = to.join("cat");
        std::fs::copy("/bin/cat", &program).expect("a program");
        std::fs::write(to.join("other"), "stays").expect("written");
        // It runs until its input ends.
        let mut running = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        let busy = std::fs::OpenOptions::new().write(true).open(&program).expect_err("it runs");
        assert_eq!(busy.kind(), ErrorKind::ExecutableFileBusy);

        std::fs::write(from.join("cat"), "another").expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(from.join("cat"), mode).expect("set");
        std::fs::write(from.join("lib/deep/x"), "x").expect("written");
        symlink("cat", from.join("tac")).expect("linked");
        put(&RealFs, &from, &to).expect("they take their place");

        let read = |name: &str| std::fs::read_to_string(to.join(name)).expect("readable");
        assert_eq!((read("cat"), read("tac")), ("another".to_owned(), "another".to_owned()));
        assert_eq!((read("lib/deep/x"), read("other")), ("x".to_owned(), "stays".to_owned()));
        assert!(to.join("tac").is_symlink());
        let mode = program.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert!(running.try_wait().expect("asked").is_none(), "it goes on");
        drop(running.stdin.take());
        assert!(running.wait().expect("it ends").success());
    }
}
