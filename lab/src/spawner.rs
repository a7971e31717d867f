//! Starts every process from one thread that lives as long as the program does.
//!
//! The parent-death signal of Linux is tied to the *thread* that forked: started from a worker thread of a test's
//! runtime, a server would be killed when that runtime ends, and one started by the main thread of a test would
//! not be killed at all when only that thread ended.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();

/// Starts `command` from the dedicated thread.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts processes has ended");
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel();
        // A failure shows as a closed queue below.
        let _ = std::thread::Builder::new().name("lab-spawner".into()).spawn(move || serve(&queue));
        jobs
    });
    let (reply, answer) = oneshot::channel();
    spawner.send(Job { command, reply }).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

fn serve(queue: &Receiver<Job>) {
    for Job { mut command, reply } in queue {
        // Whoever asked may have been cancelled meanwhile: then nobody would ever end this child.
        if let Err(Ok(mut child)) = reply.send(command.spawn()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
