//! A session: one temporary folder and the processes that run in it. When the program that started it is gone, in
//! whatever way, so is everything in the session.
//!
//! Three nets, each for what the one before cannot catch:
//! 1. The kernel's parent-death signal ends each process that we started the moment we end.
//! 2. The *reaper*, a shell in a session of its own, waits on a pipe that closes when we end; it ends whole process
//!    groups and strays and removes the folder. A session that ends normally ends by the same reaper.
//! 3. Whoever starts the next session runs the reaper of sessions whose owner and reaper are both gone.

mod reaper;
mod run;

pub use run::Finished;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::account::{self, Account};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::ports::{self, Reserved};
use crate::process::Process;
use crate::procfs::Identity;
use crate::random;
use crate::say::{Stderr, Voice};
use crate::spec::Spec;

/// A temporary folder and the processes in it. Clones are the same session; it ends with the last of them and of
/// the processes that were started in it.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    cache: Cache,
    voice: Voice,
    account: Option<Account>,
    state: Mutex<State>,
    reaper: Mutex<Option<Child>>,
    preparing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// How many processes of each name were started.
    names: BTreeMap<String, u32>,
    ports: Vec<Reserved>,
}

/// Where a program writes.
struct Streams {
    output: File,
    errors: File,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a session that says on standard error what it does.
    pub async fn start() -> Result<Self> {
        Self::start_with(Arc::new(Stderr), Cache::open()?).await
    }

    /// Starts a session with another voice or cache.
    pub async fn start_with(voice: Voice, cache: Cache) -> Result<Self> {
        let account = account::for_servers()?;
        let temporary = std::env::temp_dir();
        // The real path: the kernel shows processes by it.
        let temporary = temporary.canonicalize().map_err(Error::path("looking for", &temporary))?;
        reaper::end_orphans(&temporary, &voice).await?;
        let folder = temporary.join(format!("{}{}", folder_prefix(), random::name()?));
        create_folder(&folder)?;
        let reaper = reaper::start(&folder)?;
        let inner = Inner {
            folder,
            cache,
            voice,
            account,
            state: Mutex::default(),
            reaper: Mutex::new(Some(reaper)),
            preparing: tokio::sync::Mutex::default(),
        };
        if is_to_be_kept() {
            inner.keep()?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The folder of the session; it is removed with it.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// What is kept from one run to the next.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Tells people something.
    pub fn say(&self, line: &str) {
        self.0.voice.say(line);
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.0.voice
    }

    /// The user for servers that refuse to run as root; `None` when we are not root.
    pub fn account(&self) -> Option<&Account> {
        self.0.account.as_ref()
    }

    /// Held by whoever prepares something that all servers of the session share.
    pub(crate) async fn preparing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.preparing.lock().await
    }

    /// Leaves the folder, with the logs, when the session ends. The processes end all the same.
    pub fn keep(&self) -> Result<()> {
        self.0.keep()
    }

    /// A free port on 127.0.0.1 that no other session gets while this one lives.
    pub fn free_port(&self) -> Result<u16> {
        let reserved = ports::reserve(&self.0.cache.folder("ports")?)?;
        let port = reserved.port;
        self.0.state().ports.push(reserved);
        Ok(port)
    }

    fn new_name(&self, name: &str) -> String {
        let mut state = self.0.state();
        let number = state.names.entry(name.to_owned()).or_default();
        *number += 1;
        format!("{name}-{number}")
    }

    /// Creates a folder of its own, `<name>-<n>`, and returns its name and path.
    pub(crate) fn new_folder(&self, name: &str, account: Option<&Account>) -> Result<(String, PathBuf)> {
        let name = self.new_name(name);
        let folder = self.0.folder.join(&name);
        DirBuilder::new().mode(0o700).create(&folder).map_err(Error::path("creating", &folder))?;
        if let Some(account) = account {
            must_be_reachable(&self.0.folder, account)?;
            std::os::unix::fs::chown(&folder, Some(account.uid), Some(account.gid))
                .map_err(Error::path("handing over", &folder))?;
        }
        Ok((name, folder))
    }

    /// Starts a program with a folder and a log of its own.
    pub async fn spawn(&self, spec: Spec) -> Result<Process> {
        let (name, folder) = self.place(&spec)?;
        self.spawn_in(spec, name, &folder).await
    }

    /// Starts a program in an existing folder: the log goes on where a former process of this name ended.
    pub(crate) async fn spawn_in(&self, spec: Spec, name: String, folder: &Path) -> Result<Process> {
        let log = spec.log.clone().unwrap_or_else(|| self.0.folder.join(format!("{name}.log")));
        let output = append(&log)?;
        let errors = output.try_clone().map_err(Error::path("opening", &log))?;
        self.launch(spec, name, folder, log, Streams { output, errors }).await
    }

    /// The name and the working folder for a program.
    fn place(&self, spec: &Spec) -> Result<(String, PathBuf)> {
        match &spec.folder {
            Some(folder) => Ok((self.new_name(&spec.name), folder.clone())),
            None => self.new_folder(&spec.name, spec.account.as_ref()),
        }
    }

    async fn launch(
        &self,
        spec: Spec,
        name: String,
        folder: &Path,
        log: PathBuf,
        streams: Streams,
    ) -> Result<Process> {
        let mut command = spec.command(folder);
        command.stdin(self.input(&spec, &name)?).stdout(streams.output).stderr(streams.errors);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if let Some(strays) = &spec.strays_in {
            self.record(&format!("strays\t{}\t{}\n", spec.program.display(), strays.display()))?;
        }
        let mut child = crate::spawner::spawn(command)
            .await
            .map_err(Error::io(format!("starting {name} through setpriv (package util-linux)")))?;
        let born = i32::try_from(child.id()).ok().and_then(Identity::of_child);
        let Some(identity) = born else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(no_proc());
        };
        let line = format!("process\t{}\t{}\t{}\t{name}\n", identity.pid, identity.start, spec.ending.name());
        let process = Process::new(self.clone(), name, &spec, child, identity, log)?;
        self.record(&line)?;
        Ok(process)
    }

    fn input(&self, spec: &Spec, name: &str) -> Result<Stdio> {
        let Some(input) = &spec.input else { return Ok(Stdio::null()) };
        let path = self.0.folder.join(format!("{name}.in"));
        write_new(&path, input)?;
        let file = File::open(&path).map_err(Error::path("opening", &path))?;
        // The open file is all that the program needs.
        std::fs::remove_file(&path).map_err(Error::path("removing", &path))?;
        Ok(file.into())
    }

    /// One write for the line: the reaper may read at any moment.
    fn record(&self, line: &str) -> Result<()> {
        let path = self.0.folder.join("processes");
        let _one_at_a_time = self.0.state();
        append(&path)?.write_all(line.as_bytes()).map_err(Error::path("writing", &path))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves the maps whole: nothing in there can fail half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) -> Result<()> {
        write_new(&self.folder.join("keep"), b"")?;
        self.voice.say(&format!("{} stays when this session ends", self.folder.display()));
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(mut reaper) = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // The closed pipe is its order to begin.
        drop(reaper.stdin.take());
        // In a bottle Pods may have mounted something below it; there it goes with the bottle.
        if !reaper::finished(&mut reaper) && !crate::bottle::is_inside() {
            self.voice.say(&format!("could not remove {}; remove it by hand", self.folder.display()));
        }
    }
}

/// `LAB_KEEP=1`: whoever looks for the reason of a failure wants the logs.
pub(crate) fn is_to_be_kept() -> bool {
    std::env::var_os("LAB_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

fn folder_prefix() -> String {
    format!("latency-operator-lab-{}-", rustix::process::geteuid().as_raw())
}

/// Others may pass through the folder, when servers run as another user, but not look into it.
fn create_folder(folder: &Path) -> Result<()> {
    let mode = if account::is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().mode(mode).create(folder).map_err(Error::path("creating", folder))?;
    // Whatever the umask says.
    std::fs::set_permissions(folder, Permissions::from_mode(mode)).map_err(Error::path("opening up", folder))
}

/// Servers that run as another user must be able to reach their folders below this one.
fn must_be_reachable(folder: &Path, account: &Account) -> Result<()> {
    let Some(closed) = crate::files::closed_ancestor(folder) else { return Ok(()) };
    Err(Error::setup(
        format!("giving user {} a folder in {}", account.name, folder.display()),
        format!("{} keeps other users out, and PostgreSQL does not run as root", closed.display()),
        "set TMPDIR to a folder that every user can enter",
    ))
}

fn append(path: &Path) -> Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path).map_err(Error::path("opening", path))
}

fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    append(path)?.write_all(content).map_err(Error::path("writing", path))
}

fn no_proc() -> Error {
    Error::setup(
        "reading the start time of a process from /proc",
        "/proc does not show it",
        "the laboratory needs Linux with /proc mounted",
    )
}
