//! Spawns children that cannot outlive this process.
//!
//! The kernel's parent-death signal is tied to the *thread* that spawned, not to its process: a
//! child of a short-lived thread would be killed when that thread ends. So every child is
//! spawned on one thread that is kept for the purpose until the process ends.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Job {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Spawns `command`, in a process group of its own, so that it is killed when this process ends,
/// however it ends, and when the returned handle is dropped.
///
/// Public for whoever supervises other children beside etcd, as the playground does.
///
/// # Errors
/// The command cannot be started.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.kill_on_drop(true).process_group(0);
    let parent = getpid();
    // Both calls are plain system calls, as the time between fork and exec demands.
    let tie_to_parent = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    #[expect(
        unsafe_code,
        reason = "the standard library offers no other way between fork and exec"
    )]
    // SAFETY: the closure makes two async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(tie_to_parent);
    }
    let (reply, answer) = oneshot::channel();
    let job = Job { command, runtime: Handle::current(), reply };
    spawner()?.send(job).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    answer.await.map_err(|_| io::Error::other("the spawning thread is gone"))?
}

fn spawner() -> io::Result<&'static mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<io::Result<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new().name("etcd-spawner".to_owned()).spawn(move || {
            for mut job in inbox {
                // The child belongs to the caller's runtime, which will be told of its end.
                let entered = job.runtime.enter();
                let child = job.command.spawn();
                drop(entered);
                // A caller that gave up drops the child, and that kills it.
                let _ = job.reply.send(child);
            }
        })?;
        Ok(jobs)
    });
    spawner.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}
