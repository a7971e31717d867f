//! A process that the laboratory started: known by id and start time, watched, and ended with its group.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

use crate::error::{Error, ProcessTrouble, Result, tail};
use crate::patience::{told, within};
use crate::poll;
use crate::procfs::{self, Identity};
use crate::session::Session;
use crate::spec::{Ending, Spec};

/// How long a process that was killed may take until it is gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A running (or ended) process of a session. Dropping it ends the process without waiting for it.
#[derive(Debug)]
pub struct Process {
    name: String,
    identity: Identity,
    ending: Ending,
    strays: Option<Strays>,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
    // The session, and with it the folder, outlives its processes.
    session: Session,
}

/// Children that left the process group.
#[derive(Debug)]
struct Strays {
    program: PathBuf,
    folder: PathBuf,
}

impl Process {
    pub(crate) fn new(
        session: Session,
        name: String,
        spec: &Spec,
        child: Child,
        identity: Identity,
        log: PathBuf,
    ) -> Result<Self> {
        let exit = watch_exit(&name, child)?;
        let strays = spec
            .strays_in
            .as_ref()
            .map(|folder| Strays { program: spec.program.clone(), folder: folder.clone() });
        Ok(Self { name, identity, ending: spec.ending, strays, log, exit, session })
    }

    /// The name in the session, such as `postgres-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id and the start time.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The file that takes its standard output and standard error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What is in the log so far; empty when it cannot be read.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Fails, with the end of its log, when it does not run any more although nobody ended it.
    pub fn must_run(&self) -> Result<()> {
        match self.exit_status() {
            None => Ok(()),
            Some(status) => {
                Err(self.trouble(format!("ended with {status}"), "needing it", "the end of its log says why"))
            }
        }
    }

    /// Sends a signal to the process and its group, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.exit_status().is_none() {
            self.identity.signal_group(signal);
        }
    }

    /// Stops it in mid-air: it keeps its sockets and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended by itself or by a signal that was sent. As everywhere in here the limit is scaled by
    /// [`crate::patience()`].
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        match within(limit, self.exit_of()).await {
            Some(status) => Ok(status),
            None => Err(self.trouble(
                format!("still runs after {}", told(limit)),
                "waiting for it to end",
                "look into its log for what it is doing",
            )),
        }
    }

    /// Ends it in an orderly way: the signal, the time to obey, and `SIGKILL` for whoever is left then.
    pub async fn stop(&self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        // A paused process obeys only when it goes on.
        self.resume();
        let status = match within(limit, self.exit_of()).await {
            Some(status) => status,
            None => return self.kill().await,
        };
        self.end_left_overs().await?;
        Ok(status)
    }

    /// `kill -9`, for the process, its group and its children that left the group.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.ended(KILL_LIMIT).await?;
        self.end_left_overs().await?;
        Ok(status)
    }

    /// Waits until `look` finds something, and fails at once when the process ends before that.
    pub async fn ready<T, F, L>(&self, what: &str, limit: Duration, look: L) -> Result<T>
    where
        L: FnMut() -> F,
        F: Future<Output = Option<T>>,
    {
        let doing = format!("waiting until it {what}");
        tokio::select! {
            biased;
            status = self.exit_of() => Err(self.trouble(
                format!("ended with {status}"),
                doing,
                "the end of its log says why",
            )),
            found = poll::until_found(limit, look) => found.ok_or_else(|| self.trouble(
                format!("did not do so within {}", told(limit)),
                doing,
                "look into its log; if the machine is only slow, run fewer things at once",
            )),
        }
    }

    /// An error about this process, with the end of its log.
    pub(crate) fn trouble(&self, problem: String, doing: impl Into<String>, remedy: &str) -> Error {
        Error::Process(Box::new(ProcessTrouble {
            name: self.name.clone(),
            problem,
            doing: doing.into(),
            remedy: format!("{remedy} (LAB_KEEP=1 keeps {})", self.session.folder().display()),
            log: self.log.clone(),
            tail: tail(&self.log),
        }))
    }

    /// How it ended, once it has.
    pub(crate) async fn exit_of(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        loop {
            if let Some(status) = *exit.borrow_and_update() {
                return status;
            }
            if exit.changed().await.is_err() {
                // The thread that collects the status cannot end before it has done so.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Children that outlived the process itself: a group without its leader, and strays.
    async fn end_left_overs(&self) -> Result<()> {
        let look = || {
            let mut left = self.identity.group();
            left.extend(self.strays());
            for one in &left {
                one.signal(Signal::KILL);
            }
            std::future::ready(left.is_empty().then_some(()))
        };
        poll::until_found(KILL_LIMIT, look).await.ok_or_else(|| {
            self.trouble(
                format!("left processes behind that SIGKILL did not end within {}", told(KILL_LIMIT)),
                "ending it",
                "look with `ps` for processes in uninterruptible sleep",
            )
        })
    }

    fn strays(&self) -> Vec<Identity> {
        match &self.strays {
            Some(strays) => procfs::running_in(&strays.program, &strays.folder),
            None => Vec::new(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.ending.signal());
        self.resume();
    }
}

/// One thread waits for the process: it is collected at once, and whoever waits for it hears of it at once.
fn watch_exit(name: &str, mut child: Child) -> Result<watch::Receiver<Option<ExitStatus>>> {
    let (report, exit) = watch::channel(None);
    std::thread::Builder::new()
        .name(format!("lab-wait-{name}"))
        .stack_size(64 * 1024)
        .spawn(move || {
            if let Ok(status) = child.wait() {
                report.send_replace(Some(status));
            }
        })
        .map_err(Error::io(format!("starting the thread that waits for {name}")))?;
    Ok(exit)
}
